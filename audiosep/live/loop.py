"""Live separation: blocks from an input go through a stream to an output.

    AudioInput --blocks--> queue --> LiveTarget (a Stream that is opened again after a gap) --> AudioOutput

The output is as long as the input and lies behind it by the latency. An input that cannot wait (a sound card, a pipe
with `slack`) is never blocked: when the computation falls behind by more than the slack, the blocks in the queue are
dropped, silence replaces them, and a new stream is opened, so that the latency does not grow.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from audiosep.audio.samples import Array
from audiosep.errors import InputError
from audiosep.inference.openmp import has_threads_here, threads_here
from audiosep.inference.stream import Stream

BLOCK_SECONDS = 0.02
_FEW = 8  # blocks that wait where nothing is dropped
# One thread is tried on so many seconds and windows of noise at least; it may take this share of their time.
_TRIED, _WINDOWS, _SPARE = 1.0, 3, 0.6


@dataclass
class LiveStatistics:
    """Counts of a live separation.

    Attributes:
        sample_rate: Hz.
        latency: samples that the output lies behind the input.
        received: samples in.
        written: samples out.
        blocks: blocks that came in.
        dropped: blocks of these that were not separated because they were too late.
        clipped: samples that the output format could not hold.
        busy: seconds of computation.
        steady: seconds of computation after the first output.
        steady_samples: samples that came in after the first output.
        missed: samples that a sound card played as silence because the target was not ready in time.
    """

    sample_rate: int
    latency: int
    received: int = 0
    written: int = 0
    blocks: int = 0
    dropped: int = 0
    clipped: int = 0
    busy: float = 0.0
    steady: float = 0.0
    steady_samples: int = 0
    missed: int = 0

    @property
    def real_time_factor(self) -> float | None:
        """Seconds of computation per second of sound, after the first output; None before it."""
        return self.steady / (self.steady_samples / self.sample_rate) if self.steady_samples else None


class LiveTarget:
    """One target of a live mixture, as long as the mixture, with silence where blocks were dropped.

    Args:
        open_stream: opens a new stream.
        target: name of the target; None for the only one.
        rest: give the mixture without the target instead of the target.

    Attributes:
        channels: of the mixture and the target.
        statistics: counts so far.

    Raises:
        InputError: no such target, or several and no name.
    """

    def __init__(self, open_stream: Callable[[], Stream], target: str | None = None, *, rest: bool = False) -> None:
        self._open, self._rest = open_stream, rest
        self._stream = open_stream()
        names = self._stream.names
        if (target is None and len(names) > 1) or (target is not None and target not in names):
            raise InputError(f"name one target of {', '.join(names)}, got {target}")
        self._index = 0 if target is None else names.index(target)
        self.channels = self._stream.channels
        self.statistics = LiveStatistics(self._stream.sample_rate, self._stream.latency)

    def push(self, block: Array) -> Array:
        """Separate the next block, (channels, any).

        Returns:
            (channels, any), the samples that are ready.
        """
        started = self.statistics.written > 0
        self.statistics.blocks += 1
        self.statistics.received += block.shape[1]
        began = time.perf_counter()
        ready = self._choose(self._stream.push(block))
        seconds = time.perf_counter() - began
        self.statistics.busy += seconds
        if started:
            self.statistics.steady += seconds
            self.statistics.steady_samples += block.shape[1]
        return ready

    def skip(self, samples: int, blocks: int) -> Array:
        """Drop input, and open a new stream behind it.

        Args:
            samples: of the dropped input.
            blocks: of the dropped input.

        Returns:
            Silence for the dropped samples and for those that the old stream had not returned yet.
        """
        self.statistics.received += samples
        self.statistics.blocks += blocks
        self.statistics.dropped += blocks
        silence = np.zeros((self.channels, self.statistics.received - self.statistics.written), np.float32)
        self.statistics.written = self.statistics.received
        self._stream = self._open()
        return silence

    def finish(self) -> Array:
        """The samples that are left when the mixture has ended."""
        if not self._stream.received:
            return np.zeros((self.channels, 0), np.float32)
        began = time.perf_counter()
        left = self._choose(self._stream.finish())
        self.statistics.busy += time.perf_counter() - began
        return left

    def _choose(self, targets: Array) -> Array:
        chosen: Array = targets[self._index]
        self.statistics.written += chosen.shape[1]
        return self._stream.mix - chosen if self._rest else chosen


class AudioInput(Protocol):
    """Where the mixture comes from."""

    def blocks(self) -> Iterator[Array]:
        """Blocks of (channels, any), until the mixture ends."""
        ...


class AudioOutput(Protocol):
    """Where the target goes."""

    def write(self, samples: Array) -> int:
        """Write (channels, any).

        Returns:
            How many samples had to be clipped.
        """
        ...


def separate_live(
    source: AudioInput,
    sink: AudioOutput,
    target: LiveTarget,
    *,
    slack: float | None = None,
    stop: threading.Event | None = None,
    watch: Callable[[LiveStatistics], None] | None = None,
) -> LiveStatistics:
    """Separate until the source ends or `stop` is set, and write everything that was received before.

    Args:
        source: of the mixture.
        sink: of the target.
        target: what is separated.
        slack: seconds of input that may wait before they are dropped; None drops nothing and makes the source wait.
        stop: set by another thread or a signal handler to end the separation.
        watch: called after each block.

    Returns:
        The counts of the separation.
    """
    limit = None if slack is None else round(slack * target.statistics.sample_rate)
    waiting = WaitingBlocks(limit)
    threading.Thread(target=_fill, args=(source, waiting), name="live input", daemon=True).start()
    ended = False
    try:
        while not ended and not (stop is not None and stop.is_set()):
            blocks, late, ended = waiting.take()
            if late is not None:
                target.statistics.clipped += sink.write(target.skip(*late))
            for block in blocks:
                target.statistics.clipped += sink.write(target.push(block))
                if watch is not None:
                    watch(target.statistics)
    finally:
        waiting.close()
    target.statistics.clipped += sink.write(target.finish())
    return target.statistics


def warm_up(open_stream: Callable[[], Stream]) -> Stream:
    """Separate a little noise, because the first pass of a network takes much longer than the others.

    Args:
        open_stream: opens a stream.

    Returns:
        The stream of the noise.
    """
    stream = open_stream()
    while not stream.push(_noise(stream, 0.1)).shape[-1]:
        pass
    return stream


def threads_needed(open_stream: Callable[[], Stream], most: int, clock: Callable[[], float] = time.perf_counter) -> int:
    """How many threads a live separation needs.

    A network on short windows gains little from a second thread, and loses far more when another program takes a CPU,
    because threads wait for each other after each of a window's thousand operations. So it is one where one keeps up
    with some time to spare. The stream is warm behind it.

    Args:
        open_stream: opens a stream.
        most: threads; what is needed where one does not suffice.
        clock: seconds.
    """
    if not has_threads_here():
        return most
    with threads_here(1):
        stream = warm_up(open_stream)
        stride = stream.windows.stride / stream.model_rate
        tried = max(_WINDOWS, math.ceil(_TRIED / stride)) * stride
        noise = _noise(stream, tried)
        began = clock()
        stream.push(noise)
        seconds = clock() - began
    return 1 if seconds < _SPARE * tried else most


def _noise(stream: Stream, seconds: float) -> Array:
    samples = max(1, round(seconds * stream.sample_rate))
    noise: Array = np.random.default_rng(0).standard_normal((stream.channels, samples)).astype(np.float32)
    return noise * np.float32(0.1)


class WaitingBlocks:
    """Blocks between the thread that reads them and the separation, in bounded memory.

    Args:
        limit: samples that may wait; of more only their number is kept, because all of them are dropped. None to drop
            nothing: the reader waits while a few blocks do.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._blocks: deque[Array] = deque()
        self._late = (0, 0)  # samples and blocks that are dropped
        self._end: Exception | bool = False
        self._closed = False
        self._changed = threading.Condition()

    def put(self, block: Array) -> bool:
        """Add a block; whether further ones are wanted."""
        with self._changed:
            if self._limit is None:
                self._changed.wait_for(lambda: len(self._blocks) < _FEW or self._closed)
            self._blocks.append(block)
            samples, count = self._late
            if count or (self._limit is not None and sum(one.shape[1] for one in self._blocks) > self._limit):
                self._late = samples + sum(one.shape[1] for one in self._blocks), count + len(self._blocks)
                self._blocks.clear()
            self._changed.notify_all()
            return not self._closed

    def end(self, error: Exception | None = None) -> None:
        """The source has ended, or failed."""
        with self._changed:
            self._end = error or True
            self._changed.notify_all()

    def close(self) -> None:
        """No blocks are wanted any more: the reader stops."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self, seconds: float = 0.1) -> tuple[list[Array], tuple[int, int] | None, bool]:
        """What waits; nothing if that stays so for some time.

        Args:
            seconds: to wait for a block.

        Returns:
            The next block, or all with a limit; samples and blocks that were dropped instead, None for none; and
            whether the source has ended.

        Raises:
            Exception: what the source has failed with, when all blocks before it were taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._blocks or self._late[1] or self._end, seconds)
            count = len(self._blocks) if self._limit is not None else min(1, len(self._blocks))
            blocks = [self._blocks.popleft() for _ in range(count)]
            late, self._late = (self._late if self._late[1] else None), (0, 0)
            self._changed.notify_all()
            if isinstance(self._end, Exception) and not blocks and late is None:
                raise self._end
            return blocks, late, self._end is True and not self._blocks


def _fill(source: AudioInput, waiting: WaitingBlocks) -> None:
    try:
        for block in source.blocks():
            if not waiting.put(block):
                return
    except Exception as error:
        waiting.end(error)
    else:
        waiting.end()
