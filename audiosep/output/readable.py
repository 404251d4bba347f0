"""Which recordings of a batch are there, before anything is loaded for them."""

from __future__ import annotations

from pathlib import Path

from audiosep.audio.inputs import check_file, is_pipe
from audiosep.errors import AudioSepError


def is_readable(path: Path, failures: dict[Path, Exception], *, pipes: bool = True) -> bool:
    """Whether a recording is there.

    Args:
        path: of it.
        failures: get the error where it is not.
        pipes: whether it may be a pipe, which can be read once.
    """
    try:
        if not (pipes and is_pipe(path)):
            check_file(path)
    except AudioSepError as error:
        failures[path] = error
        return False
    return True
