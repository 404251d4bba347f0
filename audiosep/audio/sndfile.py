"""Decoding with libsndfile: wav, flac, ogg, opus, mp3, aiff and more; sample exact, and gapless for mp3."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile

from audiosep.audio.core_audio import layouts, speaker_bits
from audiosep.audio.flac_frames import last_frame
from audiosep.audio.info import AudioInfo, clean_tags, sndfile_depth
from audiosep.audio.mpeg import MpegLength, mpeg_length
from audiosep.audio.ogg import OggLinks, ogg_links, starts_before_zero
from audiosep.audio.riff import WavHeader, end_of_samples, stated_size, unclosed, w64_format, wav_header
from audiosep.audio.samples import Array
from audiosep.audio.source import Unreadable
from audiosep.audio.speakers import USUAL, wave_order
from audiosep.audio.tags import caf_information, read_id3, speakers_of, vorbis_comments
from audiosep.audio.tracks import choose_track
from audiosep.audio.view import FileView

logger = logging.getLogger(__name__)

# libsndfile states at least this length where the file states none.
_UNKNOWN_LENGTH = 2**62
_FORMATS = {"WAVEX": "wav", "RF64": "wav"}
_BLOCK = 16_384
_GAPS = 0.01  # share of MPEG audio between its frames that may be tags
# Frames of mp3 take bytes from up to 511 that come before them (the bit reservoir of ISO/IEC 11172-3), which are 6 s at
# the lowest bit rate of stereo.
_RESERVOIR = 10.0
_MPEG_1 = 32_000  # its lowest sample rate in Hz


class SoundFileSource:
    """A file opened by soundfile.

    Args:
        path: the file.
        track: as in AvSource; these formats have one track.

    Raises:
        Unreadable: not a format of libsndfile, or one that it would cut short.
        InputError: there is no such track.
    """

    def __init__(self, path: Path, track: int | str | None = None) -> None:
        self.stated: float | None = None
        self.cut = False
        self._path, self.name = path, str(path)
        self._remark = ""
        self._order: Sequence[int] | None = None  # of the channels, where it is not that of WAVE
        self._links: list[tuple[int, int]] = []  # bytes of each, of an Ogg file that has several
        # mpg123 writes to standard error of a file of another size than the one that its header states.
        self._mpeg = mpeg = mpeg_length(path) if _may_be_mpeg(path) else None
        longer = mpeg is not None and not mpeg.scattered and mpeg.end < (1 - _GAPS / 2) * path.stat().st_size
        end = mpeg.end if mpeg is not None and longer else end_of_samples(path)
        self._file = _open(path if end is None else FileView(path, end=end))
        try:
            self.info = self._describe()
            choose_track(self.info.tracks, track)
        except BaseException:
            self.close()
            raise
        if self.info.encoding in ("VORBIS", "OPUS") and self.info.speakers:
            self._order = wave_order(self.info.channels)

    def _describe(self) -> AudioInfo:
        file, path = self._file, self._path
        samples: int | None = file.frames if file.frames < _UNKNOWN_LENGTH else None
        estimate, tags, speakers = None, file.copy_metadata(), 0
        comments = vorbis_comments(path) if file.format in ("FLAC", "OGG") else {}
        if file.format == "CAF":
            comments = caf_information(path)
        if file.format == "RAW":
            raise Unreadable("it would take the file for headerless samples, by its name")
        if file.format == "VOC":
            raise Unreadable("it would play the headers of all blocks but the first")
        if file.is_mpeg:
            samples, estimate = self._check_mpeg(self._mpeg or mpeg_length(path))
            tags = read_id3(path, file.format) or tags
        elif file.format == "FLAC":
            if samples is None:
                raise Unreadable("it would lose the end of a flac file that does not state its length")
            if (start := last_frame(path)) > samples:
                here, last = samples / file.samplerate, start / file.samplerate
                raise Unreadable(f"it would read only {here:.2f} of more than {last:.2f} s, as the header says")
            speakers = (speakers_of(comments) if file.channels > 2 else 0) or USUAL.get(file.channels, 0)
        elif file.format == "OGG":
            ogg = ogg_links(path)
            samples = self._check_ogg(ogg, samples)
            speakers = USUAL.get(file.channels, 0) if ogg.placed else 0
        elif file.format in ("WAV", "WAVEX", "RF64"):
            header = wav_header(path)
            tags |= read_id3(path, file.format)
            if header is not None:
                samples = self._check_wav(header)
                tags.setdefault("track", header.track)
                speakers = header.speakers if file.channels > 2 else 0
        elif file.format == "W64":
            samples, speakers = self._check_w64()
        elif file.subtype.startswith("ALAC") and file.channels > 2:
            raise Unreadable("it does not know the order of the channels of ALAC")
        elif sizes := unclosed(path):
            samples = self._reopen(sizes)
        else:
            self._check_size(stated_size(path), path.stat().st_size)
        if file.format == "AIFF":
            tags |= read_id3(path, file.format)
        bits = next(map(speaker_bits, layouts(path)), ())
        if len(set(bits)) == file.channels > 2:
            speakers = sum(1 << bit for bit in bits)
            self._order = sorted(range(file.channels), key=bits.__getitem__)
        return AudioInfo(
            path=path,
            sample_rate=file.samplerate,
            channels=file.channels,
            samples=samples,
            depth=sndfile_depth(file.subtype),
            format="opus" if file.subtype == "OPUS" else _FORMATS.get(file.format, file.format.lower()),
            encoding=file.subtype,
            backend="soundfile",
            tags=clean_tags({**tags, **comments}),
            estimate=estimate,
            speakers=speakers,
        )

    def _check_mpeg(self, length: MpegLength) -> tuple[int | None, float | None]:
        """The exact number of samples or, where there is none, about how many seconds there are."""
        file = self._file
        if length.scattered:
            raise Unreadable("its frames do not follow each other: it is no MPEG audio")
        if length.changes is not None or length.cut_at(file.frames):
            here = file.frames / file.samplerate
            raise Unreadable(f"it would read only {here:.2f} of about {length.seconds:.2f} s")
        if length.lost > _GAPS * length.seconds:
            self._remark = f"it is damaged: about {length.lost:.2f} s between its frames are left out"
        self.cut = length.cut
        self.stated = None if length.stated else length.seconds
        return (int(file.frames), None) if length.stated else (None, length.seconds)

    def _check_ogg(self, ogg: OggLinks, samples: int | None) -> int | None:
        """The number of samples in all links, each of which is read as a file of its own."""
        if ogg.multiplexed:
            raise Unreadable("it would read only the first of several streams")
        if any(starts_before_zero(self._path, link) for link in ogg.links):
            raise Unreadable("it would lose the end of a file that was cut without encoding it again")
        self.cut = not ogg.marked
        if len(ogg.links) < 2:
            return samples
        starts = [link.start for link in ogg.links]
        total = 0
        for start, end in zip(starts, [*starts[1:], self._path.stat().st_size], strict=True):
            with FileView(self._path, start, end) as view, _open(view) as part:
                total += int(part.frames)
                if (part.samplerate, part.channels) != (self._file.samplerate, self._file.channels):
                    raise Unreadable("its parts differ in sample rate or channels")
            self._links.append((start, end))
        return total

    def _check_wav(self, header: WavHeader) -> int:
        """The number of samples; where the header does not say it, the file is opened with one that does."""
        if header.coded and self._file.subtype == "PCM_16":
            raise Unreadable("it would play packets of MPEG audio, DTS or AC-3 as noise")
        if header.lost and header.beyond:
            raise Unreadable("it would lose what lies behind 4 GiB of a wav file that does not state its length")
        if header.lost:
            return self._reopen(header.repairs)
        self._check_size(header.data + header.stated, header.data + header.available)
        return int(self._file.frames)

    def _check_w64(self) -> tuple[int, int]:
        """The number of samples and the speakers."""
        speakers, integers = w64_format(self._path)
        if not integers:
            raise Unreadable("it would play floats, or packets, as integers")
        stated, size = stated_size(self._path), self._path.stat().st_size
        if stated is not None and stated < size:  # what lies behind would be samples
            self._replace_file(FileView(self._path, end=stated))
        self._check_size(stated, size)
        return int(self._file.frames), speakers if self._file.channels > 2 else 0

    def _replace_file(self, view: FileView) -> None:
        self._file.close()
        self._file = _open(view)

    def _reopen(self, sizes: Mapping[int, bytes]) -> int:
        """Open a file whose header states no length with other sizes in it; the number of samples."""
        self._replace_file(FileView(self._path, patches=sizes))
        self._remark = "it was never closed, and its header states no length: read to the end of the file"
        return int(self._file.frames)

    def _check_size(self, stated: int | None, size: int) -> None:
        """Note that the file is shorter than its header says, in bytes; an odd last chunk may lack its padding."""
        if stated is None:
            return
        if stated > size + 1:
            self.cut = True
            self.stated = self._file.frames / self._file.samplerate * stated / size

    def seek(self, sample: int) -> int:
        file = self._file
        # Of a frame of MPEG-2 that lacks those bytes mpg123 writes to standard error. From the start it decodes at over
        # 1,000 times real time.
        complains = file.subtype == "MPEG_LAYER_III" and file.samplerate < _MPEG_1
        if self._links or complains or not (file.seekable() or file.is_mpeg):
            return 0
        lead = round(_RESERVOIR * file.samplerate) if file.is_mpeg else 0
        first = min(sample, file.frames) - lead
        try:
            return int(file.seek(first)) if first > 0 else 0
        except soundfile.LibsndfileError as error:
            raise Unreadable(_message(error)) from error

    def blocks(self) -> Iterator[Array]:
        if self._remark:
            logger.warning("%s: %s", self.name, self._remark)
        if not self._links:
            yield from self._read(self._file)
        for link in self._links:
            with FileView(self._path, *link) as view, _open(view) as part:
                yield from self._read(part)

    def _read(self, file: _SoundFile) -> Iterator[Array]:
        while True:
            try:
                frames = file.read(_BLOCK, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                raise Unreadable(_message(error)) from error
            if not len(frames):
                break
            yield np.ascontiguousarray(frames.T if self._order is None else frames.T[list(self._order)])

    def close(self) -> None:
        self._file.close()


class _SoundFile(soundfile.SoundFile):  # type: ignore[misc]  # has no types
    """A file of which MPEG audio and DWVW are read on from where they stand.

    soundfile seeks to where it is after each read of a file in which it can (0.14), and mpg123 then decodes the next
    frames of mp3 without the bytes that they take from those before. In DWVW libsndfile can seek only to the start.
    """

    @property
    def is_mpeg(self) -> bool:
        return bool(self.subtype.startswith("MPEG_LAYER"))

    def seekable(self) -> bool:
        return bool(super().seekable()) and not self.is_mpeg and not self.subtype.startswith("DWVW")


def _open(file: Path | FileView) -> _SoundFile:
    """Open a file, or a view of one.

    Raises:
        Unreadable: libsndfile does not know it.
    """
    try:
        # As bytes, because soundfile does not take names that are no UTF-8.
        return _SoundFile(os.fsencode(file) if isinstance(file, Path) and os.name == "posix" else file)
    except (soundfile.LibsndfileError, TypeError) as error:
        # TypeError: soundfile takes any .raw file for headerless samples and then lacks their rate.
        raise Unreadable(_message(error)) from error


def _may_be_mpeg(path: Path) -> bool:
    """Whether a file begins as raw MPEG audio does, with a frame or tags."""
    with path.open("rb") as file:
        head = file.read(3)
    return head == b"ID3" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0")


def _message(error: Exception) -> str:
    text = str(getattr(error, "error_string", error)).strip().removeprefix("Error : ").rstrip(".")
    # Of files that libmpg123 opens and cannot read, libsndfile says that they do not exist.
    return "the data is damaged" if not text or text.startswith("File does not exist") else text
