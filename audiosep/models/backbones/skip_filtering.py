"""Skip-filtering with recurrent inference.

Mimilakis et al., "Monaural Singing Voice Separation with Skip-Filtering Connections and Recurrent Inference of
Time-Frequency Mask" (ICASSP 2018, arXiv 1711.01437): a recurrent encoder, a recurrent decoder that is applied to its
own output until it no longer changes, a layer whose output filters the input, and a second filter that cleans the
first one's estimate.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiosep.errors import ConfigError
from audiosep.models.backbones.backbone import MaskBackbone, SpectrumConfig
from audiosep.models.backbones.backbone_request import BackboneRequest, Heads, Modulation


@dataclass(frozen=True)
class SkipFilteringConfig(SpectrumConfig):
    """Sizes; the defaults are the published ones.

    Attributes:
        n_fft: FFT length, samples.
        hop: samples between frames.
        read_bins: lowest bins that the recurrent layers read; twice as many are added to the decoder's output.
        enhancement: channels of the second filter.
        iterations: most runs of the decoder.
        tolerance: mean squared change from which on it does not run again.
    """

    n_fft: int = 4096
    hop: int = 384
    read_bins: int = 744
    enhancement: int = 1024
    iterations: int = 10
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if 2 * self.read_bins > self.bins:
            raise ConfigError(f"read_bins must be at most half of the {self.bins} bins, got {self.read_bins}")


class SkipFiltering(MaskBackbone):
    """See the module's description."""

    Config = SkipFilteringConfig
    config: SkipFilteringConfig

    def __init__(self, config: SkipFilteringConfig) -> None:
        super().__init__(config)
        read = config.read_bins
        self.encoder = nn.GRU(read, read, batch_first=True, bidirectional=True)
        self.film = Modulation(2 * read, config.modulation)
        self.decoder = nn.GRU(2 * read, 2 * read, batch_first=True)
        self.filters = Heads(config, lambda targets: _Filters(config, targets))

    def network(self, magnitude: Tensor, request: BackboneRequest) -> Tensor:
        """See `MaskBackbone.network`."""
        read, x = self.config.read_bins, magnitude.transpose(1, 2)
        h = self.encoder(x[..., :read])[0] + x[..., :read].repeat(1, 1, 2)
        h = self.film(h, request, axis=2)
        h = self.decoder(h)[0]
        # Each item stops by itself: what is estimated of one does not depend on those beside it. A trace keeps the
        # number of runs that it saw, so it sees all.
        changing: Tensor | None = None
        for _ in range(self.config.iterations - 1):
            again = self.decoder(h)[0]
            if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
                h = again
                continue
            more = (again - h).square().mean((1, 2), keepdim=True) >= self.config.tolerance
            h = again if changing is None else torch.where(changing, again, h)
            changing = more if changing is None else changing & more
            if not changing.any():
                break
        out: Tensor = self.filters(request, h + x[..., : 2 * read], x)
        return out


class _Filters(nn.Module):
    """Both filters of some targets: (batch, frames, 2 * read bins) and the input (batch, frames, bins) -> masks."""

    def __init__(self, config: SkipFilteringConfig, targets: int) -> None:
        super().__init__()
        bins = config.bins
        self.bins = bins
        self.first = nn.Linear(2 * config.read_bins, targets * bins)
        self.inner = nn.ModuleList(nn.Linear(bins, config.enhancement) for _ in range(targets))
        self.outer = nn.ModuleList(nn.Linear(config.enhancement, bins) for _ in range(targets))

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        masks = F.relu(self.first(h)).split(self.bins, -1)
        cleaned = [
            mask * F.relu(outer(F.relu(inner(mask * x))))
            for mask, inner, outer in zip(masks, self.inner, self.outer, strict=True)
        ]
        return torch.stack(cleaned, 1).transpose(2, 3)
