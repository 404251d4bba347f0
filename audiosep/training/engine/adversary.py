"""A second network that is trained against the first one, with an optimizer of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from audiosep.errors import ConfigError
from audiosep.training.engine.optimizer import build_optimizer
from audiosep.training.engine.task import Task
from audiosep.training.engine.trainer_config import TrainerConfig

LARGEST_GRADIENT_NORM = 1.0


class Adversary:
    """Trains a task's `adversary` beside its model: one step of it for each step of the model.

    Args:
        task: has `adversary` and `adversary_loss`.
        config: the run's, whose optimizer and learning rate it shares.
        accelerator: the run's `accelerate.Accelerator`.
        saved: what `state` gave, to go on from there.

    Raises:
        ConfigError: a training in fp16, whose scale of gradients belongs to one optimizer.
    """

    def __init__(
        self, task: Task, config: TrainerConfig, accelerator: Any, saved: Mapping[str, Any] | None = None
    ) -> None:
        if config.precision == "fp16":
            raise ConfigError("trainer.precision: a training against a discriminator takes bf16 or fp32, not fp16")
        self._accelerator, self._parts = accelerator, config.accumulation
        self.network: nn.Module = task.adversary  # type: ignore[attr-defined]  # optional, see `Task`
        self.network.to(accelerator.device)
        if saved is not None:
            self.network.load_state_dict(saved["network"])
        optimizer = build_optimizer(self.network, config, accelerator.device)
        self._step_module, self.optimizer = accelerator.prepare(_StepModule(task), optimizer)
        if saved is not None:
            self.optimizer.load_state_dict(saved["optimizer"])

    def backward(self, batch: Any) -> dict[str, Tensor]:
        """Add the gradient of one batch, which the model has just had.

        Args:
            batch: of the task.

        Returns:
            Numbers for the log; empty while the adversary does not take part.
        """
        with self._accelerator.autocast():
            loss, metrics = self._step_module(batch)
        if loss.requires_grad:
            self._accelerator.backward(loss / self._parts)
        found: dict[str, Tensor] = metrics
        return found

    def update(self, rate: float) -> None:
        """Step its optimizer, unless there is no gradient or it is not finite.

        Args:
            rate: learning rate.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        parameters = list(self.network.parameters())
        if any(p.grad is not None for p in parameters):
            norm = self._accelerator.clip_grad_norm_(parameters, LARGEST_GRADIENT_NORM)
            if bool(torch.isfinite(norm)):
                self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}


class _StepModule(nn.Module):
    """The loss as a module, so that DDP sees one forward pass."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.network = task.adversary  # type: ignore[attr-defined]  # optional, see `Task`
        self._loss = task.adversary_loss  # type: ignore[attr-defined]

    def forward(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        found: tuple[Tensor, dict[str, Tensor]] = self._loss(batch)
        return found
