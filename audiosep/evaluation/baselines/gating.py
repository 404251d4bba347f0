"""Spectral gating: bins near their steady noise floor are attenuated."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy.ndimage import minimum_filter1d, uniform_filter, uniform_filter1d

from audiosep.audio.samples import Array
from audiosep.evaluation.baselines.base import FixedBaseline, magnitude, masked, spectrum, window_length


class SpectralGating(FixedBaseline):
    """A soft gain for each bin above a noise floor from minimum statistics.

    The floor: R. Martin, "Noise power spectral density estimation based on optimal smoothing and minimum statistics",
    TSAP 2001, with one smoothing length instead of the optimal one. The gate: the principle of S. Boll, "Suppression of
    acoustic noise in speech using spectral subtraction", TASSP 1979, as a soft gate smoothed over time and frequency
    (T. Sainburg et al., PLoS Computational Biology 16(10), 2020, "noisereduce").

    Args:
        threshold: level above the floor at which the gain is 0.5, dB.
        softness: further level at which the gain is 0.73, dB.
        memory: length of the search for the minimum, longer than a word, seconds.
    """

    name: ClassVar[str] = "spectral-gating"
    targets = frozenset({"speech", "noise"})
    about: ClassVar[str] = "soft gate above a noise floor from minimum statistics (Boll 1979, Martin 2001)"

    def __init__(self, threshold: float = 6.0, softness: float = 2.0, memory: float = 1.5) -> None:
        self.threshold, self.softness, self.memory = threshold, softness, memory

    def parts(self, mix: Array, sample_rate: int) -> dict[str, Array]:
        window = window_length(0.032, sample_rate)
        hop = window // 4
        X = spectrum(mix, window, hop)
        power = magnitude(X) ** 2
        per_second = sample_rate / hop
        smooth = uniform_filter1d(power, max(1, round(0.1 * per_second)), axis=1, mode="nearest")
        lowest = minimum_filter1d(smooth, max(1, round(2 * self.memory * per_second)), axis=1, mode="nearest")
        # The minimum of a smoothed chi-square lies below its mean (Martin's bias); measured on white noise: 2.5.
        floor = 2.5 * lowest + 1e-12
        above = 10 * np.log10(power / floor + 1e-12) - self.threshold
        gate = 1 / (1 + np.exp(-np.clip(above / self.softness, -30, 30)))
        mask = uniform_filter(gate, size=(3, max(1, round(0.03 * per_second))), mode="nearest").astype(np.float32)
        speech, noise = masked(mix, mask, X, window, hop)
        return {"speech": speech, "noise": noise}
