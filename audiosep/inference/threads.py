"""How many threads to compute with."""

from __future__ import annotations

import logging
import os
import statistics
import time
from pathlib import Path

from audiosep.errors import InputError, counted

logger = logging.getLogger(__name__)


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


def free_cpus(stat: Path = Path("/proc/stat")) -> int:
    """CPUs that this process may use and that no other program computes on at the moment, at least 1.

    Looks several times within 20 ms; counts `available_cpus` where the system is not Linux.

    Args:
        stat: where Linux says how many threads run or want to run.
    """
    allowed = available_cpus()
    counts = []
    for pause in (0, 0.005, 0.005, 0.005, 0.005):
        time.sleep(pause)
        if (count := _running(stat)) is None:
            return allowed
        counts.append(count)
    others = int(statistics.median(counts)) - 1
    return max(1, min(allowed, (os.cpu_count() or 1) - others))


def _running(stat: Path) -> int | None:
    """Threads on the whole machine that run or wait for a CPU, this one among them; None if the system does not say."""
    try:
        lines = stat.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("procs_running"))
    except (OSError, ValueError, StopIteration):
        return None


def threads_for(most: int) -> int:
    """The number of threads to compute with now.

    Args:
        most: threads.

    Returns:
        `most`, but at most `free_cpus`. If `OMP_NUM_THREADS` sets torch's number, other programs do not count: at most
        `available_cpus`.
    """
    return min(most, available_cpus() if "OMP_NUM_THREADS" in os.environ else free_cpus())


def check_threads(count: int) -> int:
    """Refuse a number of threads that no computation gains from.

    Args:
        count: the number.

    Returns:
        The number.

    Raises:
        InputError: less than 1, or more than the machine has CPUs.
    """
    most = os.cpu_count() or 1
    if not 1 <= count <= most:
        raise InputError(f"threads must be from 1 to {most}, the number of CPUs of this machine, got {count}")
    return count


def use_threads(count: int | None = None) -> int:
    """Set the number of threads that torch computes with in this process, as commands do before they load a model.

    More threads than free CPUs are much slower than fewer, because all of them wait for the one that has no CPU. torch
    counts the cores of the machine, not those that a container may use or that are free; nothing but this function
    changes its number.

    Args:
        count: threads; None for torch's number, or fewer: `threads_for`.

    Returns:
        The number of threads in use.

    Raises:
        InputError: as `check_threads`.
    """
    import torch

    count = threads_for(torch.get_num_threads()) if count is None else check_threads(count)
    torch.set_num_threads(count)
    logger.info("%s of %s", counted(count, "thread"), counted(available_cpus(), "CPU"))
    return torch.get_num_threads()
