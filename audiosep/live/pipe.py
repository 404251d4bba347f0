"""Raw samples in pipes: reading and writing interleaved integers or floats."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from audiosep.audio.limits import check_channels
from audiosep.audio.mpeg import CODED_HEAD, is_coded, may_be_coded
from audiosep.audio.samples import Array
from audiosep.errors import InputError


class RawFormat:
    """Samples as raw bytes, channels interleaved.

    Args:
        encoding: s16le (16-bit integers) or f32le (floats), little-endian.
        channels: in a frame.

    Attributes:
        channels: in a frame.
        frame_bytes: size of one sample of all channels.

    Raises:
        InputError: another encoding, or too many channels.
    """

    def __init__(self, encoding: str, channels: int) -> None:
        if encoding not in ("s16le", "f32le"):
            raise InputError(f"raw samples are s16le or f32le, got {encoding!r}")
        self._type = np.dtype("<i2" if encoding == "s16le" else "<f4")
        self.channels = check_channels(channels)
        self.frame_bytes = self._type.itemsize * channels

    def decode(self, data: bytes) -> Array:
        """Convert whole frames to (channels, samples)."""
        x = np.frombuffer(data, self._type).reshape(-1, self.channels).T
        decoded = np.ascontiguousarray(x, np.float32)
        return decoded * np.float32(1 / 32768) if self._type.kind == "i" else decoded

    def encode(self, samples: Array) -> tuple[bytes, int]:
        """Convert (channels, samples) to bytes.

        Returns:
            The bytes, and how many samples were clipped; floats hold any level.
        """
        if self._type.kind == "f":
            return samples.T.astype(self._type).tobytes(), 0
        scaled = np.rint(samples.T * 32768)
        clipped = int(((scaled < -32768) | (scaled > 32767)).sum())
        return np.clip(scaled, -32768, 32767).astype(self._type).tobytes(), clipped


# What files of audio begin with; `.{4}` is a length.
_FILES = {
    "a WAV": re.compile(rb"(RIFF|RF64|BW64).{4}WAVE|riff\x2e\x91\xcf\x11", re.DOTALL),
    "an AIFF": re.compile(rb"FORM.{4}AIF[FC]", re.DOTALL),
    "a CAF": re.compile(rb"caff\x00\x01"),
    "an MP4": re.compile(rb".{4}ftyp", re.DOTALL),
    "a Matroska or WebM": re.compile(rb"\x1a\x45\xdf\xa3"),
    "a FLAC": re.compile(rb"fLaC"),
    "an Ogg": re.compile(rb"OggS"),
    "a WavPack": re.compile(rb"wvpk"),
    "an AU": re.compile(rb"\.snd\x00\x00|dns\..{2}\x00\x00", re.DOTALL),
    "an MP3": re.compile(rb"ID3[\x02-\x04]\x00"),
    "an AVI": re.compile(rb"RIFF.{4}AVI ", re.DOTALL),
    "a WMA": re.compile(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    "an AMR": re.compile(rb"#!AMR"),
    "a VOC": re.compile(rb"Creative Voi"),
}
_BEGINNING = 12  # bytes


class PipeInput:
    """Blocks from a file of raw samples.

    Args:
        file: unbuffered, so that a read returns what is there instead of waiting for more.
        raw: format of its samples.
        samples: most samples of a block.
    """

    def __init__(self, file: BinaryIO, raw: RawFormat, samples: int) -> None:
        self._file, self._raw, self._samples = file, raw, samples

    def blocks(self) -> Iterator[Array]:
        """See `AudioInput`; an incomplete frame at the end is dropped.

        Raises:
            InputError: the file is no raw audio.
        """
        data = self._at_least(_BEGINNING)
        if may_be_coded(data):
            data = self._at_least(CODED_HEAD, data)
        _check_raw(data)
        most = self._samples * self._raw.frame_bytes
        while data:
            whole = len(data) // self._raw.frame_bytes * self._raw.frame_bytes
            for start in range(0, whole, most):
                yield self._raw.decode(data[start : min(start + most, whole)])
            left = data[whole:]
            more = self._file.read(most - len(left))
            data = left + more if more else b""

    def _at_least(self, size: int, data: bytes = b"") -> bytes:
        """What was read, and more until there are so many bytes, or no more."""
        while len(data) < size and (more := self._file.read(size - len(data))):
            data += more
        return data


def _check_raw(beginning: bytes) -> None:
    """Refuse a file of audio, which would be heard as noise."""
    kind = next((f"{kind} file" for kind, pattern in _FILES.items() if pattern.match(beginning)), None)
    if kind is None and is_coded(beginning):
        kind = "a stream of coded sound (AAC, MP3, AC-3 or DTS)"
    if kind is not None:
        raise InputError(
            f"standard input is {kind}, and live reads raw samples: decode "
            "it (ffmpeg -i - -f s16le -ar 44100 -ac 2 -), or separate the file with audiosep separate"
        )


class PipeOutput:
    """Writes raw samples to a file and flushes each block.

    Args:
        file: to write to.
        raw: format of its samples.
    """

    def __init__(self, file: BinaryIO, raw: RawFormat) -> None:
        self._file, self._raw = file, raw

    def write(self, samples: Array) -> int:
        """See `AudioOutput`.

        Raises:
            BrokenPipeError: the reader of the pipe has closed it.
        """
        data, clipped = self._raw.encode(samples)
        if data:
            self._file.write(data)
            self._file.flush()
        return clipped
