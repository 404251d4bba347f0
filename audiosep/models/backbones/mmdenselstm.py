"""MMDenseLSTM: densely connected convolutions with recurrent layers, for each band and for the whole spectrum.

Takahashi, Goswami and Mitsufuji, "MMDenseLSTM: An Efficient Combination of Convolutional and Recurrent Neural Networks
for Audio Source Separation" (IWAENC 2018). Every network is a U of dense blocks; some blocks have an LSTM over the
frames beside them. One dense block joins the networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiosep.errors import ConfigError
from audiosep.models.backbones.backbone import MaskBackbone, SpectrumConfig
from audiosep.models.backbones.backbone_request import BackboneRequest, Heads, Modulation


@dataclass(frozen=True)
class DenseNetConfig:
    """Sizes of the network of one band.

    Attributes:
        features: channels of its first convolution.
        growth: channels that a layer of a block adds.
        layers: of the blocks of all scales, from the finest down to the coarsest and up again; an odd number.
        units: of the LSTM of each block, both directions together; 0 for none.
    """

    features: int = 32
    growth: int = 14
    layers: tuple[int, ...] = (5, 5, 5, 5, 5, 5, 5)
    units: tuple[int, ...] = (0, 0, 0, 128, 0, 128, 0)

    def __post_init__(self) -> None:
        if len(self.layers) % 2 == 0 or len(self.units) != len(self.layers) or any(u % 2 for u in self.units):
            raise ConfigError(f"layers must be an odd number, and as many units, all even: {self}")

    @property
    def grid(self) -> int:
        """Frames and bins of one position of the coarsest scale."""
        return int(2 ** (len(self.layers) // 2))


@dataclass(frozen=True)
class MMDenseLSTMConfig(SpectrumConfig):
    """Sizes; the defaults are the published ones.

    Attributes:
        n_fft: FFT length, samples.
        hop: samples between frames.
        edges: bins at which a band ends and the next one begins.
        bands: their networks, one more than there are edges.
        whole: network of the whole spectrum.
        growth: channels that a layer of the last block adds.
        layers: of the last block.
    """

    n_fft: int = 4096
    hop: int = 1024
    edges: tuple[int, ...] = (380, 1024)
    bands: tuple[DenseNetConfig, ...] = (
        DenseNetConfig(),
        DenseNetConfig(growth=4, layers=(4,) * 7, units=(0, 0, 0, 32, 0, 0, 0)),
        DenseNetConfig(growth=2, layers=(1,) * 5, units=(0, 0, 8, 0, 0)),
    )
    whole: DenseNetConfig = field(
        default_factory=lambda: DenseNetConfig(
            growth=7, layers=(3, 3, 4, 5, 5, 5, 4, 3, 3), units=(0, 0, 0, 0, 128, 0, 0, 100, 0)
        )
    )
    growth: int = 12
    layers: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        ends = [0, *self.edges, self.bins]
        if ends != sorted(set(ends)) or len(self.bands) != len(self.edges) + 1:
            raise ConfigError(f"edges must rise within {self.bins} bins, with one band more than edges: {self.edges}")

    @property
    def grid(self) -> int:
        """Frames of one position of the coarsest scale of any network."""
        return max(net.grid for net in (self.whole, *self.bands))


class MMDenseLSTM(MaskBackbone):
    """See the module's description."""

    Config = MMDenseLSTMConfig
    config: MMDenseLSTMConfig

    def __init__(self, config: MMDenseLSTMConfig) -> None:
        super().__init__(config, grid=config.grid)
        self.edges = [0, *config.edges, config.bins]
        widths = [high - low for low, high in zip(self.edges, self.edges[1:], strict=False)]
        nets = [_DenseNet(net, bins, config.modulation) for net, bins in zip(config.bands, widths, strict=True)]
        self.bands = nn.ModuleList(nets)
        self.whole = _DenseNet(config.whole, config.bins, config.modulation)
        outputs = max(net.outputs for net in nets)
        self.match = nn.ModuleList(nn.Conv2d(net.outputs, outputs, 1) for net in nets)
        self.last = _DenseBlock(outputs + self.whole.outputs, config.growth, config.layers)
        self.out = Heads(config, lambda targets: _output(config.growth, targets))

    def network(self, magnitude: Tensor, request: BackboneRequest) -> Tensor:
        """See `MaskBackbone.network`."""
        x = magnitude[:, None]
        parts = [
            match(net(x[:, :, low:high], request))
            for net, match, low, high in zip(self.bands, self.match, self.edges, self.edges[1:], strict=False)
        ]
        x = torch.cat([torch.cat(parts, 2), self.whole(x, request)], 1)
        return F.relu(self.out(request, self.last(x)))


class _DenseNet(nn.Module):
    """(batch, 1, bins, frames) -> (batch, outputs, bins, frames)."""

    def __init__(self, config: DenseNetConfig, bins: int, modulation: int) -> None:
        super().__init__()
        self.grid, depth = config.grid, len(config.layers) // 2
        self.first = nn.Conv2d(1, config.features, 3, padding=1)
        coarsest = (bins + self.grid - 1) // self.grid
        widths = config.features
        skips: list[int] = []
        self.blocks, self.films, self.ups = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for number, (layers, units) in enumerate(zip(config.layers, config.units, strict=True)):
            scale = min(number, len(config.layers) - 1 - number)
            if number > depth:
                self.ups.append(nn.ConvTranspose2d(widths, widths, 2, 2))
                widths += skips.pop()
            block = _DenseBlock(widths, config.growth, layers, units, coarsest * self.grid // 2**scale)
            self.blocks.append(block)
            self.films.append(Modulation(block.outputs, modulation))
            widths = block.outputs
            if number < depth:
                skips.append(widths)
        self.outputs = widths

    def forward(self, x: Tensor, request: BackboneRequest) -> Tensor:
        bins, frames = x.shape[2:]
        x = self.first(x)
        x = F.pad(x, (0, (self.grid - frames % self.grid) % self.grid, 0, (self.grid - bins % self.grid) % self.grid))
        depth = len(self.blocks) // 2
        skips: list[Tensor] = []
        for number, (block, film) in enumerate(zip(self.blocks, self.films, strict=True)):
            if number > depth:
                x = torch.cat([self.ups[number - depth - 1](x), skips.pop()], 1)
            x = film(block(x), request)
            if number < depth:
                skips.append(x)
                x = F.avg_pool2d(x, 2)
        return x[:, :, :bins, :frames]


class _DenseBlock(nn.Module):
    """Layers that read all layers before them; the sum of the LSTM is one more channel of the output.

    Args:
        inputs: channels.
        growth: channels of a layer.
        layers: their number; the last one's output is the block's.
        units: of the LSTM, 0 for none.
        bins: of the input, which the LSTM reads.
    """

    def __init__(self, inputs: int, growth: int, layers: int, units: int = 0, bins: int = 0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(inputs + number * growth),
                nn.ReLU(),
                nn.Conv2d(inputs + number * growth, growth, 3, padding=1),
            )
            for number in range(layers)
        )
        self.recurrent = _BinLSTM(inputs, units, bins) if units else None
        self.outputs = growth + (1 if units else 0)

    def forward(self, x: Tensor) -> Tensor:
        found: Sequence[Tensor] = [x]
        for layer in self.layers:
            found = [*found, layer(torch.cat(list(found), 1))]
        if self.recurrent is None:
            return found[-1]
        return torch.cat([found[-1], self.recurrent(x)], 1)


class _BinLSTM(nn.Module):
    """(batch, inputs, bins, frames) -> (batch, 1, bins, frames): all bins of a frame are one step."""

    def __init__(self, inputs: int, units: int, bins: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, 1, 1)
        self.lstm = nn.LSTM(bins, units // 2, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(units, bins)

    def forward(self, x: Tensor) -> Tensor:
        steps = self.squeeze(x)[:, 0].transpose(1, 2)
        out: Tensor = self.linear(self.lstm(steps)[0]).transpose(1, 2)[:, None]
        return out


def _output(width: int, targets: int) -> nn.Conv2d:
    """The masks before a ReLU, at first above zero: a mask that is zero everywhere would learn nothing."""
    layer = nn.Conv2d(width, targets, 1)
    nn.init.constant_(layer.bias, 0.5)  # type: ignore[arg-type]  # it has one
    return layer
