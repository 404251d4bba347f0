"""Chapters, which are copied from a recording to its outputs: of mp4, mp3, ogg, opus, flac and matroska files."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from mutagen import File, id3
from mutagen.aiff import AIFF
from mutagen.mp3 import MP3
from mutagen.wave import WAVE

from audiosep.audio.local_input import local_input, open_av
from audiosep.audio.stem_file import STEM_FILE

WITHOUT_CHAPTERS = {"wav", STEM_FILE}
"""Formats of outputs that have no place for them."""

_LISTED = 255  # chapters of a table of contents in ID3, whose count is a byte
_NO_OFFSET = 2**32 - 1  # ID3v2 Chapter Frame Addendum: the times count, not bytes


@dataclass(frozen=True)
class Chapter:
    """A named part of a recording.

    Args:
        start: in seconds.
        end: in seconds.
        title: may be empty.
    """

    start: float
    end: float
    title: str


def read_chapters(path: Path) -> tuple[Chapter, ...]:
    """The chapters of a recording, in order.

    Args:
        path: of any kind; others than those with ID3 (mp3, wav, aiff, ...) need PyAV or ffprobe.

    Returns:
        Nothing where there are none, or the file cannot be read.
    """
    found = _by_id3(path)
    if found is None:
        try:
            found = _by_pyav(path)
        except ImportError:
            found = _by_program(path)
    return tuple(sorted(found, key=lambda chapter: chapter.start))


def within(chapters: Sequence[Chapter], start: float, end: float) -> tuple[Chapter, ...]:
    """The chapters of a part of a recording, counted from where it starts.

    Args:
        chapters: of the whole recording.
        start: of the part, in seconds.
        end: of the part, in seconds.
    """
    return tuple(
        Chapter(max(chapter.start, start) - start, min(chapter.end, end) - start, chapter.title)
        for chapter in chapters
        if chapter.start < end and chapter.end > start
    )


def id3_frames(chapters: Sequence[Chapter]) -> list[id3.Frame]:
    """Frames of ID3v2 (Chapter Frame Addendum, 2005): one for each chapter, and their table of contents."""
    names = [f"chp{number}" for number in range(len(chapters))]
    frames: list[id3.Frame] = [
        id3.CHAP(
            element_id=name,
            start_time=_milliseconds(chapter.start),
            end_time=_milliseconds(chapter.end),
            start_offset=_NO_OFFSET,
            end_offset=_NO_OFFSET,
            sub_frames=[id3.TIT2(encoding=id3.Encoding.UTF16, text=[chapter.title])],
        )
        for name, chapter in zip(names, chapters, strict=True)
    ]
    flags = id3.CTOCFlags.TOP_LEVEL | id3.CTOCFlags.ORDERED
    contents = id3.CTOC(element_id="toc", flags=flags, child_element_ids=names[:_LISTED], sub_frames=[])
    return [*frames, contents] if frames else []


def vorbis_chapters(chapters: Sequence[Chapter]) -> dict[str, str]:
    """Comments of flac, ogg and opus files (https://wiki.xiph.org/Chapter_Extension), which have no ends."""
    comments = {}
    for number, chapter in enumerate(chapters):
        seconds, milliseconds = divmod(_milliseconds(chapter.start), 1000)
        minutes, seconds = divmod(seconds, 60)
        name = f"CHAPTER{number:03d}"
        comments[name] = f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}.{milliseconds:03d}"
        comments[f"{name}NAME"] = chapter.title
    return comments


def pyav_chapters(chapters: Sequence[Chapter]) -> list[dict[str, Any]]:
    """What `set_chapters` of PyAV takes."""
    return [
        {
            "id": number,
            "start": _milliseconds(chapter.start),
            "end": _milliseconds(chapter.end),
            "time_base": Fraction(1, 1000),
            "metadata": {"title": chapter.title},
        }
        for number, chapter in enumerate(chapters)
    ]


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


def _by_id3(path: Path) -> list[Chapter] | None:
    """Those of ID3v2, where ffmpeg takes the names of frames for titles of chapters that have none.

    Returns:
        None where the file may have others.
    """
    try:
        with path.open("rb") as file:
            first = file.read(3) == b"ID3"
        known = None if first else File(path)
        tags: Any = id3.ID3(path) if first else getattr(known, "tags", None)  # of wav and aiff, in a chunk
    except Exception:  # damaged tags raise anything
        return None
    frames: list[Any] = tags.getall("CHAP") if isinstance(tags, id3.ID3) else []
    if not frames and not isinstance(known, WAVE | AIFF | MP3):  # these have no others
        return None
    return [Chapter(frame.start_time / 1000, frame.end_time / 1000, _title(frame)) for frame in frames]


def _title(chapter: Any) -> str:
    return "/".join(text for frame in chapter.sub_frames.getall("TIT2") for text in frame.text)


def _by_pyav(path: Path) -> list[Chapter]:
    from av.error import FFmpegError

    try:
        with open_av(path) as container:
            found = container.chapters()
    except (FFmpegError, ValueError):
        return []
    return [
        Chapter(float(one["start"] * base), float(one["end"] * base), one["metadata"].get("title", ""))
        for one in found
        if (base := one["time_base"]) is not None
    ]


def _by_program(path: Path) -> list[Chapter]:
    if (ffprobe := shutil.which("ffprobe")) is None:
        return []
    command = [ffprobe, "-v", "quiet", "-show_chapters", "-of", "json", *local_input(path)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return [
        Chapter(float(one["start_time"]), float(one["end_time"]), one.get("tags", {}).get("title", ""))
        for one in json.loads(done.stdout or "{}").get("chapters", [])
    ]
