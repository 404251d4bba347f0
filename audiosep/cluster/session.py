"""A Ray cluster for a job: connecting to one or starting one here, and sharing it out among workers."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from audiosep.errors import DependencyError, InputError
from audiosep.inference.threads import available_cpus

logger = logging.getLogger(__name__)

_STARTS = 3
_OBJECTS = 128 * 2**20  # bytes: what passes through Ray are names of files
_WORKER_BYTES = 2**30
_WORKER_CPUS = 2
_GPU_CPUS = 4  # besides a GPU more do not help


def import_ray() -> Any:
    """Ray, which is optional.

    Raises:
        DependencyError: it is not installed, or broken.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise DependencyError(f"--ray needs Ray ({error}): pip install 'audiosep[ray]'") from error
    return ray


@contextlib.contextmanager
def session(cluster: str | None, workers: int | None) -> Iterator[Any]:
    """Ray, connected to a cluster while the block runs; one that this process has already is used and stays.

    Args:
        cluster: as in `separate_with_ray`. workers: that a cluster of this machine alone has to have room for.

    Raises:
        DependencyError: Ray is not installed, or does not start.
        InputError: there is no such cluster.
    """
    ray = import_ray()
    with _quiet():
        if ray.is_initialized():
            yield ray
            return
        address = cluster or os.environ.get("RAY_ADDRESS") or "local"
        with _own_signals():
            if address == "local":
                _start(ray, workers or 1)
            else:
                _connect(ray, address)
        try:
            yield ray
        finally:
            ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    try:
        ray.init(address=address, configure_logging=False, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"there is no Ray cluster at {address!r} ({error}): start one with `ray start`") from error


def _start(ray: Any, workers: int) -> None:
    for attempt in range(1, _STARTS + 1):
        try:
            ray.init(
                address="local",
                num_cpus=max(available_cpus(), workers),
                object_store_memory=_OBJECTS,
                include_dashboard=False,
                configure_logging=False,
                log_to_driver=False,
            )
        except (
            Exception
        ) as error:  # Ray's own, of no class: its parts wait for each other, and on a busy machine give up
            ray.shutdown()
            if attempt == _STARTS:
                raise DependencyError(f"Ray does not start on this machine, which may be too busy: {error}") from error
            logger.info("Ray did not start (%s); trying again", error)
        else:
            return


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray puts a handler of its own in the place of the program's."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No word to anybody: what goes wrong stands in our report, and Ray's own log is for -vv."""
    wanted = logger.isEnabledFor(logging.DEBUG)
    variables = {"RAY_USAGE_STATS_ENABLED": "0"} | ({} if wanted else {"RAY_BACKEND_LOG_LEVEL": "fatal"})
    added = {name: value for name, value in variables.items() if name not in os.environ}
    loggers = [logging.getLogger(name) for name in ("ray", "ray.data")]
    levels = [one.level for one in loggers]
    os.environ.update(added)
    for one in loggers:
        one.setLevel(logging.INFO if wanted else logging.CRITICAL)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)


@dataclass(frozen=True)
class Crew:
    """Workers of a job: how many, and what each gets."""

    workers: int
    cpus: int
    gpus: int

    @property
    def options(self) -> dict[str, int]:
        """For Ray."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus}


def crew(nodes: Sequence[dict[str, float]], device: str, wanted: int | None, files: int) -> Crew:
    """How the work is shared out.

    Args:
        nodes: the resources of each machine: CPU, GPU, and memory in bytes.
        device: auto, cpu, cuda or mps.
        wanted: workers; None for as many as are sane.
        files: that there are to separate; more workers than that are not hired.

    Raises:
        InputError: there are not so many processors, or no GPU where one is asked for.
    """
    gpus = [int(node.get("GPU", 0)) for node in nodes]
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    cards = sum(gpus)
    if device == "cuda" and not cards:
        raise InputError("no machine of the cluster has a GPU that Ray knows of: use device 'auto' or 'cpu'")
    if device in ("auto", "cuda") and cards:
        if wanted is not None and wanted > cards:
            raise InputError(f"{wanted} workers need as many GPUs, and there are {cards}: ask for fewer")
        share = min(c // g for c, g in zip(cpus, gpus, strict=True) if g)
        return Crew(max(1, min(wanted or cards, files)), cpus=max(1, min(share, _GPU_CPUS)), gpus=1)
    if wanted is None:
        room = [int(node.get("memory", 0)) // _WORKER_BYTES for node in nodes]
        wanted = sum(min(have // _WORKER_CPUS, fits) for have, fits in zip(cpus, room, strict=True))
    wanted = max(1, min(wanted, files))
    # As many CPUs for each as let all of them find a place.
    share = next((n for n in range(max(cpus, default=0), 0, -1) if sum(have // n for have in cpus) >= wanted), 0)
    if not share:
        raise InputError(f"{wanted} workers need as many CPUs, and there are {sum(cpus)}: ask for fewer")
    return Crew(wanted, cpus=share, gpus=0)
