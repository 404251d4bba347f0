"""The headers of WAV and similar files: speakers, and whether the sizes that they state are those of the file.

A recorder that is switched off leaves sizes of 0 or those of an empty file; programs that write into pipes leave 2 or
4 GiB. libsndfile then reads nothing, or corrects the length without a warning.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from audiosep.audio.mpeg import is_coded

_EXTENSIBLE, _FLOAT, _PCM = 0xFFFE, 3, 1
_EXTENDED = 40  # bytes of an extensible format chunk
_UNKNOWN = 0x7FFF0000  # what is stated from here on stands for a length that was not known
_LARGEST = 0xFFFFFFFF
_EMPTY = 8  # bytes that a chunk without samples may have
_W64_FORMAT = 64  # where the first chunk of a W64 file has its content
_PROBED = 16_384  # bytes of a chunk; of samples, of which the first may be silence


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
        track: number as ffmpeg writes it, IPRT of the INFO list; empty where there is none.
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
    track: str

    @property
    def lost(self) -> bool:
        """Whether the header states no length, though there are samples."""
        unknown = self.stated == _LARGEST or (self.stated >= _UNKNOWN and self.stated > self.available + 1)
        return self.available > 0 and ((unknown and self.width == 4) or (self.stated == 0 and not self.closed))

    @property
    def beyond(self) -> bool:
        """Whether there are more samples than the header could state."""
        return self.width == 4 and self.available > _LARGEST

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
    speakers, rate, ds64, large, track = 0, 0, 0, b"", ""
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
                    speakers, sizes, width, position, size, length - position, riff + 8, closed, rate, coded, track
                )
            body = file.read(min(size, _PROBED))
            if name == b"ds64" and len(body) >= 16 and kind == b"RF64":
                ds64, large = position, body[:16]
            elif name == b"fmt " and len(body) >= 16:
                rate = int.from_bytes(body[8:12], "little")
                speakers = _mask(body)
            elif name == b"LIST" and (found := re.search(rb"IPRT....([^\0]+)\0", body, re.DOTALL)):
                track = found[1].decode(errors="replace")
            file.seek(position + size + size % 2)
    return None


def end_of_samples(path: Path) -> int | None:
    """Where the samples of a WAV file end that has more in a further chunk: a decoder reads one chunk alone.

    Args:
        path: the file.

    Returns:
        The position; None of WAV files with one such chunk, and of other files.
    """
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
            return None
        start, size = find_chunk(file, 12, b"data", "<4sI")
        end = start + size + size % 2
        further, _ = find_chunk(file, end, b"data", "<4sI") if size else (0, 0)
    return end if further else None


def _mask(form: bytes) -> int:
    """The speakers that a format chunk states, 0 for none."""
    return int.from_bytes(form[20:24], "little") if int.from_bytes(form[:2], "little") == _EXTENSIBLE else 0


def w64_format(path: Path) -> tuple[int, bool]:
    """What the format chunk of a W64 file says, where it comes first.

    Args:
        path: the file.

    Returns:
        speakers: a bit for each, as in `audio.speakers`; 0 for none.
        integers: whether its samples are; WAVE_FORMAT_EXTENSIBLE alone is looked at for others.
    """
    with path.open("rb") as file:
        form = file.read(_W64_FORMAT + _EXTENDED)[_W64_FORMAT:]
    extended = form[:2] == _EXTENSIBLE.to_bytes(2, "little")
    return _mask(form), not extended or form[24:26] == _PCM.to_bytes(2, "little")


def states_samples(path: Path) -> bool:
    """Whether a WAV file says how many samples it has: in a chunk `fact`, or by the size of its data if they are PCM.

    Args:
        path: the file.
    """
    with path.open("rb") as file:
        form, _ = find_chunk(file, 12, b"fmt ", "<4sI")
        file.seek(form)
        code = int.from_bytes(file.read(2), "little")
        fact, _ = find_chunk(file, 12, b"fact", "<4sI")
        file.seek(fact)
        count = int.from_bytes(file.read(4), "little") if fact else 0
    return code in (_PCM, _FLOAT, _EXTENSIBLE) or 0 < count < _LARGEST


def is_chunk(name: bytes) -> bool:
    """Whether four bytes are the name of a chunk rather than samples."""
    return len(name) == 4 and all(0x20 <= octet < 0x7F for octet in name)


def unclosed(path: Path) -> dict[int, bytes]:
    """What the header of an AIFF, AU or CAF file should say that states no samples though there are some.

    Args:
        path: the file.

    Returns:
        Position -> the sizes that are right; empty where nothing is wrong, and for other formats.
    """
    length = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b".snd":
            start, size = struct.unpack_from(">II", head, 4)
            return {8: _big(length - start)} if size == 0 and start < length else {}
        if head[:4] == b"caff":
            position, size = find_chunk(file, 8, b"data", ">4sq")
            if position and 0 <= size <= _EMPTY and position + _EMPTY < length:
                file.seek(position + size)
                return {} if is_chunk(file.read(4)) else {position - 8: _big(length - position, 8)}
        if head[:4] == b"FORM":
            common, _ = find_chunk(file, 12, b"COMM", ">4sI")
            file.seek(common)
            channels, frames, bits = struct.unpack(">HIH", file.read(8).ljust(8, b"\0"))
            position, size = find_chunk(file, 12, b"SSND", ">4sI")
            start, width = position + _EMPTY, channels * ((bits + 7) // 8)
            file.seek(start)
            samples = start < length and not is_chunk(file.read(4))
            if common and position and frames == 0 and size <= _EMPTY and width and samples:
                sizes = {4: length - 8, common + 2: (length - start) // width, position - 4: length - position}
                return {place: _big(number) for place, number in sizes.items()}
    return {}


def _big(number: int, width: int = 4) -> bytes:
    return min(number, (1 << 8 * width) - 1).to_bytes(width, "big")


def find_chunk(file: BinaryIO, position: int, wanted: bytes, form: str) -> tuple[int, int]:
    """Find a chunk.

    Args:
        file: the file.
        position: of the first chunk.
        wanted: the name of the one to find.
        form: of name and size, for struct: ">4sI" (AIFF), "<4sI" (WAV), or ">4sq" (CAF, which pads nothing).

    Returns:
        position: where its content starts; 0 where there is none.
        size: as it states it.
    """
    end = file.seek(0, 2)
    while position < end:  # sizes may lead anywhere
        file.seek(position)
        name, size = struct.unpack(form, file.read(struct.calcsize(form)).ljust(struct.calcsize(form), b"\0"))
        position = file.tell()
        if name == wanted:
            return position, int(size)
        if not is_chunk(name):
            break
        position += max(0, size if form == ">4sq" else size + size % 2)
    return 0, 0


def stated_size(path: Path) -> int | None:
    """The size in bytes that the header of an AIFF, AU, CAF, W64, WAV or AVI file states.

    Args:
        path: the file.

    Returns:
        The size; None for other formats, and where it is not known, as of files that were written into pipes.
    """
    if unclosed(path):
        return None
    with path.open("rb") as file:
        head = file.read(24)
        if head[:4] == b"FORM":
            return 8 + size if (size := int.from_bytes(head[4:8], "big")) else None
        if head[:4] == b"RIFF":
            size = int.from_bytes(head[4:8], "little")
            return 8 + size if 0 < size < _UNKNOWN else None
        if head[:4] == b".snd":
            start, size = struct.unpack_from(">II", head, 4)
            return None if size == _LARGEST else int(start + size)
        if head[:4] == b"riff":
            size = int.from_bytes(head[16:24], "little")
            return size if 0 < size < 2**62 else None
        if head[:4] == b"caff":
            position, size = find_chunk(file, 8, b"data", ">4sq")
            return position + size if position and size >= 0 else None
    return None
