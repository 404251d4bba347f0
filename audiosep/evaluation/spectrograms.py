"""Spectrogram strips and audio as data addresses, so that a report is one file."""

from __future__ import annotations

import base64
import importlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audiosep.audio import read_audio
from audiosep.errors import DependencyError
from audiosep.evaluation.benchmarks import Array
from audiosep.models.stft import power, stft

ROWS, COLUMNS = 128, 400
RANGE_DB = 70.0


def spectrogram(x: Array, sample_rate: int, rows: int = ROWS, columns: int = COLUMNS) -> Array:
    """Loudness over time and mel-spaced frequency, channels added.

    Args:
        x: (channels, samples).

    Returns:
        (rows, columns) in dB, the highest frequency in row 0.
    """
    window = 2048 if sample_rate >= 16000 else 1024
    hop = max(64, x.shape[-1] // columns)
    bins = power(stft(torch.from_numpy(np.ascontiguousarray(x)), window, hop)).sum(0).numpy()
    mel = np.linspace(0, 2595 * np.log10(1 + sample_rate / 2 / 700), rows + 1)
    edges = 700 * (10 ** (mel / 2595) - 1) * window / sample_rate
    low = np.minimum(np.floor(edges[:-1]).astype(int), bins.shape[0] - 1)
    high = np.maximum(np.ceil(edges[1:]).astype(int), low + 1)
    bands = np.stack([bins[a:b].mean(0) for a, b in zip(low, high, strict=True)])[::-1]
    frames = np.minimum(np.arange(columns) * bands.shape[1] // columns, bands.shape[1] - 1)
    decibels: Array = (10 * np.log10(bands[:, frames] + 1e-12)).astype(np.float32)
    return decibels


def strip(x: Array, sample_rate: int, top: float) -> bytes:
    """A PNG picture of the spectrogram, from `top` dB down to `RANGE_DB` below.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    file = io.BytesIO()
    image = spectrogram(x, sample_rate)
    painter().imsave(file, image, vmin=top - RANGE_DB, vmax=top, cmap="magma", format="png")
    return file.getvalue()


def painter() -> Any:
    """matplotlib's image module.

    Raises:
        DependencyError: it is not installed.
    """
    try:
        return importlib.import_module("matplotlib.image")
    except ImportError as error:
        raise DependencyError(f"pictures need matplotlib ({error}); `pip install 'audiosep[eval]'`") from error


def loudest(x: Array, sample_rate: int) -> float:
    """The highest level of a recording's spectrogram, dB: the common scale of all strips of one item."""
    return float(spectrogram(x, sample_rate).max())


def read(path: Path) -> tuple[Array, int]:
    """An example's audio: (channels, samples) and Hz."""
    return read_audio(path)


def data_address(content: bytes, kind: str) -> str:
    """`content` inside an address, such as "data:image/png;base64,..."."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
