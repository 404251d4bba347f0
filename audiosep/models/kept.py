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

    While they are trained, or a graph of the network is made, it is computed every time. Changes through `.data` or the
    memory of an array, which torch does not count, are not seen.
    """

    def __init__(self) -> None:
        # Weights, their versions and the value: one object, so that no thread sees those of two.
        self._kept: tuple[list[Tensor | None], list[int], T] | None = None

    def __reduce__(self) -> tuple[type[Kept[T]], tuple[()]]:
        """Copies begin anew: the versions of copied weights do."""
        return type(self), ()

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
        if (kept := self._kept) is not None and _fits(weights, *kept[:2]):
            return kept[2]
        if any(weight is not None and weight.is_inference() for weight in weights):  # these have no version
            return compute()
        versions = _versions(weights)  # before: a change while it is computed is one
        # An ordinary tensor, whichever mode the first caller is in: a later one may need gradients of its input.
        with torch.inference_mode(False), torch.no_grad():
            value = compute()
        self._kept = weights, versions, value
        return value


def _fits(weights: list[Tensor | None], before: list[Tensor | None], versions: list[int]) -> bool:
    return len(weights) == len(before) and all(map(is_, weights, before)) and _versions(weights) == versions


def _versions(weights: list[Tensor | None]) -> list[int]:
    return [weight._version for weight in weights if weight is not None]
