"""Sample rate conversion as a stream: time aligned, of exact length, the same for every block size.

The filter is soxr's linear-phase HQ (stopband below -100 dB, passband to 0.91 of the lower Nyquist frequency).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import soxr

from audiosep.audio.limits import check_rate
from audiosep.audio.samples import Array
from audiosep.errors import InputError

_QUALITY = "HQ"


def resampled_length(samples: int, in_rate: int, out_rate: int) -> int:
    """Samples after conversion: the smallest number that covers the whole input.

    It is rounded up, so that after a conversion and its inverse a signal is never shorter.

    >>> resampled_length(44100, 44100, 32000)
    32000
    >>> resampled_length(1, 192000, 32000)
    1

    Args:
        samples: length of the input in samples.
        in_rate: Hz.
        out_rate: Hz.
    """
    return -(-samples * out_rate // in_rate)


class StreamResampler:
    """Convert the sample rate of audio that arrives in blocks.

    Sample `i` of all outputs together is at the time of input sample `i * in_rate / out_rate`: the filter's delay is
    compensated. At equal rates the blocks are returned unchanged.

    Args:
        in_rate: Hz, 4,000 to 192,000.
        out_rate: Hz, 4,000 to 192,000.
        channels: number of channels.

    Raises:
        InputError: an impossible sample rate.
    """

    def __init__(self, in_rate: int, out_rate: int, channels: int) -> None:
        self.in_rate = check_rate(in_rate)
        self.out_rate = check_rate(out_rate)
        self.channels = channels
        self.consumed = 0
        self.produced = 0
        self._stream = None if in_rate == out_rate else _soxr_stream(self.in_rate, self.out_rate, channels)
        self._finished = False

    @property
    def latency(self) -> int:
        """In input samples: after n of them, at least `(n - latency) * out_rate / in_rate` were returned."""
        return _latency(self.in_rate, self.out_rate)

    def push(self, block: Array) -> Array:
        """Convert a block.

        Args:
            block: float32 (channels, samples), any number of samples.

        Returns:
            (channels, n) that are final now; often more or fewer than the block's share, or none.

        Raises:
            InputError: another number of channels, or the stream is finished.
        """
        check_block(block, self.channels, self._finished)
        self.consumed += block.shape[1]
        out = block if self._stream is None else self._convert(block, last=False)
        self.produced += out.shape[1]
        return out

    def finish(self, length: int | None = None) -> Array:
        """End the stream.

        Args:
            length: samples that the whole output must have; by default `resampled_length` of all that was pushed.
                To invert a conversion, pass the original length here. Beyond the input it is silent.

        Returns:
            (channels, samples): the rest.

        Raises:
            InputError: more than `length` samples were returned already.
        """
        total = resampled_length(self.consumed, self.in_rate, self.out_rate) if length is None else length
        missing = still_missing(total, self.produced)
        self._finished = True
        tail = np.zeros((self.channels, 0), np.float32)
        if self._stream is not None and missing:
            # soxr ends at the rounded length. Silence after the end, which its flush assumes anyway, gives the rest.
            silence = max(0, math.ceil((total + 1) * self.in_rate / self.out_rate) - self.consumed)
            tail = self._convert(np.zeros((self.channels, silence), np.float32), last=True)[:, :missing]
        self.produced = total
        return tail if tail.shape[1] == missing else np.pad(tail, ((0, 0), (0, missing - tail.shape[1])))

    def _convert(self, block: Array, *, last: bool) -> Array:
        assert self._stream is not None
        frames = np.ascontiguousarray(block.T, dtype=np.float32)
        return np.ascontiguousarray(self._stream.resample_chunk(frames, last=last).T)


def check_block(block: Array, channels: int, finished: bool) -> None:
    """Refuse a block for a resampler.

    Args:
        block: the block.
        channels: of the resampler.
        finished: whether the resampler has ended.

    Raises:
        InputError: another number of channels, or the resampler has ended.
    """
    if finished:
        raise InputError("this stream is finished: make a new resampler for the next recording")
    if block.ndim != 2 or block.shape[0] != channels:
        raise InputError(f"expected a block of shape ({channels}, samples), got {block.shape}")


def still_missing(total: int, produced: int) -> int:
    """Samples that a resampler has still to return.

    Args:
        total: length of its whole output.
        produced: samples that it has returned.

    Raises:
        InputError: more than `total` were returned already.
    """
    if total < produced:
        raise InputError(f"{produced} samples were returned already, the output cannot be {total} samples long")
    return total - produced


def resample(x: Array, in_rate: int, out_rate: int) -> Array:
    """Convert the sample rate of a whole signal: StreamResampler in one go.

    Args:
        x: float32 (channels, samples).
        in_rate: Hz.
        out_rate: Hz.

    Returns:
        float32 (channels, resampled_length(samples, in_rate, out_rate)).

    Raises:
        InputError: an impossible sample rate.
    """
    stream = StreamResampler(in_rate, out_rate, x.shape[0])
    head = stream.push(x)
    return np.concatenate([head, stream.finish()], axis=1)


def _soxr_stream(in_rate: int, out_rate: int, channels: int) -> soxr.ResampleStream:
    return soxr.ResampleStream(in_rate, out_rate, channels, dtype="float32", quality=_QUALITY)


@lru_cache(maxsize=64)
def _latency(in_rate: int, out_rate: int) -> int:
    """Measured, because soxr works in blocks and states no bound. The pattern of its blocks repeats within a second."""
    if in_rate == out_rate:
        return 0
    stream = _soxr_stream(in_rate, out_rate, 1)
    step = 16
    silence = np.zeros((step, 1), np.float32)
    produced, worst = 0, 0.0
    for consumed in range(step, max(in_rate, 16_384), step):
        produced += len(stream.resample_chunk(silence))
        worst = max(worst, consumed - produced * in_rate / out_rate)
    return math.ceil(worst) + step
