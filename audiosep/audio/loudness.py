"""Loudness of sound that arrives in blocks, by ITU-R BS.1770-4: K-weighting, then a gate at -70 and at -10 LU."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from audiosep.audio.samples import Array
from audiosep.errors import DependencyError, install_extra

_STEP = 0.1  # seconds; a block of the standard is four of them, and blocks overlap by three
_STEPS = 4
_SURROUND = 1.41


class LoudnessMeter:
    """Measures the integrated loudness. The filters are those of pyloudnorm, which itself needs a whole recording.

    Args:
        sample_rate: Hz.
        channels: number of channels, in the order of WAVE.

    Raises:
        DependencyError: pyloudnorm is not installed.
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        try:
            from pyloudnorm.iirfilter import IIRfilter
        except ImportError as error:
            raise DependencyError(f"loudness needs pyloudnorm ({error}): {install_extra('loudness')}") from error
        shelf = IIRfilter(4.0, 1 / math.sqrt(2), 1500.0, sample_rate, "high_shelf")
        high_pass = IIRfilter(0.0, 0.5, 38.0, sample_rate, "high_pass")
        self._filters = [(one.b, one.a, np.zeros((channels, 2))) for one in (shelf, high_pass)]
        self._weights = _weights(channels)
        self._step = round(_STEP * sample_rate)
        self._waiting = np.zeros(0)
        self._powers: list[float] = []

    def push(self, block: Array) -> None:
        """Take a block.

        Args:
            block: (channels, samples), full scale 1.0.
        """
        from scipy.signal import lfilter

        filtered: npt.NDArray[np.float64] = block.astype(np.float64)
        for number, (b, a, state) in enumerate(self._filters):
            filtered, state = lfilter(b, a, filtered, axis=1, zi=state)
            self._filters[number] = (b, a, state)
        power = np.concatenate([self._waiting, self._weights @ np.square(filtered)])
        whole = len(power) - len(power) % self._step
        self._powers += power[:whole].reshape(-1, self._step).mean(1).tolist()
        self._waiting = power[whole:]

    @property
    def loudness(self) -> float:
        """LUFS of all that was pushed; -inf for silence, and for less than 0.4 s."""
        if len(self._powers) < _STEPS:
            return -math.inf
        blocks = np.convolve(self._powers, np.full(_STEPS, 1 / _STEPS), "valid")
        gated = blocks[_lufs(blocks) > -70]
        if not len(gated):
            return -math.inf
        gated = gated[_lufs(gated) > float(_lufs(gated.mean())) - 10]
        return float(_lufs(gated.mean()))


def _weights(channels: int) -> npt.NDArray[np.float64]:
    """Of each channel: none for the low-frequency effects, more for those at the side and behind."""
    weights = np.ones(channels)
    if channels >= 6:  # left, right, centre, low frequencies, then the others
        weights[3] = 0
        weights[4:] = _SURROUND
    elif channels == 5:
        weights[3:] = _SURROUND
    return weights


def _lufs(power: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return -0.691 + 10 * np.log10(np.maximum(power, 1e-20))
