"""Separation while it sounds: blocks from a pipe or a sound card through a stream, and out again.

    source --blocks--> queue --> Live (a Stream that is started again after a gap) --> sink

The output is as long as the input, and lies behind it by the latency. Who cannot be waited for (a sound card, a pipe
with `slack`) is not: when the computation falls behind by more than the slack, the blocks that wait are dropped,
silence takes their place, and the stream starts again. So the latency stays what it was.
"""

from __future__ import annotations

import contextlib
import importlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from audiosep.audio.limits import check_channels, check_rate
from audiosep.errors import DependencyError, InputError
from audiosep.inference.stream import Stream

Samples = NDArray[np.float32]
Encoding = Literal["s16le", "f32le"]

BLOCK_SECONDS = 0.02


@dataclass
class Report:
    """What a live session did.

    Attributes:
        sample_rate: Hz. latency: samples that the output lies behind the input.
        received, written: samples in and out so far.
        blocks, dropped: blocks that came in, and those of them that were not separated.
        clipped: samples that the output could not hold.
        busy, steady: seconds of computation, in all and after the first output.
        steady_samples: samples that came in after the first output.
        missed: samples that a sound card played as silence because the target was late.
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
        """Seconds of computation for a second of sound, once under way; None before."""
        return self.steady / (self.steady_samples / self.sample_rate) if self.steady_samples else None


class Live:
    """One target of a mixture, as long as the mixture, with silence where blocks were dropped.

    Args:
        open_stream: opens a fresh stream.
        target: name of the target; None for the only one.
        rest: what the target leaves of the mixture, instead of the target.

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
        self.report = Report(self._stream.sample_rate, self._stream.latency)

    def push(self, block: Samples) -> Samples:
        """Take (channels, any), give back what is ready."""
        started = self.report.written > 0
        self.report.blocks += 1
        self.report.received += block.shape[1]
        began = time.perf_counter()
        ready = self._choose(self._stream.push(block))
        seconds = time.perf_counter() - began
        self.report.busy += seconds
        if started:
            self.report.steady += seconds
            self.report.steady_samples += block.shape[1]
        return ready

    def skip(self, samples: int, blocks: int) -> Samples:
        """Go on behind `samples` that are not separated: silence stands for them and for what was under way."""
        self.report.received += samples
        self.report.blocks += blocks
        self.report.dropped += blocks
        silence = np.zeros((self.channels, self.report.received - self.report.written), np.float32)
        self.report.written = self.report.received
        self._stream = self._open()
        return silence

    def finish(self) -> Samples:
        """What is left at the end of the mixture."""
        if not self._stream.received:
            return np.zeros((self.channels, 0), np.float32)
        began = time.perf_counter()
        left = self._choose(self._stream.finish())
        self.report.busy += time.perf_counter() - began
        return left

    def _choose(self, targets: Samples) -> Samples:
        chosen: Samples = targets[self._index]
        self.report.written += chosen.shape[1]
        return self._stream.mix - chosen if self._rest else chosen


class Source(Protocol):
    """Where blocks come from."""

    def blocks(self) -> Iterator[Samples]:
        """(channels, any) each, until the sound ends."""
        ...


class Sink(Protocol):
    """Where samples go."""

    def write(self, samples: Samples) -> int:
        """Take (channels, any); how many samples had to be clipped."""
        ...


def separate_live(
    source: Source,
    sink: Sink,
    live: Live,
    *,
    slack: float | None = None,
    stop: threading.Event | None = None,
    watch: Callable[[Report], None] | None = None,
) -> Report:
    """Separate until the source ends or `stop` is set; then what is under way is finished and written too.

    Args:
        source, sink: of the sound.
        live: the separation.
        slack: seconds of input that may wait before they are dropped; None never drops and makes the source wait.
        stop: ends the session from another thread or a signal handler.
        watch: called after each block.
    """
    waiting: Waiting = queue.Queue(0 if slack is not None else 8)
    limit = None if slack is None else round(slack * live.report.sample_rate)
    threading.Thread(target=_fill, args=(source, waiting), name="live input", daemon=True).start()
    ended = False
    while not ended and not (stop is not None and stop.is_set()):
        blocks, ended = _take(waiting, everything=limit is not None)
        late = sum(block.shape[1] for block in blocks)
        if limit is not None and late > limit:
            live.report.clipped += sink.write(live.skip(late, len(blocks)))
            continue
        for block in blocks:
            live.report.clipped += sink.write(live.push(block))
            if watch is not None:
                watch(live.report)
    live.report.clipped += sink.write(live.finish())
    return live.report


def warm_up(open_stream: Callable[[], Stream]) -> None:
    """Separate a little noise: the first pass of a network takes much longer than the others."""
    stream = open_stream()
    noise = np.random.default_rng(0).standard_normal((stream.channels, stream.sample_rate // 10)).astype(np.float32)
    while not stream.push(0.1 * noise).shape[-1]:
        pass


Waiting = queue.Queue[Samples | Exception | None]


def _fill(source: Source, waiting: Waiting) -> None:
    try:
        for block in source.blocks():
            waiting.put(block)
        waiting.put(None)
    except Exception as error:
        waiting.put(error)


def _take(waiting: Waiting, everything: bool) -> tuple[list[Samples], bool]:
    """The next block, or all that wait, or none after a moment; and whether the source has ended."""
    blocks: list[Samples] = []
    wait = 0.1
    with contextlib.suppress(queue.Empty):
        while everything or not blocks:
            item = waiting.get(timeout=wait) if wait else waiting.get_nowait()
            if isinstance(item, Exception):
                raise item
            if item is None:
                return blocks, True
            blocks.append(item)
            wait = 0
    return blocks, False


# ---- pipes ---------------------------------------------------------------------------------------------------------


class Pcm:
    """Samples as raw bytes, channels interleaved.

    Args:
        encoding: s16le (16-bit integers) or f32le (floats), little-endian.
        channels: in a frame.

    Raises:
        InputError: another encoding.
    """

    def __init__(self, encoding: str, channels: int) -> None:
        if encoding not in ("s16le", "f32le"):
            raise InputError(f"raw samples are s16le or f32le, got {encoding!r}")
        self.type = np.dtype("<i2" if encoding == "s16le" else "<f4")
        self.channels = check_channels(channels)
        self.frame = self.type.itemsize * channels

    def decode(self, data: bytes) -> Samples:
        """Whole frames -> (channels, samples)."""
        x = np.frombuffer(data, self.type).reshape(-1, self.channels).T
        decoded = np.ascontiguousarray(x, np.float32)
        return decoded * np.float32(1 / 32768) if self.type.kind == "i" else decoded

    def encode(self, samples: Samples) -> tuple[bytes, int]:
        """(channels, samples) -> bytes, and how many samples were saturated; floats hold any level."""
        if self.type.kind == "f":
            return samples.T.astype(self.type).tobytes(), 0
        scaled = np.rint(samples.T * 32768)
        clipped = int(((scaled < -32768) | (scaled > 32767)).sum())
        return np.clip(scaled, -32768, 32767).astype(self.type).tobytes(), clipped


class PipeSource:
    """Blocks from a file of raw samples.

    Args:
        file: unbuffered, so that a read gives what is there instead of waiting for more.
        pcm: its samples. samples: of a block at most.
    """

    def __init__(self, file: Any, pcm: Pcm, samples: int) -> None:
        self._file, self._pcm, self._samples = file, pcm, samples

    def blocks(self) -> Iterator[Samples]:
        """See `Source`; an incomplete frame at the end is left out."""
        left = b""
        while data := self._file.read(self._samples * self._pcm.frame - len(left)):
            data = left + data
            whole = len(data) // self._pcm.frame * self._pcm.frame
            left = data[whole:]
            if whole:
                yield self._pcm.decode(data[:whole])


class PipeSink:
    """Raw samples to a file, at once."""

    def __init__(self, file: Any, pcm: Pcm) -> None:
        self._file, self._pcm = file, pcm

    def write(self, samples: Samples) -> int:
        """See `Sink`.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        data, clipped = self._pcm.encode(samples)
        if data:
            self._file.write(data)
            self._file.flush()
        return clipped


# ---- a sound card --------------------------------------------------------------------------------------------------


class SoundCard:
    """Source and sink in one: what is recorded comes back separated, `delay` samples later.

    Args:
        sample_rate: Hz. channels: in and out.
        delay: samples that the output lies behind the input; at least the stream's latency.
        block: samples the card hands over at a time. device: name or number of one, None for the usual one.

    Raises:
        DependencyError: the package sounddevice is not installed.
        InputError: there is no such device, or it cannot do this.
    """

    def __init__(
        self, sample_rate: int, channels: int, delay: int, *, block: int, device: str | int | None = None
    ) -> None:
        self._waiting: queue.SimpleQueue[Samples | None] = queue.SimpleQueue()
        self._output = Delay(check_channels(channels), delay)
        try:
            self._driver = importlib.import_module("sounddevice")
        except (ImportError, OSError) as error:  # OSError: its system library, PortAudio, is missing
            raise DependencyError(f"a sound card needs sounddevice ({error}): pip install sounddevice") from error
        try:
            self._stream = self._driver.Stream(
                samplerate=check_rate(sample_rate),
                channels=channels,
                blocksize=block,
                device=device,
                dtype="float32",
                latency="low",
                callback=self._callback,
            )
        except (ValueError, self._driver.PortAudioError) as error:
            raise InputError(
                f"the sound card {device or ''} refused: {error}; choose another with --sound-card"
            ) from error

    @property
    def missed(self) -> int:
        """Samples that were played as silence because the target was late."""
        return self._output.missed

    def __enter__(self) -> SoundCard:
        self._stream.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.stop()
        self._stream.close()
        self._waiting.put(None)

    def blocks(self) -> Iterator[Samples]:
        """See `Source`."""
        while (block := self._waiting.get()) is not None:
            yield block

    def write(self, samples: Samples) -> int:
        """See `Sink`."""
        self._output.put(samples)
        return 0

    def _callback(self, heard: Samples, played: Samples, frames: int, when: Any, status: Any) -> None:
        self._waiting.put(heard.T.copy())
        played[:] = self._output.take(frames).T


class Delay:
    """Samples on their way to a card: what comes too late is not played, so that nothing after it is late.

    Args:
        channels: of the samples. delay: samples of silence at the start.
    """

    def __init__(self, channels: int, delay: int) -> None:
        self._samples = np.zeros((channels, delay), np.float32)
        self._late = 0
        self._lock = threading.Lock()
        self.missed = 0

    def put(self, samples: Samples) -> None:
        """Append (channels, any)."""
        with self._lock:
            late = min(self._late, samples.shape[1])
            self._late -= late
            self._samples = np.concatenate([self._samples, samples[:, late:]], axis=1)

    def take(self, count: int) -> Samples:
        """The next (channels, count), silence where they are not there yet."""
        with self._lock:
            ready, self._samples = self._samples[:, :count], self._samples[:, count:]
            missing = count - ready.shape[1]
            self._late += missing
            self.missed += missing
        return np.pad(ready, ((0, 0), (0, missing)))
