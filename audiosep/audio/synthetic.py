"""The sound that measurements and checks are made on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audiosep.audio import AudioWriter


def tone_and_noise(samples: int, sample_rate: int = 44100) -> NDArray[np.float32]:
    """(2, samples) of bursts of noise over a gliding harmonic tone, so that no window is silent."""
    rng = np.random.default_rng(0)
    t = np.arange(samples) / sample_rate
    phase = 2 * np.pi * (220 * t + 20 * np.sin(0.5 * t))
    tone = sum(np.sin(k * phase) / k for k in range(1, 8)) * (0.6 + 0.4 * np.sin(3 * t))
    noise = rng.standard_normal((2, samples)) * (np.sin(2 * np.pi * 1.5 * t) > 0)
    return np.asarray(0.1 * tone + 0.05 * noise, dtype=np.float32)


def write_test_sound(path: Path, seconds: float) -> Path:
    """Write the test sound in pieces, so that the peak of memory does not come from making it.

    Args:
        path: a wav file.
        seconds: its duration.

    Returns:
        `path`.
    """
    rate = 44100
    left = max(1, round(seconds * rate))
    piece = tone_and_noise(min(left, 10 * rate), rate)
    with AudioWriter(path, rate, 2) as writer:
        while left > 0:
            writer.write(piece[:, :left])
            left -= piece.shape[1]
    return path
