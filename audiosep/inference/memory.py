"""How much memory this process has used."""

from __future__ import annotations

import sys
from pathlib import Path


def peak_memory(status: Path = Path("/proc/self/status")) -> int | None:
    """The largest resident set size of this process so far.

    Args:
        status: the file that Linux reports it in. It is preferred to POSIX's `ru_maxrss`, which on Linux starts at the
            peak of the parent process.

    Returns:
        Bytes; None on systems that do not report it (Windows).
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
