"""Sounds made for the tests: a voice, a loop, drums, noise. All (samples,) float32, all seeded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.float32]


def voice(seconds: float, rate: int, seed: int = 0) -> Wave:
    """Sung syllables: harmonics of a melody with vibrato, two formants, a breath before each."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    syllable = (time / 0.37).astype(int)
    pitches = 196 * 2 ** (random.integers(0, 13, syllable.max() + 1) / 12)
    phase = 2 * np.pi * np.cumsum(pitches[syllable] * (1 + 0.012 * np.sin(2 * np.pi * 5.6 * time))) / rate
    formants = np.stack([random.uniform(350, 800, syllable.max() + 1), random.uniform(1100, 2300, syllable.max() + 1)])
    wave = np.zeros_like(time)
    for harmonic in range(1, 25):
        pitch = harmonic * pitches[syllable]
        colour = np.exp(-(((pitch - formants[:, syllable]) / 260) ** 2)).sum(0) + 0.03
        wave += np.where(pitch < 0.45 * rate, colour * np.sin(harmonic * phase), 0)
    within = (time % 0.37) / 0.37
    breath = 0.4 * random.standard_normal(len(time)) * (within < 0.12)
    return _level(wave * np.sin(np.pi * np.clip(within * 1.1, 0, 1)) + breath)


def loop(seconds: float, rate: int, period: float = 1.0, seed: int = 1) -> Wave:
    """An accompaniment that repeats exactly: four plucked chords a period."""
    random = np.random.default_rng(seed)
    time = np.arange(round(period * rate)) / rate
    once = np.zeros_like(time)
    for beat in range(4):
        start = time - beat * period / 4
        for _ in range(3):
            pitch = 110 * 2 ** (random.integers(0, 24) / 12)
            tone = sum(np.sin(2 * np.pi * k * pitch * start) / k for k in range(1, 7))
            once += np.where(start >= 0, np.exp(-8 * np.maximum(start, 0)) * tone, 0)
    return _level(np.resize(once, round(seconds * rate)))


def drums(seconds: float, rate: int, seed: int = 2) -> Wave:
    """Hits without pitch: bursts of noise that die in 30 ms, four a second."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    return _level(random.standard_normal(len(time)) * np.exp(-(time % 0.25) / 0.012))


def chord(seconds: float, rate: int) -> Wave:
    """Held tones."""
    time = np.arange(round(seconds * rate)) / rate
    return _level(sum(np.sin(2 * np.pi * pitch * time) for pitch in (220.0, 277.2, 329.6, 440.0, 659.3)))


def noise(seconds: float, rate: int, seed: int = 3) -> Wave:
    """Steady white noise."""
    return _level(np.random.default_rng(seed).standard_normal(round(seconds * rate)))


def _level(wave: np.ndarray) -> Wave:
    return (0.1 * wave / np.sqrt(np.mean(wave**2))).astype(np.float32)
