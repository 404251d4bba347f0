"""A sound card as input and output of a live separation."""

from __future__ import annotations

import importlib
import queue
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from audiosep.audio.limits import check_channels, check_rate
from audiosep.audio.samples import Array
from audiosep.errors import DependencyError, InputError


class SoundCard:
    """Records from a sound card, and plays what is written to it `delay` samples after it was recorded.

    Args:
        sample_rate: Hz.
        channels: of the recording and of the playback.
        delay: samples that the output lies behind the input; at least the latency of the stream.
        block: samples that the card hands over at a time.
        device: name or number of the card; None for the default one.

    Raises:
        DependencyError: the package sounddevice is not installed.
        InputError: there is no such card, or it does not support this rate or these channels.
    """

    def __init__(
        self, sample_rate: int, channels: int, delay: int, *, block: int, device: str | int | None = None
    ) -> None:
        self._recorded: queue.SimpleQueue[Array | None] = queue.SimpleQueue()
        self._playback = DelayLine(check_channels(channels), delay)
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
        """Samples that were played as silence because the target was not ready in time."""
        return self._playback.missed

    def __enter__(self) -> SoundCard:
        self._stream.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.stop()
        self._stream.close()
        self._recorded.put(None)

    def blocks(self) -> Iterator[Array]:
        """See `AudioInput`."""
        while (block := self._recorded.get()) is not None:
            yield block

    def write(self, samples: Array) -> int:
        """See `AudioOutput`."""
        self._playback.put(samples)
        return 0

    def _callback(self, recorded: Array, played: Array, frames: int, when: Any, status: Any) -> None:
        self._recorded.put(recorded.T.copy())
        played[:] = self._playback.take(frames).T


class DelayLine:
    """Samples that wait to be played; samples that come too late are dropped, so that the delay stays the same.

    Args:
        channels: of the samples.
        delay: samples of silence at the start.

    Attributes:
        missed: samples that were taken as silence because they had not been put in yet.
    """

    def __init__(self, channels: int, delay: int) -> None:
        self._samples = np.zeros((channels, delay), np.float32)
        self._late = 0
        self._lock = threading.Lock()
        self.missed = 0

    def put(self, samples: Array) -> None:
        """Append (channels, any)."""
        with self._lock:
            late = min(self._late, samples.shape[1])
            self._late -= late
            self._samples = np.concatenate([self._samples, samples[:, late:]], axis=1)

    def take(self, count: int) -> Array:
        """The next (channels, count), with silence for what is not there yet."""
        with self._lock:
            ready, self._samples = self._samples[:, :count], self._samples[:, count:]
            missing = count - ready.shape[1]
            self._late += missing
            self.missed += missing
        return np.pad(ready, ((0, 0), (0, missing)))
