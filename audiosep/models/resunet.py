"""The published AudioSep network: a residual U-Net on the spectrogram whose every normalisation the query shifts.

Liu et al., "Separate Anything You Describe" (2023), https://arxiv.org/abs/2308.05037; the U-Net with its magnitude
and phase mask is ResUNet30 of Kong et al., "Decoupling Magnitude and Phase Estimation with Deep ResUNet for Music
Source Separation" (ISMIR 2021), https://arxiv.org/abs/2109.05418.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from audiosep.errors import ConfigError, ModelError
from audiosep.models.base import Estimate, SeparationModel
from audiosep.models.onednn import fuses, leaky_conv2d
from audiosep.models.stft import istft, mean_power, stft
from audiosep.models.stretches import Stretch, in_stretches

SLOPE = 0.01
MOMENTUM = 0.01
FLOOR = 1e-10
TOP_BAND = 1000.0  # Hz
TILE = 64  # frames in fp32; in half precision twice as many take as much memory


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
        return F.leaky_relu_(super().forward(x) + self.query(query)[None, :, None, None], SLOPE)

    def asked(self, query: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """`self(x, query)` as a function of x, up to a positive factor of each channel, and these factors.

        The layer that follows multiplies its weights by them. At inference what depends on the query alone is computed
        once.
        """
        if self.training:
            return partial(self, query=query), torch.ones_like(self.bias)
        assert self.running_mean is not None
        scale, shift = self._scale(), self._shift(query)
        weight = scale.to(_dtype(scale))
        if fuses(weight):  # a convolution of each channel with one number; what its rounding takes off is the factor
            factors = torch.where(weight == 0, 1.0, scale / weight)
            weight, bias = weight[:, None, None, None], (shift - self.running_mean * scale) / factors
            return partial(leaky_conv2d, weight=weight, bias=bias, slope=SLOPE, groups=len(scale)), factors

        def run(x: Tensor) -> Tensor:
            x = F.batch_norm(x, self.running_mean, self.running_var, self.weight, shift, eps=self.eps)
            out: Tensor = F.leaky_relu_(x, SLOPE)
            return out

        return run, torch.ones_like(scale)

    def folded_into(self, conv: nn.Conv2d, query: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias of a convolution that computes `conv`, then the affine step of this normalisation."""
        assert self.running_mean is not None
        scale = self._scale()
        return conv.weight * scale[:, None, None, None], self._shift(query) - self.running_mean * scale

    def _scale(self) -> Tensor:
        assert self.running_var is not None
        return self.weight * torch.rsqrt(self.running_var + self.eps)

    def _shift(self, query: Tensor) -> Tensor:
        with torch.autocast(query.device.type, enabled=False):  # rounding it would move whole channels
            shift: Tensor = self.query(query.to(self.bias.dtype))
            return self.bias + shift


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
        assert self.bias is not None
        weight, bias, x = (v.to(_dtype(x)) for v in (self.weight.flatten(), self.bias, x.contiguous()))
        return rearrange(torch.addcmul(bias, rearrange(x, "b 1 t f -> b t f 1"), weight), "b t f c -> b c t f")


class Head(nn.Conv2d):
    """The output layer, a 1 x 1 convolution to three maps.

    At inference as precise as its weights: nothing behind it averages what half precision rounds.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__(inputs, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, frames, bins) -> (batch, 3, frames, bins)."""
        if self.training:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.weight.dtype))


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
        out: Tensor = self.conv2(self.norm2(self.conv1(self.norm1(x, query)), query))
        out += self.shortcut(x)
        return out

    def asked(self, query: Tensor) -> Callable[[Stretch, Tensor | None], Tensor]:
        """The block for one query: a function of stretches, and of where to write what becomes of their own frames.

        At inference what depends on the query alone is computed once for all stretches.
        """
        if self.training:
            return lambda x, _: self(x.frames, query)
        norm, factors = self.norm1.asked(query)
        (weight1, bias1), weight2 = self.norm2.folded_into(self.conv1, query), self.conv2.weight
        dtype = _dtype(weight1)  # where autocast would go by itself, once for each stretch
        weight1, weight2 = (weight1 * factors[:, None, None]).to(dtype), weight2.to(dtype)

        def run(x: Stretch, out: Tensor | None) -> Tensor:
            h = _convolve(partial(leaky_conv2d, weight=weight1, bias=bias1, slope=SLOPE), norm(x.frames), x)
            h, shortcut = _convolve(partial(F.conv2d, weight=weight2), h, x), self.shortcut(x.own)
            return h.add_(shortcut) if out is None else torch.add(h, shortcut, out=out)

        return run


class DecoderBlock(nn.Module):
    """Upsampling by `pool`, then a residual block over the result beside the encoder's output of that level."""

    def __init__(self, inputs: int, outputs: int, pool: tuple[int, int], dimension: int) -> None:
        super().__init__()
        self.norm = ShiftedNorm(inputs, dimension)
        self.up = nn.ConvTranspose2d(inputs, outputs, pool, stride=pool, bias=False)
        self.block = ResidualBlock(2 * outputs, outputs, dimension)

    def asked(self, query: Tensor) -> Callable[[Tensor, Stretch, Tensor | None], Tensor]:
        """The block for one query: a function of frames below, of the skip's stretch on them, and as for others."""
        (norm, factors), block = self.norm.asked(query), self.block.asked(query)
        up: Callable[[Tensor], Tensor] = self.up
        if not self.training:
            weight = self.up.weight * factors[:, None, None, None]
            up = partial(F.conv_transpose2d, weight=weight.to(_dtype(weight)), stride=self.up.stride)

        def run(below: Tensor, skip: Stretch, out: Tensor | None) -> Tensor:
            return block(skip.under(up(norm(below))), out)

        return run


def _convolve(conv: Callable[..., Tensor], x: Tensor, stretch: Stretch) -> Tensor:
    """A 3 x 3 convolution that takes a frame of each neighbour away, and sees zeros where there is none."""
    if stretch.before and stretch.after:
        return conv(x, padding=(0, 1))
    out = conv(x, padding=(1, 1))
    return out[:, :, 1:] if stretch.before else out[:, :, :-1] if stretch.after else out


def _dtype(x: Tensor) -> torch.dtype:
    """What layers compute in."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


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
        self.past = self.alignment
        self.window = 40 * self.alignment - config.hop  # frames that fill the grid
        self.pools = [(2, 2)] * (levels - 1) + [(1, 2)]
        self.norm = nn.BatchNorm1d(config.n_fft // 2 + 1, momentum=MOMENTUM)
        self.stem = Stem(widths[0])
        self.encoder = nn.ModuleList(ResidualBlock(a, b, config.dimension) for a, b in pairwise((widths[0], *widths)))
        self.bottleneck = ResidualBlock(widths[-1], widths[-1], config.dimension)
        self.decoder = nn.ModuleList(
            DecoderBlock(a, b, pool, config.dimension)
            for (a, b), pool in zip(pairwise((widths[-1], *widths[::-1])), self.pools[::-1], strict=True)
        )
        self.head = Head(widths[0])

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
        magnitude = mean_power(spectrum).clamp_min(FLOOR).sqrt()
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
        tile = _tile(x)
        block: Any  # modules in lists have lost their types
        skips = []
        stems = [self.stem, *[nn.Identity()] * (len(self.encoder) - 1)]
        for block, stem, pool in zip(self.encoder, stems, self.pools, strict=True):
            skips.append(in_stretches(partial(_encode, block.asked(query), stem), x, tile))
            x = F.avg_pool2d(skips[-1], pool)
        x = self.bottleneck.asked(query)(Stretch(x), None)
        heads = [*[None] * (len(self.decoder) - 1), self.head]
        for block, head, pool in zip(self.decoder, heads, self.pools[::-1], strict=True):
            x = in_stretches(partial(_decode, block.asked(query), head, x, pool[0]), skips.pop(), tile)
        return x

    def _top(self, magnitude: Tensor) -> Tensor:
        """(batch, frames) mean magnitude mask of the highest 1 kHz that the network sees."""
        bins = max(1, round(TOP_BAND * self.config.n_fft / self.sample_rate))
        return magnitude[:, -1 - bins : -1].mean(dim=1)


def _tile(x: Tensor) -> int:
    """Frames of a stretch; 0, all at once, where caches do not matter or everything is kept for a backward pass."""
    if x.device.type != "cpu" or torch.is_grad_enabled():
        return 0
    return 2 * TILE if _dtype(x).itemsize == 2 else TILE


def _encode(
    block: Callable[[Stretch, Tensor | None], Tensor], stem: nn.Module, x: Stretch, out: Tensor | None
) -> Tensor:
    """A stretch of one level; `stem` is what widens the input of the first."""
    return block(replace(x, frames=stem(x.frames)), out)


def _decode(
    block: Callable[[Tensor, Stretch, Tensor | None], Tensor],
    head: nn.Module | None,
    x: Tensor,
    pool: int,
    skip: Stretch,
    out: Tensor | None,
) -> Tensor:
    """A stretch of one level; the last level's channels live only as long as a stretch."""
    below = skip.below(x, pool)
    if head is None:
        return block(below, skip, out)
    mask: Tensor = head(block(below, skip, None))
    return mask
