"""Files as inputs of ffmpeg: nothing but local files is read, because playlists can name addresses."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def local_input(path: Path) -> list[str]:
    """The arguments of ffmpeg and ffprobe that name an input; options of the input stand in front of them.

    Args:
        path: the file.
    """
    return ["-protocol_whitelist", "file,pipe", "-i", f"file:{path}"]


def open_av(path: Path) -> Any:
    """A file as an `av.container.InputContainer`.

    Args:
        path: the file.

    Raises:
        ImportError: PyAV is not installed.
        av.error.FFmpegError, ValueError: it is no file that PyAV reads.
    """
    import av

    return av.open(f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="replace")
