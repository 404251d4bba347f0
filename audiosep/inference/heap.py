"""The heaps of the GNU C library, which most of the memory that torch and numpy use on a CPU comes from.

Every thread that computes may get a heap of its own, up to eight for each core, that keeps what it once held, in steps
of 64 MB. In a server whose requests are answered by many threads the process grows for hours. All functions do nothing
elsewhere.
"""

from __future__ import annotations

import ctypes
import sys

_M_ARENA_MAX = -8  # of malloc.h


def share_heaps(most: int = 2) -> bool:
    """Let all threads of this process share some heaps; call it before there are threads.

    Args:
        most: heaps.

    Returns:
        Whether the C library agreed.
    """
    set_option = _function("mallopt")
    return set_option is not None and bool(set_option(_M_ARENA_MAX, most))


def give_back() -> None:
    """Give freed memory back to the system."""
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def _function(name: str) -> ctypes._NamedFuncPointer | None:
    """A function of glibc; None in other C libraries."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
