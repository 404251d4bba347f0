"""Computing in a process that was forked from one that had computed before, as multiprocessing does on Linux."""

from __future__ import annotations

import functools
import os


@functools.cache
def allow_forks() -> None:
    """Let children of this process compute with torch, each with one thread; calling it again has no effect.

    OpenMP's threads do not exist in a forked child, where a computation with several of them would wait for them for
    ever. DataLoader does the same in its workers.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_one_thread)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
