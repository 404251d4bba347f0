"""A bank of filters that cuts a waveform into bands of equal width, each at a fraction of the sample rate, and back.

Cosine-modulated pseudo-quadrature mirror filters with a Kaiser window, whose cutoff is the one that leaves least of
what the bands should cancel: Lin and Vaidyanathan, "A Kaiser Window Approach for the Design of Prototype Filters of
Cosine Modulated Filterbanks" (IEEE Signal Processing Letters 5(6), 1998).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

BETA = 9.0


class FilterBank(nn.Module):
    """The analysis and the synthesis.

    Args:
        bands: number of bands.
        reach: length of the filters, in samples of a band.
    """

    analysis: Tensor
    synthesis: Tensor

    def __init__(self, bands: int, reach: int = 16) -> None:
        super().__init__()
        self.bands, self.taps = bands, bands * reach
        prototype = _prototype(bands, self.taps)
        time = np.arange(self.taps + 1) - self.taps / 2
        k = np.arange(bands)[:, None]
        phase = (2 * k + 1) * np.pi / (2 * bands) * time
        turn = (-1.0) ** k * np.pi / 4
        for name, filters in (("analysis", np.cos(phase + turn)), ("synthesis", np.cos(phase - turn))):
            self.register_buffer(name, torch.from_numpy(2 * prototype * filters).float()[:, None], persistent=False)

    def split(self, x: Tensor) -> Tensor:
        """(any, samples) -> (any, bands, steps), one step for every `bands` samples and what the filters add."""
        x = F.pad(x[:, None], (0, (self.bands - x.shape[-1] % self.bands) % self.bands))
        return F.conv1d(x, self.analysis.flip(-1), stride=self.bands, padding=self.taps)

    def join(self, x: Tensor, samples: int) -> Tensor:
        """(any, bands, steps) -> (any, samples)."""
        y: Tensor = F.conv_transpose1d(x * self.bands, self.synthesis, stride=self.bands, padding=self.taps)
        return F.pad(y[:, 0], (0, self.bands - 1))[:, :samples]


def _prototype(bands: int, taps: int) -> NDArray[np.float64]:
    """The low-pass filter that all bands are shifted copies of; of unit gain."""
    window = np.kaiser(taps + 1, BETA)
    time = np.arange(taps + 1) - taps / 2

    def lowpass(cutoff: float) -> NDArray[np.float64]:
        filtered: NDArray[np.float64] = cutoff * np.sinc(cutoff * time) * window
        return filtered

    def ripple(cutoff: float) -> float:
        """The largest value of the autocorrelation at multiples of 2 * bands samples, where it should be zero."""
        h = lowpass(cutoff)
        correlation = np.convolve(h, h[::-1])[taps :: 2 * bands]
        return float(np.abs(correlation[1:]).max() / correlation[0])

    best = minimize_scalar(ripple, bounds=(0.4 / bands, 0.8 / bands), method="bounded", options={"xatol": 1e-10})
    h = lowpass(float(best.x))
    correlation = np.convolve(h, h[::-1])[taps]
    return np.asarray(h / np.sqrt(2 * bands * correlation))
