"""The mark in outputs of a separation: by it later runs know that they are no recordings, and of which one they are."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

MARK = "separated by audiosep"
"""The tag `software` of outputs."""

UNMARKED = {".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"}
"""Suffixes of outputs whose format has no place for the mark."""

_PART = 65_536  # bytes; all formats have their tags near the start or near the end
_FORMS = (MARK.encode(), MARK.encode("utf-16-le"))  # ID3 is in UTF-16
_ORIGIN = re.compile(rf"{MARK} from ([0-9a-f]{{16}})".encode())
_SAMPLES, _SAMPLE = 8, 16_384  # of a recording that tell it from others; bytes


def mark_for(recording: Path | None) -> str:
    """The mark of the outputs of a recording, which says by `fingerprint` of which recording they are.

    Args:
        recording: the file; None where there is none.
    """
    origin = None if recording is None else fingerprint(recording)
    return MARK if origin is None else f"{MARK} from {origin}"


def fingerprint(recording: Path) -> str | None:
    """What tells a recording from others, wherever it lies: a digest of its size and of parts spread over it.

    Most programs that change tags leave size and sound in their places, and so the digest too.

    Args:
        recording: the file.

    Returns:
        16 hexadecimal digits; None for pipes, and for files that cannot be read.
    """
    try:
        if not recording.is_file():
            return None
        with recording.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.sha256(str(size).encode())
            for number in range(_SAMPLES):
                file.seek((2 * number + 1) * size // (2 * _SAMPLES))
                digest.update(file.read(_SAMPLE))
    except (OSError, ValueError):
        return None
    return digest.hexdigest()[:16]


def is_marked(path: Path) -> bool:
    """Whether a file is the output of a separation.

    Args:
        path: the file.

    Returns:
        False also for files that cannot be read.
    """
    ends = _ends(path)
    return any(form in ends for form in _FORMS)


def origin_of(output: Path) -> str | None:
    """The `fingerprint` of the recording that an output was separated from.

    Args:
        output: the file.

    Returns:
        None where it does not say so.
    """
    found = _ORIGIN.search(_ends(output).replace(b"\0", b""))
    return None if found is None else found[1].decode()


def _ends(path: Path) -> bytes:
    """The parts of a file that hold tags; nothing of one that cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(_PART)
            file.seek(max(len(head), os.fstat(file.fileno()).st_size - _PART))
            return head + file.read(_PART)
    except OSError:
        return b""
