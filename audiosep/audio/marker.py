"""The mark in outputs of a separation: that they are no recordings, of which one they are, and what was asked of it."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from audiosep.audio.inputs import is_pipe

MARK = "separated by audiosep"
"""The tag `software` of outputs."""

UNMARKED = {".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"}
"""Suffixes of outputs whose format has no place for the mark."""

_PART = 65_536  # bytes; all formats have their tags near the start or near the end
_FORMS = (MARK.encode(), MARK.encode("utf-16-le"))  # ID3 is in UTF-16
_ORIGIN = re.compile(rf"{MARK} from ([0-9a-f]{{16}})(?: as ([0-9a-f]{{8}}))?".encode())
_MP4 = {".m4a", ".m4v", ".mp4"}  # whose cover, of any size, may lie between the mark and the end


class Origin(NamedTuple):
    """What the mark of an output says.

    Attributes:
        recording: the `fingerprint` of the recording that it was separated from.
        work: the digest of what was asked of it, see `query.work_digest`; None where it is not said.
    """

    recording: str
    work: str | None = None


def mark_for(origin: Origin | None) -> str:
    """The mark of an output.

    Args:
        origin: of the output; None where there is no file of the recording.
    """
    if origin is None:
        return MARK
    return f"{MARK} from {origin.recording}" + ("" if origin.work is None else f" as {origin.work}")


def fingerprint(recording: Path | bytes) -> str | None:
    """What tells a recording from others, wherever it lies: a digest of the file.

    All of it is read. Of 4 GB, which is 6.8 hours of 16-bit stereo, that took 3 s of a core and 6 s beside other
    programs (620 to 920 MB/s), and separating as much takes 390 s on two cores at the best (docs/bench.md): below 2%.

    Args:
        recording: the file, or what is in it.

    Returns:
        16 hexadecimal digits; None for pipes, and for files that cannot be read.
    """
    try:
        if isinstance(recording, bytes):
            return hashlib.sha256(recording).hexdigest()[:16]
        if is_pipe(recording) or not recording.is_file():
            return None
        with recording.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except (OSError, ValueError):
        return None


def is_marked(path: Path) -> bool:
    """Whether a file is the output of a separation.

    Args:
        path: the file.

    Returns:
        False also for files that cannot be read.
    """
    ends = _ends(path)
    return any(form in ends for form in _FORMS)


def origin_of(output: Path) -> Origin | None:
    """What an output was separated from, and what was asked for.

    Args:
        output: the file.

    Returns:
        None where it does not say so.
    """
    found = _ORIGIN.search(_ends(output).replace(b"\0", b""))
    return None if found is None else Origin(found[1].decode(), None if found[2] is None else found[2].decode())


def _ends(path: Path) -> bytes:
    """The parts of a file that hold tags; nothing of one that cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(_PART)
            file.seek(max(len(head), os.fstat(file.fileno()).st_size - _PART))
            ends = head + file.read(_PART)
    except OSError:
        return b""
    return ends + (_mp4_tool(path) if path.suffix.lower() in _MP4 else b"")


def _mp4_tool(path: Path) -> bytes:
    """The tag `software` of an mp4 file; nothing of one that cannot be read."""
    from mutagen import mp4

    try:
        tags: Any = mp4.MP4(path).tags or {}
        return "".join(tags.get("\xa9too", [])).encode()
    except Exception:  # damaged tags raise anything
        return b""
