"""A stretch of a recording that sounds like the whole of it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from audiosep.audio.decode import AudioReader

_BANDS = 24
_RANGE = 40.0  # dB below the loudest second; what is more quiet counts as silence


def representative_start(path: str | Path, seconds: float, *, track: str | None = None) -> float:
    """Where to start so that a stretch of a recording sounds like the whole of it.

    Of all stretches that begin at a whole second, the one whose mean spectrum (in dB, in 24 bands) is nearest to that
    of all sounding seconds; silence in a stretch makes it worse.

    Args:
        path: of the recording, which is decoded once.
        seconds: length of the stretch.
        track: as in `AudioReader`.

    Returns:
        Seconds; 0 for a recording that is not longer.

    Raises:
        AudioError, InputError: as in `AudioReader`.
    """
    with AudioReader(path, max_seconds=None, track=track) as reader:
        reader.block = reader.info.sample_rate
        spectra = np.stack([_bands(block) for block in reader])
    width = math.ceil(seconds)
    if len(spectra) <= width:
        return 0.0
    level = spectra.max(1)
    sounding = level > level.max() - _RANGE
    spectra = np.maximum(spectra, level.max() - 2 * _RANGE)
    sums = np.concatenate([np.zeros((1, _BANDS)), np.cumsum(spectra, 0)])
    means = (sums[width:-1] - sums[: -width - 1]) / width  # of stretches of whole seconds; the last may be short
    distance = np.sqrt(np.square(means - spectra[sounding].mean(0)).mean(1))
    return float(distance.argmin())


def _bands(block: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Powers of a block in bands of equal width on a logarithmic scale, in dB."""
    power = np.square(np.abs(np.fft.rfft(block, axis=1))).sum(0) + 1e-12
    edges = np.unique(np.geomspace(1, len(power), _BANDS + 1).astype(int) - 1)
    bands = np.zeros(_BANDS)
    bands[: len(edges) - 1] = np.add.reduceat(power, edges[:-1])
    return 10 * np.log10(bands + 1e-12)
