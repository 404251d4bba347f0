"""Convolution blocks of encoder, decoder and listener. Layout: (batch, channels, time, frequency)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from audiosep.models.film import Condition, Film, FilmNorm

MOMENTUM = 0.02


class ResidualBlock(nn.Module):
    """Pre-activation residual block (He et al., 2016) whose normalisations a query may modulate.

    Args:
        inputs: channels.
        outputs: channels.
        features: size of the condition's vector (see `Film`); 0 for a block without modulation.
        tracks: channels of the condition's tracks (see `Film`).
    """

    def __init__(self, inputs: int, outputs: int, features: int = 0, tracks: int = 0) -> None:
        super().__init__()
        self.norm1 = FilmNorm(inputs, momentum=MOMENTUM)
        self.norm2 = FilmNorm(outputs, momentum=MOMENTUM)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.film = Film(features, tracks, (inputs, outputs)) if features else None

    def forward(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        """(batch, inputs, time, frequency) -> (batch, outputs, time, frequency)."""
        first = second = None
        if self.film is not None and condition is not None:
            first, second = self.film(condition, x.shape[2])
        # In one expression: a name would keep the map between the two in memory while the second is computed.
        h: Tensor = self.conv2(
            F.relu(self.norm2(self.conv1(F.relu(self.norm1(x, first), inplace=True)), second), inplace=True)
        )
        return h.add_(self.shortcut(x))


def fold(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(batch, 1, time, frequency) -> (batch, t * f, time / t, frequency / f): patches become channels."""
    if size[0] == size[1]:
        return F.pixel_unshuffle(x, size[0])
    b, c, t, f = x.shape
    x = x.reshape(b, c, t // size[0], size[0], f // size[1], size[1])
    return x.permute(0, 1, 3, 5, 2, 4).reshape(b, c * size[0] * size[1], t // size[0], f // size[1])


def unfold(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The inverse of `fold`, any number of maps: (batch, maps * t * f, ...) -> (batch, maps, time, frequency)."""
    if size[0] == size[1]:
        return F.pixel_shuffle(x, size[0])
    b, c, t, f = x.shape
    x = x.reshape(b, c // (size[0] * size[1]), size[0], size[1], t, f)
    return x.permute(0, 1, 4, 2, 5, 3).reshape(b, -1, t * size[0], f * size[1])


def residual_blocks(model: nn.Module) -> tuple[str, ...]:
    """Names of all residual blocks of a model: the parts worth compiling."""
    return tuple(name for name, module in model.named_modules() if isinstance(module, ResidualBlock))
