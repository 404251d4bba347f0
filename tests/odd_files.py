"""Recordings that are not what they seem, made of a few seconds of tones with PyAV and libsndfile."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

Samples = NDArray[np.float32]
RATE = 44_100


def tones(channels: int, seconds: float, rate: int = RATE) -> Samples:
    """(channels, samples), a tone of its own in each channel, low enough for an LFE channel."""
    t = np.arange(round(seconds * rate)) / rate
    return np.stack([0.3 * np.sin(2 * np.pi * (50 + 13 * c) * t + c) for c in range(channels)]).astype(np.float32)


@dataclass
class Sound:
    """An audio track of a container.

    Attributes:
        samples: (channels, samples).
        rate: Hz.
        start: time stamp of the first sample in seconds.
        gap: seconds that are missing in the middle, of which the time stamps tell.
        default: whether the track is marked as the one to play.
        language: of the track.
        name: of the track.
        layout: ffmpeg's name of the speakers; None: the usual ones.
    """

    samples: Samples
    rate: int = RATE
    start: float = 0.0
    gap: float = 0.0
    default: bool = False
    language: str = ""
    name: str = ""
    layout: str | None = None


def container(
    path: Path,
    codec: str,
    tracks: Sequence[Sound],
    *,
    picture: float = 0.0,
    format: str | None = None,
    tags: dict[str, str] | None = None,
    **options: str,
) -> Path:
    """Write audio tracks, and `picture` seconds of a picture in front of them, into a container."""
    import av
    from av.stream import Disposition

    with av.open(str(path), "w", format=format, options=options) as file:
        file.metadata.update(tags or {})
        video: Any = None
        if picture:
            video = file.add_stream("mpeg4", rate=25)
            video.width, video.height = 64, 48
        streams = []
        for sound in tracks:
            layout = (
                sound.layout or ("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1")[len(sound.samples) - 1]
            )
            stream: Any = file.add_stream(codec, rate=sound.rate, layout=layout)
            stream.disposition = Disposition.default if sound.default else Disposition(0)
            for key, value in (("language", sound.language), ("title", sound.name)):
                if value:
                    stream.metadata[key] = value
            streams.append((stream, sound, layout))
        for number in range(round(25 * picture)):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts = number
            file.mux(video.encode(frame))
        if video is not None:
            file.mux(video.encode(None))
        for stream, sound, layout in streams:
            _encode(file, stream, sound, layout)
    return path


def _encode(file: Any, stream: Any, sound: Sound, layout: str) -> None:
    import av

    size = 1_024
    kind = stream.codec_context.format.name
    first, middle = round(sound.start * sound.rate), sound.samples.shape[1] // 2 // size * size
    for start in range(0, sound.samples.shape[1], size):
        block = np.ascontiguousarray(sound.samples[:, start : start + size].T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(block, format="flt", layout=layout)
        frame.sample_rate = sound.rate
        frame.pts = first + start + (round(sound.gap * sound.rate) if start >= middle else 0)
        resampler = av.AudioResampler(format=kind, layout=layout, rate=sound.rate)
        for converted in resampler.resample(frame):
            converted.pts = frame.pts
            file.mux(stream.encode(converted))
    file.mux(stream.encode(None))


def small(path: Path, channels: int = 2, seconds: float = 1.0, rate: int = RATE) -> Path:
    """A file of tones, in a format that libsndfile writes, or AAC."""
    if path.suffix == ".opus":
        rate = 48_000
    x = tones(channels, seconds, rate)
    if path.suffix in (".m4a", ".aac"):
        return container(path, "aac", [Sound(x, rate)], format="adts" if path.suffix == ".aac" else None)
    subtype = {".opus": "OPUS", ".ogg": "VORBIS"}.get(path.suffix)
    soundfile.write(path, x.T, rate, format="OGG" if subtype else None, subtype=subtype)
    return path


def joined(path: Path, *parts: Path) -> Path:
    """The bytes of files, one behind the other."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def cut(path: Path, source: Path, share: float = 0.5) -> Path:
    """The first bytes of a file."""
    data = source.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def died(path: Path, source: Path, riff: int, data: int) -> Path:
    """A wav file with these sizes in its header."""
    octets = bytearray(source.read_bytes())
    struct.pack_into("<I", octets, 4, riff)
    struct.pack_into("<I", octets, octets.index(b"data") + 4, data)
    path.write_bytes(octets)
    return path


def restated(path: Path, source: Path, *sizes: tuple[bytes, int, bytes]) -> Path:
    """A file with other sizes in its header, so many bytes behind the start of a word."""
    octets = bytearray(source.read_bytes())
    for word, offset, size in sizes:
        start = octets.index(word) + offset
        octets[start : start + len(size)] = size
    path.write_bytes(octets)
    return path


def packets(path: Path, source: Path) -> Path:
    """A wav file of 16-bit stereo samples that are the bytes of another file."""
    soundfile.write(
        path, np.frombuffer(source.read_bytes()[: source.stat().st_size // 4 * 4], "<i2").reshape(-1, 2), RATE
    )
    return path


def renumbered(data: bytearray, serial: int, earlier: int = 0) -> bytearray:
    """An Ogg stream with another serial number: libsndfile draws it from the clock, so two files may share it.

    Its sound has time stamps that are earlier by so many samples, as what ffmpeg cuts with `-c copy`.
    """
    start = 0
    while (start := data.find(b"OggS", start)) >= 0:
        segments = data[start + 26]
        end = start + 27 + segments + sum(data[start + 27 : start + 27 + segments])
        data[start + 14 : start + 18] = struct.pack("<I", serial)
        granule = int.from_bytes(data[start + 6 : start + 14], "little")
        data[start + 6 : start + 14] = struct.pack("<q", granule - earlier if granule else 0)
        data[start + 22 : start + 26] = bytes(4)
        data[start + 22 : start + 26] = struct.pack("<I", ogg_crc(data[start:end]))
        start = end
    return data


def ogg_crc(page: bytes) -> int:
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc & 1 << 31 else crc << 1) & 0xFFFFFFFF
    return crc
