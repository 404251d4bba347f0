"""REPET: the accompaniment of a song repeats, the voice does not."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d

from audiosep.audio.samples import Array
from audiosep.evaluation.baselines.base import (
    FixedBaseline,
    Magnitude,
    magnitude,
    masked,
    spectrum,
    window_length,
)


class _Repeating(FixedBaseline):
    """Common to the three: a soft mask from a model of the repeating part, and no voice below 100 Hz.

    The mask is W / V with W = min(model, V), because the repeating part cannot be louder than the mixture.
    """

    targets = frozenset({"vocals", "accompaniment"})
    cutoff: ClassVar[float] = 100.0

    def parts(self, mix: Array, sample_rate: int) -> dict[str, Array]:
        window = window_length(0.04, sample_rate)
        hop = window // 2
        X = spectrum(mix, window, hop)
        V = magnitude(X)
        model = self._repeating(V, sample_rate / hop)
        mask = np.divide(np.minimum(model, V), V, out=np.zeros_like(V), where=V > 0)
        mask[: int(np.ceil(self.cutoff * window / sample_rate))] = 1
        rest, voice = masked(mix, mask, X, window, hop)
        return {"vocals": voice, "accompaniment": rest}

    def _repeating(self, V: Magnitude, per_second: float) -> Magnitude:
        """The repeating part, (bins, frames), of magnitudes with `per_second` frames per second."""
        raise NotImplementedError


class Repet(_Repeating):
    """One period for the whole recording; the repeating part is the median of the repetitions.

    Z. Rafii, B. Pardo, "REpeating Pattern Extraction Technique (REPET): a simple method for music/voice separation",
    TASLP 2013.
    """

    name: ClassVar[str] = "repet"
    about: ClassVar[str] = "REPET, one repeating period, soft mask (Rafii & Pardo 2013)"

    def _repeating(self, V: Magnitude, per_second: float) -> Magnitude:
        period = repeating_period(beat_spectrum(V))
        frames = V.shape[1]
        padded = np.full((len(V), -(-frames // period) * period), np.nan, dtype=np.float32)
        padded[:, :frames] = V
        pieces = padded.reshape(len(V), -1, period)
        model = np.nanmedian(pieces, axis=1)  # (bins, period)
        return np.tile(model, (1, pieces.shape[1]))[:, :frames]


class AdaptiveRepet(_Repeating):
    """A period every few seconds; the repeating part is the median of the nearest repetitions.

    A. Liutkus, Z. Rafii, R. Badeau, B. Pardo, G. Richard, "Adaptive filtering for music/voice separation exploiting the
    repeating musical structure", ICASSP 2012.

    Args:
        length: duration from which a period is estimated, seconds.
        step: time between two estimates, seconds.
        order: repetitions that the median is taken over.
    """

    name: ClassVar[str] = "repet-adaptive"
    about: ClassVar[str] = "adaptive REPET, local periods (Liutkus et al. 2012)"

    def __init__(self, length: float = 10.0, step: float = 5.0, order: int = 5) -> None:
        self.length, self.step, self.order = length, step, order

    def _repeating(self, V: Magnitude, per_second: float) -> Magnitude:
        frames = V.shape[1]
        span, step = round(self.length * per_second), round(self.step * per_second)
        offsets = np.arange(self.order) - self.order // 2
        model = np.empty_like(V)
        for start in range(0, frames, step):
            centre = min(start + step // 2, frames - 1)
            first = int(np.clip(centre - span // 2, 0, max(0, frames - span)))
            period = repeating_period(beat_spectrum(V[:, first : first + span]))
            moments = np.arange(start, min(start + step, frames))
            places = moments[None] + period * offsets[:, None]  # (order, moments)
            outside = (places < 0) | (places >= frames)
            pieces = V[:, np.clip(places, 0, frames - 1)]  # (bins, order, moments)
            pieces[:, outside] = np.nan
            model[:, moments] = np.nanmedian(pieces, axis=1)
        return model


class RepetSim(_Repeating):
    """No period: the repeating part of a frame is the median of the most similar frames.

    Z. Rafii, B. Pardo, "Music/voice separation using the similarity matrix", ISMIR 2012 (at most 100 frames, at least
    one second apart).
    """

    name: ClassVar[str] = "repet-sim"
    about: ClassVar[str] = "REPET-SIM, similar frames instead of a period (Rafii & Pardo 2012)"

    def __init__(self, most: int = 100, apart: float = 1.0) -> None:
        self.most, self.apart = most, apart

    def _repeating(self, V: Magnitude, per_second: float) -> Magnitude:
        unit = V / np.maximum(np.linalg.norm(V, axis=0), 1e-12)
        size = 2 * round(self.apart * per_second) + 1
        model = np.empty_like(V)
        for moment in range(V.shape[1]):
            similarity = unit[:, moment] @ unit
            peaks = np.flatnonzero(similarity >= maximum_filter1d(similarity, size, mode="constant"))
            best = peaks[np.argsort(similarity[peaks])[-self.most :]]
            model[:, moment] = np.median(V[:, best], axis=1)
        return model


def beat_spectrum(V: Magnitude) -> NDArray[np.float64]:
    """Mean autocorrelation of the power of all bins: (frames,), 1 at lag 0.

    b(l) = mean over bins of 1 / (frames - l) sum_t V(f, t)^2 V(f, t + l)^2 (Rafii & Pardo 2013, equation 1).
    """
    frames = V.shape[1]
    total = np.zeros(frames + 1)
    for row in V:  # one bin at a time, because all at once need gigabytes for long recordings
        transformed = np.fft.rfft(row.astype(np.float64) ** 2, 2 * frames)
        total += transformed.real**2 + transformed.imag**2
    correlation = np.fft.irfft(total / len(V), 2 * frames)[:frames]
    beats = correlation / np.arange(frames, 0, -1)
    normalised: NDArray[np.float64] = beats / max(beats[0], np.finfo(np.float64).tiny)
    return normalised


def repeating_period(beats: NDArray[np.float64], tolerance: int = 2) -> int:
    """The repeating period: the lag whose multiples have the highest peaks in a beat spectrum.

    Rafii & Pardo 2013, algorithm 1. Lag 0 and the longest quarter of the lags are left out, and at least three
    repetitions must fit. A multiple counts if the maximum near it is also the maximum of its whole neighbourhood, with
    its height above the mean of the neighbourhood.

    Args:
        beats: beat spectrum, (frames,).
        tolerance: how far a peak may be from the multiple, frames.

    Returns:
        Frames.
    """
    lags = beats[1 : max(2, len(beats) * 3 // 4)]
    best, height = max(1, len(lags) // 3), -np.inf
    for period in range(1, len(lags) // 3 + 1):
        around = 3 * period // 4
        score, count = 0.0, 0
        for multiple in range(period - 1, len(lags), period):
            near = lags[max(0, multiple - tolerance) : multiple + tolerance + 1]
            wide = lags[max(0, multiple - around) : multiple + around + 1]
            if near.max() == wide.max():
                score += float(near.max() - wide.mean())
            count += 1
        if score / count > height:
            best, height = period, score / count
    return best
