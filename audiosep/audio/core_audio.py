"""The order of channels as Apple's files state it: AIFF, CAF and QuickTime."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from audiosep.audio.riff import find_chunk

# Number of a layout (CoreAudioBaseTypes.h) -> for each of its channels the bit of WAVE. Not 7.1 with the side channels
# first (128): ffmpeg writes that number for files in the order of WAVE, which are more.
_LAYOUTS = {
    108: (0, 1, 4, 5),
    113: (0, 1, 2),
    114: (2, 0, 1),
    115: (0, 1, 2, 8),
    116: (2, 0, 1, 8),
    117: (0, 1, 2, 9, 10),
    118: (0, 1, 9, 10, 2),
    119: (0, 2, 1, 9, 10),
    120: (2, 0, 1, 9, 10),
    121: (0, 1, 2, 3, 9, 10),
    122: (0, 1, 9, 10, 2, 3),
    123: (0, 2, 1, 9, 10, 3),
    124: (2, 0, 1, 9, 10, 3),
    125: (0, 1, 2, 3, 9, 10, 8),
    126: (0, 1, 2, 3, 9, 10, 6, 7),
    127: (2, 6, 7, 0, 1, 9, 10, 3),
    131: (0, 1, 8),
    132: (0, 1, 9, 10),
    133: (0, 1, 3),
    136: (0, 1, 2, 3),
    137: (0, 1, 2, 3, 8),
}
_DESCRIBED, _BITMAP = 0, 1  # instead of such a number
_DESCRIPTION = 20  # bytes of each channel
_BITS = 18  # of WAVE
_QUICKTIME = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")  # its first box
_LARGEST_INDEX = 2**26  # bytes
_LARGEST = 2**12  # bytes of a layout


def layouts(path: Path) -> list[bytes]:
    """What a file says about the speakers of its channels.

    Args:
        path: the file.

    Returns:
        Content of the chunk `chan` (Apple Core Audio Format Specification, "Channel Layout Chunk"), of each track of a
        film; empty where there is none, and for other formats.
    """
    with path.open("rb") as file:
        head = file.read(8)
        if head[4:] in _QUICKTIME:
            return [movie[at.end() :][:_LARGEST] for movie in _movies(file) for at in re.finditer(b"chan\0{4}", movie)]
        if head[:4] == b"caff":
            position, size = find_chunk(file, 8, b"chan", ">4sq")
        else:
            position, size = find_chunk(file, 12, b"CHAN", ">4sI") if head[:4] == b"FORM" else (0, 0)
        file.seek(position)
        return [file.read(min(max(size, 0), _LARGEST))] if position else []


def _movies(file: BinaryIO) -> Iterator[bytes]:
    """The indices of a QuickTime file (ISO/IEC 14496-12, 4.2) that memory holds."""
    position, end = 0, file.seek(0, 2)
    while position + 16 <= end:  # sizes may lead anywhere
        file.seek(position)
        head = file.read(16)
        size, kind = struct.unpack_from(">I4s", head)
        if size == 1:
            size = int.from_bytes(head[8:], "big")
        if kind == b"moov" and size < _LARGEST_INDEX:
            file.seek(position)
            yield file.read(size)
        if size < 8:  # 0: to the end of the file
            return
        position += size


def speaker_bits(layout: bytes) -> tuple[int, ...]:
    """For each channel the number of its speaker's bit, as in `audio.speakers`.

    Args:
        layout: one of `layouts`.

    Returns:
        The numbers, which need not rise; empty where they are not known, or WAVE could not state them.
    """
    tag, bitmap, count = struct.unpack(">III", layout[:12].ljust(12, b"\0"))
    if tag >> 16 == _BITMAP:
        return tuple(bit for bit in range(_BITS) if bitmap >> bit & 1)
    if tag >> 16 != _DESCRIBED:
        return _LAYOUTS.get(tag >> 16, ())
    starts = range(12, len(layout), _DESCRIPTION)[:count]
    bits = tuple(int.from_bytes(layout[start : start + 4], "big") - 1 for start in starts)
    return bits if all(0 <= bit < _BITS for bit in bits) else ()


def in_wave_order(layout: bytes) -> bool:
    """Whether the channels are known to be in the order of WAVE, as two or fewer are.

    Args:
        layout: one of `layouts`.
    """
    tag, _, count = struct.unpack(">III", layout[:12].ljust(12, b"\0"))
    bits = speaker_bits(layout)
    return (tag & 0xFFFF or count) < 3 or (bool(bits) and list(bits) == sorted(bits))
