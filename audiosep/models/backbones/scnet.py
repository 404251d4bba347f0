"""SCNet: the spectrum in three bands that are compressed the more, the less they hold.

Tong et al., "SCNet: Sparse Compression Network for Music Source Separation" (ICASSP 2024,
https://arxiv.org/abs/2401.13276): an encoder of three levels whose strides grow with frequency, recurrent layers over
bands and frames in turn (every other one on a Fourier transform over the frames), and a decoder that mirrors it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from audiosep.errors import ConfigError
from audiosep.models.backbones.backbone import SpectrumBackbone, SpectrumConfig
from audiosep.models.backbones.backbone_request import BackboneRequest, Heads, Modulation
from audiosep.models.backbones.dual_path import Recurrent


@dataclass(frozen=True)
class SCNetConfig(SpectrumConfig):
    """Sizes; the defaults are the published ones.

    Attributes:
        stems: names of the fixed stems, see `BackboneConfig`.
        n_fft: FFT length, samples.
        hop: samples between frames.
        window: length of an inference window, seconds.
        channels: that are read and written together.
        widths: channels of the levels.
        shares: of the bins that each band has.
        strides: of the bands, bins.
        kernels: of the bands, bins.
        depths: convolution modules of the bands at each level.
        compression: of the channels in a convolution module.
        layers: pairs of recurrent layers.
    """

    stems: tuple[str, ...] = ("vocals", "drums", "bass", "other")
    n_fft: int = 4096
    hop: int = 1024
    channels: int = 2
    widths: tuple[int, ...] = (32, 64, 128)
    shares: tuple[float, ...] = (0.175, 0.392, 0.433)
    strides: tuple[int, ...] = (1, 4, 16)
    kernels: tuple[int, ...] = (3, 4, 16)
    depths: tuple[int, ...] = (3, 2, 1)
    compression: int = 4
    layers: int = 6
    window: float = 11.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if len({len(self.shares), len(self.strides), len(self.kernels), len(self.depths)}) != 1:
            raise ConfigError("shares, strides, kernels and depths must have one number for each band")
        if abs(sum(self.shares) - 1) > 1e-6:
            raise ConfigError(f"shares must sum to 1, got {sum(self.shares)}")
        if self.layers % 2:
            raise ConfigError(f"layers must be even, since every other one works on a transform: {self.layers}")
        if any(kernel < stride for kernel, stride in zip(self.kernels, self.strides, strict=True)):
            raise ConfigError(f"kernels must not be shorter than strides: {self.kernels}, {self.strides}")


class SCNet(SpectrumBackbone):
    """See the module's description."""

    Config = SCNetConfig
    config: SCNetConfig

    def __init__(self, config: SCNetConfig) -> None:
        super().__init__(config, channels=config.channels)
        widths = (2 * config.channels, *config.widths)
        self.encoder = nn.ModuleList(_Down(i, o, config) for i, o in pairwise(widths))
        self.fuse = nn.ModuleList(_Fusion(width) for width in config.widths[::-1])
        self.decoder = nn.ModuleList(_Up(i, o, config) for i, o in pairwise(config.widths[::-1]))
        inputs = 2 * config.channels
        self.out = Heads(config, lambda targets: _Up(config.widths[0], targets * inputs, config))
        self.layers = nn.ModuleList(_DualPath(config.widths[-1] * (1 + number % 2)) for number in range(config.layers))
        self.film = Modulation(config.widths[-1], config.modulation)

    def spectra(self, spectrum: Tensor, request: BackboneRequest) -> Tensor:
        """See `SpectrumBackbone.spectra`."""
        x = rearrange(torch.view_as_real(spectrum), "b c f t r -> b (c r) f t")
        scale = x.square().mean((1, 2, 3), keepdim=True).sqrt() + 1e-5
        x, skips, edges = x / scale, [], []
        for down in self.encoder:
            edges.append(_edges(x.shape[2], self.config.shares))
            x, skip = down(x, edges[-1])
            skips.append(skip)
        frames = x.shape[-1]
        for number, layer in enumerate(self.layers):
            if number % 2 == 0:
                x = self.film(x, request)
            x = layer(x)
            x = _to_rates(x) if number % 2 == 0 else _to_frames(x, frames)
        for fuse, up in zip(self.fuse, self.decoder, strict=False):  # the output is the last one's decoder
            x = up(fuse(x + skips.pop()), edges.pop())
        x = self.out(request, self.fuse[-1](x + skips.pop()), edges.pop()) * scale
        x = rearrange(x, "b (k c r) f t -> b k c f t r", c=self.config.channels, r=2)
        return torch.view_as_complex(x.float().contiguous())


def _edges(bins: int, shares: Sequence[float]) -> list[int]:
    """First bins of the bands, and the number of bins."""
    sums = [sum(shares[:number]) for number in range(1, len(shares))]
    return [0, *(ceil(bins * total) for total in sums), bins]


def _steps(edges: Sequence[int], strides: Sequence[int]) -> list[int]:
    """Positions that each band has behind its stride."""
    return [ceil((high - low) / stride) for (low, high), stride in zip(pairwise(edges), strides, strict=True)]


class _Down(nn.Module):
    """Strided convolutions and convolution modules of the bands, then a convolution over all.

    (batch, inputs, bins, frames) -> (batch, outputs, positions, frames), and the same before the last convolution.
    """

    def __init__(self, inputs: int, outputs: int, config: SCNetConfig) -> None:
        super().__init__()
        self.strides, self.kernels = config.strides, config.kernels
        self.bands = nn.ModuleList(
            nn.Conv2d(inputs, outputs, (kernel, 1), (stride, 1))
            for kernel, stride in zip(config.kernels, config.strides, strict=True)
        )
        self.modules_of_bands = nn.ModuleList(
            nn.Sequential(*(_ConvModule(outputs, config.compression) for _ in range(depth))) for depth in config.depths
        )
        self.whole = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x: Tensor, edges: Sequence[int]) -> tuple[Tensor, Tensor]:
        found = []
        steps = _steps(edges, self.strides)
        for number, (conv, modules) in enumerate(zip(self.bands, self.modules_of_bands, strict=True)):
            low, high = edges[number], edges[number + 1]
            missing = (steps[number] - 1) * self.strides[number] + self.kernels[number] - (high - low)
            band = conv(F.pad(x[:, :, low:high], (0, 0, missing // 2, missing - missing // 2)))
            rows = modules(rearrange(band, "b c f t -> (b f) c t"))
            found.append(F.gelu(rearrange(rows, "(b f) c t -> b c f t", b=len(x))))
        skip = torch.cat(found, 2)
        return self.whole(skip), skip


class _ConvModule(nn.Module):
    """(rows, channels, frames) -> the same: gated, then depthwise convolution over the frames, beside a shortcut."""

    def __init__(self, channels: int, compression: int) -> None:
        super().__init__()
        hidden = max(1, channels // compression)
        self.layers = nn.Sequential(
            nn.GroupNorm(1, channels),
            nn.Conv1d(channels, 2 * hidden, 3, padding=1),
            nn.GLU(1),
            nn.Conv1d(hidden, hidden, 3, padding=1, groups=hidden),
            nn.GroupNorm(1, hidden),
            nn.SiLU(),
            nn.Conv1d(hidden, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.layers(x)
        return out


class _Fusion(nn.Module):
    """A gated convolution of the sum of decoder and skip connection, given twice."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        gated: Tensor = F.glu(self.conv(x.repeat(1, 2, 1, 1)), 1)
        return gated


class _Up(nn.Module):
    """The bands' transposed convolutions: (batch, inputs, positions, frames) -> (batch, outputs, bins, frames)."""

    def __init__(self, inputs: int, outputs: int, config: SCNetConfig) -> None:
        super().__init__()
        self.strides = config.strides
        self.bands = nn.ModuleList(
            nn.ConvTranspose2d(inputs, outputs, (kernel, 1), (stride, 1))
            for kernel, stride in zip(config.kernels, config.strides, strict=True)
        )

    def forward(self, x: Tensor, edges: Sequence[int]) -> Tensor:
        parts = x.split(_steps(edges, self.strides), 2)
        found = []
        for conv, part, (low, high) in zip(self.bands, parts, pairwise(edges), strict=True):
            band = conv(part)
            first = (band.shape[2] - (high - low)) // 2
            found.append(band[:, :, first : first + high - low])
        return torch.cat(found, 2)


class _DualPath(nn.Module):
    """(batch, channels, positions, frames) -> the same: recurrent over the positions, then over the frames."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.positions = nn.Sequential(nn.GroupNorm(1, channels), Recurrent(channels, channels))
        self.frames = nn.Sequential(nn.GroupNorm(1, channels), Recurrent(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.positions(x.mT).mT
        out: Tensor = x + self.frames(x)
        return out


def _to_rates(x: Tensor) -> Tensor:
    """(batch, channels, positions, frames) -> (batch, 2 * channels, positions, rates): transformed over the frames."""
    transformed = torch.fft.rfft(x.float(), dim=-1, norm="ortho")
    return torch.cat([transformed.real, transformed.imag], 1)


def _to_frames(x: Tensor, frames: int) -> Tensor:
    """The inverse of `_to_rates`."""
    real, imaginary = x.float().chunk(2, 1)
    out: Tensor = torch.fft.irfft(torch.complex(real, imaginary), n=frames, dim=-1, norm="ortho")
    return out
