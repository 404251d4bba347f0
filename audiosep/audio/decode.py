"""Reading audio files block by block, in the memory of a block."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np

from audiosep.audio.broadcast import Broadcast, read_broadcast
from audiosep.audio.chapters import Chapter, read_chapters, within
from audiosep.audio.covers import Cover, read_cover
from audiosep.audio.info import AudioInfo
from audiosep.audio.inputs import AudioFile, check_file
from audiosep.audio.joined import bytes_behind
from audiosep.audio.limits import MAX_SECONDS, check_channels, check_duration, check_part, check_rate
from audiosep.audio.marker import fingerprint
from audiosep.audio.probing import open_source
from audiosep.audio.samples import Array, check_finite
from audiosep.audio.source import Unreadable
from audiosep.audio.spool import name_of, needs_spool, place_of, spool, spool_folder
from audiosep.audio.tracks import describe_choice
from audiosep.errors import AudioError, BehindTheEndError, InputError

logger = logging.getLogger(__name__)

_SLACK = 0.25  # seconds by which containers and decoders differ about delays of encoders and last frames


class AudioReader:
    """The samples of a file, block by block: an iterator and a context manager.

    If a decoder fails within the file, or ends before the length that the file states, the next one continues from
    there; where none finds more, a warning in the log says how many seconds are missing, and another one where a
    second file is joined to the first. Of a part that is the same up to its end. Sound that starts later than the
    picture of a video, or has gaps, is brought to its place by silence, with a warning.

    Args:
        path: an audio file, a video with sound, a named pipe, or `-` for standard input; also an opened file, or the
            bytes of one. All but files are copied to a temporary one first: many formats have their index at the end.
        block: samples per block; the last one is shorter.
        max_seconds: refuse longer recordings; None: no limit.
        start: seconds of the recording to leave out at its start.
        seconds: length of the part to read; None: to the end.
        name: what messages call the file; by default its path.
        track: number (from 1 on), language or name of the audio track; None: the default one. Where there are several,
            a warning says which was read.

    Raises:
        AudioError: no such file, or no decoder reads it.
        InputError: an impossible part, no samples, no such track, too long, more than 8 channels, a sample rate outside
            4 to 192 kHz, NaN or infinity.
    """

    def __init__(
        self,
        path: AudioFile,
        block: int = 65_536,
        *,
        max_seconds: float | None = MAX_SECONDS,
        start: float = 0.0,
        seconds: float | None = None,
        name: str | None = None,
        track: int | str | None = None,
    ) -> None:
        if block < 1:
            raise InputError(f"a block must have at least one sample, got {block}")
        check_part(start, None if seconds is None else start + seconds)
        self.block = block
        self.name = name or name_of(path)
        self.max_seconds = max_seconds
        self.samples = 0
        self._folder = spool_folder() if needs_spool(path) else None
        try:
            self._path = check_file(place_of(path)) if self._folder is None else Path(self._folder.name, "pipe")
            if self._folder is not None:
                spool(path, self._path, max_seconds)
            self._source = open_source(self._path, track, name=self.name)
        except BaseException:
            self._remove_spool()
            raise
        self.info: AudioInfo = replace(self._source.info, path=place_of(path))
        self._track = track
        try:
            check_channels(self.info.channels)
            check_rate(self.info.sample_rate)
            if self.info.samples is not None:
                check_duration(self.info.samples / self.info.sample_rate, max_seconds)
        except BaseException:
            self.close()
            raise
        if len(self.info.tracks) > 1 and track is None:
            logger.warning("%s: %s", self.name, describe_choice(self.info.tracks, self.info.track))
        rate = self.info.sample_rate
        exact = 0 if self.info.samples is None else self.info.samples
        self._stated = max(exact / rate, self._source.stated or 0.0)
        self._first = round(start * rate)
        self._length = None if seconds is None else round(seconds * rate)
        self._blocks = self._reblock(self._decode())

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Array]:
        return self

    def __next__(self) -> Array:
        """The next block, float32 (channels, `block` or, at the end, fewer samples)."""
        return next(self._blocks)

    @property
    def cover(self) -> Cover | None:
        """The picture that the file carries; of a pipe, only until `close`."""
        return read_cover(self._path)

    @property
    def chapters(self) -> tuple[Chapter, ...]:
        """The chapters of the part that is read, in seconds from its start; of a pipe, only until `close`."""
        start = self._first / self.info.sample_rate
        end = math.inf if self.info.seconds is None else self.info.seconds
        if self._length is not None:
            end = min(end, start + self._length / self.info.sample_rate)
        return within(read_chapters(self._path), start, end)

    @property
    def broadcast(self) -> Broadcast | None:
        """What Broadcast Wave says of the part that is read; of a pipe, only until `close`."""
        found = read_broadcast(self._path, self.info.sample_rate)
        return None if found is None else found.from_sample(self._first)

    @property
    def fingerprint(self) -> str | None:
        """What tells the recording from others (`audio.marker`); of a pipe and what is opened, only until `close`."""
        return fingerprint(self._path)

    def close(self) -> None:
        """Release the file. Idempotent."""
        self._source.close()
        self._remove_spool()

    def _decode(self) -> Iterator[Array]:
        """Blocks of any size, checked; the decoder changes where one fails."""
        tried: set[str] = set()
        while True:
            try:
                for block in self._unread():
                    check_finite(block, offset=self._position, sample_rate=self.info.sample_rate)
                    self.samples += block.shape[1]
                    check_duration(self.samples / self.info.sample_rate, self.max_seconds)
                    yield block
                if self.samples == self._length or not self._missing or self._source.cut:
                    break
                tried.add(self._source.info.backend)
                if not self._read_on(tried):
                    break
            except Unreadable as error:
                tried.add(self._source.info.backend)
                self._replace_source(tried, error)
        if self.samples == 0:
            if self._first:
                first, ends = self._first / self.info.sample_rate, self.info.seconds
                end = "" if ends is None else f", it ends at {ends:.2f} s"
                raise BehindTheEndError(f"{self.name} holds no samples from {first:.2f} s on{end}: start earlier")
            raise InputError(f"{self.name} holds no samples: export it again")
        if self.samples != self._length:
            self._report_missing()

    @property
    def _position(self) -> int:
        """The sample of the recording that comes next."""
        return self._first + self.samples

    def _unread(self) -> Iterator[Array]:
        """Blocks of the decoder, without the samples before the part or read already, up to the part's end."""
        skip = self._position - self._source.seek(self._position) if self._position else 0
        for block in self._source.blocks():
            rest = block[:, skip:]
            skip -= block.shape[1] - rest.shape[1]
            if self._length is not None:
                rest = rest[:, : self._length - self.samples]
            if rest.shape[1]:
                yield rest
            if self.samples == self._length:
                break

    @property
    def _missing(self) -> bool:
        """Whether the file states more than was read."""
        exact = self.info.samples is not None and self._position < self.info.samples
        return exact or self._position / self.info.sample_rate < self._stated - _SLACK

    def _report_missing(self) -> None:
        seconds = self._position / self.info.sample_rate
        if self._missing:
            logger.warning("%s ends early: %.2f of %.2f s", self.name, seconds, self._stated)
        elif self._source.cut:
            logger.warning("%s ends early, at %.2f s: it was cut off", self.name, seconds)
        elif self._stated > 0 and seconds <= self._stated + _SLACK and (behind := bytes_behind(self._path)):
            logger.warning(
                "%s: %d bytes behind its end, at %.2f s, are not read: export it again, or join recordings with "
                "`ffmpeg -f concat` instead",
                self.name,
                behind,
                seconds,
            )

    def _read_on(self, tried: set[str]) -> bool:
        """Open the next decoder where one ended too early; whether there is one that can go on."""
        before = self._source
        try:
            source = open_source(self._path, self._track, name=self.name, skip=tried)
        except AudioError:
            return False
        if (source.info.sample_rate, source.info.channels) != (self.info.sample_rate, self.info.channels):
            source.close()
            return False
        before.close()
        self._source = source
        self._stated = max(self._stated, source.stated or 0.0)
        return True

    def _replace_source(self, tried: set[str], error: Unreadable) -> None:
        seconds, backend = self._position / self.info.sample_rate, self._source.info.backend
        problem = f"{self.name} is damaged at {seconds:.2f} s ({backend}: {error})"
        if self.samples == 0:  # perhaps it is this decoder that lacks something
            problem = f"{self.name} cannot be read by {backend} ({error})"
        self._source.close()
        try:
            self._source = open_source(self._path, self._track, name=self.name, skip=tried)
        except AudioError as others:
            raise AudioError(f"{problem}, and no other decoder reads on: {others}") from error
        if (self._source.info.sample_rate, self._source.info.channels) != (self.info.sample_rate, self.info.channels):
            raise AudioError(f"{problem}: convert it first with `ffmpeg -i in out.wav`") from error
        level = logging.WARNING if self.samples else logging.INFO
        logger.log(level, "%s; %s reads on", problem, self._source.info.backend)

    def _reblock(self, blocks: Iterator[Array]) -> Iterator[Array]:
        """The same samples in blocks of `block` samples; the last one is shorter."""
        waiting: list[Array] = []
        samples = 0
        for block in blocks:
            waiting.append(block)
            samples += block.shape[1]
            if samples < self.block:
                continue
            joined = np.concatenate(waiting, axis=1)
            whole = samples - samples % self.block
            for start in range(0, whole, self.block):
                yield joined[:, start : start + self.block]
            waiting = [joined[:, whole:]]
            samples -= whole
        if samples:
            yield np.concatenate(waiting, axis=1)

    def _remove_spool(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()


def read_audio(
    path: AudioFile,
    *,
    max_seconds: float | None = MAX_SECONDS,
    start: float = 0.0,
    seconds: float | None = None,
    name: str | None = None,
    track: int | str | None = None,
) -> tuple[Array, int]:
    """A whole file, or a part of it, in memory.

    Args:
        path: as for AudioReader.
        max_seconds: refuse longer recordings; None: no limit.
        start: seconds of the recording to leave out at its start.
        seconds: length of the part to read; None: to the end.
        name: what messages call the file; by default its path.
        track: as for AudioReader.

    Returns:
        float32 (channels, samples), and the sample rate in Hz.

    Raises:
        AudioError, InputError: as AudioReader.
    """
    with AudioReader(path, max_seconds=max_seconds, start=start, seconds=seconds, name=name, track=track) as reader:
        blocks = list(reader)
    return np.concatenate(blocks, axis=1), reader.info.sample_rate
