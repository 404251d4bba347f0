"""How much memory a process has taken, and whether it keeps what it frees."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path


def peak_memory(status: Path = Path("/proc/self/status")) -> int | None:
    """The largest resident set of this process so far, in bytes; None where the system does not say.

    Args:
        status: where Linux tells it. What POSIX tells there, `ru_maxrss`, begins with the peak of the process that
            started this one.
    """
    if status.is_file():
        for line in status.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


# Names in the GNU C library's malloc.h, and a size that no block of a model here reaches.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT = 1 << 29


def keep_freed_memory(where: str, precision: str) -> bool:
    """Let this process keep the memory it frees for its next blocks: on Linux, where the C library is a newer GNU one.

    It would give large blocks back to the system, and the system clears every page of them when they are wanted again,
    window after window: 7% of the time of resunet30 on one thread (docs/bench.md). For processes of our own: in
    somebody else's, memory that stays taken may be missed.

    Args:
        where, precision: of the separator. Nothing is set but for "cpu" in "bf16": in fp32 blocks are twice as large,
            and the holes between them would bring resunet30 past 1.6 GB.

    Returns:
        Whether the C library took the setting.
    """
    if (where, precision) != ("cpu", "bf16") or sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_MMAP_THRESHOLD, _KEPT) and mallopt(_TRIM_THRESHOLD, _KEPT))
