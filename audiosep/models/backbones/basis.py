"""A learned basis in place of the STFT, and the normalisations that go with it.

Luo and Mesgarani, "Conv-TasNet" (2019): overlapping pieces of the waveform times a learned matrix, masks on what comes
out, and a second matrix whose products overlap and add.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

EPSILON = 1e-8


class Basis(nn.Module):
    """The encoder and the decoder.

    Args:
        filters: number of basis functions.
        length: of each, samples, even; pieces overlap by half.
    """

    def __init__(self, filters: int, length: int) -> None:
        super().__init__()
        self.stride = length // 2
        self.analysis = nn.Conv1d(1, filters, length, stride=self.stride, bias=False)
        self.synthesis = nn.ConvTranspose1d(filters, 1, length, stride=self.stride, bias=False)

    def encode(self, x: Tensor) -> Tensor:
        """(batch, 1, samples) -> (batch, filters, steps), at least 0; step i begins half a piece before i * stride."""
        whole = (self.stride - x.shape[-1] % self.stride) % self.stride
        return F.relu(self.analysis(F.pad(x, (self.stride, self.stride + whole))))

    def decode(self, x: Tensor, samples: int) -> Tensor:
        """(batch, targets, filters, steps) -> (batch, targets, 1, samples)."""
        y = self.synthesis(rearrange(x, "b k n s -> (b k) n s"))[..., self.stride : self.stride + samples]
        out: Tensor = rearrange(y, "(b k) c t -> b k c t", b=len(x))
        return out


class GlobalNorm(nn.GroupNorm):
    """Normalisation over channels and time, gains and shifts for each channel (gLN)."""

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels, eps=EPSILON)


class CumulativeNorm(nn.Module):
    """The same over channels and the time so far (cLN), so that nothing depends on the future."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, steps) -> the same."""
        count = x.shape[1] * torch.arange(1, x.shape[-1] + 1, device=x.device)
        mean = x.sum(1, keepdim=True).cumsum(-1) / count
        variance = x.square().sum(1, keepdim=True).cumsum(-1) / count - mean.square()
        return self.weight * (x - mean) * torch.rsqrt(variance.clamp_min(0) + EPSILON) + self.bias
