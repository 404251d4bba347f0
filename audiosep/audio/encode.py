"""Writing audio files block by block: they appear whole or not at all, and samples beyond full scale are saturated."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile
from mutagen import MutagenError

from audiosep.atomic import PendingFile
from audiosep.audio.av_encoder import AacEncoder
from audiosep.audio.bitrates import with_bitrate
from audiosep.audio.broadcast import Broadcast
from audiosep.audio.chapters import Chapter
from audiosep.audio.covers import Cover
from audiosep.audio.formats import FORMATS, check_format, format_of, written_depth, written_rate
from audiosep.audio.info import clean_tags
from audiosep.audio.limits import check_channels, check_rate
from audiosep.audio.resampling import StreamResampler
from audiosep.audio.samples import Array, check_finite
from audiosep.audio.sndfile_encoder import SndfileEncoder
from audiosep.audio.speakers import vorbis_order
from audiosep.audio.stdout import PendingStdout
from audiosep.audio.stem_file import add_metadata
from audiosep.audio.tags import add_details, id3v2
from audiosep.audio.wav import WavFile
from audiosep.errors import AudioError, InputError

# libvorbis keeps what one call gives it on the stack.
_SLICE = 16_384

_Encoder = WavFile | SndfileEncoder | AacEncoder


class AudioWriter:
    """Write a file block by block; as a context manager it keeps the file only if nothing was raised.

    The samples go to a temporary file in the same folder, which replaces `path` at `close`. Samples beyond full scale
    are saturated and counted, unless the file holds floats. Integers are rounded to nearest, so that samples read from
    a file of the same depth are written unchanged.

    Args:
        path: the file to write, in an existing folder; `-`: standard output, which receives the file at the end.
        sample_rate: Hz.
        channels: 1 to 8, in the order of WAVE; mp3 has at most 2.
        depth: "16", "24" or "float"; flac writes "float" as "24", lossy formats ignore it.
        format: one of FORMATS; by default that of the extension.
        tags: by the names of AudioInfo.tags; others are left out.
        overwrite: whether a file that lies there already may be replaced.
        speakers: a bit for each channel, as in `audio.speakers`; 0: not known.
        cover: a picture; wav files have none.
        bitrate: of a lossy format, kbit/s; None: its own.
        tracks: names of the tracks of a stem file, which is m4a with the metadata of one; blocks have the channels of
            all tracks, one behind the other.
        chapters: in order; wav files have none.
        broadcast: of Broadcast Wave files, which sound in this one from its first sample on; wav files alone have it.

    Attributes:
        file_rate: sample rate of the file, Hz: `sample_rate`, or what it is resampled to where the format lacks it.

    Raises:
        AudioError: an unknown format, or one without this number or layout of channels, or bit rate; the target exists
            or cannot be written.
        InputError: an impossible rate, number of channels or depth, or a bit rate for a format without one.
        DependencyError: the encoder is not installed.
    """

    def __init__(
        self,
        path: str | Path,
        sample_rate: int,
        channels: int,
        depth: str = "16",
        format: str | None = None,
        tags: Mapping[str, str] | None = None,
        overwrite: bool = False,
        *,
        speakers: int = 0,
        cover: Cover | None = None,
        bitrate: int | None = None,
        tracks: Sequence[str] = (),
        chapters: Sequence[Chapter] = (),
        broadcast: Broadcast | None = None,
    ) -> None:
        self.path = Path(path)
        self.format = format or format_of(path)
        self.depth = written_depth(self.format, depth)
        self.sample_rate = check_rate(sample_rate)
        self.channels = check_channels(channels)
        check_format(self.format, self.sample_rate, channels, speakers, bitrate)
        self.file_rate = written_rate(self.format, self.sample_rate)
        self.samples = 0
        self.clipped = 0
        self._rows = channels * max(1, len(tracks))
        self._resampler = StreamResampler(self.sample_rate, self.file_rate, self._rows)
        self._order = list(vorbis_order(channels)) if FORMATS[self.format].vorbis and channels > 2 else None
        self._cover, self._speakers, self._tracks = cover, speakers, tuple(tracks)
        self._tags, self._chapters, self._broadcast = clean_tags(tags or {}), tuple(chapters), broadcast
        self._closed = False
        self._pending = (
            PendingStdout()
            if str(path) == "-"
            else PendingFile(self.path, overwrite=overwrite, durable=False, error=AudioError)
        )
        try:
            with self._reporting():
                self._encoder = self._open(self._pending.file, self._tags, bitrate)
        except BaseException:
            self._pending.discard()
            raise

    def _open(self, file: BinaryIO, tags: Mapping[str, str], bitrate: int | None) -> _Encoder:
        shape = (self.file_rate, self.channels)
        if self.format == "m4a":
            return AacEncoder(file, *shape, tags, bitrate, self._tracks, self._chapters)
        options = FORMATS[self.format].encoder
        if options is None:
            assert self.depth is not None
            chunks = b"" if self._broadcast is None else self._broadcast.chunks(*shape, self.depth)
            return WavFile(file, *shape, self.depth, tags, self._speakers, chunks)
        if self.depth is not None:
            options = {**options, "subtype": f"PCM_{self.depth}"}
        if bitrate is not None:
            options = with_bitrate(self.format, *shape, options, bitrate)
        if self.format == "mp3":
            file.write(id3v2(tags, self._cover, self._chapters))
            tags = {}
        return SndfileEncoder(file, *shape, options, tags)

    def __enter__(self) -> AudioWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def write(self, block: Array) -> None:
        """Append a block.

        Args:
            block: floating point (channels, samples), any number of samples, full scale 1.0.

        Raises:
            InputError: another number of channels, NaN or infinity; nothing of the file is kept.
            AudioError: the writer is closed, or the disk refuses.
        """
        if self._closed:
            raise AudioError(f"{self.path} is closed already: open a new AudioWriter")
        try:
            if block.ndim != 2 or block.shape[0] != self._rows:
                raise InputError(f"expected a block of shape ({self._rows}, samples), got {block.shape}")
            with np.errstate(over="ignore"):
                block = block.astype(np.float32, copy=False)
            check_finite(block, offset=self.samples, sample_rate=self.sample_rate)
            self._encode(self._resampler.push(block))
            self.samples += block.shape[1]
        except BaseException:
            self.discard()
            raise

    def _encode(self, block: Array) -> None:
        for start in range(0, block.shape[1], _SLICE):
            with self._reporting():
                self._encoder.write(self._quantise(block[:, start : start + _SLICE]))

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except (OSError, soundfile.LibsndfileError, MutagenError) as error:
            raise AudioError(f"{self.path} cannot be written: {error}: free space or choose another folder") from error

    def _quantise(self, block: Array) -> npt.NDArray[Any]:
        """Float (channels, samples) to what the encoder takes, (samples, channels)."""
        frames: npt.NDArray[Any] = (block if self._order is None else block[self._order]).T
        if self.depth == "float":
            return frames
        self.clipped += int(np.count_nonzero(np.abs(frames) > 1))
        if self.depth is None:
            return frames.clip(-1, 1)
        full = 2.0 ** (int(self.depth) - 1)
        rounded = np.clip(np.rint(frames * full), -full, full - 1)
        if self.depth == "16":
            return rounded.astype(np.int16)
        # libsndfile takes 24 bits from the top of 32, WavFile from the bottom.
        integers: npt.NDArray[Any] = rounded.astype(np.int32) << (8 if self.format == "flac" else 0)
        return integers

    def close(self) -> None:
        """Finish the file and put it in its place. Idempotent.

        Raises:
            InputError: nothing was written.
            AudioError: the disk refuses.
        """
        if self._closed:
            return
        if self.samples == 0:
            self.discard()
            raise InputError(f"no samples were written to {self.path}: an audio file must have some")
        self._closed = True
        try:
            self._encode(self._resampler.finish())
            with self._reporting():
                self._encoder.close()
                self._finish(self._pending.file)
            self._pending.commit()
        finally:
            self._pending.discard()

    def _finish(self, file: BinaryIO) -> None:
        """What the encoders do not write."""
        if self.format not in ("wav", "mp3"):
            speakers = self._speakers if self.format == "flac" and self.channels > 2 else 0
            add_details(file, self.format, self._tags, speakers, self._cover, self._chapters)
        if self._tracks:
            add_metadata(file)

    def discard(self) -> None:
        """Delete what was written; an earlier file at `path` stays as it was. Idempotent."""
        self._closed = True
        # An encoder that is not closed would write to the file when it is garbage-collected.
        try:
            with contextlib.suppress(Exception):
                self._encoder.close()
        finally:
            self._pending.discard()


def write_audio(
    path: str | Path,
    x: Array,
    sample_rate: int,
    *,
    depth: str = "16",
    format: str | None = None,
    tags: Mapping[str, str] | None = None,
    overwrite: bool = False,
    speakers: int = 0,
    cover: Cover | None = None,
    bitrate: int | None = None,
) -> int:
    """Write a whole file.

    Args:
        path: as for AudioWriter, as are all that follow.
        x: floating point (channels, samples).
        sample_rate: Hz.
        depth: "16", "24" or "float".
        format: one of FORMATS.
        tags: by the names of AudioInfo.tags.
        overwrite: whether a file that lies there already may be replaced.
        speakers: a bit for each channel; 0: not known.
        cover: a picture.
        bitrate: kbit/s.

    Returns:
        How many samples were saturated.

    Raises:
        AudioError, InputError, DependencyError: as AudioWriter.
    """
    with AudioWriter(
        path,
        sample_rate,
        x.shape[0],
        depth,
        format,
        tags,
        overwrite,
        speakers=speakers,
        cover=cover,
        bitrate=bitrate,
    ) as writer:
        writer.write(x)
    return writer.clipped
