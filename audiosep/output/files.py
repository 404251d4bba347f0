"""Output files of one recording, which are written together and appear together."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from audiosep.atomic import OldFiles, linked, make_folder
from audiosep.audio import FORMATS, AudioWriter, can_clip, check_format, written_rate
from audiosep.audio.broadcast import Broadcast
from audiosep.audio.chapters import WITHOUT_CHAPTERS, Chapter
from audiosep.audio.covers import Cover
from audiosep.audio.info import AudioInfo
from audiosep.audio.loudness import LoudnessMeter
from audiosep.audio.marker import Origin, mark_for
from audiosep.audio.resampling import StreamResampler
from audiosep.audio.samples import Array
from audiosep.audio.speakers import layout_name, low_passed
from audiosep.audio.stem_file import STEM_FILE, check_stem_file
from audiosep.audio.video import VideoWriter
from audiosep.audio.video_formats import CONTAINERS, check_sound
from audiosep.errors import AudioError, counted
from audiosep.output.names import STDOUT
from audiosep.output.output_options import OnClip
from audiosep.output.sample_spool import SampleSpool

logger = logging.getLogger(__name__)


class Outputs:
    """Files of equal length that are written block by block and appear together, or not at all.

    Whether samples of an integer or lossy format would clip is known only at the end. Until then the samples are kept
    as floats in temporary files, which needs space on the disk but no memory and no second separation. They are
    resampled before, where the format lacks their rate: that changes their peak.

    Args:
        paths: name -> file.
        sample_rate: of what is written to them, Hz.
        channels: of each file.
        format: as in `audio.AudioWriter`.
        depth: as in `audio.AudioWriter`.
        tags: as in `audio.AudioWriter`; a title gets the name of the output behind it, so that players tell them apart.
        speakers: as in `audio.AudioWriter`.
        cover: as in `audio.AudioWriter`.
        chapters: as in `audio.AudioWriter`; stem files have none.
        broadcast: as in `audio.AudioWriter`.
        bitrate: as in `audio.AudioWriter`.
        on_clip: what to do if an output would clip: "gain" multiplies all outputs by one gain, "float" writes all of
            them as floats, "clip" saturates.
        overwrite: whether existing files may be replaced.
        video: a video whose picture is copied into each file, which has its container, and the track that was
            separated; None for sound alone.
        loudness: of the loudest output, LUFS; None: as they are.
        peak: largest absolute sample of all outputs if it is known beforehand; then no temporary files are needed,
            unless the format lacks the sample rate.
        tracks: names of the recordings that are written, as the tracks of the only file; empty for one file each.
        recording: the `fingerprint` of what was separated, for the mark of the files; None: no file.
        works: name -> the digest of what was asked for, for the mark.
        kept: names of files of an earlier run, which stay as they are: the others are made to go with them.

    Attributes:
        gain: what all samples were multiplied by.
        clipped: samples that were saturated.
        samples: that were written to each file, per channel.
        loudness: of the loudest file as it is written, LUFS; None unless it was asked for, and for silence.
        loudness_shortfall: LU that this stays below what was asked for, because more would clip; None as it.
        depth: of the files, "float" also where `on_clip` made it so.

    Raises:
        AudioError: a file exists, or the format or a stem file cannot hold the channels or the bit rate.
        InputError: a bit rate for a format without one.
        DependencyError: the encoder is not installed.
    """

    def __init__(
        self,
        paths: Mapping[str, Path],
        sample_rate: int,
        channels: int,
        *,
        format: str = "wav",
        depth: str = "16",
        tags: Mapping[str, str] | None = None,
        speakers: int = 0,
        cover: Cover | None = None,
        chapters: Sequence[Chapter] = (),
        broadcast: Broadcast | None = None,
        bitrate: int | None = None,
        on_clip: OnClip = "gain",
        overwrite: bool = False,
        video: AudioInfo | None = None,
        loudness: float | None = None,
        peak: float | None = None,
        tracks: Sequence[str] = (),
        recording: str | None = None,
        works: Mapping[str, str] | None = None,
        kept: Collection[str] = (),
    ) -> None:
        if video is None:
            check_format(format, sample_rate, channels, speakers, bitrate)
            _warn_of_lfe(format, channels, speakers)
            _warn_of_chapters(STEM_FILE if tracks else format, chapters)
        else:
            for path in paths.values():
                check_sound(path, channels, speakers)
        if tracks:
            check_stem_file(channels)
        for name, path in paths.items():
            if path != STDOUT and path.exists() and not (overwrite or name in kept):
                raise AudioError(f"{path} exists already: choose another folder or template, or overwrite=True")
        self.gain, self.clipped, self.samples, self.depth = 1.0, 0, 0, depth
        self.loudness: float | None = None
        self.loudness_shortfall: float | None = None
        self._wanted_loudness = loudness
        self._paths, self._tracks = dict(paths), tuple(tracks)
        # File -> the recordings in it.
        self._contents = {name: self._tracks or (name,) for name in paths}
        names = [name for content in self._contents.values() for name in content]
        file_rate = self._file_rate(format, sample_rate, video)
        if file_rate != sample_rate:
            peak = None
        self._resamplers = {name: StreamResampler(sample_rate, file_rate, channels) for name in names}
        self._meters = {} if loudness is None else {name: LoudnessMeter(file_rate, channels) for name in names}
        self._shape = (file_rate, channels)
        self._format, self._tags, self._overwrite = format, dict(tags or {}), overwrite
        self._speakers, self._cover, self._bitrate = speakers, cover, bitrate
        self._broadcast = broadcast
        self._chapters = () if tracks else tuple(chapters)
        self._on_clip = on_clip
        self._video = video
        self._marks = {
            name: mark_for(None if recording is None else Origin(recording, (works or {}).get(name))) for name in paths
        }
        self._kept = frozenset(kept)
        self._may_clip = on_clip != "clip" and (video is not None or can_clip(format, depth))
        self._peak = 0.0 if peak is None else peak
        self._writers: dict[str, AudioWriter | VideoWriter] = {}
        self._spools: dict[str, SampleSpool] = {}
        for path in paths.values():
            if path != STDOUT:
                make_folder(path.parent, AudioError)
        try:
            if loudness is not None or (self._may_clip and peak is None):
                for file, path in paths.items():
                    folder = None if path == STDOUT else path.parent
                    self._spools |= {name: SampleSpool(folder, channels) for name in self._contents[file]}
            else:
                self._open()
        except BaseException:
            self.discard()
            raise

    def __enter__(self) -> Outputs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def write(self, blocks: Mapping[str, Array]) -> None:
        """Append (channels, n) samples of each recording."""
        self.samples += max((block.shape[1] for block in blocks.values()), default=0)
        self._append({name: resampler.push(blocks[name]) for name, resampler in self._resamplers.items()})

    def _append(self, blocks: Mapping[str, Array]) -> None:
        """Append (channels, n) samples of each recording at the rate of the files."""
        for name, block in blocks.items():
            if not block.shape[1]:
                continue
            if name in self._meters:
                self._meters[name].push(block)
            if name in self._spools:
                self._peak = max(self._peak, float(np.abs(block).max(initial=0)))
                self._spools[name].append(block)
        for file, names in self._contents.items():
            if file in self._writers:
                self._write(file, [blocks[name] for name in names])

    def _write(self, file: str, blocks: Sequence[Array]) -> None:
        block = np.concatenate(blocks) if len(blocks) > 1 else blocks[0]
        if block.shape[1]:
            self._writers[file].write(block * np.float32(self.gain) if self.gain != 1 else block)

    def close(self) -> None:
        """Put all files in their places. If one of them fails, none is written and the old files stay.

        Until all are in place, the old files are kept beside them as `.audiosep-*.old`. One stays there if it cannot be
        renamed back, which is then in the log. If the process is killed within `close`, some files may be new and some
        old, and the `.old` files stay.

        Raises:
            AudioError: a file cannot be written.
            InputError: nothing was written to them.
        """
        finished = False
        placed: list[Path] = []
        old_files = OldFiles(AudioError)
        try:
            self._append({name: resampler.finish() for name, resampler in self._resamplers.items()})
            if self._spools:
                self._open()
                for file, names in self._contents.items():
                    spools = [self._spools[name] for name in names if file in self._writers]
                    for blocks in zip(*(spool.blocks() for spool in spools), strict=True):
                        self._write(file, blocks)
                    for name in names:
                        self._spools[name].close()
            for writer in self._writers.values():
                if self._overwrite and writer.path.is_file():
                    old_files.keep(writer.path)
                writer.close()
                placed.append(linked(writer.path))
                self.clipped += writer.clipped
            finished = True
        finally:
            if not finished:
                self.discard()
                for path in placed:  # the others may have been made by another program
                    path.unlink(missing_ok=True)
            old_files.settle(back=not finished)

    def discard(self) -> None:
        """Delete everything that is not in its place yet."""
        for spool in self._spools.values():
            spool.close()
        for writer in self._writers.values():
            with contextlib.suppress(AudioError):
                writer.discard()

    def _open(self) -> None:
        """Choose the gain and the depth by loudness and peak, and open the files."""
        loudest = max((meter.loudness for meter in self._meters.values()), default=-math.inf)
        if self._wanted_loudness is not None and loudest > -math.inf:
            self.gain = 10 ** ((self._wanted_loudness - loudest) / 20)
        elif self._wanted_loudness is not None:
            path = next(iter(self._paths.values()))
            logger.warning("%s: silence, and less than 0.4 s, has no loudness: the level stays as it is", path)
        if self._may_clip and self._peak * self.gain > 1:
            if self._on_clip == "float":
                self.depth = "float"
            else:
                # One step of float32 below the reciprocal, so that no rounding brings the peak above full scale.
                self.gain = float(np.nextafter(np.float32(1 / self._peak), np.float32(0)))
            done = "written as floats" if self._on_clip == "float" else f"multiplied by {self.gain:.6f}"
            logger.info("%s or an output beside it would clip: all are %s", next(iter(self._paths.values())), done)
        if self._wanted_loudness is not None and loudest > -math.inf:
            self.loudness = round(loudest + 20 * math.log10(self.gain), 2)
            self.loudness_shortfall = round(max(0.0, self._wanted_loudness - self.loudness), 2)
        if self._kept and self.gain != 1:
            logger.warning(
                "%s stays as it is, perhaps with another gain than the %.4f of what is made beside it "
                "(overwrite=True makes all anew)",
                self._paths[min(self._kept)],
                self.gain,
            )
        for name, path in self._paths.items():
            if name not in self._kept:
                self._writers[name] = self._writer(name, path)

    def _file_rate(self, format: str, sample_rate: int, video: AudioInfo | None) -> int:
        """The sample rate of the files, Hz."""
        if video is not None:
            container = CONTAINERS[next(iter(self._paths.values())).suffix.lower()]
            return container.rate_for(sample_rate) or sample_rate
        rate = written_rate(format, sample_rate)
        if rate != sample_rate:
            logger.warning("%s has no %d Hz: the outputs are resampled to %d Hz", format, sample_rate, rate)
        return rate

    def _writer(self, name: str, path: Path) -> AudioWriter | VideoWriter:
        if self._video is not None:
            return VideoWriter(
                path,
                self._video,
                *self._shape,
                self._marks[name],
                overwrite=self._overwrite,
                speakers=self._speakers,
            )
        tags = {**self._tags, "software": self._marks[name]}
        if "title" in tags and not self._tracks:
            # The name may be that of a file, which need not be Unicode, as tags must.
            tags["title"] += f" ({name})".encode(errors="replace").decode()
        return AudioWriter(
            path,
            *self._shape,
            self.depth,
            self._format,
            tags,
            overwrite=self._overwrite,
            speakers=self._speakers,
            cover=self._cover,
            bitrate=self._bitrate,
            tracks=self._tracks,
            chapters=self._chapters,
            broadcast=self._broadcast,
        )


def _warn_of_chapters(format: str, chapters: Sequence[Chapter]) -> None:
    """Say that a format has no place for chapters."""
    if chapters and format in WITHOUT_CHAPTERS:
        kept = ", ".join(name for name in FORMATS if name not in WITHOUT_CHAPTERS)
        logger.warning(
            "%s has no place for chapters, and the recording has %s: %s keep them",
            format,
            counted(len(chapters), "chapter"),
            kept,
        )


def _warn_of_lfe(format: str, channels: int, speakers: int) -> None:
    """Say that a lossy format takes a channel for LFE: of a recording that states no speakers it may be another one."""
    channel = None if FORMATS[format].depths else low_passed(channels, speakers)
    if channel is not None:
        logger.warning(
            "the recording does not state its speakers: %s takes its %d channels for %s, of which channel %d loses all "
            "above 120 Hz (wav and flac keep it)",
            format,
            channels,
            layout_name(channels, 0),
            channel,
        )
