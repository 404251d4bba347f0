"""Open-Unmix: three recurrent layers between two small dense ones, a mask of the magnitudes of both channels.

Stöter, Uhlich, Liutkus and Mitsufuji, "Open-Unmix - A Reference Implementation for Music Source Separation" (Journal of
Open Source Software 4(41), 2019), without the multichannel Wiener filter that may follow it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from audiosep.errors import ConfigError
from audiosep.models.backbones.backbone import SpectrumBackbone, SpectrumConfig
from audiosep.models.backbones.backbone_request import BackboneRequest, Heads, Modulation


@dataclass(frozen=True)
class OpenUnmixConfig(SpectrumConfig):
    """Sizes; the defaults are the published ones.

    Attributes:
        n_fft: FFT length, samples.
        hop: samples between frames.
        channels: that are read and masked together.
        bandwidth: Hz; higher bins are masked, but not read.
        hidden: channels of the dense and, both directions together, of the recurrent layers; even.
        layers: recurrent ones.
        causal: recurrent layers do not run backwards; frames still reach half an FFT into the future.
    """

    n_fft: int = 4096
    hop: int = 1024
    channels: int = 2
    bandwidth: float = 16000.0
    hidden: int = 512
    layers: int = 3
    causal: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden % 2:
            raise ConfigError(f"hidden must be even, got {self.hidden}")
        if self.causal and self.normalise:
            raise ConfigError(
                "causal: set normalise to false, since the level of a whole mixture depends on the future"
            )

    @property
    def read_bins(self) -> int:
        """Bins that the network reads."""
        return min(self.bins, int(self.bandwidth / self.sample_rate * self.n_fft) + 1)


class OpenUnmix(SpectrumBackbone):
    """See the module's description."""

    Config = OpenUnmixConfig
    config: OpenUnmixConfig

    def __init__(self, config: OpenUnmixConfig) -> None:
        super().__init__(config, channels=config.channels)
        hidden, both = config.hidden, 1 if config.causal else 2
        self.mean = nn.Parameter(torch.zeros(config.read_bins, 1))
        self.scale = nn.Parameter(torch.ones(config.read_bins, 1))
        self.first = _Dense(config.channels * config.read_bins, hidden)
        self.first_film = Modulation(hidden, config.modulation)
        self.lstm = nn.LSTM(
            hidden, hidden // both, config.layers, batch_first=True, bidirectional=both == 2,
            dropout=0.4 if config.layers > 1 else 0.0,
        )  # fmt: skip
        self.second = _Dense(2 * hidden, hidden)
        self.second_film = Modulation(hidden, config.modulation)
        self.out = Heads(config, lambda targets: _Output(hidden, targets, config.channels, config.bins))

    def spectra(self, spectrum: Tensor, request: BackboneRequest) -> Tensor:
        """See `SpectrumBackbone.spectra`."""
        x = (spectrum.abs()[:, :, : self.config.read_bins] - self.mean) * self.scale
        x = torch.tanh(self.first_film(self.first(rearrange(x, "b c f t -> b (c f) t")), request))
        h = self.lstm(x.mT)[0].mT
        x = F.relu(self.second_film(self.second(torch.cat([x, h], 1)), request))
        masks: Tensor = self.out(request, x)
        return masks * spectrum[:, None]


class _Dense(nn.Module):
    """(batch, inputs, frames) -> (batch, outputs, frames), normalised."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(inputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.linear(x))
        return out


class _Output(nn.Module):
    """(batch, hidden, frames) -> masks (batch, targets, channels, bins, frames)."""

    def __init__(self, hidden: int, targets: int, channels: int, bins: int) -> None:
        super().__init__()
        self.dense = _Dense(hidden, targets * channels * bins)
        self.scale = nn.Parameter(torch.ones(targets, 1, bins, 1))
        self.mean = nn.Parameter(torch.ones(targets, 1, bins, 1))

    def forward(self, x: Tensor) -> Tensor:
        k, _, f, _ = self.scale.shape
        maps: Tensor = rearrange(self.dense(x), "b (k c f) t -> b k c f t", k=k, f=f)
        masks: Tensor = F.relu(maps * self.scale + self.mean)
        return masks
