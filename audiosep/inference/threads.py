"""How many threads to compute with."""

from __future__ import annotations

import os
from pathlib import Path

from audiosep.errors import InputError


def available_cpus(root: Path = Path("/sys/fs/cgroup")) -> int:
    """CPUs that this process may use: its affinity, limited by the CPU quota of its container.

    torch does not look at the quota.

    Args:
        root: where Linux mounts the control groups.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(root)
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def _quota(root: Path) -> float | None:
    """The CPU quota of the control group (version 2 or 1), in CPUs; None for no limit."""
    try:
        if (file := root / "cpu.max").is_file():
            limit, period = file.read_text().split()
            return None if limit == "max" else float(limit) / float(period)
        limit = (root / "cpu" / "cpu.cfs_quota_us").read_text()
        return None if float(limit) <= 0 else float(limit) / float((root / "cpu" / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None


def use_threads(count: int | None = None) -> int:
    """Set the number of threads that torch computes with in this process.

    More threads than CPUs are much slower than fewer, because all of them wait for the one that has no CPU.

    Args:
        count: threads; None for torch's number (which `OMP_NUM_THREADS` sets), at most `available_cpus`.

    Returns:
        The number of threads in use.

    Raises:
        InputError: not a positive number.
    """
    import torch

    if count is not None and count < 1:
        raise InputError(f"threads must be at least 1, got {count}")
    torch.set_num_threads(min(torch.get_num_threads(), available_cpus()) if count is None else count)
    return torch.get_num_threads()
