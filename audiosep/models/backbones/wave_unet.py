"""Wave-U-Net: a U-Net on samples.

Stoller, Ewert and Dixon, "Wave-U-Net: A Multi-Scale Neural Network for End-to-End Audio Source Separation" (ISMIR
2018), in the form for several instruments: each level of the encoder drops every other sample, each level of the
decoder puts the mean of its neighbours in between, and the last source is the difference to the mixture.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from audiosep.errors import ConfigError
from audiosep.models.backbones.backbone import WaveBackbone, pad_to
from audiosep.models.backbones.backbone_request import BackboneConfig, BackboneRequest, Heads, Modulation

SLOPE = 0.2
FRAME = 512  # samples


@dataclass(frozen=True)
class WaveUNetConfig(BackboneConfig):
    """Sizes; the defaults are the published ones.

    Attributes:
        sample_rate: Hz.
        stems: names of the fixed stems, see `BackboneConfig`.
        context: of it, seconds at each side that are computed for context only.
        channels: that are read and written together.
        levels: of the encoder, each of which halves the sample rate.
        width: channels that each level adds.
        down_kernel: samples of the encoder's convolutions, odd.
        up_kernel: samples of the decoder's convolutions, odd.
    """

    sample_rate: int = 22050
    stems: tuple[str, ...] = ("vocals", "drums", "bass", "other")
    channels: int = 2
    levels: int = 12
    width: int = 24
    down_kernel: int = 15
    up_kernel: int = 5
    context: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.down_kernel % 2 or not self.up_kernel % 2:
            raise ConfigError(f"kernels must be odd, got {self.down_kernel} and {self.up_kernel}")


class WaveUNet(WaveBackbone):
    """See the module's description."""

    Config = WaveUNetConfig
    config: WaveUNetConfig
    level = 0.1  # outputs are within -1 and 1

    def __init__(self, config: WaveUNetConfig) -> None:
        self.grid = 2**config.levels
        super().__init__(config, hop=gcd(FRAME, self.grid), alignment=self.grid, channels=config.channels)
        widths = [config.width * (level + 1) for level in range(config.levels)]
        inputs = [config.channels, *widths[:-1]]
        self.encoder = nn.ModuleList(
            _Layer(i, o, config.down_kernel, config) for i, o in zip(inputs, widths, strict=True)
        )
        bottom = widths[-1] + config.width
        self.middle = _Layer(widths[-1], bottom, config.down_kernel, config)
        above = [bottom, *widths[:0:-1]]
        self.decoder = nn.ModuleList(
            _Layer(below + skip, skip, config.up_kernel, config)
            for below, skip in zip(above, widths[::-1], strict=True)
        )
        self.out = Heads(config, lambda n: nn.Conv1d(widths[0] + config.channels, n * config.channels, 1))

    def network(self, mix: Tensor, request: BackboneRequest) -> list[Tensor]:
        """See `WaveBackbone.network`."""
        x = whole = pad_to(mix, self.grid)
        skips = []
        for layer in self.encoder:
            skips.append(layer(x, request))
            x = skips[-1][..., ::2]
        x = self.middle(x, request)
        for layer, skip in zip(self.decoder, skips[::-1], strict=True):
            x = layer(torch.cat([_twice(x), skip], 1), request)
        out = torch.tanh(self.out(request, torch.cat([x, whole], 1)))
        return [rearrange(out[..., : mix.shape[-1]], "b (k c) t -> b k c t", c=self.config.channels)]


class _Layer(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, config: WaveUNetConfig) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2)
        self.film = Modulation(outputs, config.modulation)

    def forward(self, x: Tensor, request: BackboneRequest) -> Tensor:
        return F.leaky_relu(self.film(self.conv(x), request), SLOPE)


def _twice(x: Tensor) -> Tensor:
    """Twice as many samples: behind each one the mean of it and the next."""
    following = torch.cat([x[..., 1:], x[..., -1:]], -1)
    return rearrange([x, (x + following) / 2], "s b c t -> b c (t s)")
