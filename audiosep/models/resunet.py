"""The published AudioSep network: a residual U-Net on the spectrogram whose every normalisation the query shifts.

Liu et al., "Separate Anything You Describe" (2023), https://arxiv.org/abs/2308.05037; the U-Net with its magnitude
and phase mask is ResUNet30 of Kong et al., "Decoupling Magnitude and Phase Estimation with Deep ResUNet for Music
Source Separation" (ISMIR 2021), https://arxiv.org/abs/2109.05418.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from audiosep.errors import ConfigError, ModelError
from audiosep.models.base import Estimate, SeparationModel
from audiosep.models.stft import istft, power, stft

SLOPE = 0.01
MOMENTUM = 0.01
FLOOR = 1e-10
TOP_BAND = 1000.0  # Hz
TILE = 64  # frames
REACH = 2  # frames at each side that an output of two 3 x 3 convolutions depends on


@dataclass(frozen=True)
class ResUNet30Config:
    """Sizes of the network; the defaults are the published ones.

    Attributes:
        sample_rate: Hz. n_fft, hop: samples.
        dimension: size of a query embedding.
        widths: channels of the encoder's levels. Every level halves the frequencies, all but the last halve the time.
    """

    sample_rate: int = 32000
    n_fft: int = 2048
    hop: int = 320
    dimension: int = 512
    widths: tuple[int, ...] = (32, 64, 128, 256, 384, 384)

    def __post_init__(self) -> None:
        if not self.widths or min(self.sample_rate, self.n_fft, self.hop, self.dimension, *self.widths) < 1:
            raise ConfigError(f"sizes must be positive and widths not empty: {self}")
        if self.hop > self.n_fft // 2:
            raise ConfigError(f"hop = {self.hop} is more than half of n_fft = {self.n_fft}: frames would not overlap")
        if self.n_fft % 2 ** (len(self.widths) + 1):
            raise ConfigError(
                f"n_fft = {self.n_fft} cannot be halved {len(self.widths) + 1} times, as {len(self.widths)} widths need"
            )


class ShiftedNorm(nn.BatchNorm2d):
    """Batch normalisation, a shift given by the query, leaky ReLU.

    Args:
        channels: of the input. dimension: size of a query embedding.
    """

    def __init__(self, channels: int, dimension: int) -> None:
        super().__init__(channels, momentum=MOMENTUM)
        self.query = nn.Linear(dimension, channels)

    def forward(self, x: Tensor, query: Tensor) -> Tensor:  # type: ignore[override]  # takes the query too
        """(batch, channels, frames, bins) and (dimension,) -> (batch, channels, frames, bins)."""
        if self.training:
            return F.leaky_relu_(super().forward(x) + self.query(query)[None, :, None, None], SLOPE)
        shift = self.bias + self.query(query).float()
        normed = F.batch_norm(x, self.running_mean, self.running_var, self.weight, shift, eps=self.eps)
        return F.leaky_relu_(normed, SLOPE)

    def after(self, conv: nn.Conv2d, x: Tensor, query: Tensor) -> Tensor:
        """The same as `self(conv(x), query)`; at inference the affine step is folded into the convolution."""
        if self.training:
            out: Tensor = self(conv(x), query)
            return out
        assert self.running_mean is not None
        assert self.running_var is not None
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        shift = self.bias - self.running_mean * scale + self.query(query)
        weight = conv.weight * scale[:, None, None, None]
        return F.leaky_relu_(F.conv2d(x, weight, shift, padding=conv.padding), SLOPE)


class Stem(nn.Conv2d):
    """The input layer, a 1 x 1 convolution of the one input channel."""

    def __init__(self, outputs: int) -> None:
        super().__init__(1, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 1, frames, bins) -> (batch, outputs, frames, bins), channels last where that is faster."""
        device = x.device.type
        if self.training or device != "cpu":
            out = super().forward(x)
            return out if device == "mps" else out.contiguous(memory_format=torch.channels_last)
        # A convolution would not come out channels last, since one input channel leaves the layout open.
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        assert self.bias is not None
        weight, bias, x = (v.to(dtype) for v in (self.weight.flatten(), self.bias, x.contiguous()))
        return rearrange(torch.addcmul(bias, rearrange(x, "b 1 t f -> b t f 1"), weight), "b t f c -> b c t f")


class ResidualBlock(nn.Module):
    """Two pre-activated convolutions beside a shortcut (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, dimension: int) -> None:
        super().__init__()
        self.norm1 = ShiftedNorm(inputs, dimension)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm2 = ShiftedNorm(outputs, dimension)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, query: Tensor) -> Tensor:
        """(batch, inputs, frames, bins) -> (batch, outputs, frames, bins)."""
        out: Tensor = self.conv2(self.norm2.after(self.conv1, self.norm1(x, query), query))
        out += self.shortcut(x)
        return out


class DecoderBlock(nn.Module):
    """Upsampling by `pool`, then a residual block over the result beside the encoder's output of that level."""

    def __init__(self, inputs: int, outputs: int, pool: tuple[int, int], dimension: int) -> None:
        super().__init__()
        self.norm = ShiftedNorm(inputs, dimension)
        self.up = nn.ConvTranspose2d(inputs, outputs, pool, stride=pool, bias=False)
        self.block = ResidualBlock(2 * outputs, outputs, dimension)

    def forward(self, x: Tensor, skip: Tensor, query: Tensor) -> Tensor:
        """(batch, inputs, frames, bins) and a skip of pool times the size -> the skip's shape."""
        out: Tensor = self.block(torch.cat((self.up(self.norm(x, query)), skip), dim=1), query)
        return out


def in_tiles(run: Callable[[slice], Tensor], frames: int, tile: int) -> Tensor:
    """`run` over stretches of time, which bounds what a full-resolution level holds at a time.

    Args:
        run: gives (batch, channels, frames of the slice, bins) for a slice of frames; within `REACH` frames of a cut it
            need not be right.
        frames: in all. tile: frames of a stretch, an even number; 0 for all at once.

    Returns:
        (batch, channels, frames, bins), the same to the bit as without stretches.
    """
    if not tile or frames <= tile + REACH:
        return run(slice(0, frames))
    whole = None
    for start in range(0, frames, tile):
        first = max(start - REACH, 0)
        part = run(slice(first, min(start + tile + REACH, frames)))[:, :, start - first : start - first + tile]
        if whole is None:
            size = (*part.shape[:2], frames, part.shape[3])
            whole = torch.empty(size, dtype=part.dtype, device=part.device, memory_format=torch.channels_last)
        whole[:, :, start : start + tile] = part
    assert whole is not None
    return whole


class ResUNet30(SeparationModel):
    """Text-queried separation with a sigmoid magnitude mask and a phase rotation.

    With one channel it computes what the published network computes. With more, the network hears the channels'
    root mean power, and all channels get the same mask, which keeps the stereo image. The query enters at the first
    level, so queries share only the spectrogram and the input layers; they run one after another, which bounds memory.

    The pooling grid is `alignment` samples wide: a window that starts at a multiple of it sees the same grid as the
    whole recording.
    """

    Config: ClassVar[type[ResUNet30Config]] = ResUNet30Config
    config: ResUNet30Config

    def __init__(self, config: ResUNet30Config) -> None:
        super().__init__()
        self.config = config
        self.sample_rate, self.hop, self.dimension = config.sample_rate, config.hop, config.dimension
        self.capabilities = frozenset({"text", "audio", "negative"})
        self.stem_names = ()
        widths, levels = config.widths, len(config.widths)
        self.grid = 2 ** (levels - 1)
        self.alignment = self.grid * config.hop
        self.context = 2 * self.alignment
        self.window = 40 * self.alignment
        self.pools = [(2, 2)] * (levels - 1) + [(1, 2)]
        self.norm = nn.BatchNorm1d(config.n_fft // 2 + 1, momentum=MOMENTUM)
        self.stem = Stem(widths[0])
        self.encoder = nn.ModuleList(ResidualBlock(a, b, config.dimension) for a, b in pairwise((widths[0], *widths)))
        self.bottleneck = ResidualBlock(widths[-1], widths[-1], config.dimension)
        self.decoder = nn.ModuleList(
            DecoderBlock(a, b, pool, config.dimension)
            for (a, b), pool in zip(pairwise((widths[-1], *widths[::-1])), self.pools[::-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], 3, 1)

    def forward(self, mix: Tensor, embeddings: Tensor, negatives: Tensor | None = None) -> Estimate:
        """See `SeparationModel.forward`; the negative moves the query to normalise(embedding - negative)."""
        queries = embeddings if negatives is None else F.normalize(embeddings - negatives, dim=-1)
        samples, shortest = mix.shape[-1], self.config.n_fft // 2 + 1
        if samples < shortest:  # too short to be continued by reflection
            mix = F.pad(mix, (0, shortest - samples))
        spectrum = stft(mix, self.config.n_fft, self.hop, pad_mode="reflect")
        features = self.features(spectrum)
        waveforms, top = [], []
        for query in queries:
            magnitude, phasor = self.mask(features, query, spectrum.shape[-1])
            target = spectrum * (magnitude * phasor)[:, None]
            waveforms.append(istft(target, self.config.n_fft, self.hop, mix.shape[-1])[..., :samples])
            top.append(self._top(magnitude)[:, : samples // self.hop + 1])
        return Estimate(torch.stack(waveforms, dim=1), torch.stack(top, dim=1))

    def features(self, spectrum: Tensor) -> Tensor:
        """What the U-Net reads, the same for every query.

        Args:
            spectrum: (batch, channels, bins, frames) complex.

        Returns:
            (batch, 1, frames padded to the pooling grid, bins - 1): the normalised root mean power of the channels.
        """
        magnitude = power(spectrum).mean(dim=1).clamp_min(FLOOR).sqrt()
        x = self.norm(magnitude)[:, :-1]
        x = F.pad(x, (0, -x.shape[-1] % self.grid))
        return rearrange(x, "batch bins frames -> batch 1 frames bins")

    def mask(self, features: Tensor, query: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """The mask of one query.

        Args:
            features: (batch, 1, padded frames, bins - 1). query: (dimension,). frames: to give back.

        Returns:
            Magnitude (batch, bins, frames) in 0 ... 1, and phasor, complex of the same shape. The highest bin, which
            the network does not see, gets phasor 0 as in the published network.
        """
        logits = rearrange(self._unet(features, query), "batch mask frames bins -> mask batch bins frames")
        logits = F.pad(logits[..., :frames].float(), (0, 0, 0, 1))
        magnitude, real, imaginary = torch.sigmoid(logits[0]), torch.tanh(logits[1]), torch.tanh(logits[2])
        length = (real.square() + imaginary.square()).clamp_min(FLOOR**2).sqrt()
        return magnitude, torch.complex(real / length, imaginary / length)

    def stems(self, mix: Tensor) -> Estimate:
        """The published network has no fixed heads.

        Raises:
            ModelError: always; names a model that has them.
        """
        raise ModelError('resunet30 answers text and audio queries but has no stems; load("mini") has')

    def _unet(self, x: Tensor, query: Tensor) -> Tensor:
        """(batch, 1, frames, bins) -> (batch, 3, frames, bins)."""
        tile = TILE if x.device.type == "cpu" and not torch.is_grad_enabled() else 0
        skips = []
        stems = [self.stem, *[nn.Identity()] * (len(self.encoder) - 1)]
        for block, stem, pool in zip(self.encoder, stems, self.pools, strict=True):
            run = partial(_encode, block, stem, x, query)
            skips.append(in_tiles(run, x.shape[2], tile))
            x = F.avg_pool2d(skips[-1], pool)
        x = self.bottleneck(x, query)
        heads = [*[nn.Identity()] * (len(self.decoder) - 1), self.head]
        for block, head, pool in zip(self.decoder, heads, self.pools[::-1], strict=True):
            skip = skips.pop()
            run = partial(_decode, block, head, pool[0], x, skip, query)
            x = in_tiles(run, skip.shape[2], tile)
        return x

    def _top(self, magnitude: Tensor) -> Tensor:
        """(batch, frames) mean magnitude mask of the highest 1 kHz that the network sees."""
        bins = max(1, round(TOP_BAND * self.config.n_fft / self.sample_rate))
        return magnitude[:, -1 - bins : -1].mean(dim=1)


def _encode(block: nn.Module, stem: nn.Module, x: Tensor, query: Tensor, frames: slice) -> Tensor:
    """A stretch of one level; `stem` is what widens the input of the first."""
    out: Tensor = block(stem(_stretch(x, frames)), query)
    return out


def _decode(
    block: nn.Module, head: nn.Module, pool: int, x: Tensor, skip: Tensor, query: Tensor, frames: slice
) -> Tensor:
    """A stretch of one level; the last level's channels live only as long as a stretch."""
    below = _stretch(x, slice(frames.start // pool, frames.stop // pool))
    out: Tensor = head(block(below, skip[:, :, frames], query))
    return out


def _stretch(x: Tensor, frames: slice) -> Tensor:
    """Some frames, laid out as they are without stretches: the layout decides how operations round."""
    part = x[:, :, frames]
    return part if x.device.type == "mps" else part.contiguous(memory_format=torch.channels_last)
