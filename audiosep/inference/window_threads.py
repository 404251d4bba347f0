"""Windows side by side, in threads beside the caller's.

The threads of OpenMP that compute a window wait for each other at the end of every operation, and what follows on the
network (inverse transforms, resampling, writing) is the work of one thread. So a recording of several windows keeps
cores busier when its windows are computed side by side, each with a share of the threads, while the caller's thread
does what follows.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from audiosep.inference.openmp import threads_here
from audiosep.inference.threads import available_cpus

T = TypeVar("T")

MOST = 2
"""Windows of a recording that are computed side by side: each takes 60 MB."""


class WindowThreads(Generic[T]):
    """Computes the windows of a recording beside the caller's thread, in their order.

    A recording of one window is computed in the caller's thread, with all of its threads.

    Args:
        threads: of OpenMP, that all windows share.

    Attributes:
        share: threads of OpenMP for a window.
        beside: whether windows are computed beside the caller's thread by now.
    """

    def __init__(self, threads: int) -> None:
        self.share = max(1, threads // MOST)
        self.beside = False
        self._first: _Job[T] | None = None

    def begin(self, job: Callable[[], T]) -> Callable[[], T]:
        """Begin to compute a window.

        Args:
            job: computes it.

        Returns:
            A function that waits for what the job returns and returns it, or raises what it raised. Call it once.
        """
        begun = _Job(job, self.share)
        if self.beside:
            begun.submit()
        elif self._first is None:
            self._first = begun
        else:
            self._first.submit()
            begun.submit()
            self._first, self.beside = None, True
        return begun.result

    def left(self) -> contextlib.AbstractContextManager[None]:
        """Context for what the caller's thread computes meanwhile: once it has others beside it, with a share, too."""
        return threads_here(self.share) if self.beside else contextlib.nullcontext()


class _Job(Generic[T]):
    """A window that is computed beside the caller's thread once it is submitted, else when its result is wanted."""

    def __init__(self, job: Callable[[], T], share: int) -> None:
        self._job, self._share = job, share
        self._process = os.getpid()
        self._future: Future[T] | None = None
        self._alone = True
        self._done = False

    def __del__(self) -> None:
        if self._future is not None:  # nobody wants the result any more
            self._future.cancel()

    def submit(self) -> None:
        if self._done:
            return
        self._alone = False
        at_once = max(MOST, available_cpus() // self._share)
        with contextlib.suppress(RuntimeError):  # once the main thread has ended, no pool takes anything
            self._future = _pool(os.getpid(), at_once).submit(_compute, self._job, self._share)

    def result(self) -> T:
        self._done = True
        future, self._future = self._future, None
        if self._alone:
            return self._job()
        if future is None or self._process != os.getpid():  # a forked process has none of the threads
            return _compute(self._job, self._share)
        try:
            return future.result()
        finally:
            del future  # the traceback of an error has this frame, and would keep the error and all it knows


def _compute(job: Callable[[], T], share: int) -> T:
    with threads_here(share):
        return job()


@functools.cache
def _pool(process: int, at_once: int) -> ThreadPoolExecutor:
    """The threads of a process, whatever asks; those of the process that it was forked from do not exist in it."""
    return ThreadPoolExecutor(at_once, thread_name_prefix="audiosep-window")
