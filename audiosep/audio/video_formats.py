"""Video files whose sound can be replaced."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from audiosep.errors import AudioError, DependencyError


@dataclass(frozen=True)
class Container:
    """A kind of video file.

    Args:
        muxer: ffmpeg's name of it.
        codec: ffmpeg's encoder of its sound.
        bitrate: of the sound.
    """

    muxer: str
    codec: str = "aac"
    bitrate: str = "256k"


CONTAINERS = {
    ".mp4": Container("mp4"),
    ".m4v": Container("mp4"),
    ".mov": Container("mov"),
    ".mkv": Container("matroska"),
    ".webm": Container("webm", "libopus"),
    ".avi": Container("avi", "pcm_s16le"),  # avi cannot say what the encoders of compressed sound start with
    ".mpg": Container("mpeg", "mp2", "384k"),
    ".mpeg": Container("mpeg", "mp2", "384k"),
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
        AudioError: its suffix is not one of CONTAINERS.
        DependencyError: there is no ffmpeg.
    """
    if path.suffix.lower() not in CONTAINERS:
        raise AudioError(
            f"{path} is no video whose picture could be copied ({' '.join(CONTAINERS)}): leave out video=True"
        )
    if shutil.which("ffmpeg") is None:
        raise DependencyError("copying the picture needs ffmpeg on the PATH: install it, or leave out --video")
