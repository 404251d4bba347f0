"""SVoice: two recurrent paths that gate each other, and an estimate behind every block.

Nachmani, Adi and Wolf, "Voice Separation with an Unknown Number of Multiple Speakers" (ICML 2020): "multiply and
concat" blocks in place of the LSTMs of a dual-path RNN, no masks, and a loss on the waveforms of all blocks
(`WaveBackbone.network` gives them). Its loss for the identity of speakers is left out: our targets have names.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from audiosep.models.backbones.backbone import WaveBackbone
from audiosep.models.backbones.backbone_request import BackboneRequest, Heads
from audiosep.models.backbones.basis import Basis
from audiosep.models.backbones.dual_path import DualPathBlock, DualPathConfig, Recurrent, chunked, overlapped


@dataclass(frozen=True)
class SVoiceConfig(DualPathConfig):
    """Sizes; the defaults are the published ones.

    Attributes:
        filters: of the basis, and channels of the blocks.
        length: of a basis function, samples, even.
        chunk: steps of a chunk, even.
    """

    filters: int = 128
    length: int = 8
    chunk: int = 180


class SVoice(WaveBackbone):
    """See the module's description; every channel is separated by itself."""

    Config = SVoiceConfig
    config: SVoiceConfig

    def __init__(self, config: SVoiceConfig) -> None:
        super().__init__(config, hop=config.grid, alignment=config.grid)
        channels = config.filters
        self.basis = Basis(channels, config.length)
        self.blocks = nn.ModuleList(
            DualPathBlock(config, lambda: _MultiplyConcat(channels, config.hidden)) for _ in range(config.blocks)
        )
        self.activation = nn.PReLU()
        self.out = Heads(config, lambda targets: nn.Conv2d(channels, targets * channels, 1))

    def network(self, mix: Tensor, request: BackboneRequest) -> list[Tensor]:
        """See `WaveBackbone.network`; in training the estimates behind all blocks, else the last one."""
        coefficients = self.basis.encode(mix)
        x = chunked(coefficients, self.config.chunk)
        stages = []
        for number, block in enumerate(self.blocks, 1):
            x = block(x, request)
            if self.training or number == len(self.blocks):
                maps = overlapped(self.out(request, self.activation(x)), coefficients.shape[-1])
                maps = rearrange(maps, "b (k n) s -> b k n s", n=self.config.filters)
                stages.append(self.basis.decode(maps, mix.shape[-1]))
        return stages


class _MultiplyConcat(nn.Module):
    """The product of two recurrent layers beside the input, and a linear layer back to the channels."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.first, self.second = Recurrent(channels, hidden), Recurrent(channels, hidden)
        self.linear = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(torch.cat([self.first(x) * self.second(x), x], 1))
        return out
