"""Measuring a model during training: the task's validation, dead channels, and samples for the trackers."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from audiosep.training.engine import distributed
from audiosep.training.engine.dead_channels import DeadChannels
from audiosep.training.engine.task import Task
from audiosep.training.engine.trackers import Sample, log_samples

logger = logging.getLogger(__name__)


class Validator:
    """Validates the models of a run.

    Args:
        task: the task.
        accelerator: the run's `accelerate.Accelerator`.
    """

    def __init__(self, task: Task, accelerator: Any) -> None:
        self._task, self._accelerator = task, accelerator
        self._reported: set[str] = set()  # layers that were warned about

    def __call__(self, model: nn.Module, step: int) -> dict[str, float]:
        """Run the task's validation and count dead channels; every process must call it.

        Args:
            model: the weights to measure; put into evaluation mode.
            step: steps done.

        Returns:
            The task's numbers and "val/dead_channels"; empty if the task measures nothing.
        """
        model.eval()
        distributed.same_buffers(model)
        with _without_compiling(), torch.no_grad(), self._accelerator.autocast(), DeadChannels(model) as channels:
            metrics = self._task.validate(model)
        channels.merge(distributed.gather([channels.active()]))
        self._warn(channels.zero_layers, step)
        return metrics | {"val/dead_channels": channels.share} if metrics else metrics

    def log_samples(self, model: nn.Module, step: int) -> None:
        """Give the task's sounds and pictures to the trackers, if it has any; only the main process does.

        Args:
            model: in evaluation mode.
            step: steps done.
        """
        samples: Callable[[nn.Module], list[Sample]] | None = getattr(self._task, "samples", None)
        if samples is not None and self._accelerator.is_main_process and self._accelerator.trackers:
            with _without_compiling(), torch.no_grad(), self._accelerator.autocast():
                log_samples(self._accelerator.trackers, samples(model), step)

    def _warn(self, layers: list[str], step: int) -> None:
        new = [name for name in layers if name not in self._reported]
        self._reported.update(new)
        if new and self._accelerator.is_main_process:
            logger.warning(
                "step %d: all inputs of %s were zero in this validation; these layers cannot learn. If a ReLU or a "
                "weight has died, go back to a checkpoint before it with a lower trainer.learning_rate or more "
                "trainer.weight_decay",
                step,
                ", ".join(new[:5]) + (f" and {len(new) - 5} more" if len(new) > 5 else ""),
            )


def _without_compiling() -> contextlib.AbstractContextManager[None]:
    """Validation meets many lengths once each; compiling for each would take longer than it saves."""
    stance: contextlib.AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance
