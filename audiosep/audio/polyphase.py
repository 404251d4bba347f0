"""Sample rate conversion that holds little back: a stream for live sound.

soxr converts in blocks of its own, and a block of 20 to 60 ms waits until it is full. Here every output sample is there
as soon as the samples below its filter are: half the filter, about 2 ms at 32 kHz, for the same pass and stop bands.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from audiosep.audio.limits import Array, check_rate
from audiosep.audio.resample import StreamResampler, check_block, resampled_length, still_missing

# Kaiser window (Kaiser, 1974) for a stopband at -100 dB and a transition from 0.91 to 1 of the lower Nyquist frequency:
# this many samples of the lower rate at each side.
_HALF = 72
_BETA = 10.06
_CUTOFF = 0.955
_TABLE = 1 << 21  # coefficients at most
_OUTPUTS = 4096  # computed at a time


class PolyphaseResampler:
    """`StreamResampler` with a short delay.

    Sample `i` of all outputs together lies at the time of input sample `i * in_rate / out_rate`. Every output sample is
    the same sum whatever the blocks.

    Args:
        in_rate, out_rate: Hz, 4,000 to 192,000, and not the same. channels: number of channels.

    Attributes:
        latency: after n input samples, `(n - latency) * out_rate / in_rate` have come out.
    """

    def __init__(self, in_rate: int, out_rate: int, channels: int) -> None:
        self.in_rate, self.out_rate = check_rate(in_rate), check_rate(out_rate)
        self.channels = channels
        common = math.gcd(in_rate, out_rate)
        self._step, self._phases = in_rate // common, out_rate // common
        self._filters = filters(in_rate, out_rate)
        self.latency = self._filters.shape[1] // 2
        self.consumed = self.produced = 0
        self._finished = False
        # Before the start lies silence. The first sample here is `_start` of the input.
        self._start = 1 - self.latency
        self._waiting = np.zeros((channels, self.latency - 1), np.float32)

    def push(self, block: Array) -> Array:
        """Feed (channels, samples); (channels, n) that are settled.

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
                Beyond the input lies silence.

        Returns:
            (channels, samples): what was still held back.

        Raises:
            InputError: more than `length` samples have already come out.
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
    """The conversion that holds the least back.

    Rates without a large common divisor would need a filter for each of too many phases: soxr then, with its latency.

    Args:
        in_rate, out_rate, channels: as in `StreamResampler`.
    """
    phases = out_rate // math.gcd(check_rate(in_rate), check_rate(out_rate))
    if in_rate == out_rate or phases * _taps(in_rate, out_rate) > _TABLE:
        return StreamResampler(in_rate, out_rate, channels)
    return PolyphaseResampler(in_rate, out_rate, channels)


@lru_cache(maxsize=8)
def filters(in_rate: int, out_rate: int) -> Array:
    """The filter of each phase: (phases, taps), taps even, each row of sum 1.

    Row p is for outputs that lie p / phases samples behind an input sample; the taps begin taps / 2 - 1 samples before
    that one.
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
