"""An exponential moving average of the weights: what is validated and exported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Average of a model's trained parameters; buffers (such as batch statistics) are the latest ones.

    The decay grows with the steps, min(decay, (step + 1) / (step + 20)), so that a short run is not held back by its
    first weights.

    Args:
        model: the model whose weights are averaged; its parameters that need no gradient are not stored.
        decay: weight of the past; 0 makes the average equal to the latest weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = model
        self.decay = decay
        self.parameters = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
        self.buffers = {n: b.detach().clone() for n, b in model.named_buffers()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights after `step` (counted from 0) into the average."""
        decay = min(self.decay, (step + 1) / (step + 20))
        trained = dict(self.model.named_parameters())
        averages = list(self.parameters.values())
        weights = [trained[name].detach() for name in self.parameters]
        torch._foreach_lerp_(averages, weights, 1.0 - decay)
        for name, buffer in self.model.named_buffers():
            self.buffers[name].copy_(buffer)

    @torch.no_grad()
    def restore_buffers(self) -> None:
        """Put the buffers of the last good step back into the model, after a step that was thrown away."""
        for name, buffer in self.model.named_buffers():
            buffer.copy_(self.buffers[name])

    def state_dict(self) -> dict[str, Tensor]:
        """The model's state with the averages in place of the trained weights."""
        state = {k: v.detach() for k, v in self.model.state_dict().items()}
        return {k: self.parameters.get(k, self.buffers.get(k, v)) for k, v in state.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Set the averages from a state that `state_dict` gave."""
        for store in (self.parameters, self.buffers):
            for name, tensor in store.items():
                if name in state:
                    tensor.copy_(state[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model with the averages as its parameters, for validation and export; the weights come back after."""
        trained = {n: p for n, p in self.model.named_parameters() if n in self.parameters}
        kept = {name: p.detach().clone() for name, p in trained.items()}
        with torch.no_grad():
            for name, p in trained.items():
                p.copy_(self.parameters[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for name, p in trained.items():
                    p.copy_(kept[name])
