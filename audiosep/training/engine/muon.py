"""Muon: orthogonalised steps for weight matrices, AdamW for everything else.

The momentum of a weight matrix is replaced by the nearest matrix with orthonormal rows or columns (Jordan et al., 2024,
https://kellerjordan.github.io/posts/muon/), found by five Newton-Schulz iterations in bfloat16. Scaled to the size of
AdamW's steps (Liu et al., 2025, "Muon is scalable for LLM training"), its learning rate is near AdamW's.
Convolutions count as matrices (outputs x everything else). PyTorch's own Muon takes two-dimensional weights only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_MOMENTUM = 0.95
SMALLEST = 16  # rows or columns; a smaller matrix, such as a head with four outputs, takes AdamW


class Muon(torch.optim.AdamW):
    """AdamW that steps the groups marked `matrix` by orthogonalised momentum.

    Args:
        groups: parameter groups; those with `"matrix": True` hold weights of two or more dimensions.
        learning_rate: of both.
        betas: of AdamW.
        fused: of AdamW.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        learning_rate: float,
        betas: tuple[float, float],
        fused: bool | None = None,
    ) -> None:
        super().__init__([{"matrix": False, **group} for group in groups], learning_rate, betas=betas, fused=fused)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step; gradients of matrices are set to None."""
        assert closure is None, "gradients must be computed before"
        for group in self.param_groups:
            if group["matrix"]:
                for weight in group["params"]:
                    if weight.grad is not None:
                        self._step(weight, weight.grad, group["lr"], group["weight_decay"])
                        weight.grad = None  # AdamW skips weights without a gradient
        return super().step()

    def _step(self, weight: Tensor, gradient: Tensor, rate: float, decay: float) -> None:
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros((), device=weight.device)  # AdamW expects one for every weight when it loads
            state["momentum"] = torch.zeros_like(gradient)
        state["step"] += 1
        momentum = state["momentum"].lerp_(gradient, 1 - _MOMENTUM)
        direction = gradient.lerp(momentum, _MOMENTUM).flatten(1)  # Nesterov's look ahead
        size = 0.2 * max(direction.shape) ** 0.5
        weight.mul_(1 - rate * decay)
        weight.add_(orthogonal(direction).to(weight.dtype).view(weight.shape), alpha=-rate * size)


def is_matrix(weight: Tensor) -> bool:
    """Return whether a weight has enough rows and columns for Muon."""
    return weight.ndim > 1 and min(weight.flatten(1).shape) >= SMALLEST


def orthogonal(matrix: Tensor) -> Tensor:
    """Replace the singular values of a matrix by values near one.

    Args:
        matrix: (rows, columns).

    Returns:
        (rows, columns) bfloat16.
    """
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / x.norm().clamp_min(1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
