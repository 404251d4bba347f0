"""Attention whose queries and keys are turned by angles that grow with the position.

Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding" (2021), https://arxiv.org/abs/2104.09864.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

BASE = 10000.0


class RotaryAttention(nn.Module):
    """Self-attention among the steps of each row.

    Args:
        width: of input and output.
        heads: that divide it.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inputs = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, rows, steps, width) -> the same."""
        q, k, v = rearrange(self.inputs(x), "b r s (n h d) -> n (b r) h s d", n=3, h=self.heads).unbind(0)
        y = F.scaled_dot_product_attention(rotated(q), rotated(k), v)
        out: Tensor = self.output(rearrange(y, "(b r) h s d -> b r s (h d)", b=len(x)))
        return out


def rotated(x: Tensor) -> Tensor:
    """(..., steps, size): pair i of the numbers of step s turned by s / BASE^(2 i / size)."""
    half = x.shape[-1] // 2
    speed = BASE ** (-torch.arange(half, device=x.device) / half)
    angle = torch.arange(x.shape[-2], device=x.device)[:, None] * speed
    cosine, sine = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], -1)
