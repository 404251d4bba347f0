"""The listener: a compact convolutional network that recognises sounds in band energies.

It is the audio tower of the embedded CLAP (one embedding a recording) and gives the separator local features (a few
steps a second x a few bands). Because it works on the separator's own band energies, it also takes a masked
mixture without a waveform: its energies are `mask^2 * energies`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiosep.models.audio_tower import AudioTower
from audiosep.models.blocks import MOMENTUM, ResidualBlock, fold, residual_blocks


@dataclass(frozen=True)
class ListenerConfig:
    """Shape of a listener.

    Attributes:
        sample_rate: Hz.
        n_fft: FFT length, samples.
        hop: samples between STFT frames.
        bands: frequency bands.
        patch: frames x bands that become the channels of one position.
        widths: channels of each stage.
        strides: (time, frequency) pooling before each stage.
        hidden: features of a local position.
        dimension: size of the joint space.
        tags: classes of the tagging head.
    """

    sample_rate: int = 32000
    n_fft: int = 2048
    hop: int = 512
    bands: int = 192
    patch: tuple[int, int] = (2, 4)
    widths: tuple[int, ...] = (32, 64, 128, 192, 256)
    strides: tuple[tuple[int, int], ...] = ((1, 1), (2, 2), (2, 2), (1, 2), (1, 2))
    hidden: int = 384
    dimension: int = 512
    tags: int = 527

    @property
    def step(self) -> int:
        """Frames between two local positions."""
        return self.patch[0] * math.prod(time for time, _ in self.strides)

    @property
    def rows(self) -> int:
        """Local positions from low to high frequency."""
        rows = self.bands // self.patch[1]
        for _, stride in self.strides:
            rows //= stride
        return rows


class Listener(AudioTower):
    """Residual network on log band energies; every head works on a local position as on a whole recording."""

    Config = ListenerConfig
    config: ListenerConfig

    def __init__(self, config: ListenerConfig | None = None) -> None:
        config = config or ListenerConfig()
        super().__init__(config)
        self.norm = nn.BatchNorm1d(config.bands, momentum=MOMENTUM)
        inputs = config.patch[0] * config.patch[1]
        self.stem = nn.Conv2d(inputs, config.widths[0], 3, padding=1)
        widths = (config.widths[0], *config.widths)
        self.blocks = nn.ModuleList(ResidualBlock(i, o) for i, o in pairwise(widths))
        self.features = nn.Conv2d(config.widths[-1], config.hidden, 1)
        self.joint = nn.Linear(config.hidden, config.dimension)
        self.tags = nn.Linear(config.hidden, config.tags)

    @property
    def compilable(self) -> tuple[str, ...]:
        """See `AudioTower.compilable`."""
        return residual_blocks(self)

    def local(self, energies: Tensor) -> Tensor:
        """See `AudioTower.local`."""
        floor = energies.mean((1, 2), keepdim=True)
        x = (energies + 1e-6 * floor + 1e-10).log()
        x = self.norm((x - x.mean((1, 2), keepdim=True)) * 0.25)
        x = x.transpose(1, 2)[:, None]
        x = F.pad(x, (0, -x.shape[3] % self.config.patch[1], 0, -x.shape[2] % self.config.step))
        x = self.stem(fold(x, self.config.patch).contiguous(memory_format=torch.channels_last))
        for stride, block in zip(self.config.strides, self.blocks, strict=True):
            x = block(F.avg_pool2d(x, stride) if stride != (1, 1) else x)
        return F.silu(self.features(F.relu(x)))
