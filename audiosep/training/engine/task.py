"""The interface between the trainer and what it trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class Task(Protocol):
    """A model with its data, loss and validation.

    Attributes:
        model: everything that is trained or saved.

    Besides these methods a task may have: `describe() -> dict` (facts about model and data for the run's config.json),
    `samples(model) -> list[Sample]` (pictures and audio for the trackers), `train_mode(model)` (instead of
    `model.train()`, for parts that stay frozen), `prepare(device)` (called once before the first batch, with the
    device of the training), `adversary` (a second network that is trained against the model, or None) with
    `adversary_loss(batch) -> (loss, numbers)` (its loss on what the model has just made of a batch; a loss without a
    gradient while it does not take part, on all processes alike).
    """

    model: nn.Module

    def batch(self, step: int, rank: int, world: int) -> Any:
        """Make the batch of one step on one of `world` processes.

        It must be a pure function of its arguments and the task's seed, with random generators of its own: it runs in
        another thread, ahead of time, and a resumed run makes the same batches again.
        """
        ...

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss to minimise and detached numbers to log.

        It runs under autocast at the run's precision; code that needs float32 (spectra, energies, the loss itself) must
        disable it with `torch.autocast(device_type, enabled=False)`. The torch generators are seeded from (seed, step,
        rank) before. "items" among the numbers is the number of training items (queries), for the log's throughput.
        """
        ...

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Return numbers such as "val/si_sdri", the same on every process (`distributed.share` and `gather`)."""
        ...

    def export(self, model: nn.Module, folder: Path) -> None:
        """Write the trained model into the existing, empty `folder`."""
        ...


def set_train_mode(task: Task, model: nn.Module) -> None:
    """Put a model into training mode as its task wants it.

    Args:
        task: its `train_mode` is called if it has one.
        model: the task's model.
    """
    train_mode: Callable[[nn.Module], object] = getattr(task, "train_mode", nn.Module.train)
    train_mode(model)


class StepModule(nn.Module):
    """The loss as a module, so that DDP sees one forward pass, whichever methods of the model the task calls."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.model = task.model
        self._loss = task.loss

    def forward(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        loss, metrics = self._loss(self.model, batch)
        if not loss.requires_grad:  # a batch may have nothing that the model is trained on, such as no song
            loss = loss + nothing_of(self.model)
        return loss, metrics


def nothing_of(network: nn.Module) -> Tensor:
    """A zero whose gradient is zero for all trained weights, so that `backward` and DDP have something to go through.

    Args:
        network: with at least one weight.
    """
    return torch.stack([0.0 * weight.sum() for weight in network.parameters() if weight.requires_grad]).sum()
