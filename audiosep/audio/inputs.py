"""Checks of what is to be read, before any decoder is loaded."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO, TypeGuard

from audiosep.errors import AudioError, InputError, missing_file

AudioFile = str | Path | BinaryIO | bytes
"""A recording as a path, an opened file or the bytes of a file; "-" is standard input."""


def is_opened(value: object) -> TypeGuard[BinaryIO | bytes]:
    """Whether something is a file that is opened for reading, or the bytes of one."""
    return isinstance(value, bytes | bytearray | memoryview) or hasattr(value, "read")


def is_file(value: object) -> TypeGuard[AudioFile]:
    """Whether something is an `AudioFile`, and not an array."""
    return isinstance(value, str | Path) or is_opened(value)


def is_pipe(path: str | Path) -> bool:
    """Whether a path is standard input (`-`) or a named pipe, which can be read only once."""
    try:
        return str(path) == "-" or stat.S_ISFIFO(Path(path).stat().st_mode)
    except (OSError, ValueError):
        return False


def check_file(path: str | Path) -> Path:
    """Check that a path is a regular file with content.

    Args:
        path: the file.

    Returns:
        It, as a Path.

    Raises:
        AudioError: missing, a folder, a device, or not readable by this user.
        InputError: empty.
    """
    path = Path(path)
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise AudioError(missing_file(path)) from error
    except (OSError, ValueError) as error:
        # Names longer than the system allows, or with a NUL in them.
        raise AudioError(f"{str(path)!r} cannot be opened: {error}: check the name") from error
    if stat.S_ISDIR(status.st_mode):
        raise AudioError(f"{path} is a folder: name the files in it")
    if not stat.S_ISREG(status.st_mode):
        raise AudioError(f"{path} is a device or a pipe, not a file: copy its data into a file first")
    if not os.access(path, os.R_OK):
        raise AudioError(f"{path} may not be read by this user: change its permissions")
    if status.st_size == 0:
        raise InputError(f"{path} is empty (0 bytes): copy or export it again")
    return path
