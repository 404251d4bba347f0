"""The recordings of a batch: the files that are named, and those in the folders that are named."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiosep.audio.formats import SUFFIXES, WITHOUT_SOUND, is_recording
from audiosep.audio.inputs import is_opened
from audiosep.audio.marker import UNMARKED, is_marked
from audiosep.errors import InputError, counted

logger = logging.getLogger(__name__)

# Folders that programs fill and people do not: trash, and what file servers and archives add.
_TRASH = {"$recycle.bin", "recycler", "#recycle", "@eadir", "system volume information", "lost+found", "__macosx"}


@dataclass(frozen=True)
class InputFile:
    """An input file.

    Attributes:
        path: of the file; Path("-") for standard input.
        subfolder: of the outputs of a recording that was found in a folder: its place in that folder.
    """

    path: Path
    subfolder: Path = Path()


def find_recordings(
    inputs: str | Path | Sequence[str | Path], out_dir: str | Path
) -> tuple[list[InputFile], dict[Path, Exception]]:
    """Find the recordings of a batch, each once.

    Args:
        inputs: files, folders (searched with their subfolders), or "-" for standard input. A file that is named is
            taken whatever its extension.
        out_dir: folder of the outputs; files in it are no inputs.

    Returns:
        The recordings, and for each folder without recordings an error.

    Raises:
        InputError: an empty name, or outputs would be written among the recordings of a folder.
    """
    recordings: dict[str, InputFile] = {}
    failures: dict[Path, Exception] = {}
    outputs = Path(os.path.realpath(out_dir))  # Path.resolve raises where links lead in a circle
    items = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    if is_opened(inputs) or any(map(is_opened, items)):
        raise InputError("inputs are paths, and these are opened files or bytes: give them to audiosep.separate")
    for item in items:
        path = Path(item)
        if not str(item):  # Path("") is the current folder
            raise InputError("an input has an empty name: perhaps a variable of the shell is not set")
        if "\0" in str(path):
            failures[path] = InputError(f"{str(path)!r} is no name of a file: it contains the character NUL")
            continue
        found = [InputFile(path)]
        if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where access is denied; reading reports that
            found = _search(path, outputs)
            if not found:
                failures[path] = without_recordings(path)
        for recording in found:
            recordings.setdefault(os.path.realpath(recording.path), recording)
    return list(recordings.values()), failures


def without_recordings(folder: Path) -> InputError:
    """The error for a folder in which `recordings_in` finds nothing."""
    known = " ".join(sorted(SUFFIXES))
    return InputError(f"{folder} is a folder without recordings (outputs of audiosep are none); known: {known}")


def _search(folder: Path, outputs: Path) -> list[InputFile]:
    """The recordings in a folder, except those in the folder of the outputs: they come from an earlier run.

    Raises:
        InputError: outputs would be written among the recordings, where a later run would take them for recordings.
    """
    root = Path(os.path.realpath(folder))
    inside = outputs != root and outputs.is_relative_to(root)
    files = recordings_in(folder, outputs if inside else None)
    found = [InputFile(file, file.parent.relative_to(folder)) for file in files]
    if not inside and any((outputs / recording.subfolder).is_relative_to(root) for recording in found):
        raise InputError(
            f"the outputs would go among the recordings of the folder {folder}, and be taken for recordings the next "
            f"time: choose a folder for them alone, such as {folder / 'separated'}, or name the recordings one by one"
        )
    return found


def recordings_in(folder: Path, outputs: Path | None = None) -> list[Path]:
    """The recordings in a folder and its subfolders, in order, without outputs of a separation.

    What is left out, outputs and files whose suffix is not known, is named in a warning.

    Args:
        folder: to search.
        outputs: a folder in it that is left out.
    """
    files: list[Path] = []
    ours: list[Path] = []
    left_out: Counter[str] = Counter()
    for file in _files(folder, outputs):
        if is_recording(file):
            (ours if is_marked(file) else files).append(file)
        elif not file.name.startswith(".") and file.suffix.lower() not in WITHOUT_SOUND:
            left_out[file.suffix.lower() or "no suffix"] += 1
    names = {file.name for file in files}
    unmarked = {file for file in files if file.suffix.lower() in UNMARKED and _original(file) in names}
    ours += sorted(unmarked)
    if ours:
        logger.warning(
            "%s: left out: %s of audiosep, such as %s (name them to take them)",
            folder,
            counted(len(ours), "output"),
            ours[0],
        )
    if left_out:
        counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(left_out.items()))
        logger.warning("%s: left out by their suffix: %s (name the files to take them)", folder, counts)
    return sorted(file for file in files if file not in unmarked)


def _original(file: Path) -> str | None:
    """The name of the recording of which a file may be an output, by the usual template."""
    found = re.fullmatch(r"(.+) \([^()]+\)", file.stem)
    return None if found is None else found[1] + file.suffix


def _files(folder: Path, outputs: Path | None) -> Iterator[Path]:
    """The files in a folder and its subfolders, without hidden folders, trash, and the folder of the outputs.

    Symbolic links are followed, each folder once, so that a circle of them ends.
    """
    seen: set[str] = set()
    for place, subfolders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen or (outputs is not None and Path(real) == outputs):
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith(".") and name.lower() not in _TRASH)
        yield from (path for name in names if os.path.isfile(path := Path(place, name)))  # noqa: PTH113 - see above
