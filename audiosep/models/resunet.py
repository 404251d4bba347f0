"""The published AudioSep network: a residual U-Net on the spectrogram whose every normalisation the query shifts.

Liu et al., "Separate Anything You Describe" (2023), https://arxiv.org/abs/2308.05037; the U-Net with its magnitude
and phase mask is ResUNet30 of Kong et al., "Decoupling Magnitude and Phase Estimation with Deep ResUNet for Music
Source Separation" (ISMIR 2021), https://arxiv.org/abs/2109.05418.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from audiosep.errors import ConfigError
from audiosep.models.mask_model import MaskModel, Masks
from audiosep.models.query_ways import Ways
from audiosep.models.stretches import Stretch, in_stretches

SLOPE = 0.01
MOMENTUM = 0.01
FLOOR = 1e-10
TILE = 64  # frames in fp32; in half precision twice as many take as much memory


@dataclass(frozen=True)
class ResUNet30Config:
    """Sizes of the network; the defaults are the published ones.

    Attributes:
        sample_rate: Hz.
        n_fft: FFT length, samples.
        hop: samples between STFT frames.
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
        channels: of the input.
        dimension: size of a query embedding.
    """

    def __init__(self, channels: int, dimension: int) -> None:
        super().__init__(channels, momentum=MOMENTUM)
        self.query = nn.Linear(dimension, channels)

    def forward(self, x: Tensor, query: Tensor) -> Tensor:  # type: ignore[override]  # takes the query too
        """(batch, channels, frames, bins) and (dimension,) -> (batch, channels, frames, bins)."""
        return F.leaky_relu_(super().forward(x) + self.query(query)[None, :, None, None], SLOPE)

    def bind_query(self, query: Tensor) -> Callable[[Tensor], Tensor]:
        """`self(x, query)` as a function of x; at inference what depends on the query alone is computed once."""
        if self.training:
            return partial(self, query=query)
        shift = self._shift(query)

        def run(x: Tensor) -> Tensor:
            x = F.batch_norm(x, self.running_mean, self.running_var, self.weight, shift, eps=self.eps)
            out: Tensor = F.leaky_relu_(x, SLOPE)
            return out

        return run

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


class InputConv(nn.Conv2d):
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


class ShiftedResidualBlock(nn.Module):
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

    def bind_query(self, query: Tensor) -> Callable[[Stretch, Tensor | None], Tensor]:
        """The block for one query: a function of stretches, and of where to write what becomes of their own frames.

        At inference what depends on the query alone is computed once for all stretches.
        """
        if self.training:
            return lambda x, _: self(x.frames, query)
        norm, (weight1, bias1) = self.norm1.bind_query(query), self.norm2.folded_into(self.conv1, query)
        dtype = _dtype(weight1)  # where autocast would go by itself, once for each stretch
        weight1, bias1, weight2 = (x.to(dtype) for x in (weight1, bias1, self.conv2.weight))

        def run(x: Stretch, out: Tensor | None) -> Tensor:
            h = F.leaky_relu_(_convolve(norm(x.frames), weight1, bias1, x), SLOPE)
            h, shortcut = _convolve(h, weight2, None, x), self.shortcut(x.own)
            return h.add_(shortcut) if out is None else torch.add(h, shortcut, out=out)

        return run


class DecoderBlock(nn.Module):
    """Upsampling by `pool`, then a residual block over the result beside the encoder's output of that level."""

    def __init__(self, inputs: int, outputs: int, pool: tuple[int, int], dimension: int) -> None:
        super().__init__()
        self.norm = ShiftedNorm(inputs, dimension)
        self.up = nn.ConvTranspose2d(inputs, outputs, pool, stride=pool, bias=False)
        self.block = ShiftedResidualBlock(2 * outputs, outputs, dimension)

    def bind_query(self, query: Tensor) -> Callable[[Tensor, Stretch, Tensor | None], Tensor]:
        """The block for one query: a function of the frames below, of the skip's stretch, and of where to write."""
        norm, block = self.norm.bind_query(query), self.block.bind_query(query)

        def run(below: Tensor, skip: Stretch, out: Tensor | None) -> Tensor:
            return block(skip.under(self.up(norm(below))), out)

        return run


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stretch: Stretch) -> Tensor:
    """A 3 x 3 convolution that takes a frame of each neighbour away, and sees zeros where there is none."""
    if stretch.before and stretch.after:
        return F.conv2d(x, weight, bias, padding=(0, 1))
    out = F.conv2d(x, weight, bias, padding=(1, 1))
    return out[:, :, 1:] if stretch.before else out[:, :, :-1] if stretch.after else out


def _dtype(x: Tensor) -> torch.dtype:
    """What layers compute in."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


class ResUNet30(MaskModel):
    """Text-queried separation with a sigmoid magnitude mask and a phase rotation.

    With one channel it computes what the published network computes. With more, the network reads the channels'
    root mean power, and all channels get the same mask, which keeps the stereo image. The query enters at the first
    level, so queries share only the spectrogram and the input layers; they run one after another, which bounds memory.

    The pooling grid is `alignment` samples wide: a window that starts at a multiple of it sees the same grid as the
    whole recording.
    """

    Config: ClassVar[type[ResUNet30Config]] = ResUNet30Config
    config: ResUNet30Config
    pad_mode = "reflect"
    unseen_bins = 1
    rotates = True
    queries_at_once = False

    def __init__(self, config: ResUNet30Config) -> None:
        super().__init__()
        self.config = config
        self.sample_rate, self.hop, self.dimension = config.sample_rate, config.hop, config.dimension
        self.n_fft = config.n_fft
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
        self.input = InputConv(widths[0])
        self.encoder = nn.ModuleList(
            ShiftedResidualBlock(a, b, config.dimension) for a, b in pairwise((widths[0], *widths))
        )
        self.bottleneck = ShiftedResidualBlock(widths[-1], widths[-1], config.dimension)
        self.decoder = nn.ModuleList(
            DecoderBlock(a, b, pool, config.dimension)
            for (a, b), pool in zip(pairwise((widths[-1], *widths[::-1])), self.pools[::-1], strict=True)
        )
        self.head = Head(widths[0])

    def masks(
        self, power: Tensor, embeddings: Tensor, negatives: Tensor, ways: Sequence[Ways | None] = ()
    ) -> Iterator[Masks]:
        """See `MaskModel.masks`; a negative moves the query to normalise(embedding - negative).

        The rotation of the highest bin, which the network does not see, is 0 instead of a unit vector, as in the
        published network: targets have nothing there.
        """
        x = self.features(power)
        for query in F.normalize(embeddings - negatives, dim=-1).split(1):
            logits = self._unet(x, query[0]).transpose(2, 3)
            logits = F.pad(logits[..., : power.shape[-1]].float(), (0, 0, 0, 1))
            rotation = torch.tanh(logits[:, 1:])
            length = rotation.square().sum(1, keepdim=True).clamp_min(FLOOR**2).sqrt()
            yield Masks(torch.sigmoid(logits[:, :1]), (rotation / length)[:, None])

    def features(self, power: Tensor) -> Tensor:
        """What the U-Net reads, the same for every query.

        Args:
            power: (batch, bins, frames), the mean over the channels.

        Returns:
            (batch, 1, frames padded to the pooling grid, bins - 1): the normalised root of the power.
        """
        x = self.norm(power.clamp_min(FLOOR).sqrt())[:, :-1]
        x = F.pad(x, (0, -x.shape[-1] % self.grid))
        return x.transpose(1, 2)[:, None]

    def _unet(self, x: Tensor, query: Tensor) -> Tensor:
        """(batch, 1, frames, bins) -> (batch, 3, frames, bins)."""
        tile = _tile(x)
        block: Any  # modules in lists have lost their types
        skips = []
        inputs = [self.input, *[nn.Identity()] * (len(self.encoder) - 1)]
        for block, widen, pool in zip(self.encoder, inputs, self.pools, strict=True):
            skips.append(in_stretches(partial(_encode, block.bind_query(query), widen), x, tile))
            x = F.avg_pool2d(skips[-1], pool)
        x = self.bottleneck.bind_query(query)(Stretch(x), None)
        heads = [*[None] * (len(self.decoder) - 1), self.head]
        for block, head, pool in zip(self.decoder, heads, self.pools[::-1], strict=True):
            x = in_stretches(partial(_decode, block.bind_query(query), head, x, pool[0]), skips.pop(), tile)
        return x


def _tile(x: Tensor) -> int:
    """Frames of a stretch; 0, all at once, where caches do not matter or everything is kept for a backward pass."""
    if x.device.type != "cpu" or torch.is_grad_enabled():
        return 0
    return 2 * TILE if _dtype(x).itemsize == 2 else TILE


def _encode(
    block: Callable[[Stretch, Tensor | None], Tensor], widen: nn.Module, x: Stretch, out: Tensor | None
) -> Tensor:
    """A stretch of one level; `widen` is the input layer for the first level."""
    return block(replace(x, frames=widen(x.frames)), out)


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
