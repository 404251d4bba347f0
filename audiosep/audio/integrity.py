"""Checks that libsndfile does not make: whether it would leave out a part of a file, or a part of the file is missing.

It stops at the length that it guesses when it opens a file. For MPEG audio without a Xing header the guess assumes a
constant bit rate; joined MPEG or Ogg files seem to end with the first of them; a WAV file whose recorder was switched
off seems empty. If a WAV or Ogg file was cut off, it corrects the length without a warning.

mutagen states the same wrong lengths, because it does not count frames either: 2.9 s for 20 s of variable bit rate
without a Xing header, 20 s for three joined files of 20 s (mutagen 1.48).
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

# ISO/IEC 11172-3 and 13818-3: bit rates in kbit/s by (MPEG-1?, layer), from index 1 on.
_BIT_RATES = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44_100, 48_000, 32_000)
# Encoder delay and padding (12 bits each) and the frame of the Xing header itself are no audio.
_XING_SLACK = 2 * 4096 + 2 * 1152
_RELEASE = 2**22  # bytes after which the pages of a file are given back


@dataclass(frozen=True)
class MpegLength:
    """Length of an MPEG audio stream by its frame headers.

    Args:
        samples: per channel, in all frames.
        stated: whether a Xing/Info header states the length without delay and padding.
    """

    samples: int
    stated: bool

    def cut_at(self, samples: int) -> bool:
        """Whether a decoder that stops after `samples` leaves audio out."""
        return samples < self.samples - (_XING_SLACK if self.stated else 0)


def mpeg_length(path: Path) -> MpegLength:
    """Count the frames of an MPEG audio stream.

    Args:
        path: MPEG-1/2/2.5 layer I-III, raw or in a WAV file.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        position = _after_id3(data)
        samples, stated, synced, released = 0, False, False, 0
        while position + 4 <= len(data):
            frame = _frame(data[position : position + 4])
            # Two headers in a row are needed: a single match is most likely in a picture or other data.
            following = position + frame[0]
            if frame[0] == 0 or not (synced or _frame(data[following : following + 4])[0]):
                position = data.find(b"\xff", position + 1)
                if position < 0:
                    break
                synced = False
                continue
            if samples == 0:
                head = data[position : position + 64]
                stated = b"Xing" in head or b"Info" in head
            synced = True
            samples += frame[1]
            position = following
            if position - released > _RELEASE:
                released = _release(data, released, position)
    return MpegLength(samples, stated)


@dataclass(frozen=True)
class OggEnd:
    """How an Ogg file ends.

    Args:
        joined: its last page belongs to another stream than its first one.
        marked: its last page is marked as the last one of its stream.
    """

    joined: bool
    marked: bool


def ogg_end(path: Path) -> OggEnd:
    """Compare the first and the last page of an Ogg file (RFC 3533).

    Args:
        path: the file.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        last = max(0, data.rfind(b"OggS", 0, len(data) - 23))  # the last page with a whole header, of 27 bytes
        segments = data[last + 27 : last + 27 + data[last + 26]]
        whole = last + 27 + data[last + 26] + sum(segments) <= len(data) and data.rfind(b"OggS") <= last
        return OggEnd(joined=data[14:18] != data[last + 14 : last + 18], marked=bool(data[last + 5] & 4) and whole)


@dataclass(frozen=True)
class WavEnd:
    """How a WAV file ends.

    Args:
        closed: its writer has filled in the sizes.
        cut: it is shorter than its header states.
    """

    closed: bool
    cut: bool


def wav_end(path: Path) -> WavEnd:
    """Compare the size in the header of a RIFF file with its real one.

    Args:
        path: the file.
    """
    with path.open("rb") as file:
        head = file.read(8)
    (size,) = struct.unpack("<4xI", head)
    # Writers into pipes leave about 2 or 4 GiB. An odd last chunk may lack its byte of padding.
    stated = head[:4] == b"RIFF" and size < 0x7FFF0000
    return WavEnd(closed=size != 0, cut=stated and size + 8 > path.stat().st_size + 1)


def _after_id3(data: mmap.mmap) -> int:
    """Position after an ID3v2 tag, whose pictures may look like frames."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    size = 0
    for byte in data[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size


def _release(data: mmap.mmap, start: int, end: int) -> int:
    """Release the memory of the whole pages in between, which would stay resident; return the end of the last one."""
    end -= end % mmap.PAGESIZE
    if hasattr(data, "madvise"):  # not on Windows
        data.madvise(mmap.MADV_DONTNEED, start, end - start)
    return end


@lru_cache(maxsize=4096)
def _frame(header: bytes) -> tuple[int, int]:
    """(bytes, samples) of the frame that starts with these four bytes; (0, 0) if none does."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return 0, 0
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    bit_rate, rate = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer == 4 or bit_rate in (0, 15) or rate == 3:
        return 0, 0
    first = version == 3
    bits = 1000 * _BIT_RATES[first, layer][bit_rate - 1]
    hertz = _RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]
    padding = header[2] >> 1 & 1
    if layer == 1:
        return (12 * bits // hertz + padding) * 4, 384
    samples = 576 if layer == 3 and not first else 1152
    return samples // 8 * bits // hertz + padding, samples
