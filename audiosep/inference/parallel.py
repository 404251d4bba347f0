"""How many recordings to separate at once."""

from __future__ import annotations

from pathlib import Path

from audiosep.errors import InputError
from audiosep.inference.threads import available_cpus

# Of a recording beside the first, with mini: 200 MB for stereo and one query, more for more of them.
_BYTES = 400 * 2**20


def check_jobs(jobs: int, device: str) -> None:
    """Refuse an impossible number of recordings at once.

    Args:
        jobs: the number.
        device: type of the device, as in torch.

    Raises:
        InputError: not a whole number of at least 1, or more than 1 on a GPU, whose settings hold for all threads.
    """
    if not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1:
        raise InputError(f"jobs must be a whole number of at least 1, got {jobs!r}")
    if jobs > 1 and device != "cpu":
        raise InputError(f"several recordings at once are for the CPU, and this model is on {device}: leave out jobs")


def jobs_that_fit(wanted: int, cpus: int | None = None, free: int | None = None, job_bytes: int | None = None) -> int:
    """How many recordings to separate at once, each with a share of the CPU threads.

    Args:
        wanted: at most so many; 0 for as many as fit.
        cpus: CPUs; None for `available_cpus`.
        free: free memory in bytes; None to look it up.
        job_bytes: memory of a recording beside the first, in bytes; None for that of a small model.

    >>> jobs_that_fit(0, cpus=8, free=2 * 2**30)
    5
    """
    cpus = available_cpus() if cpus is None else cpus
    free = free_memory() if free is None else free
    each = job_bytes or _BYTES
    room = cpus if free is None else 1 + max(0, free - 2 * each) // each
    return max(1, min(wanted or cpus, cpus, room))


def free_memory(root: Path = Path("/")) -> int | None:
    """Memory that this process may still use, in bytes: of the machine, limited by its container.

    Args:
        root: where the file system starts.

    Returns:
        None on systems that do not say it as Linux does.
    """
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None
    try:
        limit = (root / "sys/fs/cgroup/memory.max").read_text().strip()
        used = int((root / "sys/fs/cgroup/memory.current").read_text())
        return free if limit == "max" else max(0, min(free, int(limit) - used))
    except (OSError, ValueError):
        return free
