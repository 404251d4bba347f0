"""Encoding with libsndfile: flac, ogg, opus and mp3, into a Python file so that no error of the disk is missed.

When it writes files itself, libsndfile retries forever on a full disk (ogg) or reports nothing.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, TypeVar

import numpy.typing as npt
import soundfile

T = TypeVar("T")
_TAGS = {"title", "artist", "album", "track", "date", "genre", "comment", "copyright", "software"}  # that it can write


class SndfileEncoder:
    """An encoder of libsndfile that writes to a file from its present position on.

    Args:
        file: opened for reading and writing, seekable.
        sample_rate: Hz.
        channels: number of channels.
        options: of soundfile.SoundFile: format, subtype, compression_level, bitrate_mode.
        tags: by the names of AudioInfo.tags; those that libsndfile does not know are left out.

    Raises:
        OSError: the file refuses what is written, here and in all methods.
        soundfile.LibsndfileError: the encoder refuses.
    """

    def __init__(
        self, file: BinaryIO, sample_rate: int, channels: int, options: Mapping[str, Any], tags: Mapping[str, str]
    ) -> None:
        self._sink = _Sink(file)
        # Callbacks from C lose exceptions. Ctrl-C is raised in the main thread, so they run in another one.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="audiosep-encoder")
        self._file = self._call(lambda: soundfile.SoundFile(self._sink, "w", sample_rate, channels, **options))
        for name, text in tags.items():
            if name in _TAGS:
                setattr(self._file, "tracknumber" if name == "track" else name, text)

    def write(self, frames: npt.NDArray[Any]) -> None:
        """Append samples.

        Args:
            frames: (samples, channels), int16, int32 (24 bits from the top) or float32.
        """
        self._call(lambda: self._file.write(frames))

    def close(self) -> None:
        """Write the rest of the encoder's data; the file itself stays open."""
        try:
            self._call(self._file.close)
        finally:
            self._thread.shutdown()

    def _call(self, action: Callable[[], T]) -> T:
        try:
            return self._thread.submit(action).result()
        finally:
            # The error of the disk tells more than that of libsndfile, which follows from it.
            self._sink.check()


class _Sink(io.RawIOBase):
    """A file that begins at the present position of another one, and that keeps errors for `check`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._start = file.tell()
        self._error: Exception | None = None

    def check(self) -> None:
        """Raise the first error since the last call."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = self._start if whence == io.SEEK_SET else 0
        return self._guard(lambda: self._file.seek(base + offset, whence)) - self._start

    def tell(self) -> int:
        return self._guard(self._file.tell) - self._start

    def write(self, data: Any, /) -> int:
        return self._guard(lambda: self._file.write(data))

    def read(self, size: int = -1, /) -> bytes:
        return self._file.read(size)

    def _guard(self, action: Callable[[], int]) -> int:
        try:
            return action()
        except Exception as error:
            self._error = self._error or error
            return 0
