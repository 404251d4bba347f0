"""The recordings of a batch: the files that are named, and those in the folders that are named."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from audiosep.audio import SUFFIXES, is_recording
from audiosep.errors import InputError


@dataclass(frozen=True)
class Recording:
    """An input file.

    Attributes:
        path: of the file; Path("-") for standard input.
        subfolder: of the outputs of a recording that was found in a folder: its place in that folder.
    """

    path: Path
    subfolder: Path = Path()


def find_recordings(
    inputs: str | Path | Sequence[str | Path], out_dir: str | Path
) -> tuple[list[Recording], dict[Path, Exception]]:
    """Find the recordings of a batch, each once.

    Args:
        inputs: files, folders (searched with their subfolders), or "-" for standard input. A file that is named is
            taken whatever its extension.
        out_dir: folder of the outputs; files in it are no inputs.

    Returns:
        The recordings, and for each folder without recordings an error.

    Raises:
        InputError: outputs would be written among the recordings of a folder.
    """
    recordings: dict[Path, Recording] = {}
    failures: dict[Path, Exception] = {}
    outputs = Path(out_dir).resolve()
    for item in [inputs] if isinstance(inputs, str | Path) else inputs:
        path = Path(item)
        found = [Recording(path)]
        if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where access is denied; reading reports that
            found = _search(path, outputs)
            if not found:
                failures[path] = InputError(
                    f"{path} is a folder without recordings; known: {' '.join(sorted(SUFFIXES))}"
                )
        for recording in found:
            recordings.setdefault(recording.path.resolve(), recording)
    return list(recordings.values()), failures


def _search(folder: Path, outputs: Path) -> list[Recording]:
    """The recordings in a folder, except those in the folder of the outputs: they come from an earlier run.

    Raises:
        InputError: outputs would be written among the recordings, where a later run would take them for recordings.
    """
    root = folder.resolve()
    inside = outputs != root and outputs.is_relative_to(root)
    files = sorted(p for p in folder.rglob("*") if is_recording(p))
    existing = (p for p in files if os.path.isfile(p))  # noqa: PTH113 - Path.is_file raises where access is denied
    files = [p for p in existing if not (inside and p.resolve().is_relative_to(outputs))]
    found = [Recording(file, file.parent.relative_to(folder)) for file in files]
    if not inside and any((outputs / recording.subfolder).is_relative_to(root) for recording in found):
        raise InputError(
            f"the outputs would go among the recordings of the folder {folder}, and be taken for recordings the next "
            f"time: choose a folder for them alone, such as {folder / 'separated'}, or name the recordings one by one"
        )
    return found
