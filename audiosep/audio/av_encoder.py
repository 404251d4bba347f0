"""Encoding with PyAV: AAC in mp4 files, of the very length, in one track or several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt

from audiosep.audio.chapters import Chapter, pyav_chapters
from audiosep.audio.speakers import layout_name
from audiosep.errors import DependencyError, install_extra

_RATE_PER_CHANNEL = 128  # kbit/s

T = TypeVar("T")


class AacEncoder:
    """Writes AAC to an mp4 file.

    Args:
        file: opened for reading and writing, at its start, seekable.
        sample_rate: Hz.
        channels: number of channels of a track, at most 6, of the usual layouts.
        tags: by the names of AudioInfo.tags.
        bitrate: kbit/s of all channels of a track; None: 128 for each.
        tracks: their names; the first is the one to play. Empty for a single track without a name.
        chapters: in order.

    Raises:
        DependencyError: PyAV is not installed.
        OSError: the file refuses what is written, here and in all methods.
    """

    def __init__(
        self,
        file: BinaryIO,
        sample_rate: int,
        channels: int,
        tags: Mapping[str, str],
        bitrate: int | None,
        tracks: Sequence[str] = (),
        chapters: Sequence[Chapter] = (),
    ) -> None:
        try:
            import av
            from av.stream import Disposition
        except ImportError as error:
            raise DependencyError(f"m4a files need PyAV ({error}): {install_extra('formats')}") from error
        self._frame = av.AudioFrame
        # PyAV calls back into Python to write. A Ctrl-C that arrives there would be lost; other threads get none.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="audiosep-aac")
        self._layout = layout_name(channels, 0)
        self._rate, self._samples = sample_rate, 0
        # The length of the file is in units of the movie's time scale; whole samples make it exact.
        options = {"movie_timescale": str(sample_rate)}
        kind = "mp4" if tracks else "ipod"
        self._container: Any = self._call(lambda: av.open(_Sink(file), "w", format=kind, options=options))
        names = {"software": "encoding_tool"}  # ffmpeg's name
        self._container.metadata.update({names.get(name, name): text for name, text in tags.items()})
        self._container.set_chapters(pyav_chapters(chapters))
        self._streams: list[Any] = []
        for name in tracks or ("",):
            stream = self._container.add_stream("aac", rate=sample_rate, layout=self._layout)
            stream.bit_rate = 1000 * (bitrate or _RATE_PER_CHANNEL * channels)
            if name:
                stream.metadata.update(title=name, handler_name=name)
                stream.disposition = Disposition(0) if self._streams else Disposition.default
            self._streams.append(stream)

    def write(self, frames: npt.NDArray[np.float32]) -> None:
        """Append samples.

        Args:
            frames: (samples, channels), those of all tracks one behind the other.
        """
        channels = np.split(np.ascontiguousarray(frames.T), len(self._streams))
        for stream, block in zip(self._streams, channels, strict=True):
            frame = self._frame.from_ndarray(block, format="fltp", layout=self._layout)
            frame.sample_rate, frame.pts = self._rate, self._samples
            self._call(partial(self._mux, stream, frame))
        self._samples += len(frames)

    def close(self) -> None:
        """Write the rest of the encoder's data and the index; the file itself stays open."""
        try:
            for stream in self._streams:
                self._call(partial(self._mux, stream, None))
        finally:
            try:
                self._call(self._container.close)
            finally:
                self._thread.shutdown()

    def _mux(self, stream: Any, frame: Any) -> None:
        self._container.mux(stream.encode(frame))

    def _call(self, action: Callable[[], T]) -> T:
        return self._thread.submit(action).result()


class _Sink:
    """A file that PyAV does not close.

    Args:
        file: the file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.write, self.seek, self.tell = file.read, file.write, file.seek, file.tell
