"""A connection to a Ray cluster, or a cluster of this machine alone."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

from audiosep.errors import DependencyError, InputError, install_extra
from audiosep.inference.threads import available_cpus

logger = logging.getLogger(__name__)

_LOCAL = "local"
_STARTS = 3
_OBJECT_STORE_BYTES = 128 * 2**20  # only tasks and file names pass through Ray


def import_ray() -> Any:
    """Import Ray, which is optional.

    Raises:
        DependencyError: it is not installed, or its import fails.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise DependencyError(f"--ray needs Ray ({error}): {install_extra('ray')}") from error
    return ray


def is_of_this_machine(ray: Any, cluster: str | None) -> bool:
    """Whether `ray_session` starts a cluster of this machine alone.

    Args:
        ray: the package.
        cluster: as in `separate_with_ray`.
    """
    return not ray.is_initialized() and _address(cluster) == _LOCAL


@contextlib.contextmanager
def ray_session(cluster: str | None, workers: int | None) -> Iterator[Any]:
    """Connect Ray to a cluster while the block runs. A connection that this process already has is used and kept.

    Args:
        cluster: as in `separate_with_ray`.
        workers: that a cluster of this machine alone must have CPUs for.

    Raises:
        DependencyError: Ray is not installed, or does not start.
        InputError: there is no such cluster.
    """
    ray = import_ray()
    with _quiet():
        if ray.is_initialized():
            yield ray
            return
        address = _address(cluster)
        with _own_signals():
            if address == _LOCAL:
                _start(ray, workers or 1)
            else:
                _connect(ray, address)
        try:
            yield ray
        finally:
            ray.shutdown()


def _address(cluster: str | None) -> str:
    return cluster or os.environ.get("RAY_ADDRESS") or _LOCAL


def _connect(ray: Any, address: str) -> None:
    try:
        ray.init(address=address, configure_logging=False, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"there is no Ray cluster at {address!r} ({error}): start one with `ray start`") from error


def _start(ray: Any, workers: int) -> None:
    for attempt in range(1, _STARTS + 1):
        try:
            ray.init(
                address=_LOCAL,
                num_cpus=max(available_cpus(), workers),
                object_store_memory=_OBJECT_STORE_BYTES,
                include_dashboard=False,
                configure_logging=False,
                log_to_driver=False,
            )
        except Exception as error:  # Ray raises plain exceptions when its processes start too slowly
            ray.shutdown()
            if attempt == _STARTS:
                raise DependencyError(f"Ray does not start on this machine, which may be too busy: {error}") from error
            logger.info("Ray did not start (%s); trying again", error)
        else:
            return


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Restore the program's SIGTERM handler, which `ray.init` replaces."""
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
    """Silence Ray's log, except for -vv: errors are in our report."""
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
