"""The threads of OpenMP, which compute torch's operations on a CPU."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

_OPENMP = re.compile(r"(/\S*/lib(?:gomp|iomp5|omp)\b[^/\s]*)$")
_TORCH = {"linux": "libtorch_cpu.so", "darwin": "libtorch_cpu.dylib", "win32": "torch_cpu.dll"}

_Set = Callable[[int], int | None]


def threads_may_vary() -> bool:
    """Whether an OpenMP of this process may compute with fewer threads than a layer was shared out among.

    Known on Linux alone, which lists the libraries of a process; elsewhere the answer is no.
    """
    try:
        maps = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return False
    found = {match[1] for line in maps if (match := _OPENMP.search(line))}
    return any(ctypes.CDLL(path).omp_get_dynamic() for path in found)


@contextlib.contextmanager
def threads_here(count: int) -> Iterator[None]:
    """Context in which the operations of this Python thread, and of no other, are computed with `count` threads.

    `torch.set_num_threads` also sets the number of all threads to come, and that of MKL's for the whole process. Where
    `has_threads_here` is false the context does nothing.

    Args:
        count: threads.
    """
    if not has_threads_here():
        yield
        return
    set_openmp, set_mkl = _setters()
    before = torch.get_num_threads()  # in a new thread this gives OpenMP the number of the process, which must be first
    mkl = None
    try:
        set_openmp(count)
        mkl = set_mkl(count)
        yield
    finally:
        set_openmp(before)
        set_mkl(mkl or 0)  # 0: the number of the process


@functools.cache
def has_threads_here() -> bool:
    """Whether torch's OpenMP was found and told: not where torch computes with another kind of threads."""
    try:
        set_openmp, _ = _setters()
    except (OSError, AttributeError, KeyError):
        return False
    before = torch.get_num_threads()
    set_openmp(before + 1)
    told = torch.get_num_threads() == before + 1
    set_openmp(before)
    return told


@functools.cache
def _setters() -> tuple[_Set, _Set]:
    """What sets the number of threads of OpenMP and of MKL for the calling thread; MKL's returns the one before."""
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / _TORCH[sys.platform]))  # and those it depends on
    set_openmp = library.omp_set_num_threads
    set_openmp.restype = None
    return set_openmp, getattr(library, "MKL_Set_Num_Threads_Local", lambda count: 0)
