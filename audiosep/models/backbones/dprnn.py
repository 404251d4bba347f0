"""Dual-path RNN: masks on a learned basis by recurrent layers within and across chunks.

Luo, Chen and Yoshioka, "Dual-Path RNN: Efficient Long Sequence Modeling for Time-Domain Single-Channel Speech
Separation" (ICASSP 2020), with its best sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from audiosep.models.backbones.backbone import WaveBackbone
from audiosep.models.backbones.backbone_request import BackboneRequest, Heads
from audiosep.models.backbones.basis import Basis, GlobalNorm
from audiosep.models.backbones.dual_path import DualPathBlock, DualPathConfig, Recurrent, chunked, overlapped


@dataclass(frozen=True)
class DPRNNConfig(DualPathConfig):
    """Sizes; the defaults are the published ones."""


class DPRNN(WaveBackbone):
    """See the module's description; every channel is separated by itself."""

    Config = DPRNNConfig
    config: DPRNNConfig

    def __init__(self, config: DPRNNConfig) -> None:
        super().__init__(config, hop=config.grid, alignment=config.grid)
        channels = config.filters
        self.basis = Basis(channels, config.length)
        self.input = nn.Sequential(GlobalNorm(channels), nn.Conv1d(channels, channels, 1))
        self.blocks = nn.ModuleList(
            DualPathBlock(config, lambda: Recurrent(channels, config.hidden)) for _ in range(config.blocks)
        )
        self.activation = nn.PReLU()
        self.out = Heads(config, lambda targets: nn.Conv2d(channels, targets * channels, 1))

    def network(self, mix: Tensor, request: BackboneRequest) -> list[Tensor]:
        """See `WaveBackbone.network`."""
        coefficients = self.basis.encode(mix)
        x = chunked(self.input(coefficients), self.config.chunk)
        for block in self.blocks:
            x = block(x, request)
        maps = overlapped(self.out(request, self.activation(x)), coefficients.shape[-1])
        masks = rearrange(torch.sigmoid(maps), "b (k n) s -> b k n s", n=self.config.filters)
        return [self.basis.decode(masks * coefficients[:, None], mix.shape[-1])]
