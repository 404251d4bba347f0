"""Recordings that can be read only once: standard input, named pipes, and files that are opened already."""

from __future__ import annotations

import io
import math
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO

from audiosep.audio.inputs import AudioFile, is_opened, is_pipe
from audiosep.audio.limits import MAX_CHANNELS, MAX_RATE
from audiosep.errors import AudioError, InputError

_HEADERS = 2**26  # bytes of tags and pictures, with room
_WIDEST = 8  # bytes of a sample


def needs_spool(recording: AudioFile) -> bool:
    """Whether a recording is copied to a temporary file: many formats have their index at the end."""
    return is_opened(recording) or is_pipe(recording)  # type: ignore[arg-type]  # a path, as it is not opened


def place_of(recording: AudioFile) -> Path:
    """The path of a recording; `-` for standard input, and for opened files that have none."""
    if not is_opened(recording):
        return Path(recording)  # type: ignore[arg-type]  # as above
    name = getattr(recording, "name", None)
    return Path(name) if isinstance(name, str) and name and not name.startswith("<") else Path("-")  # as "<stdin>"


def name_of(recording: AudioFile) -> str:
    """What messages call a recording."""
    place = place_of(recording)
    if is_opened(recording) and str(place) == "-":
        return f"the {type(recording).__name__} object"
    return "standard input" if str(place) == "-" else str(place)


def spool_folder() -> tempfile.TemporaryDirectory[str]:
    """A new folder for what is copied, which `cleanup` deletes.

    Raises:
        AudioError: it cannot be made.
    """
    try:
        return tempfile.TemporaryDirectory(prefix="audiosep-")
    except OSError as error:
        raise AudioError(f"no temporary folder can be made ({error}): set TMPDIR to a folder with space") from error


def spool(recording: AudioFile, target: Path, max_seconds: float | None) -> None:
    """Copy a recording to a file.

    Args:
        recording: which `needs_spool`; what is opened is read from where it stands.
        target: the file.
        max_seconds: refuse what could not be a recording of this length; None: no limit.

    Raises:
        InputError: it is empty, endless, a terminal, or not opened for reading in binary mode.
        AudioError: it cannot be copied.
    """
    name = name_of(recording)
    try:
        with target.open("wb") as file:
            if is_opened(recording):
                _copy(recording, file, max_seconds, name)
            elif str(recording) != "-":
                with Path(recording).open("rb") as pipe:  # type: ignore[arg-type]  # a path
                    _copy(pipe, file, max_seconds, name)
            elif sys.stdin is None or sys.stdin.isatty():
                raise InputError("standard input is a terminal: pipe a file into it, as in `audiosep ... - < song.wav`")
            else:
                _copy(sys.stdin.buffer, file, max_seconds, name)
    except OSError as error:
        raise AudioError(
            f"the pipe cannot be copied to {target.parent} ({error.strerror}): free space there, or set TMPDIR to "
            "another folder"
        ) from error
    _check_size(recording, target.stat().st_size)


def content_of(recording: BinaryIO | bytes) -> bytes:
    """The bytes of an opened file from where it stands, for what is read more than once.

    Args:
        recording: `is_opened`.

    Raises:
        InputError: it is empty, or not opened for reading in binary mode.
    """
    file = io.BytesIO()
    _copy(recording, file, None, name_of(recording))
    _check_size(recording, file.tell())
    return file.getvalue()


def _check_size(recording: AudioFile, size: int) -> None:
    """Refuse a recording of which nothing came, in bytes."""
    if size == 0:
        remedy = "go back to its start with seek(0)" if is_opened(recording) else "check the command that writes to it"
        raise InputError(f"{name_of(recording)} was empty: {remedy}")


def _copy(source: BinaryIO | bytes, target: BinaryIO, max_seconds: float | None, name: str) -> None:
    """Copy what is opened; what has more bytes than the longest allowed recording is refused while it is read."""
    if isinstance(source, bytes | bytearray | memoryview):
        source = io.BytesIO(source)
    most = math.inf if max_seconds is None else _HEADERS + max_seconds * MAX_CHANNELS * MAX_RATE * _WIDEST
    copied = 0
    while data := _read(source, name):
        if not isinstance(data, bytes):
            raise InputError(
                f"an opened recording must give bytes, not {type(data).__name__}: open it with "
                "open(path, 'rb'), or pass await file.read() of an upload"
            )
        copied += len(data)
        if copied > most:
            raise InputError(
                f"the pipe does not end: {copied} bytes are more than {max_seconds:.0f} s of audio can "
                "have: raise max_seconds if that is right, or cut the recording"
            )
        target.write(data)


def _read(source: BinaryIO, name: str) -> bytes:
    """Some of what comes next; an error of reading is told apart from those of the disk that it is copied to."""
    try:
        return source.read(1 << 20)
    except (OSError, ValueError) as error:  # ValueError: it is closed
        raise InputError(
            f"{name} cannot be read ({error}): open it with open(path, 'rb'), or copy it into a file first"
        ) from error
