"""Spectrograms of recordings as colour pictures, for reports, training trackers and the demo."""

from __future__ import annotations

import io
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from audiosep.errors import DependencyError, install_extra
from audiosep.models.stft import power, stft

Levels = NDArray[np.float32]

RANGE_DB = 70.0
"""Levels that a picture shows, below its highest."""


def mel(frequency: float | NDArray[np.float64]) -> Any:
    """Frequency in Hz on the mel scale, 2595 log10(1 + f / 700) (D. O'Shaughnessy, "Speech communication", 1987)."""
    return 2595 * np.log10(1 + frequency / 700)


def spectrogram(x: NDArray[np.float32], sample_rate: int, rows: int = 128, columns: int = 400) -> Levels:
    """Level over time and mel-spaced frequency, summed over the channels.

    Args:
        x: (channels, samples).
        sample_rate: Hz.
        rows: frequency bands, from 0 Hz to half the sample rate.
        columns: frames.

    Returns:
        (rows, columns) in dB, the highest frequency in row 0.
    """
    window = 2048 if sample_rate >= 16000 else 1024
    hop = max(64, x.shape[-1] // columns)
    bins = power(stft(torch.from_numpy(np.ascontiguousarray(x)), window, hop)).sum(0).numpy()
    edges = 700 * (10 ** (np.linspace(0, mel(sample_rate / 2), rows + 1) / 2595) - 1) * window / sample_rate
    low = np.minimum(np.floor(edges[:-1]).astype(int), bins.shape[0] - 1)
    high = np.maximum(np.ceil(edges[1:]).astype(int), low + 1)
    bands = np.stack([bins[a:b].mean(0) for a, b in zip(low, high, strict=True)])[::-1]
    frames = np.minimum(np.arange(columns) * bands.shape[1] // columns, bands.shape[1] - 1)
    decibels: Levels = (10 * np.log10(bands[:, frames] + 1e-12)).astype(np.float32)
    return decibels


def colours(levels: Levels, highest: float) -> NDArray[np.uint8]:
    """A spectrogram as a colour picture.

    Args:
        levels: (rows, columns) in dB.
        highest: the level of the brightest colour, dB; `RANGE_DB` below it is black.

    Returns:
        (rows, columns, 3), red, green and blue.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    scaled = (levels - highest) / RANGE_DB + 1
    coloured: NDArray[np.uint8] = matplotlib().colormaps["magma"](np.clip(scaled, 0, 1), bytes=True)[..., :3]
    return coloured


def picture(levels: Levels, highest: float, format: Literal["png", "webp"] = "png") -> bytes:
    """A spectrogram as a file.

    Args:
        levels: as in `colours`.
        highest: as in `colours`.
        format: png keeps every colour, webp is a tenth of its size.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    file = io.BytesIO()
    matplotlib().image.imsave(file, np.ascontiguousarray(colours(levels, highest)), format=format)
    return file.getvalue()


def matplotlib() -> Any:
    """The package that colours and writes pictures.

    Raises:
        DependencyError: it is not installed.
    """
    try:
        import matplotlib
        import matplotlib.image
    except ImportError as error:
        raise DependencyError(f"pictures need matplotlib ({error}): {install_extra('eval')}") from error
    return matplotlib
