"""Frequency bands: linear at the bottom, logarithmic above, overlapping triangles that sum to one in every bin."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


def band_centres(bins: int, bands: int, linear: int = 64) -> Tensor:
    """(bands,) increasing bin numbers: 0 ... linear - 1 one by one, then geometric up to the last bin.

    With FFT 2048 at 32 kHz the first 64 bins reach 1 kHz, where harmonics need the full resolution.
    """
    if bands >= bins:
        return torch.arange(bins, dtype=torch.float64)
    linear = min(linear, bands // 2)
    steps = torch.arange(bands - linear, dtype=torch.float64) / (bands - linear - 1)
    upper = linear * ((bins - 1) / linear) ** steps
    centres = torch.cat([torch.arange(linear, dtype=torch.float64), upper])
    for k in range(1, bands):
        centres[k] = max(float(centres[k]), float(centres[k - 1]) + 1)
    centres = centres.round()
    centres[-1] = bins - 1
    return centres


class Bands(nn.Module):
    """Energies of bins gathered in bands, masks of bands spread over bins.

    Args:
        bins: STFT bins (n_fft // 2 + 1).
        bands: number of bands; >= bins gives one band a bin.
    """

    weight: Tensor
    lower: Tensor
    upper: Tensor
    lower_share: Tensor
    upper_share: Tensor

    def __init__(self, bins: int, bands: int) -> None:
        super().__init__()
        centres = band_centres(bins, bands)
        frequency = torch.arange(bins, dtype=torch.float64)
        upper = torch.searchsorted(centres, frequency).clamp(1, len(centres) - 1)
        share = ((frequency - centres[upper - 1]) / (centres[upper] - centres[upper - 1])).clamp(0, 1)
        weight = torch.zeros(bins, len(centres), dtype=torch.float64)
        rows = torch.arange(bins)
        weight[rows, upper - 1] = 1 - share
        weight[rows, upper] = share
        self.register_buffer("weight", weight.float(), persistent=False)
        # Of each bin the two bands that it lies between, and their weights.
        self.register_buffer("lower", upper - 1, persistent=False)
        self.register_buffer("upper", upper, persistent=False)
        self.register_buffer("lower_share", (1 - share)[:, None].float(), persistent=False)
        self.register_buffer("upper_share", share[:, None].float(), persistent=False)
        self.count = len(centres)
        self._identity = self.count == bins
        # A bin lies in two bands at most: products of blocks instead of the whole, which is zero nearly everywhere.
        self._of_bands = [(s, _support(weight[:, s].sum(1))) for s in _blocks(self.count)]

    def energy(self, power: Tensor) -> Tensor:
        """(..., bins, frames) energies (or cross energies) -> (..., bands, frames), their sum unchanged."""
        if self._identity:
            return power
        # Under autocast a matrix product would round energies to 8 bits.
        with torch.autocast(power.device.type, enabled=False):
            parts = [self.weight[bins, bands].T @ power[..., bins, :] for bands, bins in self._of_bands]
            return torch.cat(parts, -2)

    def expand(self, mask: Tensor, bins: slice = slice(None)) -> Tensor:
        """Masks of bins, by linear interpolation between band centres.

        No value depends on how many frames or bins there are, as those of a matrix product do.

        Args:
            mask: (..., bands, frames).
            bins: that are wanted.

        Returns:
            (..., bins, frames).
        """
        if self._identity:
            return mask[..., bins, :]
        lower, upper = (mask.index_select(-2, bands[bins]) for bands in (self.lower, self.upper))
        return torch.addcmul(lower * self.lower_share[bins], upper, self.upper_share[bins])

    def mean(self, power: Tensor) -> Tensor:
        """(..., bins, frames) -> (..., bands, frames) mean energy a bin of each band."""
        return self.energy(power) / self.weight.sum(0)[:, None]


def _blocks(count: int, blocks: int = 6) -> list[slice]:
    edges = [round(k * count / blocks) for k in range(blocks + 1)]
    return [slice(low, high) for low, high in pairwise(edges) if high > low]


def _support(weight: Tensor) -> slice:
    """The smallest slice that holds all that is not zero."""
    used = torch.nonzero(weight)[:, 0]
    return slice(int(used.min()), int(used.max()) + 1)
