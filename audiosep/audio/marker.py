"""The mark in outputs of a separation, by which a later search of their folder knows that they are no recordings."""

from __future__ import annotations

import os
from pathlib import Path

MARK = "separated by audiosep"
"""The tag `software` of outputs."""

UNMARKED = {".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"}
"""Suffixes of outputs whose format has no place for the mark."""

_PART = 65_536  # bytes; all formats have their tags near the start or near the end
_FORMS = (MARK.encode(), MARK.encode("utf-16-le"))  # ID3 is in UTF-16


def is_marked(path: Path) -> bool:
    """Whether a file is the output of a separation.

    Args:
        path: the file.

    Returns:
        False also for files that cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_PART)
            file.seek(max(len(head), os.fstat(file.fileno()).st_size - _PART))
            parts = head + file.read(_PART)
    except OSError:
        return False
    return any(form in parts for form in _FORMS)
