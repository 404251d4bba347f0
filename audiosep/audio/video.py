"""Videos with other sound: the picture is copied, and with it subtitles with their fonts, chapters and tags."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from audiosep.atomic import PendingFile
from audiosep.audio.info import AudioInfo
from audiosep.audio.limits import check_channels, check_rate
from audiosep.audio.local_input import local_input
from audiosep.audio.samples import Array, check_finite
from audiosep.audio.speakers import plain
from audiosep.audio.video_formats import CONTAINERS, Container, check_sound
from audiosep.audio.wav import WavFile
from audiosep.errors import AudioError

_SAMPLE = 5  # seconds of a video by which it is measured where its sound comes to lie
# What ffmpeg says of a full disk; version 5.1 exits with 0 all the same.
_DISK = re.compile(r"Error (?:writing trailer|closing file).*: (.*)")


class VideoWriter:
    """Write a video block by block: the picture of another one, and new sound that starts where that one starts.

    The samples go to a temporary file in the same folder. At `close` ffmpeg joins them with the picture, in a second
    temporary file that replaces `path`. Samples beyond full scale are saturated and counted.

    Args:
        path: the file to write, in an existing folder; its suffix is one of CONTAINERS.
        source: the video with the picture, and the sound that the new one takes the place of: it starts where that
            one starts, and has its language and name.
        sample_rate: Hz.
        channels: 1 to 8.
        mark: of outputs, see `audio.marker`.
        overwrite: whether a file that lies there already may be replaced.
        speakers: a bit for each channel, as in `audio.speakers`; 0: not known.

    Raises:
        AudioError: the target exists or cannot be written, or cannot hold the channels.
    """

    def __init__(
        self,
        path: Path,
        source: AudioInfo,
        sample_rate: int,
        channels: int,
        mark: str,
        *,
        overwrite: bool,
        speakers: int = 0,
    ) -> None:
        self.path = path
        self.clipped = 0
        self._source, self._mark = source, mark
        check_rate(sample_rate)
        check_channels(channels)
        check_sound(path, channels, speakers)
        self._pending = PendingFile(path, overwrite=overwrite, durable=False, error=AudioError)
        try:
            self._sound = PendingFile(path, overwrite=overwrite, durable=False, error=AudioError)
        except BaseException:
            self._pending.discard()
            raise
        # Without a layout ffmpeg would guess one, and of three channels take one for LFE.
        layout = plain(channels, speakers)
        self._wav = WavFile(self._sound.file, sample_rate, channels, "float", speakers=layout)
        self._samples = 0
        self._rate = sample_rate

    def write(self, block: Array) -> None:
        """Append a block.

        Args:
            block: floating point (channels, samples), full scale 1.0.

        Raises:
            InputError: NaN or infinity.
            AudioError: the disk refuses.
        """
        check_finite(block, offset=self._samples, sample_rate=self._rate)
        self._samples += block.shape[1]
        self.clipped += int(np.count_nonzero(np.abs(block) > 1))
        try:
            self._wav.write(np.clip(block.T, -1, 1))
        except OSError as error:
            raise AudioError(f"{self.path} cannot be written: {error}: free space or choose another folder") from error

    def close(self) -> None:
        """Join sound and picture, and put the video in its place.

        Raises:
            AudioError: ffmpeg cannot write it, or the disk refuses.
        """
        try:
            self._wav.close()
            self._sound.file.flush()
            self._join()
            self._pending.commit()
        except OSError as error:
            raise AudioError(f"{self.path} cannot be written: {error}: free space or choose another folder") from error
        finally:
            self.discard()

    def discard(self) -> None:
        """Delete what was written; an earlier file at `path` stays as it was. Idempotent."""
        self._pending.discard()
        self._sound.discard()

    def _join(self) -> None:
        container = CONTAINERS[self.path.suffix.lower()]
        start = self._source.start - _begins(self._source.path)
        if container.measured:
            self._run(container, start, ["-t", str(_SAMPLE)])
            pictures, sounds = _first(self._source.path), _first(self._pending.temporary)
            if "V" in pictures and len(sounds) == 2:
                start += self._source.start - pictures["V"] - (sounds["a"] - sounds["V"])
        self._run(container, start)

    def _run(self, container: Container, start: float, options: Sequence[str] = ()) -> None:
        """Write the video with sound that begins `start` seconds after the source."""
        source = self._source
        command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *local_input(source.path)]
        command += ["-itsoffset", f"{start:.6f}", *local_input(self._sound.temporary)]
        command += ["-map", "0:V", "-map", "1:a:0", "-map", "0:s?"]
        command += ["-map", "0:t?"] if container.muxer == "matroska" else []  # fonts of subtitles; no other holds them
        command += ["-map_metadata", "0", "-map_chapters", "0", "-c", "copy"]
        command += ["-c:a", container.codec_for(source), "-b:a", container.bitrate]
        command += ["-ar", str(rate)] if (rate := container.rate_for(self._rate)) else []
        for key, text in (("language", source.heard.language), ("title", source.heard.name)):
            command += ["-metadata:s:a:0", f"{key}={text}"] if text else []
        command += ["-metadata", f"{container.mark}={self._mark}"]
        command += [*options, "-f", container.muxer, f"file:{self._pending.temporary}"]
        # Of formats such as MPEG-TS ffmpeg counts the time from the first of the streams that it uses, and the
        # reader from the first of all.
        command += ["-map", "0:a", "-c", "copy", *options, "-f", "null", "-"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        if failed := _DISK.search(done.stderr):
            raise AudioError(f"{self.path} cannot be written ({failed[1]}): free space or choose another folder")
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            if missing := re.search(r"'0:(V|a)' matches no streams", done.stderr):
                reason = "there is no picture in it" if missing[1] == "V" else "ffmpeg finds no sound in it"
            raise AudioError(f"ffmpeg cannot copy the picture of {source.path} ({reason}): leave out --video")


def _begins(video: Path) -> float:
    """Where on its time line a video begins for ffmpeg, which counts from there: seconds."""
    command = ["ffmpeg", "-nostdin", *local_input(video)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    found = re.search(r"^  Duration: .*, start: (-?[\d.]+)", done.stderr, re.M)
    return 0.0 if found is None else float(found[1])


def _first(video: Path) -> dict[str, float]:
    """Time stamps in seconds of the first picture (V) and the first decoded sound (a) of a video, where there are."""
    command = ["ffmpeg", "-v", "error", "-nostdin", "-copyts", *local_input(video)]
    command += ["-map", "0:V:0", "-map", "0:a:0", "-frames:v", "1", "-frames:a", "1", "-c:v", "copy"]
    command += ["-f", "framecrc", "-"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    bases = dict(re.findall(r"^#tb (\d): 1/(\d+)", done.stdout, re.M))
    stamps = re.findall(r"^(\d), *-?\d+, *(-?\d+),", done.stdout, re.M)
    return {"Va"[int(stream)]: int(stamp) / int(bases[stream]) for stream, stamp in reversed(stamps)}
