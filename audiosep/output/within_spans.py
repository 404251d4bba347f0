"""What is left of a recording where targets are taken out only within their spans.

When a target sounds is known at the end of the recording, so the recording and its targets wait on the disk until then.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np

from audiosep.audio.arrays import AnyArray
from audiosep.audio.samples import Array
from audiosep.errors import AudioError
from audiosep.hearing.spans import Span

EDGE = 0.05  # seconds over which a target fades in and out at the borders of a span
_BLOCK = 65_536


class WaitingTargets:
    """A recording with its targets, on the disk: written once, then read once from the start.

    Args:
        folder: on the disk that is used; None for that of temporary files.
        targets: their number.
        channels: of the recording.

    Raises:
        AudioError: the folder cannot be written to.
    """

    def __init__(self, folder: Path | None, targets: int, channels: int) -> None:
        self._rows = (1 + targets, channels)
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed by `__exit__`
        except OSError as error:
            raise AudioError(f"{folder} cannot be written to ({error}): choose another folder") from error

    def __enter__(self) -> WaitingTargets:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, mix: Array, targets: Array) -> None:
        """Append a block of the recording, (channels, n), and of its targets, (targets, channels, n).

        Raises:
            AudioError: the disk is full.
        """
        rows = np.concatenate([mix[None], targets]).reshape(self._rows[0] * self._rows[1], mix.shape[1])
        try:
            self._file.write(np.ascontiguousarray(rows.T, dtype=np.float32).data)
        except OSError as error:
            raise AudioError(f"samples cannot be written to the disk of the outputs ({error}): free space") from error

    def read(self) -> Iterator[tuple[int, Array, Array]]:
        """Number of the first sample, recording and targets, block by block."""
        self._file.seek(0)
        count, channels = self._rows
        done = 0
        while data := self._file.read(_BLOCK * count * channels * 4):
            rows = np.frombuffer(data, np.float32).reshape(-1, count * channels).T.reshape(count, channels, -1)
            yield done, rows[0], rows[1:]
            done += rows.shape[2]


def remainder(mix: AnyArray, targets: Sequence[AnyArray]) -> AnyArray:
    """The mixture minus the sum of `targets`, added up in their order.

    Args:
        mix: (..., samples), numpy or torch.
        targets: at least one, each of the shape of `mix`.
    """
    total = targets[0]
    for target in targets[1:]:
        total = total + target
    return mix - total


def remainder_within(
    mix: Array, targets: Mapping[str, Array], spans: Mapping[str, Sequence[Span]], rate: int, start: int = 0
) -> Array:
    """The mixture minus its targets within their spans; elsewhere the mixture, bit for bit.

    Args:
        mix: (..., samples).
        targets: name -> target, of the shape of `mix`.
        spans: name -> where the target sounds.
        rate: Hz.
        start: number of the first sample within the recording.
    """
    gains = {name: span_gain(spans[name], rate, start, mix.shape[-1]) for name in targets}
    touched = np.any(list(gains.values()), axis=0)
    if not touched.any():
        return mix
    left = remainder(mix, [target * gains[name] for name, target in targets.items()])
    return np.where(touched, left, mix)


def span_gain(spans: Sequence[Span], rate: int, start: int, count: int) -> Array:
    """A gain of 1 within spans and 0 elsewhere, with edges of 50 ms inside the spans.

    Args:
        spans: in the order of time, not overlapping.
        rate: Hz.
        start: number of the first sample.
        count: samples.
    """
    times, gains = [-2.0, -1.0], [0.0, 0.0]
    for begin, end in spans:
        edge = min(EDGE, (end - begin) / 2)
        times += [begin, begin + edge, end - edge, end]
        gains += [0.0 if begin else 1.0, 1.0, 1.0, 0.0]
    at = np.arange(start, start + count, dtype=np.float64) / rate
    return np.interp(at, times, gains).astype(np.float32)
