"""What is left of a recording where targets are taken out only within their spans.

When a target sounds is known at the end of the recording, so the recording and its targets wait on the disk until then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from audiosep.audio.arrays import AnyArray
from audiosep.audio.samples import Array
from audiosep.hearing.spans import Span
from audiosep.output.sample_spool import SampleSpool

Target = TypeVar("Target")

EDGE = 0.05  # seconds over which a target fades in and out at the borders of a span
_ROUNDING = 0.001  # seconds, of spans


class WaitingTargets:
    """A recording with its targets, on the disk: written once, then read once from the start.

    Args:
        folder: as of `SampleSpool`.
        targets: their number.
        channels: of the recording.

    Raises:
        AudioError: the folder cannot be written to.
    """

    def __init__(self, folder: Path | None, targets: int, channels: int) -> None:
        self._count, self._channels = 1 + targets, channels
        self._spool = SampleSpool(folder, self._count * channels)

    def write(self, mix: Array, targets: Array) -> None:
        """Append a block of the recording, (channels, n), and of its targets, (targets, channels, n).

        Raises:
            AudioError: the disk is full.
        """
        self._spool.append(np.concatenate([mix, *targets]))

    def read(self) -> Iterator[tuple[int, Array, Array]]:
        """Number of the first sample, recording and targets, block by block."""
        done = 0
        for block in self._spool.blocks():
            rows = block.reshape(self._count, self._channels, -1)
            yield done, rows[0], rows[1:]
            done += rows.shape[2]

    def close(self) -> None:
        """Delete what waits."""
        self._spool.close()


def each_once(targets: Mapping[str, Target], sounds: Mapping[str, str]) -> dict[str, Target]:
    """One target of each sound, as what is left of a mixture loses a sound once, whatever names it has.

    Args:
        targets: by their names.
        sounds: name -> that of the first target that is the same sound; others are sounds of their own.
    """
    first: dict[str, str] = {}
    for name in targets:
        first.setdefault(sounds.get(name, name), name)
    return {name: targets[name] for name in first.values()}


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
    mix: Array,
    targets: Mapping[str, Array],
    spans: Mapping[str, Sequence[Span]],
    rate: int,
    start: int = 0,
    total: int | None = None,
) -> Array:
    """The mixture minus its targets within their spans; elsewhere the mixture, bit for bit.

    Args:
        mix: (..., samples).
        targets: name -> target, of the shape of `mix`.
        spans: name -> where the target sounds.
        rate: Hz.
        start: number of the first sample within the recording.
        total: samples of the recording; None: `mix` is all of it.
    """
    count = mix.shape[-1]
    total = count if total is None else total
    gains = {name: span_gain(spans[name], rate, start, count, total) for name in targets}
    touched = np.any(list(gains.values()), axis=0)
    if not touched.any():
        return mix
    left = remainder(mix, [target * gains[name] for name, target in targets.items()])
    return np.where(touched, left, mix)


def span_gain(spans: Sequence[Span], rate: int, start: int, count: int, total: int) -> Array:
    """A gain of 1 within spans and 0 elsewhere, with edges of 50 ms inside the spans.

    Where a span begins or ends with the recording it has no edge: the target does not fade there.

    Args:
        spans: in the order of time, not overlapping.
        rate: Hz.
        start: number of the first sample.
        count: samples.
        total: samples of the recording.
    """
    times, gains = [-2.0, -1.0], [0.0, 0.0]
    for begin, end in spans:
        edge = min(EDGE, (end - begin) / 2)
        times += [begin, begin + edge, end - edge, end]
        gains += [0.0 if begin else 1.0, 1.0, 1.0, 0.0 if end < total / rate - _ROUNDING else 1.0]
    at = np.arange(start, start + count, dtype=np.float64) / rate
    return np.interp(at, times, gains).astype(np.float32)
