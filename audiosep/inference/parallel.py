"""Several recordings at once: how many, their outcomes in order, and how far all of them are."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from audiosep.errors import Cancelled, InputError
from audiosep.inference.threads import available_cpus
from audiosep.progress import Progress, says_stop

Outcome = TypeVar("Outcome")

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
    4
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


def in_order(
    compute: Callable[[int], Outcome],
    count: int,
    jobs: int,
    take: Callable[[int, Outcome], object],
    meter: Meter,
) -> None:
    """Compute the outcomes of recordings, and hand them over in their order.

    Where a computation raises, or the user presses Ctrl-C, the others are stopped, and what is finished is handed over.

    Args:
        compute: number -> outcome; called in threads where there are several jobs.
        count: of recordings.
        jobs: that are computed at once.
        take: gets each number and outcome, in the calling thread.
        meter: of their progress, which `compute` tells.

    Raises:
        Cancelled: by the meter.
        Exception: what the meter's callback raises.
    """
    finished: dict[int, Outcome] = {}

    def keep(number: int) -> Outcome:
        outcome = finished[number] = compute(number)
        meter.at(number, math.inf)
        return outcome

    outcomes = _outcomes(keep, count, jobs, meter)
    try:
        for number, outcome in enumerate(outcomes):
            del finished[number]
            take(number, outcome)
    except BaseException as stopped:
        outcomes.close()
        for number in sorted(finished):  # before those in front of them
            take(number, finished[number])
        if isinstance(stopped, Cancelled) and meter.failure is not None:
            raise meter.failure from None
        raise


def _outcomes(compute: Callable[[int], Outcome], count: int, jobs: int, meter: Meter) -> Generator[Outcome]:
    if jobs == 1:
        yield from map(compute, range(count))
        return
    with ThreadPoolExecutor(jobs, thread_name_prefix="audiosep-job") as pool:
        running: list[Future[Outcome]] = [pool.submit(compute, number) for number in range(count)]
        try:
            for future in running:
                yield future.result()
        finally:  # also when the user presses Ctrl-C
            meter.stop()
            for future in running:
                future.cancel()


class Meter:
    """The fraction of a whole batch, from seconds of each recording.

    Args:
        progress: gets the fraction, never less than before; returning False cancels.
        seconds: of each recording.

    Attributes:
        failure: what the callback has raised, for who called the batch; None where it has raised nothing.
    """

    def __init__(self, progress: Progress | None, seconds: Sequence[float]) -> None:
        self._progress = progress
        self._seconds, self._whole = seconds, sum(seconds)
        self._done = [0.0] * len(seconds)
        self._reached = 0.0
        self._stopped = False
        self._lock = threading.Lock()
        self.failure: Exception | None = None

    def at(self, index: int, seconds: float) -> None:
        """A recording has come to `seconds`.

        Raises:
            Cancelled: by the callback, also where that fails, for which no recording is to blame; or the batch was
                stopped.
        """
        if self._stopped:
            raise Cancelled("cancelled; nothing half-written is left")
        if self._progress is None:
            return
        with self._lock:
            self._done[index] = max(self._done[index], min(seconds, self._seconds[index]))
            self._reached = max(self._reached, min(1.0, sum(self._done) / self._whole))
            try:
                stopped = says_stop(self._progress(self._reached))
            except Exception as error:
                self._stopped, self.failure = True, error
                raise Cancelled("the progress callback has failed; nothing half-written is left") from error
            if stopped:
                self._stopped = True
                raise Cancelled("cancelled by the progress callback; nothing half-written is left")

    def stop(self) -> None:
        """Cancel the recordings that are being computed."""
        self._stopped = True
