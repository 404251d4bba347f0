"""A recording that can be heard again from its start: a file that is decoded again, or an array."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiosep.audio.decode import AudioReader
from audiosep.audio.inputs import is_pipe
from audiosep.audio.limits import check_part
from audiosep.audio.mixture import load_mixture
from audiosep.audio.samples import Array
from audiosep.errors import BehindTheEndError

_BLOCK = 65_536


@dataclass(frozen=True)
class ReplayableRecording:
    """A recording, or a part of one, that can be heard again from its start.

    Attributes:
        sample_rate: Hz.
        channels: number of channels.
        seconds: about its length, as the file says; None where only decoding can tell.
        blocks: gives its blocks, (channels, n) each, from its start on.
    """

    sample_rate: int
    channels: int
    seconds: float | None
    blocks: Callable[[], Iterator[Array]]


def recording_of(
    mix: Any,
    sample_rate: int | None,
    track: int | str | None = None,
    *,
    start: float = 0.0,
    end: float | None = None,
) -> ReplayableRecording:
    """A file or an array, or a part of it, as a recording; what can be read only once is kept in memory.

    Args:
        mix: as in `load_mixture`.
        sample_rate: Hz, of an array; a file has its own.
        track: number, language or name of an audio track of a file; None: the default one.
        start: seconds to leave out at the start.
        end: where to end, in seconds of the recording; None: at its end.

    Raises:
        InputError: as `load_mixture`, and an impossible part, or one behind the end of an array.
        AudioError: as `load_mixture`.
    """
    check_part(start, end)
    part = None if end is None else end - start
    if isinstance(mix, str | Path) and sample_rate is None and not is_pipe(mix):

        def reader() -> AudioReader:
            return AudioReader(mix, track=track, start=start, seconds=part)

        with reader() as opened:
            info = opened.info
        stated = None if info.seconds is None else max(0.0, min(info.seconds, end or info.seconds) - start)
        return ReplayableRecording(info.sample_rate, info.channels, stated, lambda: _decoded(reader))
    mixture = load_mixture(mix, sample_rate, track)
    samples = mixture.samples[:, round(start * mixture.sample_rate) :]
    if part is not None:
        samples = samples[:, : round(part * mixture.sample_rate)]
    channels, length = samples.shape
    if not length:
        ends = mixture.samples.shape[1] / mixture.sample_rate
        raise BehindTheEndError(
            f"the recording holds no samples from {start:.2f} s on, it ends at {ends:.2f} s: start earlier"
        )

    def blocks() -> Iterator[Array]:
        return (samples[:, start : start + _BLOCK] for start in range(0, length, _BLOCK))

    return ReplayableRecording(mixture.sample_rate, channels, length / mixture.sample_rate, blocks)


def _decoded(reader: Callable[[], AudioReader]) -> Iterator[Array]:
    with reader() as opened:
        yield from opened
