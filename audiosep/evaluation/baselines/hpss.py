"""Harmonic/percussive separation: tones are horizontal lines of a spectrogram, percussion vertical ones."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy.ndimage import median_filter

from audiosep.audio.samples import Array
from audiosep.evaluation.baselines.base import FixedBaseline, magnitude, masked, spectrum, window_length


class Hpss(FixedBaseline):
    """Median filters along time and along frequency, and the Wiener mask of the two.

    D. FitzGerald, "Harmonic/percussive separation using median filtering", DAFx 2010 (window 4096 at 44.1 kHz, 17
    frames, 17 bins, p = 2).
    """

    name: ClassVar[str] = "hpss"
    targets = frozenset({"harmonic", "percussive"})
    about: ClassVar[str] = "median filtering along time and frequency (FitzGerald 2010)"

    def __init__(self, length: int = 17) -> None:
        self.length = length

    def parts(self, mix: Array, sample_rate: int) -> dict[str, Array]:
        window = window_length(0.093, sample_rate)
        X = spectrum(mix, window, window // 4)
        V = magnitude(X)
        harmonic = median_filter(V, size=(1, self.length), mode="nearest") ** 2
        percussive = median_filter(V, size=(self.length, 1), mode="nearest") ** 2
        total = harmonic + percussive
        # Where both medians are zero, each part gets half.
        mask = np.divide(harmonic, total, out=np.full_like(V, 0.5), where=total > 0)
        tones, hits = masked(mix, mask, X, window, window // 4)
        return {"harmonic": tones, "percussive": hits}
