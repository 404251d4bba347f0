"""What the page draws of a recording: its peaks and its spectrogram, of one size for any length."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audiosep.audio import AudioReader
from audiosep.audio.samples import Array
from audiosep.output.spectrogram import RANGE_DB, spectrogram

COLUMNS = 1000
ROWS = 48
_GROUP = 50  # columns that are computed at once
_SHORTEST = 4096  # samples that a spectrogram is computed of


@dataclass(frozen=True)
class Overview:
    """A recording as a picture.

    Attributes:
        seconds: that the columns stand for.
        peaks: (columns, 2) lowest and highest sample of all channels, 127 for full scale.
        levels: (ROWS, columns) of a mel spectrogram, 255 for `highest`; the highest frequency in row 0.
        highest: the level of the brightest colour, dB.
    """

    seconds: float
    peaks: NDArray[np.int8]
    levels: NDArray[np.uint8]
    highest: float

    def document(self) -> dict[str, object]:
        """For JSON, with the arrays as base64."""
        return {
            "seconds": self.seconds,
            "columns": len(self.peaks),
            "rows": ROWS,
            "peaks": base64.b64encode(self.peaks.tobytes()).decode(),
            "levels": base64.b64encode(self.levels.tobytes()).decode(),
        }


def overview_of_file(path: Path, highest: float | None = None, columns: int = COLUMNS) -> Overview:
    """Look at a recording in memory that does not grow with its length.

    Args:
        path: of the recording, which states its length.
        highest: as in `overview`.
        columns: as in `overview`.
    """
    with AudioReader(path) as reader:

        def blocks(size: int) -> Iterable[Array]:
            reader.block = size
            return reader

        return overview(blocks, reader.info.samples or 1, reader.info.sample_rate, highest, columns)


def overview(
    blocks: Callable[[int], Iterable[Array]],
    samples: int,
    rate: int,
    highest: float | None = None,
    columns: int = COLUMNS,
) -> Overview:
    """Look at sound that comes in blocks.

    Args:
        blocks: samples of a block -> (channels, that many samples), the last one fewer.
        samples: of each channel in all.
        rate: Hz.
        highest: the level of the brightest colour, dB, so that tracks can be compared; None: the loudest of this one.
        columns: of the picture at most.
    """
    peaks: list[NDArray[np.int8]] = []
    levels: list[NDArray[np.float32]] = []
    width = -(-samples // columns)
    for block in blocks(width * _GROUP):
        count = -(-block.shape[1] // width)
        padded = np.pad(block, ((0, 0), (0, count * width - block.shape[1])))
        grouped = padded.reshape(len(block), count, width)
        extremes = np.stack([grouped.min((0, 2)), grouped.max((0, 2))], 1)
        peaks.append(np.clip(np.round(127 * extremes), -127, 127).astype(np.int8))
        padded = np.pad(padded, ((0, 0), (0, max(0, _SHORTEST - padded.shape[1]))))
        levels.append(spectrogram(padded, rate, ROWS, count))
    joined = np.concatenate(levels, 1)
    top = float(joined.max()) if highest is None else highest
    scaled = np.clip((joined - top) / RANGE_DB + 1, 0, 1)
    return Overview(samples / rate, np.concatenate(peaks), np.round(255 * scaled).astype(np.uint8), top)
