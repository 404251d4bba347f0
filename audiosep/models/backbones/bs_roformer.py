"""BS-RoFormer: transformers within and across bands, with rotary positions.

Lu, Wang, Kong and Hung, "Music Source Separation with Band-Split RoPE Transformer" (ICASSP 2024,
https://arxiv.org/abs/2309.02612): every band of the complex spectra is projected to a vector; transformers run over
time and over bands in turn; a small network for each band gives its complex mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from audiosep.errors import ConfigError
from audiosep.models.backbones.backbone import SpectrumBackbone, SpectrumConfig
from audiosep.models.backbones.backbone_request import BackboneRequest, Heads, Modulation
from audiosep.models.backbones.rotary import RotaryAttention


@dataclass(frozen=True)
class BSRoFormerConfig(SpectrumConfig):
    """Sizes; the defaults are the published ones.

    Attributes:
        n_fft: FFT length, samples.
        hop: samples between frames.
        window: length of an inference window, seconds.
        channels: that are read and masked together.
        bands: bins of each band.
        width: size of a band's vector.
        layers: pairs of transformers.
        heads: of the attention; they divide `width`.
        expansion: of the width, in the layers between attentions and in the mask networks.
    """

    n_fft: int = 2048
    hop: int = 441
    channels: int = 2
    bands: tuple[int, ...] = (2,) * 24 + (4,) * 12 + (12,) * 8 + (24,) * 8 + (48,) * 8 + (128, 129)
    width: int = 384
    layers: int = 12
    heads: int = 8
    expansion: int = 4
    window: float = 8.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if sum(self.bands) != self.bins:
            raise ConfigError(f"bands have {sum(self.bands)} bins together, the spectrum has {self.bins}")
        if self.width % (2 * self.heads):
            raise ConfigError(f"width = {self.width} must be a multiple of 2 * heads = {2 * self.heads}")


class BSRoFormer(SpectrumBackbone):
    """See the module's description."""

    Config = BSRoFormerConfig
    config: BSRoFormerConfig

    def __init__(self, config: BSRoFormerConfig) -> None:
        super().__init__(config, channels=config.channels)
        sizes = [2 * config.channels * bins for bins in config.bands]
        self.split = nn.ModuleList(nn.Sequential(_Norm(size), nn.Linear(size, config.width)) for size in sizes)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.norm = _Norm(config.width)
        self.out = Heads(config, lambda targets: _Masks(config, targets, sizes))

    def spectra(self, spectrum: Tensor, request: BackboneRequest) -> Tensor:
        """See `SpectrumBackbone.spectra`."""
        channels = self.config.channels
        x = rearrange(torch.view_as_real(spectrum), "b c f t r -> b t f (c r)")
        parts = [part.flatten(2) for part in x.split(self.config.bands, 2)]
        x = torch.stack([layer(part) for layer, part in zip(self.split, parts, strict=True)], 2)
        for layer in self.layers:
            x = layer(x, request)
        masks = rearrange(self.out(request, self.norm(x)), "b k t (f c r) -> b k c f t r", c=channels, r=2)
        return torch.view_as_complex(masks.float().contiguous()) * spectrum[:, None]


class _Norm(nn.RMSNorm):
    """In the precision of its weights, since it computes in no other under autocast."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.weight is not None
        return super().forward(x.to(self.weight.dtype))


class _Layer(nn.Module):
    """(batch, frames, bands, width) -> the same: a transformer over the frames, then one over the bands."""

    def __init__(self, config: BSRoFormerConfig) -> None:
        super().__init__()
        self.film = Modulation(config.width, config.modulation)
        self.time, self.band = _Transformer(config), _Transformer(config)

    def forward(self, x: Tensor, request: BackboneRequest) -> Tensor:
        x = self.film(x, request, axis=3)
        x = self.time(x.transpose(1, 2)).transpose(1, 2)
        out: Tensor = self.band(x)
        return out


class _Transformer(nn.Module):
    """(batch, rows, steps, width) -> the same; attention among the steps of a row."""

    def __init__(self, config: BSRoFormerConfig) -> None:
        super().__init__()
        width, inner = config.width, config.expansion * config.width
        self.attention = nn.Sequential(_Norm(width), RotaryAttention(width, config.heads))
        self.dense = nn.Sequential(_Norm(width), nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        out: Tensor = x + self.dense(x)
        return out


class _Masks(nn.Module):
    """(batch, frames, bands, width) -> (batch, targets, frames, real and imaginary parts of all bins and channels)."""

    def __init__(self, config: BSRoFormerConfig, targets: int, sizes: list[int]) -> None:
        super().__init__()
        width, inner = config.width, config.expansion * config.width
        self.targets = nn.ModuleList(
            nn.ModuleList(
                nn.Sequential(nn.Linear(width, inner), nn.Tanh(), nn.Linear(inner, 2 * size), nn.GLU())
                for size in sizes
            )
            for _ in range(targets)
        )

    def forward(self, x: Tensor) -> Tensor:
        bands = x.unbind(2)
        found = [
            torch.cat([layer(band) for layer, band in zip(layers, bands, strict=True)], -1)  # type: ignore[call-overload]
            for layers in self.targets
        ]
        return torch.stack(found, 1)
