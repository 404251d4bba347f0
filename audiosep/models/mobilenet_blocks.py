"""Layers of MobileNetV3 (Howard et al., 2019). Layout: (batch, channels, time, frequency)."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiosep.models.kept import Kept


class ConvNorm(nn.Module):
    """Convolution, batch normalisation, activation; in evaluation the first two are one.

    Args:
        inputs: channels.
        outputs: channels.
        kernel: size in time and in frequency.
        stride: in time and in frequency.
        dilation: in time and in frequency.
        groups: of the convolution.
        activation: "relu", "hardswish" or "" for none.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: tuple[int, int] = (1, 1),
        dilation: tuple[int, int] = (1, 1),
        *,
        groups: int = 1,
        activation: Literal["", "relu", "hardswish"],
    ) -> None:
        super().__init__()
        padding = (kernel // 2 * dilation[0], kernel // 2 * dilation[1])
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)
        self._folded: Kept[tuple[Tensor, Tensor]] = Kept()
        self._activate = {"": None, "relu": F.relu, "hardswish": F.hardswish}[activation]

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, time, frequency) -> (batch, outputs, ...)."""
        conv, norm = self.conv, self.norm
        if norm.training:
            x = norm(conv(x))
        else:
            weight, shift = self._folded((conv, norm), self._fold)
            x = F.conv2d(x, weight, shift, conv.stride, conv.padding, conv.dilation, conv.groups)
        return x if self._activate is None else self._activate(x, inplace=True)

    def _fold(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of a convolution that does the normalisation too."""
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        return self.conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale


class SqueezeExcitation(nn.Module):
    """Channels weighed by what the whole recording has in them (Hu et al., 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = rounded_channels(channels // 4)
        self.down = nn.Linear(channels, squeezed)
        self.up = nn.Linear(squeezed, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, time, frequency), the same shape."""
        scale = torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3))))))
        return x * scale[:, :, None, None].to(x.dtype)


class Bottleneck(nn.Module):
    """Inverted residual block: expand, convolve each channel, weigh the channels, project.

    Args:
        widths: channels of the input, of the expanded map and of the output.
        kernel: size of the middle layer.
        stride: of the middle layer, in time and in frequency.
        dilation: of the middle layer, in time and in frequency.
        squeeze: with squeeze and excitation.
        swish: hard swish in place of ReLU.
    """

    def __init__(
        self,
        widths: tuple[int, int, int],
        kernel: int,
        stride: tuple[int, int],
        dilation: tuple[int, int],
        squeeze: bool,
        swish: bool,
    ) -> None:
        super().__init__()
        inputs, expanded, outputs = widths
        layer = partial(ConvNorm, activation="hardswish" if swish else "relu")
        self.expand = layer(inputs, expanded, 1) if expanded != inputs else None
        self.depthwise = layer(expanded, expanded, kernel, stride, dilation, groups=expanded)
        self.squeeze = SqueezeExcitation(expanded) if squeeze else None
        self.project = ConvNorm(expanded, outputs, 1, activation="")
        self.residual = stride == (1, 1) and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, time, frequency) -> (batch, outputs, ...)."""
        h = x if self.expand is None else self.expand(x)
        h = self.depthwise(h)
        if self.squeeze is not None:
            h = self.squeeze(h)
        out: Tensor = self.project(h)
        return x + out if self.residual else out


class Pace:
    """Turns strides into dilations of all layers behind, once a position covers enough.

    Args:
        wanted: positions of the input that one position of the last map covers, in time and in frequency.
    """

    def __init__(self, wanted: tuple[int, int]) -> None:
        self._wanted, self._stride, self._dilation = wanted, [1, 1], [1, 1]

    def layer(self, stride: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Stride and dilation of the next layer, each in time and in frequency.

        Args:
            stride: of the layer in the published network.
        """
        dilation = (self._dilation[0], self._dilation[1])
        own = [1, 1]
        for axis, wanted in enumerate(self._wanted):
            if self._stride[axis] < wanted:
                own[axis] = stride
                self._stride[axis] *= stride
            else:
                self._dilation[axis] *= stride
        return (own[0], own[1]), dilation


def rounded_channels(wanted: float) -> int:
    """The nearest multiple of eight, but not less than 90% of what is wanted."""
    near = max(8, int(wanted + 4) // 8 * 8)
    return near + 8 if near < 0.9 * wanted else near
