"""Pictures that a container carries beside its sound, as PyAV or an ffmpeg on PATH finds them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from audiosep.audio.local_input import local_input, open_av


def attached_pictures(path: Path) -> list[tuple[bool, bytes]]:
    """The pictures of a matroska, wma, ape or wavpack file, or of another one that ffmpeg finds pictures in.

    Args:
        path: the file.

    Returns:
        Of each picture whether the file calls it the front cover, and the file of the picture; nothing where the
        container cannot be read.
    """
    try:
        return _by_pyav(path)
    except ImportError:
        return _by_program(path)


def _by_pyav(path: Path) -> list[tuple[bool, bytes]]:
    from av.error import FFmpegError
    from av.stream import Disposition

    try:
        with open_av(path) as container:
            streams = [one for one in container.streams.video if one.disposition & Disposition.attached_pic]
            # The packets of pictures come first, one of each; the rest of the file is not read.
            packets = zip(streams, container.demux(streams) if streams else (), strict=False)
            return [(_is_front(packet.stream.metadata), bytes(packet)) for _, packet in packets]
    except (FFmpegError, ValueError):
        return []


def _by_program(path: Path) -> list[tuple[bool, bytes]]:
    ffmpeg, ffprobe = shutil.which("ffmpeg"), shutil.which("ffprobe")
    if ffmpeg is None or ffprobe is None:
        return []
    asked = ["-select_streams", "v", "-show_streams", "-of", "json"]
    streams = json.loads(_output([ffprobe, "-v", "quiet", *asked, *local_input(path)]) or "{}").get("streams", [])
    read = [ffmpeg, "-v", "quiet", "-nostdin", *local_input(path)]
    write = ["-c", "copy", "-frames:v", "1", "-f", "image2pipe", "pipe:1"]
    return [
        (_is_front(one.get("tags", {})), _output([*read, "-map", f"0:{one['index']}", *write]))
        for one in streams
        if one.get("disposition", {}).get("attached_pic")
    ]


def _output(command: list[str]) -> bytes:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).stdout


def _is_front(tags: Mapping[str, str]) -> bool:
    """By the names of https://www.matroska.org/technical/attachments.html, or as ffmpeg translates types of ID3."""
    return Path(tags.get("filename", "")).stem.lower() == "cover" or tags.get("comment") == "Cover (front)"
