"""Subtitles of a noisy video: the speech is separated first, then Whisper writes down what is said.

    pip install faster-whisper ".[formats]"
    python examples/subtitles.py interview.mp4

Needs the network once, because faster-whisper fetches its model.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import audiosep

# What Whisper hears: 16 kHz, one channel.
HEARD = audiosep.OutputOptions(rate=16_000, mono=True, residual=False)


def speech_of(video: Path, folder: Path) -> Path:
    """A wav file with the speech of a video, in its place in time."""
    report = audiosep.load().separate_files(video, "speech", folder, output=HEARD)
    report.raise_for_failures()
    return report.results[0].outputs["speech"]


def transcribe(speech: Path, size: str, language: str | None) -> Iterator[tuple[float, float, str]]:
    """Start and end in seconds, and text, of what is said."""
    from faster_whisper import WhisperModel

    segments, _ = WhisperModel(size).transcribe(str(speech), language=language, vad_filter=True)
    for segment in segments:
        yield segment.start, segment.end, segment.text.strip()


def subrip(lines: Iterable[tuple[float, float, str]]) -> str:
    """Lines as a SubRip file (.srt)."""
    return "\n".join(
        f"{number}\n{_time(start)} --> {_time(end)}\n{text}\n" for number, (start, end, text) in enumerate(lines, 1)
    )


def _time(seconds: float) -> str:
    milliseconds = round(1000 * seconds)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02},{rest % 1000:03}"


def main() -> None:
    """Write the subtitles beside the video."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--size", default="small", help="of the Whisper model")
    parser.add_argument("--language", help="code such as en; found out by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        speech = speech_of(arguments.video, Path(folder))
        subtitles = subrip(transcribe(speech, arguments.size, arguments.language))
    target = arguments.video.with_suffix(".srt")
    target.write_text(subtitles, encoding="utf-8")
    print(target)


if __name__ == "__main__":
    main()
