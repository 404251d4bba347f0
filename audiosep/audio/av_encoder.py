"""Encoding with PyAV: AAC in mp4 files, of the very length."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt

from audiosep.audio.speakers import layout_name
from audiosep.errors import DependencyError, install_extra

_RATE_PER_CHANNEL = 128  # kbit/s

T = TypeVar("T")


class AacEncoder:
    """Writes AAC to an mp4 file.

    Args:
        file: opened for reading and writing, at its start, seekable.
        sample_rate: Hz.
        channels: number of channels, at most 6, of the usual layouts.
        tags: by the names of AudioInfo.tags.
        bitrate: kbit/s of all channels; None: 128 for each.

    Raises:
        DependencyError: PyAV is not installed.
        OSError: the file refuses what is written, here and in all methods.
    """

    def __init__(
        self, file: BinaryIO, sample_rate: int, channels: int, tags: Mapping[str, str], bitrate: int | None
    ) -> None:
        try:
            import av
        except ImportError as error:
            raise DependencyError(f"m4a files need PyAV ({error}): {install_extra('formats')}") from error
        self._frame = av.AudioFrame
        # PyAV calls back into Python to write. A Ctrl-C that arrives there would be lost; other threads get none.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="audiosep-aac")
        self._layout = layout_name(channels, 0)
        self._rate, self._samples = sample_rate, 0
        # The length of the file is in units of the movie's time scale; whole samples make it exact.
        options = {"movie_timescale": str(sample_rate)}
        self._container: Any = self._call(lambda: av.open(_Sink(file), "w", format="ipod", options=options))
        names = {"software": "encoding_tool"}  # ffmpeg's name
        self._container.metadata.update({names.get(name, name): text for name, text in tags.items()})
        self._stream = self._container.add_stream("aac", rate=sample_rate, layout=self._layout)
        self._stream.bit_rate = 1000 * (bitrate or _RATE_PER_CHANNEL * channels)

    def write(self, frames: npt.NDArray[np.float32]) -> None:
        """Append samples.

        Args:
            frames: (samples, channels).
        """
        frame = self._frame.from_ndarray(np.ascontiguousarray(frames.T), format="fltp", layout=self._layout)
        frame.sample_rate, frame.pts = self._rate, self._samples
        self._samples += len(frames)
        self._call(lambda: self._container.mux(self._stream.encode(frame)))

    def close(self) -> None:
        """Write the rest of the encoder's data and the index; the file itself stays open."""
        try:
            self._call(lambda: self._container.mux(self._stream.encode(None)))
        finally:
            try:
                self._call(self._container.close)
            finally:
                self._thread.shutdown()

    def _call(self, action: Callable[[], T]) -> T:
        return self._thread.submit(action).result()


class _Sink:
    """A file that PyAV does not close.

    Args:
        file: the file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.write, self.seek, self.tell = file.read, file.write, file.seek, file.tell
