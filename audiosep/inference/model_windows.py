"""The windows of a model: for recordings, and for live streams with a latency."""

from __future__ import annotations

import math
from numbers import Real

from audiosep.audio.polyphase import live_resampler
from audiosep.errors import InputError
from audiosep.inference.windows import Windows
from audiosep.models.separation_model import SeparationModel

# Latency, in seconds, from which two CPU cores have time for windows that reach `model.past` back (docs/live.md).
_LONG_PAST = 0.2


def recording_windows(model: SeparationModel, overlap: float) -> Windows:
    """Windows for whole recordings.

    Args:
        model: that the windows go through.
        overlap: as in `Options`.
    """
    return Windows.plan(
        model.window,
        model.context,
        hop=model.hop,
        grid=_grid(model),
        overlap=overlap,
        whole=model.whole_windows,
    )


def live_windows(model: SeparationModel, sample_rate: int, latency: float, past: float | None) -> Windows:
    """Windows for a live stream; resampling takes its part of the latency.

    Args:
        model: that the windows go through.
        sample_rate: of the mixture, Hz.
        latency: after which a sample must be ready, seconds.
        past: how far each window reaches into the past, seconds; None for as far as there is time for.

    Raises:
        InputError: the model cannot keep the latency, or its windows are shorter than `past`.
    """
    rate = model.sample_rate
    resampling = live_resampler(sample_rate, rate, 1).latency / sample_rate
    resampling += live_resampler(rate, sample_rate, 1).latency / rate
    resampling += 5 / min(sample_rate, rate) if sample_rate != rate else 0
    least = resampling + 3 * model.hop / rate
    if not isinstance(latency, Real) or not least <= latency < math.inf:
        raise InputError(f"latency must be {least:.3f} s or more with this model at {sample_rate} Hz, got {latency!r}")
    most = (model.window - 7 * model.hop) / rate  # beside it are the shortest latency and what is mirrored
    if past is None:
        past = (model.past if latency >= _LONG_PAST else model.context // 2) / rate
    if not isinstance(past, Real) or not 0 <= past <= most:
        raise InputError(f"past must be 0 to {most:.3f} s, the reach of its windows into the past, got {past!r}")
    return Windows.live(
        int((latency - resampling) * rate),
        round(past * rate),
        size=model.window,
        context=model.context,
        hop=model.hop,
        grid=_grid(model),
    )


def _grid(model: SeparationModel) -> int:
    """Windows that start at multiples of this many samples see the frames and the pooling of the whole file."""
    return math.lcm(model.hop, model.alignment)
