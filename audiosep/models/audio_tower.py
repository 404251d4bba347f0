"""What every audio tower offers: an embedding of a recording, and local features for the separator.

Because a tower works on the separator's own band energies, it can also embed a masked mixture without a waveform:
energies of an estimate are `mask^2 * energies`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from audiosep.models.bands import Bands
from audiosep.models.stft import power, stft


class AudioTowerConfig(Protocol):
    """What the shape of every audio tower says.

    Attributes:
        sample_rate: Hz.
        n_fft: window of the STFT, samples.
        hop: samples between its frames.
        bands: frequency bands.
        hidden: features of a local position.
        dimension: size of the joint space.
        tags: classes of the tagging head.
        step: frames between two local positions.
        rows: local positions from low to high frequency.
    """

    @property
    def sample_rate(self) -> int: ...
    @property
    def n_fft(self) -> int: ...
    @property
    def hop(self) -> int: ...
    @property
    def bands(self) -> int: ...
    @property
    def hidden(self) -> int: ...
    @property
    def dimension(self) -> int: ...
    @property
    def tags(self) -> int: ...
    @property
    def step(self) -> int: ...
    @property
    def rows(self) -> int: ...


class AudioTower(nn.Module, ABC):
    """A network on band energies with two heads, which work on a local position as on a whole recording.

    Args:
        config: its shape.

    Attributes:
        joint: (..., hidden) features -> (..., dimension), not normalised.
        tags: (..., hidden) features -> (..., tags) logits.
    """

    joint: nn.Module
    tags: nn.Module

    def __init__(self, config: AudioTowerConfig) -> None:
        super().__init__()
        self.config = config
        self.bands = Bands(config.n_fft // 2 + 1, config.bands)

    @property
    @abstractmethod
    def compilable(self) -> tuple[str, ...]:
        """The parts that training may compile."""

    @abstractmethod
    def local(self, energies: Tensor) -> Tensor:
        """Local features.

        Args:
            energies: (batch, bands, frames), any level: the mean level of each recording is taken out.

        Returns:
            (batch, hidden, steps, rows): `steps` positions in time, `rows` from low to high frequency.
        """

    def energies(self, waveforms: Tensor) -> Tensor:
        """(batch, samples) at `sample_rate` -> (batch, bands, frames) mean energy a bin."""
        return self.bands.mean(power(stft(waveforms.float(), self.config.n_fft, self.config.hop)))

    def pooled(self, energies: Tensor) -> Tensor:
        """(batch, bands, frames) energies -> (batch, hidden): the mean of the local features."""
        return self.local(energies).float().mean((2, 3))

    def embed(self, waveforms: Tensor) -> Tensor:
        """(batch, samples) mono at `sample_rate` -> (batch, dimension), L2-normalised, in the joint space."""
        return self.embed_pooled(self.pooled(self.energies(waveforms)))

    def embed_pooled(self, pooled: Tensor) -> Tensor:
        """(..., hidden) features -> (..., dimension), L2-normalised."""
        return F.normalize(self.joint(pooled).float(), dim=-1)
