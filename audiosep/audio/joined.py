"""Where the first of several files ends that were joined byte by byte (`cat a.flac b.flac`).

Decoders of most formats stop there without an error. Chained Ogg files, MPEG audio and raw AAC are read to their end.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO

from audiosep.audio.mpeg import mpeg_length
from audiosep.audio.riff import end_of_samples, is_chunk, stated_size, wav_header

_BLOCK = 2**22  # bytes
_FLAC = b"fLaC\0\0\0\x22"  # the marker and the header of the STREAMINFO block (RFC 9639)
_SHARE = 0.01  # share of a file behind its end that may be tags
_TAGS_BEHIND = (b"APETAGEX", b"LYRICSBEGIN", b"TAG")  # tags at the end of MPEG audio, which may hold a picture


def bytes_behind(path: Path) -> int:
    """How many bytes follow the end of the sound that a decoder reads.

    Args:
        path: a file that was read to its end.

    Returns:
        Their number; 0 where they are few enough to be tags, for formats whose end is not known, and for a file that
        is gone since it was read.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            end = _end_of_first(path, file, file.read(12), size)
    except FileNotFoundError:
        return 0
    behind = 0 if end is None else size - end
    return behind if end is not None and behind > _SHARE * end else 0


def _end_of_first(path: Path, file: IO[bytes], head: bytes, size: int) -> int | None:
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        header = wav_header(path)
        if header is None or header.lost:
            return None
        return end_of_samples(path) or _last_chunk(file, header.data + header.stated, min(header.end, size))
    if head[:4] == b"fLaC":
        return _find(file, _FLAC, len(_FLAC))
    if head[4:8] == b"ftyp":
        return _next_movie(file, size)
    if head[:3] == b"ID3" or head[:1] == b"\xff":
        return _end_of_mpeg(path, file)
    return stated_size(path)


def _last_chunk(file: IO[bytes], position: int, end: int) -> int:
    """Where the chunks behind the samples of a WAV file end, of which the last may lack its padding.

    What is no chunk, though the file counts it, may be samples behind a size that is too small.
    """
    while position + 8 <= end:
        file.seek(position + position % 2)
        name, size = struct.unpack("<4sI", file.read(8).ljust(8, b"\0"))
        if not is_chunk(name):
            return position
        position = file.tell() + size
    return max(position, end)


def _find(file: IO[bytes], marker: bytes, start: int) -> int | None:
    """Position of a marker from `start` on, in the memory of a block."""
    file.seek(start)
    data, position = file.read(_BLOCK), start
    while data:
        found = data.find(marker)
        if found >= 0:
            return position + found
        tail = data[-len(marker) + 1 :]
        position += len(data) - len(tail)
        more = file.read(_BLOCK)
        data = tail + more if more else b""
    return None


def _next_movie(file: IO[bytes], size: int) -> int | None:
    """Where a second file type box follows the boxes of an MP4 file (ISO/IEC 14496-12, 4.2)."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if position and kind == b"ftyp":
            return position
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:  # 0: to the end of the file
            return None
        position += length
    return None


def _end_of_mpeg(path: Path, file: IO[bytes]) -> int | None:
    """Where the last frame of MPEG audio ends; None for other data, and where only tags follow."""
    length = mpeg_length(path)
    file.seek(length.end)
    return None if length.scattered or file.read(16).lstrip(b"\0").startswith(_TAGS_BEHIND) else length.end
