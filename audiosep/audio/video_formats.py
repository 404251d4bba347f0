"""Video files whose sound can be replaced."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from audiosep.audio.inputs import is_pipe
from audiosep.audio.speakers import is_usual, layout_name
from audiosep.errors import AudioError, DependencyError

if TYPE_CHECKING:  # it knows covers, whose package takes longer to import than a wrong command to be refused
    from audiosep.audio.info import AudioInfo


@dataclass(frozen=True)
class Container:
    """A kind of video file.

    Args:
        muxer: ffmpeg's name of it.
        codec: ffmpeg's encoder of its sound.
        bitrate: of the sound.
        channels: most channels of the sound.
        rates: sample rates in Hz that the sound is resampled to, in order; empty: ffmpeg chooses.
        usual: whether there is one speaker layout for each number of channels.
        pcm: whether it holds PCM of any depth, which then takes the place of lossless sound.
        measured: whether some versions of ffmpeg put the sound into another place than where they are told.
        mark: ffmpeg's name of the tag that says what the video is.
    """

    muxer: str
    codec: str = "aac"
    bitrate: str = "256k"
    channels: int = 8
    rates: tuple[int, ...] = ()
    usual: bool = False
    pcm: bool = False
    measured: bool = False
    mark: str = "encoding_tool"

    def codec_for(self, source: AudioInfo) -> str:
        """ffmpeg's encoder of the new sound of a recording: what was lossless stays so where the container has PCM."""
        return _PCM[source.depth] if self.pcm and source.encoding.startswith(_LOSSLESS) else self.codec

    def rate_for(self, sample_rate: int) -> int | None:
        """The rate of the sound, Hz: the same, or the next one above, else the highest; None: ffmpeg chooses."""
        return next((rate for rate in self.rates if rate >= sample_rate), self.rates[-1]) if self.rates else None


_LOSSLESS = ("pcm_", "flac", "alac")  # ffmpeg's names of encodings that mov and mkv hold
_PCM = {"16": "pcm_s16le", "24": "pcm_s24le", "float": "pcm_f32le"}

# Lower rates are MPEG-2's, which have another range of bit rates.
_MPG = Container("mpeg", "mp2", "384k", channels=2, rates=(32_000, 44_100, 48_000))


CONTAINERS = {
    ".mp4": Container("mp4"),
    ".m4v": Container("mp4"),
    # ffmpeg writes few tags into mov, its own name as the encoder, and reads no keywords, which so cannot get lost.
    ".mov": Container("mov", pcm=True, mark="keywords"),
    ".mkv": Container("matroska", pcm=True),
    # ffmpeg 5.1 leaves the delay of Opus, 6.5 ms, out of the time stamps; later versions do not.
    ".webm": Container("webm", "libopus", usual=True, measured=True),
    ".avi": Container("avi", "pcm_s16le"),  # avi cannot say what the encoders of compressed sound start with
    ".mpg": _MPG,
    ".mpeg": _MPG,
    ".ts": Container("mpegts"),
    ".mts": Container("mpegts"),
    ".m2ts": Container("mpegts"),
}
"""Suffix of a video file -> its container."""


def check_video(path: Path) -> None:
    """Refuse a file whose picture cannot be copied.

    Args:
        path: of the recording.

    Raises:
        AudioError: its suffix is not one of CONTAINERS, or it is a pipe.
        DependencyError: there is no ffmpeg.
    """
    if path.suffix.lower() not in CONTAINERS:
        raise AudioError(
            f"{path} is no video whose picture could be copied ({' '.join(CONTAINERS)}): leave out video=True"
        )
    if is_pipe(path):
        raise AudioError(f"{path} is a pipe, whose sound and picture would be read one after the other: name a file")
    if shutil.which("ffmpeg") is None:
        raise DependencyError("copying the picture needs ffmpeg on the PATH: install it, or leave out --video")


def check_sound(path: Path, channels: int, speakers: int) -> None:
    """Refuse sound that a video would hold mixed down, or not at all.

    Args:
        path: of the video; its suffix is one of CONTAINERS.
        channels: of the sound.
        speakers: a bit for each, as in `audio.speakers`; 0: not known.

    Raises:
        AudioError: too many channels, or another speaker layout than the usual one.
    """
    container = CONTAINERS[path.suffix.lower()]
    remedy = "convert the video to mkv first, or leave out video=True"
    if channels > container.channels:
        most = container.channels
        raise AudioError(
            f"{container.codec} sound of {path.suffix} has at most {most} channels, not {channels}: {remedy}"
        )
    if container.usual and not is_usual(channels, speakers):
        raise AudioError(
            f"the sound of {path.suffix} has no speaker layout {layout_name(channels, speakers)}, for {channels} "
            f"channels only {layout_name(channels, 0)}: {remedy}"
        )
