"""Accelerate, lock of the run folder, prefetching of batches, signals, denormals, compilation and seeds of a run."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import nn

from audiosep.atomic import make_folder
from audiosep.errors import ConfigError, DependencyError, TrainingError, install_extra
from audiosep.training.engine.run_state import latest_checkpoint
from audiosep.training.engine.trackers import check_trackers
from audiosep.training.engine.trainer_config import TrainerConfig, resolve_device
from audiosep.training.engine.warm_start import find_weights

try:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedDataParallelKwargs, send_to_device
except ImportError as error:
    raise DependencyError(f"training needs accelerate: {install_extra('train')}") from error

__all__ = [
    "Prefetcher", "accelerator", "check_start", "compile_parts", "denormals_flushed", "only_process", "send_to_device",
    "step_seed", "stopping",
]  # fmt: skip

logger = logging.getLogger(__name__)


@contextmanager
def stopping(stop: Callable[[], bool]) -> Iterator[None]:
    """Call `stop` on SIGTERM and on the first Ctrl-C; a second Ctrl-C raises KeyboardInterrupt.

    Args:
        stop: ends the run after the current step; returns whether it had been called before.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(number: int, frame: FrameType | None) -> None:
        logger.warning("stopping after this step (signal %d)", number)
        if stop() and number == signal.SIGINT:
            raise KeyboardInterrupt

    kept = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, before in kept.items():
            signal.signal(number, before)


@contextmanager
def denormals_flushed(device: torch.device) -> Iterator[None]:
    """Treat denormal float32 numbers as zero in the block; a CPU is many times slower with them."""
    wanted = device.type == "cpu" and torch.set_flush_denormal(True)
    try:
        yield
    finally:
        if wanted:
            torch.set_flush_denormal(False)


class Prefetcher:
    """Makes the next batch in a thread during the step on the current one.

    Args:
        make: makes the batch of an index.
        first: index of the first batch.
        device: of the training; on a GPU batches are made on a stream of their own.

    Attributes:
        waited: seconds that `next` has waited for batches.
    """

    def __init__(
        self,
        make: Callable[[int], Any],
        first: int,
        device: torch.device = torch.device("cpu"),  # noqa: B008 - a constant
    ) -> None:
        self._make, self._index = make, first
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batch")
        self._next: Future[Any] | None = None
        self.waited = 0.0

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def next(self) -> Any:
        """Return the batch of the next index."""
        current = self._next or self._pool.submit(self._make_on_stream, self._index)
        self._index += 1
        started = time.perf_counter()
        batch = current.result()
        self.waited += time.perf_counter() - started
        self._next = self._pool.submit(self._make_on_stream, self._index)
        return batch

    def _make_on_stream(self, index: int) -> Any:
        if self._stream is None:
            return self._make(index)
        with torch.cuda.stream(self._stream):
            batch = self._make(index)
        self._stream.synchronize()
        return batch


def check_start(config: TrainerConfig, run_dir: Path) -> None:
    """Refuse what a run would stop at, before its data are read.

    Args:
        config: the run's.
        run_dir: the run folder.

    Raises:
        DependencyError: a tracker is not installed.
        ModelError: there are no weights to begin with.
    """
    check_trackers(config.trackers)
    if config.init and latest_checkpoint(run_dir / "checkpoints") is None:
        find_weights(Path(config.init))


@contextmanager
def only_process(run_dir: Path) -> Iterator[None]:
    """Keep a run folder to this process in the block; two that train in one would mix their checkpoints and logs.

    Args:
        run_dir: the run folder.

    Raises:
        TrainingError: another process has it.
    """
    lock = FileLock(run_dir / ".lock", blocking=False)  # the operating system releases that of a process that died
    try:
        lock.acquire()
    except Timeout as error:
        raise TrainingError(
            f"another process trains in {run_dir}: wait for it or stop it, or name another run folder"
        ) from error
    except (OSError, NotImplementedError) as error:
        logger.warning("%s cannot be locked (%s): make sure that no other process trains there", run_dir, error)
    try:
        yield
    finally:
        lock.release()


def accelerator(config: TrainerConfig, run_dir: Path) -> Any:
    """Make the `accelerate.Accelerator` of a run: device, precision, processes and trackers.

    Args:
        config: the run's.
        run_dir: the run folder; made if missing.

    Raises:
        DependencyError: a tracker is not installed.
    """
    check_trackers(config.trackers)
    make_folder(run_dir)
    device = resolve_device(config.device)
    precision = {"fp32": "no"}.get(config.precision, config.precision)
    # Accelerate keeps one state a process; a second run in the same process may differ in precision or device.
    live = AcceleratorState._shared_state
    if live and (live.get("_mixed_precision") != precision or live["device"].type != device.type):
        AcceleratorState._reset_state(reset_partial_state=PartialState().num_processes == 1)
    return Accelerator(
        mixed_precision=precision,
        cpu=device.type == "cpu",
        log_with=list(config.trackers) or None,
        project_dir=run_dir,
        # Batches may lack songs or absent targets, so not every head gets a gradient at every step.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )


def compile_parts(model: nn.Module) -> None:
    """Apply torch.compile to the submodules that the model names in its attribute `compilable`.

    Args:
        model: changed in place.

    Raises:
        ConfigError: it names none.
    """
    names: tuple[str, ...] = getattr(model, "compilable", ())
    if not names:
        raise ConfigError(
            "trainer.compile: this model names no parts to compile (attribute `compilable`); set it false"
        )
    # The blocks of a network share one forward(); each block counts as a recompilation of it.
    limits = torch.compiler.config
    if hasattr(limits, "recompile_limit"):  # an older torch runs what is beyond its limit uncompiled
        limits.recompile_limit = max(limits.recompile_limit, 4 * len(names))
    for name in names:
        model.get_submodule(name).compile()


def step_seed(seed: int, index: int, rank: int) -> int:
    """Return the seed of the torch generators for one batch on one rank."""
    return (seed * 1_000_003 + index) * 65_537 + rank
