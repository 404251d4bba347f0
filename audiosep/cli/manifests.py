"""Files that list the inputs of a job, for `--manifest`."""

from __future__ import annotations

import json
from pathlib import Path

from audiosep.errors import InputError


def read_inputs(path: Path) -> list[str]:
    """The recordings that a manifest names, relative ones starting at its folder.

    Raises:
        InputError: it cannot be read, or a line is neither a path nor a clip in a file of its own.
    """
    inputs = []
    try:
        # At line breaks only: str.splitlines also breaks at characters that JSON leaves in captions.
        lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n")
    except OSError as error:
        raise InputError(f"--manifest {path}: cannot be read ({error.strerror})") from error
    for number, text in enumerate(lines, 1):
        name = line = text.removesuffix("\r")
        if line.startswith("{"):
            try:
                clip = json.loads(line)
                name = clip["path"]
            except (ValueError, KeyError) as error:
                raise InputError(f"--manifest {path}, line {number}: no clip with a path ({error})") from error
            if clip.get("member"):
                raise InputError(f"--manifest {path}, line {number}: {name} is an archive: unpack it first")
        if name.strip():
            inputs.append(str(path.parent / name))
    if not inputs:
        raise InputError(f"--manifest {path}: names no recording")
    return inputs
