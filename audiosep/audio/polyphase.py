"""Sample rate conversion with low latency, for live streams.

soxr converts in blocks of 20 to 60 ms. Here an output sample is ready as soon as the input samples under its filter
are: after half of the filter, about 2 ms at 32 kHz, with the same pass and stop bands.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from audiosep.audio.limits import check_rate
from audiosep.audio.resampling import StreamResampler, check_block, resampled_length, still_missing
from audiosep.audio.samples import Array

# Kaiser window (Kaiser, 1974) for a stopband at -100 dB and a transition from 0.91 to 1 of the lower Nyquist frequency:
# this many samples of the lower rate at each side.
_HALF = 72
_BETA = 10.06
_CUTOFF = 0.955
_TABLE = 1 << 21  # coefficients at most
_OUTPUTS = 4096  # computed at a time


class PolyphaseResampler:
    """`StreamResampler` with a short delay.

    Sample `i` of all outputs together is at the time of input sample `i * in_rate / out_rate`. Every output sample is
    the same sum for any sizes of blocks.

    Args:
        in_rate: Hz, 4,000 to 192,000.
        out_rate: Hz, 4,000 to 192,000, and not `in_rate`.
        channels: number of channels.

    Attributes:
        latency: after n input samples, `(n - latency) * out_rate / in_rate` have come out.
    """

    def __init__(self, in_rate: int, out_rate: int, channels: int) -> None:
        self.in_rate, self.out_rate = in_rate, out_rate = check_rate(in_rate), check_rate(out_rate)
        self.channels = channels
        common = math.gcd(in_rate, out_rate)
        self._step, self._phases = in_rate // common, out_rate // common
        self._filters = filters(in_rate, out_rate)
        self.latency = self._filters.shape[1] // 2
        self.consumed = self.produced = 0
        self._finished = False
        # `_waiting` begins with input sample `_start`; before sample 0 the input is silent.
        self._start = 1 - self.latency
        self._waiting = np.zeros((channels, self.latency - 1), np.float32)

    def push(self, block: Array) -> Array:
        """Convert a block.

        Args:
            block: float32 (channels, samples), any number of samples.

        Returns:
            (channels, n) that are final now.

        Raises:
            InputError: another number of channels, or the stream is finished.
        """
        check_block(block, self.channels, self._finished)
        self.consumed += block.shape[1]
        return self._feed(block)

    def finish(self, length: int | None = None) -> Array:
        """End the stream.

        Args:
            length: samples that the whole output must have; by default `resampled_length` of all that was pushed.
                Beyond the input it is silent.

        Returns:
            (channels, samples): the rest.

        Raises:
            InputError: more than `length` samples were returned already.
        """
        total = resampled_length(self.consumed, self.in_rate, self.out_rate) if length is None else length
        missing = still_missing(total, self.produced)
        self._finished = True
        silence = max(0, math.ceil(total * self.in_rate / self.out_rate) + 1 + self.latency - self.consumed)
        return self._feed(np.zeros((self.channels, silence), np.float32))[:, :missing]

    def _feed(self, block: Array) -> Array:
        self._waiting = np.concatenate([self._waiting, block], axis=1)
        end = self._start + self._waiting.shape[1]  # of the input that is here
        # Output j needs the input up to j * step // phases + latency.
        upto = max(self.produced, -(-(end - self.latency) * self._phases // self._step))
        parts = [self._outputs(a, min(a + _OUTPUTS, upto)) for a in range(self.produced, upto, _OUTPUTS)]
        self.produced = upto
        keep = upto * self._step // self._phases - self.latency + 1
        self._waiting = self._waiting[:, keep - self._start :].copy()
        self._start = keep
        return np.concatenate(parts, axis=1) if parts else np.zeros((self.channels, 0), np.float32)

    def _outputs(self, first: int, last: int) -> Array:
        """(channels, last - first) outputs."""
        whole, phase = np.divmod(np.arange(first, last, dtype=np.int64) * self._step, self._phases)
        below = sliding_window_view(self._waiting, self._filters.shape[1], axis=1)
        below = below[:, whole - self.latency + 1 - self._start]
        out: Array = np.einsum("cnt,nt->cn", below, self._filters[phase])
        return out


def live_resampler(in_rate: int, out_rate: int, channels: int) -> StreamResampler | PolyphaseResampler:
    """The resampler with the lowest latency for two rates.

    Rates without a large common divisor need too many filters, one for each phase; for them it is soxr's.

    Args:
        in_rate: as in `StreamResampler`.
        out_rate: as in `StreamResampler`.
        channels: as in `StreamResampler`.
    """
    in_rate, out_rate = check_rate(in_rate), check_rate(out_rate)
    phases = out_rate // math.gcd(in_rate, out_rate)
    if in_rate == out_rate or phases * _taps(in_rate, out_rate) > _TABLE:
        return StreamResampler(in_rate, out_rate, channels)
    return PolyphaseResampler(in_rate, out_rate, channels)


@lru_cache(maxsize=8)
def filters(in_rate: int, out_rate: int) -> Array:
    """The filter of each phase.

    Args:
        in_rate: Hz.
        out_rate: Hz.

    Returns:
        (phases, taps), taps even, each row with sum 1. Row p is for outputs that are p / phases samples after an input
        sample; its taps begin taps / 2 - 1 samples before that one.
    """
    phases, taps = out_rate // math.gcd(in_rate, out_rate), _taps(in_rate, out_rate)
    scale = min(1.0, out_rate / in_rate)  # input samples -> samples of the lower rate
    distance = np.arange(1 - taps // 2, taps // 2 + 1) - np.arange(phases)[:, None] / phases
    inside = np.clip(1 - (distance * scale / _HALF) ** 2, 0, None)
    rows = np.sinc(_CUTOFF * scale * distance) * np.i0(_BETA * np.sqrt(inside)) * (inside > 0)
    out: Array = (rows / rows.sum(1, keepdims=True)).astype(np.float32)
    return out


def _taps(in_rate: int, out_rate: int) -> int:
    return 2 * math.ceil(_HALF * max(1.0, in_rate / out_rate))
