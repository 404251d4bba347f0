"""Decoding with PyAV: ffmpeg's libraries, for what libsndfile does not read, video containers included."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from audiosep.audio.container import (
    Lengths,
    has_time_stamps,
    report_change,
    silence,
    stated_length,
    tag_seconds,
    trimmed,
)
from audiosep.audio.core_audio import in_wave_order, layouts
from audiosep.audio.info import AudioInfo, ffmpeg_depth, tags_of_track
from audiosep.audio.local_input import open_av
from audiosep.audio.samples import Array
from audiosep.audio.source import Unreadable, pcm_to_float
from audiosep.audio.speakers import layout_mask
from audiosep.audio.tags import mp4_tempo
from audiosep.audio.timeline import Timeline, lateness
from audiosep.audio.tracks import AudioTrack, choose_track
from audiosep.errors import counted, install_extra

logger = logging.getLogger(__name__)


class AvSource:
    """An audio track of a file opened by PyAV.

    Args:
        path: the file.
        track: number, language or name; None: the default one.

    Raises:
        Unreadable: PyAV is not installed, the format is unknown, or there is no audio in it.
        InputError: there is no such track.
    """

    def __init__(self, path: Path, track: int | str | None = None) -> None:
        try:
            from av import error as errors
            from av.codec.context import Flags2
        except ImportError as error:
            raise Unreadable(f"not installed ({install_extra('formats')})") from error
        self._error: type[Exception] = errors.FFmpegError
        self.name = str(path)
        try:
            self._container = open_av(path)
        except (errors.FFmpegError, ValueError) as error:
            raise Unreadable(getattr(error, "strerror", None) or str(error)) from error
        self._damaged = 0
        self._broken = False  # whether the last packet was not whole
        self._resampler: Any = None
        self._last: int | None = None  # end of the last packet, in its time base
        self._lead = 0
        try:
            streams = self._container.streams.audio
            if not streams:
                raise Unreadable("there is no audio stream in it")
            tracks = tuple(_track(number, stream) for number, stream in enumerate(streams, 1))
            number = choose_track(tracks, track).number
            self._stream = streams[number - 1]
            if self._stream.codec_context is None:
                raise Unreadable("its encoding is unknown")
            self._pcm = self._stream.codec_context.name.startswith("pcm_")
            if (self._container.format.name, self._stream.codec_context.name) == ("caf", "alac"):
                # CAF says how many samples the last packet is short of a whole one; PyAV 18.1 leaves out as many more.
                self._stream.codec_context.flags2 |= Flags2.skip_manual
            if self._pcm and not all(map(in_wave_order, layouts(path))):
                # PyAV 18.1 frees such a layout twice, which ends the process; other encodings have their own order.
                raise Unreadable("it cannot hold the order of its channels")
            self._frames = self._decode()
            self._head = list(islice(self._frames, 2))
            if not self._head:
                raise Unreadable("no audio in it could be decoded")
            # A frame, not the header: for HE-AAC the header states half the rate. The second one, because where files
            # were joined, the first one may have the rate of another part.
            self._usual = self._head[-1]
            self._shape = self._target = self._wanted(self._usual)
            self.info = self._describe(path, self._usual, tracks, number)
        except BaseException:
            self._container.close()
            raise

    def _describe(self, path: Path, frame: Any, tracks: tuple[AudioTrack, ...], number: int) -> AudioInfo:
        stream, container = self._stream, self._container
        formats = container.format.name.split(",")
        others = [s for s in container.streams if s.index != stream.index and _plays(s)]
        first = self._head[0]
        seconds = None if stream.duration is None else float(stream.duration * stream.time_base)
        whole = None if container.duration is None else container.duration / 1e6
        start = _start([stream]) or 0.0
        self._lengths = lengths = Lengths(
            seconds,
            tag_seconds(stream.metadata.get("DURATION")),
            whole,
            start,
            start if first.pts is None else float(first.pts * first.time_base),
            _start([other for other in others if other.type == "video"]),
            _start([other for other in others if other.type == "audio"]),
            alone=not others,
        )
        stated = stated_length(path, formats, lengths)
        self.stated, self.cut = stated.seconds, stated.cut
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
            tags=(mp4_tempo(path) if "mp4" in formats else {})
            | tags_of_track(container.metadata, stream.metadata, film=any(other.type == "video" for other in others)),
            estimate=next((length for length in (self.stated, seconds, whole) if length is not None), None),
            speakers=layout_mask(frame.layout.name),
            tracks=tracks,
            track=number,
            start=lengths.first - lateness(lengths.late, self.stated),
        )

    def seek(self, sample: int) -> int:
        return 0  # not exact to the sample in all formats

    def blocks(self) -> Iterator[Array]:
        try:
            yield from trimmed(self._placed(), self._end)
        except (self._error, ValueError) as error:  # frames that cannot be converted
            raise Unreadable(str(error)) from error

    def _end(self) -> int | None:
        """How many samples the packets hold; None in containers whose time stamps do not count samples."""
        base, rate = self._stream.time_base, self.info.sample_rate
        first = self._head[0]
        counted = "mp4" in self._container.format.name and first.pts is not None and not rate % base.denominator
        if self._last is None or not counted:
            return None
        start = first.pts * first.time_base
        samples: int = round((self._last * base - start) * rate)
        return self._lead + samples

    def _placed(self) -> Iterator[Array]:
        """The samples of all frames, and silence where the time stamps have none."""
        timeline = Timeline(self.name, self.info.sample_rate, self._lengths.zero, self.stated)
        position = 0
        gapless = not has_time_stamps(self._container.format.name.split(","))
        try:
            for frame in chain(self._head, self._frames, (None,)):
                unknown = frame is None or frame.pts is None or (gapless and position > 0)
                time = None if unknown else float(frame.pts * frame.time_base)
                for samples in self._samples(frame, position):
                    missing = timeline.silence(time, position)
                    if position == 0:
                        self._lead = missing
                    for block in chain(silence(self.info.channels, missing), (samples,)):
                        yield block
                        position += block.shape[1]
                    time = None
        finally:
            timeline.close()
        self.cut |= self._broken
        if self._damaged:
            seconds = position / self.info.sample_rate
            logger.warning(
                "%s is damaged: left out undecodable %s, read %.2f s",
                self.name,
                counted(self._damaged, "packet"),
                seconds,
            )

    def _decode(self) -> Iterator[Any]:
        for packet in self._packets():
            if packet is not None and packet.pts is not None and packet.duration:
                self._last = max(self._last or 0, packet.pts + packet.duration)
            if packet is not None and packet.size:
                # The last packet of PCM holds what is left, however few samples that are.
                self._broken = packet.is_corrupt and not self._pcm
            try:
                frames = self._stream.codec_context.decode(packet)
            except self._error:
                if packet is not None and not packet.size:  # nothing but data beside the sound
                    continue
                # As the ffmpeg program does: one damaged packet does not spoil the rest.
                self._damaged += 1
                self._broken = True
                continue
            for frame in frames:
                self._broken |= frame.is_corrupt
                yield frame

    def _packets(self) -> Iterator[Any]:
        """All packets of the stream, then the empty one that makes the decoder give what it still holds."""
        try:
            yield from self._container.demux(self._stream)
        except self._error:
            self._damaged += 1
            yield None
            self._broken = True

    def _samples(self, frame: Any, position: int) -> Iterator[Array]:
        """A frame as float32 (channels, samples), in the usual rate and layout; None: what is left."""
        shape = self._target if frame is None else _shape(frame)
        if shape != self._shape:
            if self._resampler is not None:
                yield from map(_to_array, self._resampler.resample(None))
                self._resampler = None
            self._shape = shape
            if shape != self._target:
                self._resampler = self._convert(position)
        if frame is not None:
            yield from map(_to_array, [frame] if self._resampler is None else self._resampler.resample(frame))

    def _convert(self, position: int) -> Any:
        """What brings frames of another rate, layout or format to the usual ones."""
        from av import AudioResampler

        rate, layout, kind = self._target
        if position > 0:
            report_change(self.name, position / rate)
        return AudioResampler(format=kind, layout=layout, rate=rate)

    def _wanted(self, frame: Any) -> tuple[int, str, str]:
        """Rate, layout and format of what a frame is converted to, which mostly are its own."""
        rate, layout, kind = _shape(frame)
        # PyAV looks for planes behind the eight that a frame has (18.1).
        return rate, layout, kind if frame.layout.nb_channels < 8 else frame.format.packed.name

    def close(self) -> None:
        self._container.close()


def _track(number: int, stream: Any) -> AudioTrack:
    from av.stream import Disposition

    name = stream.metadata.get("title", "")
    return AudioTrack(number, stream.language or "", name, bool(stream.disposition & Disposition.default))


def _start(streams: Sequence[Any]) -> float | None:
    """Time stamp of the first packet of all streams, in seconds; None where none is known."""
    starts = (float(one.start_time * one.time_base) for one in streams if one.start_time is not None)
    return min(starts, default=None)


def _plays(stream: Any) -> bool:
    """Whether a stream is sound or a picture that moves, not a cover."""
    from av.stream import Disposition

    return stream.type in ("audio", "video") and not stream.disposition & Disposition.attached_pic


def _shape(frame: Any) -> tuple[int, str, str]:
    return frame.sample_rate, frame.layout.name, frame.format.name


def _to_array(frame: Any) -> Array:
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    return pcm_to_float(samples)
