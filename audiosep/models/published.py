"""Published stem networks, run by their own packages: a mixture's waveform in, the waveforms of fixed stems out.

    mixture --two channels together, or each one given twice--> networks of an ensemble --weighted mean--> outputs
    outputs --our order; what they leave of the mixture is shared, or is the last stem--> stems that sum to the mixture

The separator around it cuts windows of the length that the network was trained on, cross-fades, resamples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiosep.errors import ConfigError, QueryError
from audiosep.models.mask_model import TOP_BAND
from audiosep.models.published_networks import NETWORKS, build_published
from audiosep.models.query_ways import Ways
from audiosep.models.separation_model import Estimate, SeparationModel
from audiosep.models.stft import stft

OTHER = "other"
_TOP_FFT = 2048
_TINY = 1e-8


@dataclass(frozen=True)
class PublishedConfig:
    """What builds a published network, and how it is used.

    Attributes:
        network: key of `published_networks.NETWORKS`.
        sources: names of the network's outputs, in its order.
        stems: names of the stems. If the last one is "other", or no output of the network, it is what the others leave
            of the mixture; else what all of them leave is shared among them in equal parts.
        settings: for each network of the ensemble, the keywords of its class.
        weights: for each network, the weights of its outputs in the mean over the ensemble; () for equal ones.
        sample_rate: Hz.
        window: length that it was trained on, or that its authors separate with, samples.
        context: at each side of a window, computed and dropped, samples.
        hop: between its STFT frames, samples.
        channels: 2 for a network that hears left and right together, 1 for one that hears each channel alone.

    Raises:
        ConfigError: an unknown network, or names and numbers that do not fit together.
    """

    network: str
    sources: tuple[str, ...]
    stems: tuple[str, ...]
    settings: tuple[dict[str, Any], ...]
    weights: tuple[tuple[float, ...], ...] = ()
    sample_rate: int = 44100
    window: int = 441_000
    context: int = 22_050
    hop: int = 1024
    channels: int = 2

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise ConfigError(f"network {self.network!r} is none of {', '.join(NETWORKS)}")
        if not self.settings or not self.sources or len(set(self.stems)) != len(self.stems):
            raise ConfigError("a published network needs settings, sources and stems that differ")
        missing = set(self.sources).symmetric_difference(self.stems) - ({self.stems[-1]} - set(self.sources))
        if missing:
            raise ConfigError(f"sources and stems do not fit together: {', '.join(sorted(missing))}")
        rows = {len(row) for row in self.weights}
        if self.weights and (len(self.weights) != len(self.settings) or rows != {len(self.sources)}):
            raise ConfigError("weights needs a row for each network, with a number for each of its sources")
        if any(not 0 < sum(column) < math.inf for column in zip(*self.weights, strict=True)):
            raise ConfigError("weights needs a network with a weight above 0 for each source")
        if self.channels not in (1, 2) or min(self.sample_rate, self.hop) < 1:
            raise ConfigError("channels must be 1 or 2, sample_rate and hop at least 1")
        if self.context < 0 or self.window <= 2 * self.context:
            raise ConfigError("window must be longer than its context at both sides")


class PublishedStems(SeparationModel):
    """See the module's description; `PublishedStems(PublishedConfig(...))`.

    Raises:
        DependencyError: the package of the network is not installed.
        ConfigError: the package's class does not take these settings.
    """

    Config = PublishedConfig
    config: PublishedConfig
    dimension = 0
    capabilities = frozenset({"stems"})
    whole_windows = True
    needs_fp32 = True
    weights: Tensor

    def __init__(self, config: PublishedConfig) -> None:
        super().__init__()
        self.config = config
        self.sample_rate, self.hop, self.stem_names = config.sample_rate, config.hop, config.stems
        self.window, self.context, self.past = config.window, config.context, config.window // 2
        self.networks = nn.ModuleList(
            build_published(
                config.network, config.sources, settings, sample_rate=config.sample_rate, window=config.window
            )
            for settings in config.settings
        )
        rows = torch.tensor(config.weights or [[1.0] * len(config.sources)] * len(config.settings))
        self.register_buffer("weights", rows / rows.sum(0), persistent=False)

    def forward(
        self, mix: Tensor, embeddings: Tensor, negatives: Tensor | None = None, ways: Sequence[Ways | None] = ()
    ) -> Estimate:
        """A published stem network takes no queries.

        Raises:
            QueryError: always.
        """
        raise QueryError(f"this network takes no queries, it has only stems ({', '.join(self.stem_names)})")

    def stems(self, mix: Tensor) -> Estimate:
        """See `SeparationModel.stems`; they sum to the mixture."""
        mix = mix.float()
        channels = mix.shape[1]
        if channels == self.config.channels:
            outputs = self.outputs(mix)
        else:
            # Each channel is separated on its own, one after the other, so that many channels need no more memory.
            alone = mix[:, :, None].expand(-1, -1, self.config.channels, -1).unbind(1)
            outputs = torch.stack([self.outputs(one).mean(2) for one in alone], 2)
        stems = self._arranged(outputs, mix)
        return Estimate(stems, self._top(stems))

    @classmethod
    def job_bytes(cls, config: Mapping[str, Any]) -> int | None:
        """See `SeparationModel.job_bytes`."""
        network = NETWORKS.get(str(config.get("network")))
        return None if network is None else network.job_bytes

    def outputs(self, x: Tensor) -> Tensor:
        """What the networks make of a mixture, as their packages compute it.

        Args:
            x: (batch, channels of the network, samples).

        Returns:
            (batch, sources, channels, samples), the weighted mean over the ensemble.
        """
        batch, channels, samples = x.shape
        entry = NETWORKS[self.config.network]
        least = self.window if entry.fills_window else entry.shortest
        before = max(0, least - samples) // 2
        padded = F.pad(x, (before, max(0, least - samples) - before))
        mean = x.new_zeros(batch, len(self.config.sources), channels, samples)
        for network, weights in zip(self.networks, self.weights, strict=True):
            y = network(padded).reshape(batch, len(self.config.sources), channels, -1)
            y = F.pad(y, (0, padded.shape[-1] - y.shape[-1]))  # an inverse STFT may end before the signal
            mean += weights[:, None, None] * y[..., before : before + samples]
        return mean

    def _arranged(self, outputs: Tensor, mix: Tensor) -> Tensor:
        """Outputs as stems that sum to the mixture: (batch, stems, channels, samples)."""
        sources, names = self.config.sources, self.stem_names
        if names[-1] in sources and names[-1] != OTHER:
            rows = outputs[:, [sources.index(name) for name in names]]
            return rows + (mix - rows.sum(1))[:, None] / len(names)
        rows = outputs[:, [sources.index(name) for name in names[:-1]]]
        return torch.cat([rows, (mix - rows.sum(1))[:, None]], 1)

    def _top(self, stems: Tensor) -> Tensor:
        """(batch, stems, frames): the share of each stem in the magnitudes of the highest 1 kHz."""
        batch, count, channels, samples = stems.shape
        flat = F.pad(stems, (0, max(0, _TOP_FFT - samples))).flatten(0, 2)
        bins = max(1, round(TOP_BAND * _TOP_FFT / self.sample_rate))
        highest = stft(flat, _TOP_FFT, self.hop)[:, -bins:].abs()
        magnitude: Tensor = highest.unflatten(0, (batch, count, channels)).mean((2, 3))[..., : samples // self.hop + 1]
        return magnitude / magnitude.sum(1, keepdim=True).clamp_min(_TINY)
