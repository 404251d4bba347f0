"""How far a FLAC file reaches by its last frames (RFC 9639, 9.1): its header may state fewer samples."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

from mutagen import flac

_TAIL = 2**18  # bytes, of several frames
_HEADER = 16  # bytes at most
_MORE = {6: 1, 7: 2}  # code of the block size -> bytes that state it
_RATE = {12: 1, 13: 2, 14: 2}  # code of the sample rate -> bytes that state it


def last_frame(path: Path) -> int:
    """Where the last frame begins.

    Args:
        path: a flac file.

    Returns:
        Samples from the start; 0 where no two frames in a row are found at the end of the file.
    """
    try:
        block = flac.FLAC(path).info.min_blocksize
    except Exception:  # damaged tags raise anything
        return 0
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        data = file.read()
    found = (_first_sample(data[match.start() :][:_HEADER], block) for match in re.finditer(b"\xff[\xf8\xf9]", data))
    starts = [start for start in found if start is not None]
    return max((start for before, start in pairwise(starts) if 0 < start - before < 2**16), default=0)


def _first_sample(head: bytes, block: int) -> int | None:
    """The number of the first sample of the frame that begins with these bytes; None where none does."""
    if len(head) < _HEADER:
        return None
    octets = 1 if head[4] < 0x80 else 8 - (head[4] ^ 0xFF).bit_length()
    number = head[4] & (0xFF >> octets)
    for octet in head[5 : 4 + octets]:
        number = number << 6 | octet & 0x3F
    end = 4 + octets + _MORE.get(head[2] >> 4, 0) + _RATE.get(head[2] & 15, 0)
    if end >= _HEADER or _crc(head[: end + 1]):
        return None
    return number if head[1] & 1 else number * block


def _crc(data: bytes) -> int:
    """CRC-8 with the polynomial x^8 + x^2 + x + 1: 0 where the last byte is that of the others."""
    crc = 0
    for octet in data:
        crc ^= octet
        for _ in range(8):
            crc = (crc << 1 ^ 0x107) if crc & 0x80 else crc << 1
    return crc
