"""A recording that can be heard again from its start: a file that is decoded again, or an array."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiosep.audio.decode import AudioReader
from audiosep.audio.inputs import is_pipe
from audiosep.audio.mixture import load_mixture
from audiosep.audio.samples import Array

_BLOCK = 65_536


@dataclass(frozen=True)
class ReplayableRecording:
    """A recording that can be heard again from its start.

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


def recording_of(mix: Any, sample_rate: int | None, track: int | str | None = None) -> ReplayableRecording:
    """A file or an array as a recording; what can be read only once is kept in memory.

    Args:
        mix: as in `load_mixture`.
        sample_rate: Hz, of an array; a file has its own.
        track: number, language or name of an audio track of a file; None: the default one.

    Raises:
        InputError: as `load_mixture`.
        AudioError: as `load_mixture`.
    """
    if isinstance(mix, str | Path) and sample_rate is None and not is_pipe(mix):
        with AudioReader(mix, track=track) as reader:
            info = reader.info
        return ReplayableRecording(info.sample_rate, info.channels, info.seconds, lambda: _decoded(mix, track))
    mixture = load_mixture(mix, sample_rate, track)
    samples = mixture.samples
    channels, length = samples.shape

    def blocks() -> Iterator[Array]:
        return (samples[:, start : start + _BLOCK] for start in range(0, length, _BLOCK))

    return ReplayableRecording(mixture.sample_rate, channels, length / mixture.sample_rate, blocks)


def _decoded(path: str | Path, track: int | str | None) -> Iterator[Array]:
    with AudioReader(path, track=track) as reader:
        yield from reader
