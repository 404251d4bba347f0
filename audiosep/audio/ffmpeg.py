"""Decoding with an ffmpeg on PATH, as a child process that sends floats through a pipe."""

from __future__ import annotations

import json
import logging
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np

from audiosep.audio.container import (
    Lengths,
    has_time_stamps,
    report_change,
    silence,
    stated_length,
    tag_seconds,
    trimmed,
)
from audiosep.audio.info import AudioInfo, ffmpeg_depth, tags_of_track
from audiosep.audio.local_input import local_input
from audiosep.audio.samples import Array
from audiosep.audio.source import Unreadable
from audiosep.audio.speakers import layout_mask
from audiosep.audio.tags import mp4_tempo
from audiosep.audio.timeline import GAP, find_gaps, lateness, report_gaps, report_start
from audiosep.audio.tracks import AudioTrack, choose_track

logger = logging.getLogger(__name__)

_BLOCK = 16_384


class FFmpegSource:
    """An audio track of a file as the ffmpeg program decodes it.

    Args:
        path: the file.
        track: number, language or name; None: the default one.

    Raises:
        Unreadable: there is no ffmpeg, or it finds no audio.
        InputError: there is no such track.
    """

    def __init__(self, path: Path, track: int | str | None = None) -> None:
        program = shutil.which("ffmpeg")
        if program is None:
            raise Unreadable("not on PATH (install it from https://ffmpeg.org or with the system's packages)")
        self.name = str(path)
        self._about = about = _Container(path)
        self._number = choose_track(about.tracks, track).number
        lengths = about.lengths(self._number)
        stated = stated_length(path, about.formats, lengths)
        self.stated, self.cut, self._changes = stated.seconds, stated.cut, stated.changes
        self._lead = lateness(lengths.late, self.stated)
        self._gaps, self._packets_end = about.gaps(self._number, lengths.start, self.stated)
        # Sun AU has the shortest header with rate and channels.
        command = [program, "-v", "error", "-nostdin", *local_input(path), "-map", f"0:a:{self._number - 1}"]
        if self._gaps:
            command += ["-af", f"aresample=async=1:min_hard_comp={GAP}"]
        command += ["-f", "au", "-c:a", "pcm_f32be", "pipe:1"]
        # A file, because ffmpeg would block on a full pipe of errors if the input is badly damaged.
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (close() does)
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._log, stdin=subprocess.DEVNULL)
        try:
            self.info = about.describe(self._number, self.stated, lengths.first - self._lead, *self._read_header())
        except BaseException:
            self.close()
            raise
        self._exact = "mp4" in about.formats

    def _read_header(self) -> tuple[int, int]:
        """Rate and number of channels from the 24 bytes and the annotation in front of the samples."""
        head = self._read(24)
        if len(head) < 24:
            raise Unreadable(self._complaint() or "no audio in it could be decoded")
        magic, offset, _, _, sample_rate, channels = struct.unpack(">4s5I", head)
        if magic != b".snd":
            raise Unreadable("its output is no AU file")
        self._read(offset - 24)
        return sample_rate, channels

    def seek(self, sample: int) -> int:
        return 0  # not exact to the sample in all formats

    def blocks(self) -> Iterator[Array]:
        rate = self.info.sample_rate
        report_start(self.name, self._lead)
        report_gaps(self.name, self._gaps)
        if self._changes is not None:
            report_change(self.name, self._changes)
        lead = round(self._lead * rate)
        blocks = chain(silence(self.info.channels, lead), self._decoded())
        return trimmed(blocks, self._end)

    def _end(self) -> int | None:
        """How many samples the packets hold; None in containers whose time stamps do not count samples."""
        if not self._exact:
            return None
        seconds = self._lead + self._packets_end
        # Older versions cut the last packet at the length of the whole file, which often is in milliseconds.
        rounded = abs(1000 * seconds - round(1000 * seconds)) < 0.002
        return round((seconds + 0.001 * rounded) * self.info.sample_rate)

    def _decoded(self) -> Iterator[Array]:
        frame = 4 * self.info.channels
        read = 0
        while data := self._read(_BLOCK * frame):
            read += len(data) // frame
            samples = np.frombuffer(data[: len(data) // frame * frame], ">f4").reshape(-1, self.info.channels)
            yield np.ascontiguousarray(samples.T, dtype=np.float32)
        self._process.wait()
        if complaint := self._complaint():
            seconds = read / self.info.sample_rate
            logger.warning("%s is damaged: ffmpeg reports: %s, read %.2f s", self.name, complaint, seconds)

    def _read(self, size: int) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.read(size)

    def _complaint(self) -> str:
        """The last error of ffmpeg, after it has ended; empty if there was none."""
        self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        if any("matches no streams" in line for line in lines):
            return "there is no audio stream in it"
        # What is written into a pipe has no time stamps, whose order ffmpeg complains about where files were joined.
        lines = [line for line in lines if "monotonically" not in line and "Last message repeated" not in line]
        # It refuses packets that hold nothing but data beside the sound, as flac has at its end.
        refused = [line for line in lines if line.endswith("Invalid argument")]
        if refused and self._about.has_empty_packets(self._number):
            lines = [line for line in lines if line not in refused]
        return lines[-1].rpartition(": ")[2] if lines else ""

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()


class _Container:
    """What ffprobe tells about a file; nothing where ffmpeg came without its companion.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = b"".join(_ffprobe(path, "-of", "json", "-show_format", "-show_streams"))
        # Without ffprobe there are no lines, and where it fails there is half a document.
        facts: dict[str, Any] = json.loads(lines) if lines.rstrip().endswith(b"}") and len(lines) > 9 else {}
        self._format: dict[str, Any] = facts.get("format", {})
        self._playing = [stream for stream in facts.get("streams", []) if _plays(stream)]
        self._sounds = [stream for stream in self._playing if stream["codec_type"] == "audio"]
        self.formats = str(self._format.get("format_name", "")).split(",")
        self.tracks = tuple(_track(number, stream) for number, stream in enumerate(self._sounds, 1)) or (AudioTrack(1),)

    def _stream(self, number: int) -> dict[str, Any]:
        return self._sounds[number - 1] if self._sounds else {}

    def lengths(self, number: int) -> Lengths:
        """What ffprobe says about the length of a track."""
        stream = self._stream(number)
        others = [other for other in self._playing if other is not stream]
        start = _start([stream]) or 0.0
        return Lengths(
            _number(stream, "duration"),
            tag_seconds(stream.get("tags", {}).get("DURATION")),
            _number(self._format, "duration"),
            start,
            self._first(number, start),
            _start([other for other in others if other["codec_type"] == "video"]),
            _start([other for other in others if other["codec_type"] == "audio"]),
            alone=not others,
        )

    def _first(self, number: int, start: float) -> float:
        """Time stamp of the first sample that a decoder gives of a track, in seconds; `start` where it is not told."""
        # Packets, of which the first may give no frame.
        options = ["-select_streams", f"a:{number - 1}", "-read_intervals", "%+#8", "-show_entries", "frame=pts_time"]
        times = (line.decode().strip().strip(",") for line in _ffprobe(self._path, "-of", "csv=p=0", *options))
        first = next((time for time in times if time), "N/A")
        return start if first == "N/A" else float(first)

    def gaps(self, number: int, start: float, stated: float | None) -> tuple[list[tuple[float, float]], float]:
        """The gaps of a track and its end, as in `find_gaps`."""
        options = ["-select_streams", f"a:{number - 1}", "-show_entries", "packet=pts_time,duration_time"]
        packets = _packets(_ffprobe(self._path, "-of", "csv=p=0", *options))
        gaps, end = find_gaps(packets, start, stated)
        return (gaps if has_time_stamps(self.formats) else []), end

    def has_empty_packets(self, number: int) -> bool:
        """Whether packets of a track hold no sound."""
        options = ["-select_streams", f"a:{number - 1}", "-show_entries", "packet=size"]
        return any(line.strip().strip(b",") == b"0" for line in _ffprobe(self._path, "-of", "csv=p=0", *options))

    def describe(self, number: int, stated: float | None, start: float, sample_rate: int, channels: int) -> AudioInfo:
        """What is known of a track, of which the first sample that is read has the time stamp `start`."""
        stream = self._stream(number)
        suffix = self._path.suffix.lower().removeprefix(".")
        codec = stream.get("codec_name", "unknown")
        film = any(other["codec_type"] == "video" for other in self._playing)
        tags = tags_of_track(self._format.get("tags", {}), stream.get("tags", {}), film=film)
        return AudioInfo(
            path=self._path,
            sample_rate=sample_rate,
            channels=channels,
            samples=None,
            depth=ffmpeg_depth(codec, stream.get("sample_fmt", "")),
            format=suffix if suffix in self.formats or not self.formats[0] else self.formats[0],
            encoding=codec,
            backend="ffmpeg",
            tags=(mp4_tempo(self._path) if "mp4" in self.formats else {}) | tags,
            estimate=stated or _number(stream, "duration") or _number(self._format, "duration"),
            speakers=layout_mask(stream.get("channel_layout", "")),
            tracks=self.tracks,
            track=number,
            start=start,
        )


def _ffprobe(path: Path, *options: str) -> Iterator[bytes]:
    """The lines that ffprobe writes about a file; none where ffmpeg came without it."""
    program = shutil.which("ffprobe")
    if program is None:
        return
    command = [program, "-v", "quiet", *options, *local_input(path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        yield from process.stdout


def _packets(lines: Iterable[bytes]) -> Iterator[tuple[float, float]]:
    """(time stamp, duration) of the packets, until one has none."""
    for line in lines:
        match line.decode().strip().split(","):
            case [""]:  # behind a packet with data of its own beside it
                continue
            case ["N/A", *_] | [_, "N/A", *_] | [_]:
                return
            case [time, duration, *_]:
                yield float(time), float(duration)


def _track(number: int, stream: Mapping[str, Any]) -> AudioTrack:
    tags = stream.get("tags", {})
    default = bool(stream.get("disposition", {}).get("default"))
    return AudioTrack(number, tags.get("language", ""), tags.get("title", ""), default)


def _plays(stream: Mapping[str, Any]) -> bool:
    """Whether a stream is sound or a picture that moves, not a cover."""
    cover = stream.get("disposition", {}).get("attached_pic")
    return stream.get("codec_type") in ("audio", "video") and not cover


def _start(streams: Iterable[Mapping[str, Any]]) -> float | None:
    """Time stamp of the first packet of all streams, in seconds; None where none is known."""
    starts = (_number(stream, "start_time") for stream in streams)
    return min((start for start in starts if start is not None), default=None)


def _number(facts: Mapping[str, Any], name: str) -> float | None:
    return float(facts[name]) if name in facts else None
