"""The interface between the trainer and what it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class Task(Protocol):
    """What is trained, on what, towards what.

    Attributes:
        model: everything that is trained or saved.

    Besides these methods a task may have: `describe() -> dict` (what the run's config.json says about model and data),
    `samples(model) -> list[Sample]` (pictures and audio for the trackers), `train_mode(model)` (in place of
    `model.train()`, for parts that stay frozen), `prepare(device)` (once, before the first batch: where training is).
    """

    model: nn.Module

    def batch(self, step: int, rank: int, world: int) -> Any:
        """The batch of one step on one of `world` processes.

        It is a pure function of its arguments and the task's seed, with random generators of its own: it runs in
        another thread, ahead of time, and a resumed run asks for the same steps again.
        """
        ...

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to go down, and detached numbers to log.

        It runs under autocast at the run's precision: what needs float32 (spectra, energies, the loss itself) is put
        under `torch.autocast(device_type, enabled=False)`. The torch generators are seeded from (seed, step, rank)
        before. "items" among the numbers is how many training items (queries) the batch had: the log's throughput.
        """
        ...

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Flat numbers such as "val/si_sdri", the same on every process (`distributed.share` and `gather`)."""
        ...

    def export(self, model: nn.Module, folder: Path) -> None:
        """Write what is to be used afterwards into the existing, empty `folder`."""
        ...


class StepModule(nn.Module):
    """The loss as a module, so that DDP sees one forward pass whichever methods of the model the task calls."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.model = task.model
        self._loss = task.loss

    def forward(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        return self._loss(self.model, batch)
