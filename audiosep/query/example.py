"""Example recordings as query encoders take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from audiosep.audio import read_audio
from audiosep.audio.arrays import as_array
from audiosep.audio.inputs import AudioFile, is_file
from audiosep.audio.samples import Array
from audiosep.errors import BehindTheEndError, QueryError
from audiosep.query.query import with_rate

if TYPE_CHECKING:
    from numpy.typing import NDArray

Example = AudioFile | tuple["NDArray[Any] | Tensor", int]
"""A recording: a path, an opened file, the bytes of a file, or an array and its sample rate in Hz."""

_SHORT, _LONG, _GAP = 3.0, 10.0, 0.3  # seconds, see `excerpt`


def example_samples(audio: Any, sample_rate: int | None, span: tuple[float, float] | None = None) -> tuple[Array, int]:
    """An example recording as (channels, samples) and its sample rate.

    Args:
        audio: an `Example`, or an array.
        sample_rate: Hz, of an array without one.
        span: start and end of the part that is meant, seconds; None for all.

    Raises:
        QueryError: an array without a sample rate.
        AudioError: a file that cannot be read.
        InputError: an array that is no recording, or that has ended before the span.
    """
    start, end = span or (0.0, None)
    if is_file(audio):
        return read_audio(audio, start=start, seconds=None if end is None else end - start)
    audio, rate = with_rate(audio)
    sample_rate = rate or sample_rate
    if sample_rate is None:
        raise QueryError("an audio query given as an array needs its sample rate: Query(audio=(array, rate))")
    array = as_array(audio)[0]
    part = array[:, round(start * sample_rate) : None if end is None else round(end * sample_rate)]
    if not part.shape[1]:
        raise BehindTheEndError(f"it ends at {array.shape[1] / sample_rate:.2f} s, before {start:.2f} s: start earlier")
    return part, sample_rate


def example_audio(audio: Any, sample_rate: int | None, span: tuple[float, float] | None = None) -> tuple[Tensor, int]:
    """An example recording as mono (samples,) and its sample rate.

    Args:
        audio: an `Example`, or an array.
        sample_rate: Hz, of an array without one.
        span: start and end of the part that is meant, seconds; None for all.

    Raises:
        QueryError: it is silent, or as `example_samples`.
        AudioError: as `example_samples`.
        InputError: as `example_samples`.
    """
    array, rate = example_samples(audio, sample_rate, span)
    if not array.any():
        raise QueryError("the example recording of an audio query is silent")
    # A plain mean would cancel a sound whose channels are in opposite phase.
    loudest = array[np.square(array).sum(1).argmax()]
    signs = np.where(array @ loudest < 0, -1, 1).astype(np.float32)
    return torch.from_numpy((array * signs[:, None]).mean(0)), rate


def excerpt(waveform: Tensor, sample_rate: int) -> Tensor:
    """What of a recording is embedded: its loudest ten seconds, or a short sound several times with gaps.

    A tower hears silence that is padded to a short sound as a part of it.

    Args:
        waveform: (samples,) mono.
        sample_rate: Hz.
    """
    shortest, longest, gap = (int(seconds * sample_rate) for seconds in (_SHORT, _LONG, _GAP))
    if len(waveform) > longest:
        energy = F.pad(waveform.double().square().cumsum(0), (1, 0))
        starts = torch.arange(0, len(waveform) - longest + 1, sample_rate // 10)
        start = int(starts[(energy[starts + longest] - energy[starts]).argmax()])
        return waveform[start : start + longest]
    if 0 < len(waveform) < shortest:
        once = F.pad(waveform, (0, min(gap, len(waveform))))
        return once.repeat(-(-shortest // len(once)))
    return waveform
