"""How fast a run would train, compared with its network alone: `audiosep train CONFIG --profile STEPS`."""

from __future__ import annotations

import dataclasses
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from audiosep.errors import TrainingError
from audiosep.training.engine.run_log import read_log
from audiosep.training.engine.runtime import denormals_flushed, send_to_device, step_seed
from audiosep.training.engine.task import StepModule, Task, set_train_mode
from audiosep.training.engine.trainer import Trainer
from audiosep.training.engine.trainer_config import TrainerConfig, resolve_device

_PREPARED = 4  # batches made in advance for the network alone
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Throughput:
    """Seconds a step takes, measured on the same steps three times.

    Attributes:
        steps: measured steps, after as many for warm-up.
        items: training items (queries) in them.
        loop: seconds of the trainer's whole loop, with batches, optimizer, average and log.
        network: seconds of forward and backward pass alone, on batches made in advance.
        rendering: seconds of making the batches alone.
        waiting: share of the loop's time in which it waited for a batch.
        gpu_busy: mean utilisation of the GPU during the loop, 0..1; None without a GPU, or without nvidia-ml-py.
    """

    steps: int
    items: int
    loop: float
    network: float
    rendering: float
    waiting: float
    gpu_busy: float | None

    @property
    def share(self) -> float:
        """The trainer's speed relative to that of the network alone, 0..1."""
        return self.network / self.loop

    def __str__(self) -> str:
        rate = self.items / self.steps
        lines = [
            f"trainer  {self.loop:8.3f} s a step  {rate / self.loop:8.1f} items/s",
            f"network  {self.network:8.3f} s a step  {rate / self.network:8.1f} items/s: "
            f"the trainer reaches {self.share:.0%} of it",
            f"batches  {self.rendering:8.3f} s a step to make; the trainer waits for them "
            f"{self.waiting:.1%} of its time",
        ]
        return "\n".join(lines + ([f"GPU      {self.gpu_busy:8.0%} busy"] if self.gpu_busy is not None else []))


class _TrainingOnly:
    """A task without validation and export."""

    def __init__(self, task: Task) -> None:
        self.model: nn.Module = task.model
        self.batch, self.loss = task.batch, task.loss
        for name in ("train_mode", "prepare", "adversary", "adversary_loss"):
            if hasattr(task, name):
                setattr(self, name, getattr(task, name))

    def validate(self, model: nn.Module) -> dict[str, float]:
        return {}

    def export(self, model: nn.Module, folder: Path) -> None:
        pass


def measure_throughput(task: Task, config: TrainerConfig, steps: int) -> Throughput:
    """Train 2 x `steps` steps into a temporary folder, and time the second half.

    Args:
        task: the task; its weights change.
        config: the run's; its validations, checkpoints and trackers are left out.
        steps: number of measured steps.

    Raises:
        TrainingError: stopped by a signal.
    """
    plain = dataclasses.replace(
        config, steps=2 * steps, minutes=None, log_every=steps, patience=0, trackers=(),
        validate_minutes=None, validate_steps=None, checkpoint_minutes=None, checkpoint_steps=None,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, _gpu_busy(resolve_device(config.device)) as busy:
        if Trainer(_TrainingOnly(task), plain, folder).fit().interrupted:
            raise TrainingError("stopped before the steps were measured")
        before, line = (row for row in read_log(Path(folder) / "log.jsonl") if row["event"] == "train")
    items = int(line["items"] - before["items"])
    loop = items / line["items_per_second"] / steps
    batches = steps * config.accumulation
    network, rendering = _network_alone(task, plain, range(batches, 2 * batches))
    usage = sum(busy) / len(busy) if busy else None
    return Throughput(steps, items, loop, network / steps, rendering / steps, line["waiting"], usage)


def _network_alone(task: Task, config: TrainerConfig, indices: range) -> tuple[float, float]:
    """Time the forward and backward passes of all batches, and the making of the batches, seconds."""
    device, model, step = resolve_device(config.device), task.model, StepModule(task)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.precision)
    rendering = network = 0.0
    with denormals_flushed(device):
        for first in range(indices.start, indices.stop, _PREPARED):
            some = indices[first - indices.start :][:_PREPARED]
            started = time.perf_counter()
            with torch.no_grad():
                made = [task.batch(index, 0, 1) for index in some]
            rendering += time.perf_counter() - started
            batches = [send_to_device(batch, device) for batch in made]
            set_train_mode(task, model)
            _synchronise(device)
            started = time.perf_counter()
            for index, batch in zip(some, batches, strict=True):
                torch.manual_seed(step_seed(config.seed, index, 0))
                with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                    loss = step(batch)[0]
                loss.backward()
                model.zero_grad(set_to_none=True)
            _synchronise(device)
            network += time.perf_counter() - started
    return network, rendering


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _gpu_busy(device: torch.device) -> Iterator[list[float]]:
    """Poll the utilisation of the GPU, 0..1, until the block ends; the list stays empty if it cannot be read."""
    found: list[float] = []
    if device.type != "cuda":
        yield found
        return
    done = threading.Event()

    def poll() -> None:
        while not done.wait(_POLL_SECONDS):
            try:
                found.append(torch.cuda.utilization(device) / 100)
            except (ImportError, RuntimeError):
                return

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()
