"""Videos with other sound: the picture is copied, and with it subtitles, chapters and tags."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np

from audiosep.atomic import PendingFile
from audiosep.audio.limits import check_channels, check_rate
from audiosep.audio.samples import Array, check_finite
from audiosep.audio.speakers import plain
from audiosep.audio.tracks import AudioTrack
from audiosep.audio.video_formats import CONTAINERS, check_sound
from audiosep.audio.wav import WavFile
from audiosep.errors import AudioError


class VideoWriter:
    """Write a video block by block: the picture of another one, and new sound that starts where that one starts.

    The samples go to a temporary file in the same folder. At `close` ffmpeg joins them with the picture, in a second
    temporary file that replaces `path`. Samples beyond full scale are saturated and counted.

    Args:
        path: the file to write, in an existing folder; its suffix is one of CONTAINERS.
        source: the video with the picture.
        sample_rate: Hz.
        channels: 1 to 8.
        track: the one that the new sound takes the place of, for its language and name.
        mark: of outputs, see `audio.marker`.
        overwrite: whether a file that lies there already may be replaced.
        speakers: a bit for each channel, as in `audio.speakers`; 0: not known.

    Raises:
        AudioError: the target exists or cannot be written, or cannot hold the channels.
    """

    def __init__(
        self,
        path: Path,
        source: Path,
        sample_rate: int,
        channels: int,
        track: AudioTrack,
        mark: str,
        *,
        overwrite: bool,
        speakers: int = 0,
    ) -> None:
        self.path = path
        self.clipped = 0
        self._source, self._track, self._mark = source, track, mark
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
        command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-protocol_whitelist", "file,pipe"]
        command += ["-i", f"file:{self._source}", "-protocol_whitelist", "file,pipe"]
        command += ["-i", f"file:{self._sound.temporary}", "-map", "0:V", "-map", "1:a:0", "-map", "0:s?"]
        command += ["-map_metadata", "0", "-map_chapters", "0", "-c", "copy"]
        command += ["-c:a", container.codec, "-b:a", container.bitrate]
        command += ["-ar", str(rate)] if (rate := container.rate_for(self._rate)) else []
        for key, text in (("language", self._track.language), ("title", self._track.name)):
            command += ["-metadata:s:a:0", f"{key}={text}"] if text else []
        command += ["-metadata", f"encoding_tool={self._mark}"]
        command += ["-f", container.muxer, f"file:{self._pending.temporary}"]
        # Of formats such as MPEG-TS ffmpeg counts the time from the first of the streams that it uses, and the
        # reader from the first of all.
        command += ["-map", "0:a", "-c", "copy", "-f", "null", "-"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            if missing := re.search(r"'0:(V|a)' matches no streams", done.stderr):
                reason = "there is no picture in it" if missing[1] == "V" else "ffmpeg finds no sound in it"
            raise AudioError(f"ffmpeg cannot copy the picture of {self._source} ({reason}): leave out --video")
