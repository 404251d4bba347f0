"""The exponential moving average of the weights, which is validated and exported."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

Tensors = tuple[Tensor, ...] | list[Tensor]


def average_weights(model: nn.Module, decay: float) -> AveragedModel:
    """Start the moving average of a model.

    The decay grows with the number n of averaged steps, min(decay, n / (n + 19)), so that the initial weights do not
    dominate the average of a short run. Buffers, such as batch statistics, are not averaged but copied.

    Args:
        model: is copied.
        decay: largest weight of the past; 0 makes the average equal to the latest weights.

    Returns:
        The average; its `module` is a model with the averaged weights.
    """

    def average(averages: Tensors, weights: Tensors, count: Tensor | int) -> None:
        steps = int(count)
        get_ema_multi_avg_fn(min(decay, steps / (steps + 19)))(averages, weights, count)

    return AveragedModel(model, multi_avg_fn=average)


def update_average(average: AveragedModel, model: nn.Module, step: int) -> None:
    """Take the weights and buffers after a step into the average.

    Args:
        average: changed in place.
        model: as it is after the step.
        step: number of the step, from 0; it determines the decay, so that a checkpoint needs no count of its own.
    """
    average.n_averaged.fill_(step + 1)
    average.update_parameters(model)


@torch.no_grad()
def restore_buffers(model: nn.Module, average: AveragedModel) -> None:
    """Undo what a skipped step did to the buffers.

    Args:
        model: changed in place.
        average: holds the buffers of the last step that was not skipped.
    """
    for buffer, kept in zip(model.buffers(), average.module.buffers(), strict=True):
        buffer.copy_(kept)
