"""Decoding with an ffmpeg on PATH, as a child process that sends floats through a pipe."""

from __future__ import annotations

import json
import logging
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from audiosep.audio.info import AudioInfo, clean_tags, ffmpeg_depth
from audiosep.audio.limits import Array
from audiosep.audio.source import Unreadable

logger = logging.getLogger(__name__)

_BLOCK = 16_384


class FFmpegSource:
    """The first audio stream of a file as the ffmpeg program decodes it.

    Args:
        path: the file.

    Raises:
        Unreadable: there is no ffmpeg, or it finds no audio.
    """

    def __init__(self, path: Path) -> None:
        program = shutil.which("ffmpeg")
        if program is None:
            raise Unreadable("not on PATH (install it from https://ffmpeg.org or with the system's packages)")
        # Sun AU has the shortest header with rate and channels. Only local files, because playlists can name addresses.
        command = [program, "-v", "error", "-nostdin", "-protocol_whitelist", "file,pipe", "-i", f"file:{path}"]
        command += ["-map", "0:a:0", "-f", "au", "-c:a", "pcm_f32be", "pipe:1"]
        # A file, because ffmpeg would block on a full pipe of errors if the input is badly damaged.
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (close() does)
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._log, stdin=subprocess.DEVNULL)
        try:
            sample_rate, channels = self._read_header()
            self.info = _describe(path, sample_rate, channels)
        except BaseException:
            self.close()
            raise

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
        frame = 4 * self.info.channels
        while data := self._read(_BLOCK * frame):
            samples = np.frombuffer(data[: len(data) // frame * frame], ">f4").reshape(-1, self.info.channels)
            yield np.ascontiguousarray(samples.T, dtype=np.float32)
        self._process.wait()
        if complaint := self._complaint():
            logger.warning("%s is damaged: ffmpeg reports: %s", self.info.path, complaint)

    def _read(self, size: int) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.read(size)

    def _complaint(self) -> str:
        """The last error of ffmpeg, after it has ended; empty if there was none."""
        self._process.wait()
        self._log.seek(0)
        text = self._log.read().decode(errors="replace").strip()
        if "matches no streams" in text:
            return "there is no audio stream in it"
        return text.splitlines()[-1].rpartition(": ")[2] if text else ""

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()


def _describe(path: Path, sample_rate: int, channels: int) -> AudioInfo:
    facts = _ffprobe(path)
    stream: dict[str, Any] = next(iter(facts.get("streams", [])), {})
    container: dict[str, Any] = facts.get("format", {})
    seconds = stream.get("duration", container.get("duration"))
    formats = str(container.get("format_name", "")).split(",")
    suffix = path.suffix.lower().removeprefix(".")
    codec = stream.get("codec_name", "unknown")
    return AudioInfo(
        path=path,
        sample_rate=sample_rate,
        channels=channels,
        samples=None,
        depth=ffmpeg_depth(codec, stream.get("sample_fmt", "")),
        format=suffix if suffix in formats or not formats[0] else formats[0],
        encoding=codec,
        backend="ffmpeg",
        tags=clean_tags({**container.get("tags", {}), **stream.get("tags", {})}),
        estimate=None if seconds is None else float(seconds),
    )


def _ffprobe(path: Path) -> dict[str, Any]:
    """ffprobe's description of the first audio stream; empty where ffmpeg came without its companion."""
    program = shutil.which("ffprobe")
    if program is None:
        return {}
    command = [program, "-v", "quiet", "-protocol_whitelist", "file", "-of", "json", "-show_format", "-show_streams"]
    command += ["-select_streams", "a:0", f"file:{path}"]
    output = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False).stdout
    facts: dict[str, Any] = json.loads(output or b"{}")
    return facts
