"""The headers of WAV and similar files: speakers, and whether the sizes that they state are those of the file.

A recorder that is switched off leaves sizes of 0 or those of an empty file; programs that write into pipes leave 2 or
4 GiB. libsndfile then reads nothing, or corrects the length without a warning.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from audiosep.audio.mpeg import is_coded

_EXTENSIBLE = 0xFFFE
_UNKNOWN = 0x7FFF0000  # what is stated from here on stands for a length that was not known
_LARGEST = 0xFFFFFFFF
_PROBED = 16_384  # bytes of the samples, of which the first may be silence


@dataclass(frozen=True)
class WavHeader:
    """What a RIFF or RF64 file says in front of its samples; positions and sizes in bytes.

    Args:
        speakers: dwChannelMask of WAVE_FORMAT_EXTENSIBLE; 0 without one.
        sizes: where the sizes of the file and of the samples are.
        width: of each of them.
        data: where the samples start.
        stated: size of the samples as the header has it.
        available: size of what follows the header.
        end: of the file, as the header has it.
        closed: that is right.
        rate: bytes per second; 0 where the format chunk states none.
        coded: the samples are packets of a lossy encoding, which would play as noise.
    """

    speakers: int
    sizes: tuple[int, int]
    width: int
    data: int
    stated: int
    available: int
    end: int
    closed: bool
    rate: int
    coded: bool

    @property
    def lost(self) -> bool:
        """Whether the header states no length, though there are samples."""
        unknown = self.stated >= _UNKNOWN and self.stated > self.available + 1 and self.width == 4
        return self.available > 0 and (unknown or (self.stated == 0 and not self.closed))

    @property
    def repairs(self) -> dict[int, bytes]:
        """Position -> the sizes that are right."""
        sizes = (self.data - 8 + self.available, self.available)
        numbers = [min(size, _LARGEST if self.width == 4 else size).to_bytes(self.width, "little") for size in sizes]
        return dict(zip(self.sizes, numbers, strict=True))


def wav_header(path: Path) -> WavHeader | None:
    """Read the chunks of a WAV file up to its samples.

    Args:
        path: the file.

    Returns:
        What they say; None where there are no samples, or the file is neither RIFF nor RF64.
    """
    length = path.stat().st_size
    speakers, rate, ds64, large = 0, 0, 0, b""
    with path.open("rb") as file:
        kind, riff = struct.unpack("<4sI4x", file.read(12))
        while len(chunk := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", chunk)
            position = file.tell()
            if name == b"data":
                width, sizes = (8, (ds64, ds64 + 8)) if ds64 else (4, (4, position - 4))
                if ds64:
                    riff, size = struct.unpack("<QQ", large)
                closed = abs(riff + 8 - length) <= 1
                coded = is_coded(file.read(_PROBED))
                return WavHeader(
                    speakers, sizes, width, position, size, length - position, riff + 8, closed, rate, coded
                )
            body = file.read(min(size, 64))
            if name == b"ds64" and len(body) >= 16 and kind == b"RF64":
                ds64, large = position, body[:16]
            elif name == b"fmt " and len(body) >= 16:
                code, rate = struct.unpack_from("<H6xI", body)
                speakers = int.from_bytes(body[20:24], "little") if code == _EXTENSIBLE else 0
            file.seek(position + size + size % 2)
    return None


def stated_size(path: Path) -> int | None:
    """The size in bytes that the header of an AIFF, AU, CAF, W64, WAV or AVI file states.

    Args:
        path: the file.

    Returns:
        The size; None for other formats, and where it is not known.
    """
    with path.open("rb") as file:
        head = file.read(24)
        if head[:4] == b"FORM":
            return 8 + int.from_bytes(head[4:8], "big")
        if head[:4] == b"RIFF":
            size = int.from_bytes(head[4:8], "little")
            return None if size >= _UNKNOWN else 8 + size
        if head[:4] == b".snd":
            start, size = struct.unpack_from(">II", head, 4)
            return None if size == _LARGEST else int(start + size)
        if head[:4] == b"riff":
            return int.from_bytes(head[16:24], "little")
        if head[:4] == b"caff":
            file.seek(8)
            while len(chunk := file.read(12)) == 12:
                name, size = struct.unpack(">4sq", chunk)
                if name == b"data":
                    return None if size < 0 else file.tell() + int(size)
                file.seek(max(size, 0), 1)
    return None
