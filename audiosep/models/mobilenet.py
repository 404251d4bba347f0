"""An audio tower of the shape of EfficientAT's mn04_as, on the separator's own band energies.

MobileNetV3-large (Howard et al., 2019) at a width of 0.4, as Schmid et al. (2023, "Efficient Large-scale Audio Tagging
via Transformer-to-CNN Knowledge Distillation") trained it on AudioSet; their weights (MIT) are where training starts
(`research/import_mobilenet.py`). Three things differ: mel energies are sums of our bands; strides that would make local
positions too coarse are dilations of the kernels behind them (Chen et al., 2017), which keeps the weights valid; and
features from before the last stage join the local ones, so that the joint space knows more of a sound than its tags.

Layout: (batch, channels, time, frequency).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiosep.errors import ConfigError
from audiosep.models.audio_tower import AudioTower
from audiosep.models.bands import Bands
from audiosep.models.mobilenet_blocks import Bottleneck, ConvNorm, Pace, rounded_channels

# (kernel, expanded channels, channels, stride, squeeze and excitation, hard swish) at width 1: MobileNetV3-large.
_BLOCKS = (
    (3, 16, 16, 1, False, False),
    (3, 64, 24, 2, False, False),
    (3, 72, 24, 1, False, False),
    (5, 72, 40, 2, True, False),
    (5, 120, 40, 1, True, False),
    (5, 120, 40, 1, True, False),
    (3, 240, 80, 2, False, True),
    (3, 200, 80, 1, False, True),
    (3, 184, 80, 1, False, True),
    (3, 184, 80, 1, False, True),
    (3, 480, 112, 1, True, True),
    (3, 672, 112, 1, True, True),
    (5, 672, 160, 2, True, True),
    (5, 960, 160, 1, True, True),
    (5, 960, 160, 1, True, True),
)
_DETAIL = 12  # blocks before the last stage
_MEL_RATE = 100  # mel frames a second
_MEL_FFT = 1024
_PRE_EMPHASIS = 0.97
_LEVEL = 0.1  # RMS that each recording is brought to


@dataclass(frozen=True)
class MobileNetConfig:
    """Shape of a MobileNet audio tower.

    Attributes:
        kind: always "mobilenet".
        sample_rate: Hz.
        n_fft: window of the STFT, samples.
        hop: samples between its frames.
        bands: frequency bands.
        mels: mel bands of the network's input.
        top: upper end of the highest mel band, Hz.
        width: scale of all numbers of channels.
        stride: mel frames and mel bands of one position of the deepest map, powers of two up to 32; the published
            network has 32, 32.
        step: frames between two local positions, which are interpolated from that map.
        detail: features of a local position from before the last stage; 0 leaves them out.
        dimension: size of the joint space.
        tags: classes of the tagging head.
    """

    kind: Literal["mobilenet"] = "mobilenet"
    sample_rate: int = 32000
    n_fft: int = 2048
    hop: int = 512
    bands: int = 192
    mels: int = 128
    top: float = 15000.0
    width: float = 0.4
    stride: tuple[int, int] = (16, 32)
    step: int = 8
    detail: int = 128
    dimension: int = 512
    tags: int = 527

    def __post_init__(self) -> None:
        for name in ("sample_rate", "n_fft", "hop", "bands", "mels", "width", "step", "dimension", "tags"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be greater than 0, got {getattr(self, name)}")
        if self.detail < 0:
            raise ConfigError(f"detail must not be negative, got {self.detail}")
        if not 0 < self.top <= self.sample_rate / 2:
            raise ConfigError(f"top is a frequency up to half the sample rate, in Hz, got {self.top}")
        if any(stride not in (1, 2, 4, 8, 16, 32) for stride in self.stride):
            raise ConfigError(f"stride: two powers of two from 1 to 32, got {self.stride}")
        if self.mels % 32:
            raise ConfigError(f"mels must be a multiple of 32, got {self.mels}")

    @property
    def trunk(self) -> int:
        """Features of the deepest map."""
        return 6 * rounded_channels(160 * self.width)

    @property
    def hidden(self) -> int:
        """Features of a local position."""
        return self.trunk + self.detail

    @property
    def rows(self) -> int:
        """Local positions from low to high frequency."""
        return self.mels // self.stride[1]


class MobileNetTower(AudioTower):
    """See the module's description.

    Args:
        config: its shape; the default is that of the published weights, with positions twice as close in time.
    """

    Config = MobileNetConfig
    config: MobileNetConfig
    mel: Tensor

    def __init__(self, config: MobileNetConfig | None = None) -> None:
        config = config or MobileNetConfig()
        super().__init__(config)
        self.register_buffer("mel", _mel_of_bands(config, self.bands), persistent=False)
        widths = [
            rounded_channels(16 * config.width),
            *(rounded_channels(out * config.width) for _, _, out, *_ in _BLOCKS),
        ]
        pace = Pace(config.stride)
        self.stem = ConvNorm(1, widths[0], 3, *pace.layer(2), activation="hardswish")
        self.blocks = nn.ModuleList(
            Bottleneck(
                (inputs, rounded_channels(expanded * config.width), outputs),
                kernel,
                *pace.layer(stride),
                squeeze,
                swish,
            )
            for (inputs, outputs), (kernel, expanded, _, stride, squeeze, swish) in zip(
                pairwise(widths), _BLOCKS, strict=True
            )
        )
        self.features = ConvNorm(widths[-1], config.trunk, 1, activation="hardswish")
        self.fine = nn.Conv2d(widths[_DETAIL], config.detail, 1) if config.detail else None
        self.tags = TagHead(config.trunk, rounded_channels(1280 * config.width), config.tags)
        self.joint = nn.Sequential(
            nn.Linear(config.hidden, config.dimension), nn.Hardswish(), nn.Linear(config.dimension, config.dimension)
        )

    @property
    def compilable(self) -> tuple[str, ...]:
        """See `AudioTower.compilable`."""
        return tuple(f"blocks.{number}" for number in range(len(self.blocks)))

    def mel_energies(self, energies: Tensor) -> Tensor:
        """Mel energies of a recording brought to one level.

        Args:
            energies: (batch, bands, frames), any level.

        Returns:
            (batch, mels, mel frames), 100 frames a second.
        """
        # White noise has RMS^2 x sum(window^2) in every bin; for a Hann window that sum is 3/8 of its length.
        wanted = _LEVEL**2 * 0.375 * self.config.n_fft
        with torch.autocast(energies.device.type, enabled=False):
            share = self.bands.weight.sum(0)
            mean = (share / share.sum()) @ energies.mean(2).T
            level = (wanted / (mean + 1e-9 * wanted))[:, None, None]
            # Frame by frame, so that resampling copies rows; it takes a third of the network's time otherwise.
            mel = (energies * level).transpose(1, 2) @ self.mel.T
        up, down = self.config.sample_rate, self.config.hop * _MEL_RATE
        return _resample(mel, 1, (energies.shape[2] - 1) * down // up + 1, up, down).transpose(1, 2)

    def local(self, energies: Tensor) -> Tensor:
        """See `AudioTower.local`."""
        trunk, fine = self.maps(self.mel_energies(energies))
        if fine is not None:
            trunk = torch.cat([trunk, fine], 1)
        return self._steps(trunk, 2, energies.shape[-1])

    def pooled(self, energies: Tensor) -> Tensor:
        """See `AudioTower.pooled`; without the local features, which take a fifth of the time."""
        trunk, fine = self.maps(self.mel_energies(energies))
        place = torch.arange(trunk.shape[2], device=trunk.device)
        shares = self._steps((place[:, None] == place).float(), 0, energies.shape[-1]).mean(0)
        parts = [trunk] if fine is None else [trunk, fine]
        return torch.cat([(part.float().mean(3) * shares).sum(2) for part in parts], 1)

    def _steps(self, x: Tensor, dim: int, frames: int) -> Tensor:
        """Positions of the maps along `dim` -> local positions of a recording of so many frames."""
        # Position p stands at frame p x `every`; step s stands for the frames from s x `step` on.
        step, every = self.config.step, self.config.stride[0] * self.config.sample_rate / (_MEL_RATE * self.config.hop)
        steps = (frames + step - 1) // step
        return _resample(x, dim, steps, round(20 * step), round(20 * every), round(10 * (step - 1)))

    def maps(self, mel: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute the feature maps.

        Args:
            mel: (batch, mels, mel frames) energies.

        Returns:
            The deepest map, (batch, trunk, positions, rows), and features from before the last stage, (batch, detail,
            positions, rows), None without them.
        """
        x = (mel + 1e-5).log_().add_(4.5).div_(5)
        # The layout of a map with one channel is not seen, so its convolution gives the slower one.
        x = self.stem(x.transpose(1, 2)[:, None]).contiguous(memory_format=torch.channels_last)
        fine = None
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number + 1 == _DETAIL and self.fine is not None:
                fine = F.hardswish(self.fine(x))
        x = self.features(x)
        if fine is not None and max(self.config.stride) > 16:
            ratio = [max(1, stride // 16) for stride in self.config.stride]
            fine = F.avg_pool2d(fine, ratio, ceil_mode=True)
        return x, fine


class TagHead(nn.Module):
    """Logits of the tags from the deepest map's share of the features.

    Args:
        trunk: features of the deepest map, the first of a position.
        hidden: size of the layer between.
        tags: classes.
    """

    def __init__(self, trunk: int, hidden: int, tags: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.hidden = nn.Linear(trunk, hidden)
        self.out = nn.Linear(hidden, tags)

    def forward(self, features: Tensor) -> Tensor:
        """(..., hidden) features of a position or of a recording -> (..., tags)."""
        logits: Tensor = self.out(F.hardswish(self.hidden(features[..., : self.trunk])))
        return logits


def _resample(x: Tensor, dim: int, length: int, up: int, down: int, offset: int = 0) -> Tensor:
    """Linear interpolation of `x` along `dim` at (k * up + offset) / down for k < length; the last value lasts."""
    place = torch.arange(length, device=x.device) * up + offset
    last = torch.arange(x.shape[dim], device=x.device)[-1:]
    before, after = (torch.minimum(place // down + k, last) for k in (0, 1))
    share = ((place % down).to(x.dtype) / down).view(-1, *[1] * (x.ndim - 1 - dim % x.ndim))
    return torch.lerp(x.index_select(dim, before), x.index_select(dim, after), share)


def _mel_of_bands(config: MobileNetConfig, bands: Bands) -> Tensor:
    """(mels, bands): mean energies of bands -> mel energies of the published front end; exact for stationary sound.

    That front end has a pre-emphasis, a Hann window of 25 ms, an FFT of 1024, and triangles on the mel scale of HTK.
    """
    bins, window = config.n_fft // 2 + 1, config.sample_rate // 40
    frequency = torch.linspace(0, config.sample_rate / 2, _MEL_FFT // 2 + 1, dtype=torch.float64)
    mel = 1127 * torch.log1p(frequency / 700)
    edges = torch.linspace(0, 1127 * math.log1p(config.top / 700), config.mels + 2, dtype=torch.float64)[:, None]
    rise = (mel - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - mel) / (edges[2:] - edges[1:-1])
    triangles = torch.minimum(rise, fall).clamp_min(0)[None]
    # The transform has other bins than the published one; its triangles stay as smooth as they were.
    basis = F.interpolate(triangles, size=bins, mode="linear", align_corners=True)[0] * (_MEL_FFT / config.n_fft)
    phase = torch.linspace(0, math.pi, bins, dtype=torch.float64)
    emphasis = 1 + _PRE_EMPHASIS**2 - 2 * _PRE_EMPHASIS * torch.cos(phase)
    gain = torch.hann_window(window, periodic=False, dtype=torch.float64).square().sum() / (0.375 * config.n_fft)
    return ((basis * emphasis * gain) @ bands.weight.double()).float()
