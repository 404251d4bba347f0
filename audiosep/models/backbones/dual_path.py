"""Recurrent layers over two axes in turn, so that neither sequence is long.

Luo, Chen and Yoshioka, "Dual-Path RNN" (ICASSP 2020): a long sequence is cut into overlapping chunks; one layer runs
within the chunks, the next across them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from audiosep.errors import ConfigError
from audiosep.models.backbones.backbone_request import BackboneConfig, BackboneRequest, Modulation
from audiosep.models.backbones.basis import GlobalNorm


@dataclass(frozen=True)
class DualPathConfig(BackboneConfig):
    """Sizes of the networks that work on chunks of a learned basis.

    Attributes:
        sample_rate: Hz.
        window: length of an inference window, seconds.
        filters: of the basis, and channels of the blocks.
        length: of a basis function, samples, even.
        chunk: steps of a chunk, even.
        hidden: of each LSTM, for each direction.
        blocks: pairs of layers within and across chunks.
    """

    sample_rate: int = 8000
    filters: int = 64
    length: int = 2
    chunk: int = 250
    hidden: int = 128
    blocks: int = 6
    window: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.length % 2 or self.chunk % 2:
            raise ConfigError(f"length and chunk must be even, got {self.length} and {self.chunk}")

    @property
    def grid(self) -> int:
        """Samples from one chunk to the next."""
        return self.length // 2 * (self.chunk // 2)


def chunked(x: Tensor, size: int) -> Tensor:
    """(batch, channels, steps) -> (batch, channels, chunks, size); chunks overlap by half, zeros beyond the ends."""
    half = size // 2
    missing = (half - x.shape[-1] % half) % half
    return F.pad(x, (half, half + missing)).unfold(-1, size, half)


def overlapped(x: Tensor, steps: int) -> Tensor:
    """The inverse of `chunked`, as a sum: (batch, channels, chunks, size) -> (batch, channels, steps)."""
    half = x.shape[-1] // 2
    first, second = x.split(half, -1)
    out: Tensor = rearrange(first[:, :, 1:] + second[:, :, :-1], "b c n s -> b c (n s)")
    return out[..., :steps]


class Recurrent(nn.Module):
    """A recurrent layer along the last axis, both ways, a linear layer back to the channels.

    Args:
        channels: of input and output.
        hidden: of the LSTM, for each direction.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, hidden, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(2 * hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, rows, steps) -> the same; rows are independent."""
        flat = rearrange(x, "b c r s -> (b r) s c")
        y: Tensor = self.linear(self.lstm(flat)[0])
        return rearrange(y, "(b r) s c -> b c r s", b=len(x))


class DualPathBlock(nn.Module):
    """A layer within the chunks, then one across them, each with a normalisation and beside a shortcut.

    Args:
        config: of the network.
        layer: makes a layer along the last axis, such as `Recurrent`.
    """

    def __init__(self, config: DualPathConfig, layer: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.film = Modulation(config.filters, config.modulation)
        self.within = nn.Sequential(layer(), GlobalNorm(config.filters))
        self.across = nn.Sequential(layer(), GlobalNorm(config.filters))

    def forward(self, x: Tensor, request: BackboneRequest) -> Tensor:
        """(batch, channels, chunks, size) -> the same."""
        x = self.film(x, request)
        x = x + self.within(x)
        out: Tensor = x + self.across(x.mT).mT
        return out
