"""What is computed from weights, kept for as long as they do not change."""

from __future__ import annotations

from collections.abc import Callable
from operator import is_
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


class Kept(Generic[T]):
    """A value of a layer that is computed again only after one of its weights has changed, moved or been replaced.

    While they are trained, or a graph of the network is made, it is computed every time.
    """

    def __init__(self) -> None:
        self._weights: list[Tensor | None] = []
        self._versions: list[int] = []
        self._value: T | None = None

    def __call__(self, layers: tuple[nn.Module, ...], compute: Callable[[], T]) -> T:
        """The value.

        Args:
            layers: whose weights it depends on. A normalisation counts its batches, and a module that moves gets new
                buffers, so with one of those among them every change is seen.
            compute: computes it.
        """
        if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
            return compute()
        # Not through the modules' attributes, which are looked up so slowly that nothing would be gained.
        weights: list[Tensor | None] = []
        for layer in layers:
            weights += layer._parameters.values()
            weights += layer._buffers.values()
        if torch.is_grad_enabled() and any(weight is not None and weight.requires_grad for weight in weights):
            return compute()
        if self._value is not None and self._fits(weights):
            return self._value
        if any(weight is not None and weight.is_inference() for weight in weights):  # these have no version
            return compute()
        # An ordinary tensor, whichever mode the first caller is in: a later one may need gradients of its input.
        with torch.inference_mode(False), torch.no_grad():
            self._value = compute()
        self._weights = weights
        self._versions = [weight._version for weight in weights if weight is not None]
        return self._value

    def _fits(self, weights: list[Tensor | None]) -> bool:
        same = len(weights) == len(self._weights) and all(map(is_, weights, self._weights))
        return same and [weight._version for weight in weights if weight is not None] == self._versions
