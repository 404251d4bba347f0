"""The length of MPEG audio by its frames, which libsndfile and mutagen guess.

libsndfile stops at the length that it guesses when it opens a file: without a Xing header it assumes a constant bit
rate, joined files seem to end with the first of them, and AAC called .mp3 seems to be a tenth of a second of silence.
mutagen states the same wrong lengths, because it does not count frames either: 2.9 s for 20 s of variable bit rate
without a Xing header, 20 s for three joined files of 20 s (mutagen 1.48).
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
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
_RUN = 4  # frames in a row, below which matches are chance
# DTS (ETSI TS 102 114; of 16 and 14 bits), AC-3 (ATSC A/52) and IEC 61937, in either order of bytes.
_SYNC_WORDS = tuple(
    bytes.fromhex(word)
    for word in ("7ffe8001", "fe7f0180", "1fffe800", "ff1f00e8", "0b77", "770b", "f8724e1f", "72f81f4e")
)
_IN_A_ROW = 3  # packets
CODED_HEAD = 16_384
"""Bytes within which `is_coded` finds enough packets."""
_RELEASE = 2**22  # bytes after which the pages of a file are given back


@dataclass(frozen=True)
class MpegLength:
    """Length of an MPEG audio stream by its frame headers.

    Args:
        samples: per channel, in all frames.
        seconds: duration of all frames.
        stated: whether a Xing/Info header states the length without delay and padding.
        changes: where the sample rate or the number of channels changes first, in seconds; None: nowhere.
        scattered: the frames do not follow each other, as in data that is no MPEG audio.
        cut: the last frame is not whole.
        lost: about how many seconds lie between frames, in data that is none.
        end: where the last frame ends, in bytes.
    """

    samples: int
    seconds: float
    stated: bool
    changes: float | None
    scattered: bool
    cut: bool
    lost: float
    end: int

    def cut_at(self, samples: int) -> bool:
        """Whether a decoder that stops after `samples` leaves audio out."""
        return samples < self.samples - (_XING_SLACK if self.stated else 0)


def mpeg_length(path: Path) -> MpegLength:
    """Count the frames of an MPEG audio stream.

    Args:
        path: MPEG-1/2/2.5 layer I-III, raw or in a WAV file.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _count(data)


def is_coded(head: bytes) -> bool:
    """Whether what should be PCM samples are packets of MPEG audio, AAC, DTS or AC-3, as in WAV files of DTS discs.

    Args:
        head: the first bytes, of which some may be silence.
    """
    head = head.lstrip(b"\0")
    if head.startswith(_SYNC_WORDS):
        return head.count(head[:2]) >= _IN_A_ROW
    return any(_frames_in_a_row(head, octets) for octets in (_mpeg_octets, _adts_octets))


def may_be_coded(head: bytes) -> bool:
    """Whether `is_coded` could be true with more bytes, of which at least eight are needed here.

    Args:
        head: the first bytes.
    """
    return head.startswith(_SYNC_WORDS) or bool(_mpeg_octets(head) or _adts_octets(head))


def _frames_in_a_row(head: bytes, octets: Callable[[bytes], int]) -> bool:
    position = 0
    for _ in range(_IN_A_ROW):
        size = octets(head[position : position + 8])
        if not size:
            return False
        position += size
    return True


def _mpeg_octets(header: bytes) -> int:
    return _frame(header[:4]).octets


def _adts_octets(header: bytes) -> int:
    """The length of the AAC frame that starts with this header of ISO/IEC 13818-7; 0 if none does."""
    if len(header) < 7 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0 or header[2] >> 2 & 15 > 12:
        return 0
    size = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return size if size >= 7 else 0


def _count(data: mmap.mmap) -> MpegLength:
    position = start = end = _after_id3(data)
    samples, frames, runs, octets, between, released = 0, 0, 0, 0, 0, 0
    seconds, changes, shape = 0.0, None, (0, 0)
    stated = synced = cut = False
    while position + 4 <= len(data):
        frame = _frame(data[position : position + 4])
        # Two headers in a row are needed: a single match is most likely in a picture or other data.
        following = position + frame.octets
        if not frame.octets or not (synced or _frame(data[following : following + 4]).octets):
            position = data.find(b"\xff", position + 1)
            if position < 0:
                break
            synced = False
            continue
        if frames == 0:
            head = data[position : position + 64]
            stated, shape = b"Xing" in head or b"Info" in head, (frame.rate, frame.channels)
        elif changes is None and (frame.rate, frame.channels) != shape:
            changes = seconds
        if not synced:
            runs += 1
            between += position - end if frames else 0
        synced = True
        frames, samples, octets = frames + 1, samples + frame.samples, octets + frame.octets
        seconds += frame.samples / frame.rate
        cut = following > len(data)
        position = end = following
        if position - released > _RELEASE:
            released = _release(data, released, position)
    scattered = octets < (len(data) - start) / 2 and frames < _RUN * runs
    lost = seconds * between / octets if octets else 0.0
    return MpegLength(samples, seconds, stated, changes, scattered or not frames, cut, lost, end)


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


@dataclass(frozen=True)
class _Frame:
    octets: int
    samples: int = 0
    rate: int = 0
    channels: int = 0


@lru_cache(maxsize=4096)
def _frame(header: bytes) -> _Frame:
    """The frame that starts with these four bytes; of 0 bytes if none does."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return _Frame(0)
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    bit_rate, rate = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer == 4 or bit_rate in (0, 15) or rate == 3:
        return _Frame(0)
    first = version == 3
    bits = 1000 * _BIT_RATES[first, layer][bit_rate - 1]
    hertz = _RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]
    padding = header[2] >> 1 & 1
    channels = 1 if header[3] >> 6 == 3 else 2
    if layer == 1:
        return _Frame((12 * bits // hertz + padding) * 4, 384, hertz, channels)
    samples = 576 if layer == 3 and not first else 1152
    return _Frame(samples // 8 * bits // hertz + padding, samples, hertz, channels)
