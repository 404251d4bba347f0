"""Decoding with PyAV: ffmpeg's libraries, for what libsndfile does not read, video containers included."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audiosep.audio.info import AudioInfo, clean_tags, ffmpeg_depth
from audiosep.audio.limits import Array
from audiosep.audio.source import Unreadable, pcm_to_float
from audiosep.errors import install_extra

logger = logging.getLogger(__name__)


class AvSource:
    """The first audio stream of a file opened by PyAV.

    Args:
        path: the file.

    Raises:
        Unreadable: PyAV is not installed, the format is unknown, or there is no audio in it.
    """

    def __init__(self, path: Path) -> None:
        try:
            import av
            from av.error import FFmpegError
        except ImportError as error:
            raise Unreadable(f"not installed ({install_extra('formats')})") from error
        self._error: type[Exception] = FFmpegError
        try:
            # Local files only: playlists could otherwise make a separation fetch addresses.
            self._container = av.open(f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="replace")
        except (FFmpegError, ValueError) as error:
            raise Unreadable(getattr(error, "strerror", None) or str(error)) from error
        self._damaged = 0
        try:
            self._frames = self._decode()
            first = next(self._frames, None)
            if first is None:
                raise Unreadable("no audio in it could be decoded")
            # The first frame, not the header: for HE-AAC the header states half the rate.
            self.info = self._describe(path, first)
            self._first = first
        except BaseException:
            self._container.close()
            raise

    def _describe(self, path: Path, frame: Any) -> AudioInfo:
        stream, container = self._container.streams.audio[0], self._container
        seconds = None
        if stream.duration is not None:
            seconds = float(stream.duration * stream.time_base)
        elif container.duration is not None:
            seconds = container.duration / 1e6
        formats = container.format.name.split(",")
        suffix = path.suffix.lower().removeprefix(".")
        return AudioInfo(
            path=path,
            sample_rate=frame.sample_rate,
            channels=frame.layout.nb_channels,
            samples=None,
            depth=ffmpeg_depth(stream.codec_context.name, frame.format.name),
            format=suffix if suffix in formats else formats[0],
            encoding=stream.codec_context.name,
            backend="PyAV",
            tags=clean_tags({**container.metadata, **stream.metadata}),
            estimate=seconds,
        )

    def seek(self, sample: int) -> int:
        return 0  # not exact to the sample in all formats

    def blocks(self) -> Iterator[Array]:
        yield self._samples(self._first)
        for frame in self._frames:
            yield self._samples(frame)
        if self._damaged:
            logger.warning("%s is damaged: left out %d packets that do not decode", self.info.path, self._damaged)

    def _decode(self) -> Iterator[Any]:
        if not self._container.streams.audio:
            raise Unreadable("there is no audio stream in it")
        stream = self._container.streams.audio[0]
        for packet in self._packets(stream):
            try:
                frames = stream.codec_context.decode(packet)
            except self._error:
                # As the ffmpeg program does: one damaged packet does not spoil the rest.
                self._damaged += 1
                continue
            yield from frames

    def _packets(self, stream: Any) -> Iterator[Any]:
        """All packets of the stream, then the empty one that makes the decoder give what it still holds."""
        try:
            yield from self._container.demux(stream)
        except self._error:
            self._damaged += 1
            yield None

    def _samples(self, frame: Any) -> Array:
        shape = (frame.sample_rate, frame.layout.nb_channels)
        if shape != (self.info.sample_rate, self.info.channels):
            raise Unreadable(
                f"it changes from {self.info.sample_rate} Hz and {self.info.channels} channels "
                f"to {shape[0]} Hz and {shape[1]} channels on the way"
            )
        samples = frame.to_ndarray()
        if not frame.format.is_planar:
            samples = samples.reshape(-1, shape[1]).T
        return pcm_to_float(samples)

    def close(self) -> None:
        self._container.close()
