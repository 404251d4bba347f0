"""What the page draws of a recording: its peaks and its spectrogram, of all of it or of a part."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audiosep.audio import AudioReader
from audiosep.audio.samples import Array
from audiosep.hearing.spans import Span
from audiosep.output.spectrogram import RANGE_DB, spectrogram

COLUMNS = 1000
ROWS = 48
_KEPT = 10  # columns a second of long recordings, so that parts of them are drawn without reading them again
_GROUP = 50  # columns that are computed at once, and more where they are short
_BLOCK = 2**16  # samples that are computed at once at least
_SHORTEST = 4096  # samples that a spectrogram is computed of


@dataclass(frozen=True)
class Overview:
    """A recording, or a part of one, as a picture.

    Attributes:
        start: second of the recording at which the first column begins.
        step: seconds that a column stands for.
        peaks: (columns, 2) lowest and highest sample of all channels, 127 for full scale.
        levels: (ROWS, columns) of a mel spectrogram, 255 for `highest`; the highest frequency in row 0.
        highest: the level of the brightest colour, dB.
    """

    start: float
    step: float
    peaks: NDArray[np.int8]
    levels: NDArray[np.uint8]
    highest: float

    def document(self) -> dict[str, object]:
        """For JSON, with the arrays as base64."""
        return {
            "start": self.start,
            "step": self.step,
            "columns": len(self.peaks),
            "rows": ROWS,
            "peaks": base64.b64encode(self.peaks.tobytes()).decode(),
            "levels": base64.b64encode(self.levels.tobytes()).decode(),
        }

    def part(self, span: Span, columns: int) -> Overview:
        """The columns of a part, several of them joined to one where there are more than are wanted.

        Args:
            span: in seconds of the recording.
            columns: of the part at most.
        """
        first = max(0, math.floor((span.start - self.start) / self.step))
        last = min(len(self.peaks), max(first + 1, math.ceil((span.end - self.start) / self.step)))
        peaks, levels = self.peaks[first:last], self.levels[:, first:last]
        joined = -(-len(peaks) // columns)
        if joined > 1:
            at = np.arange(0, len(peaks), joined)
            peaks = np.stack([np.minimum.reduceat(peaks[:, 0], at), np.maximum.reduceat(peaks[:, 1], at)], 1)
            levels = np.maximum.reduceat(levels, at, 1)  # what is short stays in sight
        return replace(
            self, start=self.start + first * self.step, step=joined * self.step, peaks=peaks, levels=levels.copy()
        )


def overview_of_file(
    path: Path, highest: float | None = None, *, span: Span | None = None, columns: int | None = None
) -> Overview:
    """Look at a recording in memory that does not grow with its length.

    Args:
        path: of the recording, which states its length.
        highest: as in `overview`.
        span: that is looked at, in seconds; None for all.
        columns: as in `overview`.
    """
    start, seconds = (0.0, None) if span is None else (span.start, span.end - span.start)
    with AudioReader(path, start=start, seconds=seconds) as reader:
        rate, samples = reader.info.sample_rate, reader.info.samples or 1
        if seconds is not None:
            samples = min(round(seconds * rate), samples - round(start * rate))

        def blocks(size: int) -> Iterable[Array]:
            reader.block = size
            return reader

        return overview(blocks, samples, rate, highest, start=start, columns=columns)


def overview(
    blocks: Callable[[int], Iterable[Array]],
    samples: int,
    rate: int,
    highest: float | None = None,
    *,
    start: float = 0.0,
    columns: int | None = None,
) -> Overview:
    """Look at sound that comes in blocks.

    Args:
        blocks: samples of a block -> (channels, that many samples), the last one fewer.
        samples: of each channel in all.
        rate: Hz.
        highest: the level of the brightest colour, dB, so that tracks can be compared; None: the loudest of this one.
        start: second of the recording at which they begin.
        columns: of the picture at most; None for as many as parts of it need, too.
    """
    peaks: list[NDArray[np.int8]] = []
    levels: list[NDArray[np.float32]] = []
    width = -(-samples // (columns or max(COLUMNS, round(_KEPT * samples / rate))))
    for block in blocks(width * max(_GROUP, _BLOCK // width)):
        count = -(-block.shape[1] // width)
        padded = np.pad(block, ((0, 0), (0, count * width - block.shape[1])))
        grouped = padded.reshape(len(block), count, width)
        extremes = np.stack([grouped.min((0, 2)), grouped.max((0, 2))], 1)
        peaks.append(np.clip(np.round(127 * extremes), -127, 127).astype(np.int8))
        padded = np.pad(padded, ((0, 0), (0, max(0, _SHORTEST - padded.shape[1]))))
        levels.append(spectrogram(padded, rate, ROWS, -(-padded.shape[1] // width))[:, :count])
    joined = np.concatenate(levels, 1)
    top = float(joined.max()) if highest is None else highest
    scaled = np.clip((joined - top) / RANGE_DB + 1, 0, 1)
    return Overview(start, width / rate, np.concatenate(peaks), np.round(255 * scaled).astype(np.uint8), top)
