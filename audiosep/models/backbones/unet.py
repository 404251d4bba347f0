"""The U-Net for singing voice.

Jansson et al., "Singing Voice Separation with Deep U-Net Convolutional Networks" (ISMIR 2017): strided convolutions
down to a few numbers a second, transposed ones up again beside skip connections, and a sigmoid mask of the magnitudes.
Queries modulate the normalisations, as in the Conditioned-U-Net (Meseguer-Brocal and Peeters, ISMIR 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiosep.errors import ConfigError
from audiosep.models.backbones.backbone import MaskBackbone, SpectrumConfig, pad_to
from audiosep.models.backbones.backbone_request import BackboneRequest, Heads, Modulation


@dataclass(frozen=True)
class UNetConfig(SpectrumConfig):
    """Sizes; the defaults are the published ones.

    Attributes:
        sample_rate: Hz.
        n_fft: FFT length, samples.
        hop: samples between frames.
        window: length of an inference window, seconds.
        context: of it, seconds at each side that are computed for context only.
        widths: channels of the encoder's levels, each of which halves time and frequency.
        kernel: bins and frames of a convolution, odd.
        dropout: share of the channels' values that training drops in the decoder's first three levels.
    """

    sample_rate: int = 8192
    n_fft: int = 1024
    hop: int = 768
    widths: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    kernel: int = 5
    dropout: float = 0.5
    window: float = 24.0
    context: float = 6.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.widths) < 2 or (self.n_fft // 2) % self.grid:
            raise ConfigError(f"widths must be two or more, and n_fft / 2 = {self.n_fft // 2} be halved that often")
        if self.kernel % 2 == 0:
            raise ConfigError(f"kernel must be odd, got {self.kernel}")

    @property
    def grid(self) -> int:
        """Frames and bins of one position of the deepest level."""
        return int(2 ** len(self.widths))


class UNet(MaskBackbone):
    """See the module's description. The highest bin gets the mask of the one below."""

    Config = UNetConfig
    config: UNetConfig
    unseen_bins = 1

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config, grid=config.grid)
        self.encoder = nn.ModuleList(_Down(i, o, config) for i, o in pairwise((1, *config.widths)))
        self.decoder = nn.ModuleList(
            _Up(i if level == 0 else 2 * i, o, config, config.dropout if level < 3 else 0.0)
            for level, (i, o) in enumerate(pairwise(config.widths[::-1]))
        )
        self.out = Heads(config, lambda targets: _transposed(2 * config.widths[0], targets, config.kernel))

    def network(self, magnitude: Tensor, request: BackboneRequest) -> Tensor:
        """See `MaskBackbone.network`."""
        x = pad_to(magnitude[:, None, :-1], self.config.grid)
        skips = []
        for down in self.encoder:
            x = down(x, request)
            skips.append(x)
        for up, skip in zip(self.decoder, [None, *skips[-2:0:-1]], strict=True):
            x = up(x if skip is None else torch.cat([x, skip], 1), request)
        masks = torch.sigmoid(self.out(request, torch.cat([x, skips[0]], 1)))[..., : magnitude.shape[-1]]
        return torch.cat([masks, masks[..., -1:, :]], 2)


class _Down(nn.Module):
    def __init__(self, inputs: int, outputs: int, config: UNetConfig) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, config.kernel, stride=2, padding=config.kernel // 2)
        self.norm = nn.BatchNorm2d(outputs)
        self.film = Modulation(outputs, config.modulation)

    def forward(self, x: Tensor, request: BackboneRequest) -> Tensor:
        return F.leaky_relu(self.film(self.norm(self.conv(x)), request), 0.2)


class _Up(nn.Module):
    def __init__(self, inputs: int, outputs: int, config: UNetConfig, dropout: float) -> None:
        super().__init__()
        self.conv = _transposed(inputs, outputs, config.kernel)
        self.norm = nn.BatchNorm2d(outputs)
        self.film = Modulation(outputs, config.modulation)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, request: BackboneRequest) -> Tensor:
        out: Tensor = self.dropout(F.relu(self.film(self.norm(self.conv(x)), request)))
        return out


def _transposed(inputs: int, outputs: int, kernel: int) -> nn.ConvTranspose2d:
    """Twice as many bins and frames."""
    return nn.ConvTranspose2d(inputs, outputs, kernel, stride=2, padding=kernel // 2, output_padding=1)
