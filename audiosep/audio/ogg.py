"""The links of an Ogg file and their lengths (RFC 3533).

libsndfile reads only the first of several links, corrects the length of a file that was cut off without a warning, and
takes two links for one where they share a serial number.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

_FIRST, _LAST = 2, 4  # flags of the first and the last page of a stream
_HEADER = 27  # bytes, before the sizes of the segments
_NO_GRANULE = 2**64 - 1
_OPUS_RATE = 48_000  # of its granules, whatever the rate of the recording
_MODE = 41  # bits of a mode in the third header of Vorbis
_SPEAKERS = (0, 1)  # families of Opus channels that are those of speakers (RFC 7845, 5.1.1)


@dataclass(frozen=True)
class OggLink:
    """A stream of sound in an Ogg file; the next link begins where it ends.

    Args:
        start: its first byte in the file.
        rate: of its granules in Hz; 0 for an encoding other than Vorbis and Opus.
        channels: of the sound; 0 as above.
        samples: that its last page counts.
        placed: whether its channels are those of speakers, and not ones without a meaning or of ambisonics.
    """

    start: int
    rate: int = 0
    channels: int = 0
    samples: int = 0
    placed: bool = True


@dataclass(frozen=True)
class OggLinks:
    """How an Ogg file is made up.

    Args:
        links: one behind the other.
        multiplexed: more than one stream plays at once, as in a video.
        marked: the last page is whole and marked as the last one of its stream.
    """

    links: tuple[OggLink, ...]
    multiplexed: bool
    marked: bool

    @property
    def placed(self) -> bool:
        """Whether the channels of all links are those of speakers."""
        return all(link.placed for link in self.links)

    @property
    def seconds(self) -> float | None:
        """Duration of all links; None where it is not known."""
        if self.multiplexed or not all(link.rate for link in self.links):
            return None
        return sum(link.samples / link.rate for link in self.links)

    @property
    def changes(self) -> float | None:
        """Where the first link ends that has another rate or number of channels than the next, in seconds."""
        seconds = 0.0
        for link, following in zip(self.links, self.links[1:], strict=False):
            seconds += link.samples / link.rate if link.rate else 0.0
            if (link.rate, link.channels) != (following.rate, following.channels):
                return seconds
        return None


def ogg_links(path: Path) -> OggLinks:
    """Read the headers of all pages.

    Args:
        path: the file.
    """
    links: list[OggLink] = []
    starting = multiplexed = marked = counting = False
    base = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for page in _pages(data):
            if page.flags & _FIRST:
                multiplexed |= starting
                if not starting:
                    links.append(_link(page.start, data[page.body : page.body + 32]))
                    counting = False
            elif links and page.granule not in (0, _NO_GRANULE):
                link = links[-1]
                if not counting:
                    # What was recorded from a running stream does not start at 0; a page has less than 2 s.
                    base = page.granule if link.rate and page.granule > 2 * link.rate else _skipped(link, data)
                counting = True
                links[-1] = replace(link, samples=max(0, page.granule - base))
            starting = bool(page.flags & _FIRST)
            marked = bool(page.flags & _LAST) and page.whole
    return OggLinks(tuple(links), multiplexed, marked)


def starts_before_zero(path: Path, link: OggLink) -> bool:
    """Whether a link of Vorbis holds more than a block of sound before its time 0.

    What was cut without encoding it again may start so. libsndfile plays that sound, and leaves out as much elsewhere.

    Args:
        path: the file.
        link: of it.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        packets = _packets(data, link.start)
        head, _ = next(packets, (b"", 0))
        if not head.startswith(b"\x01vorbis") or len(head) < 29:
            return False
        sizes = 1 << (head[28] & 15), 1 << (head[28] >> 4)
        next(packets, None)  # comments
        long = _long_modes(next(packets, (b"", 0))[0])
        samples = before = 0
        first: int | None = None
        for packet, granule in packets:
            mode = packet[0] >> 1 & (1 << (len(long) - 1).bit_length()) - 1 if packet and long else len(long)
            if first not in (None, granule) or mode >= len(long):
                break
            block = sizes[long[mode]]
            samples += (before + block) // 4 if before else 0
            first, before = granule, block
    return first is not None and samples - first > sizes[1]


def _long_modes(setup: bytes) -> list[bool]:
    """Whether the blocks of each mode are long ones; empty of a damaged header (Vorbis I specification, 4.2.4).

    The modes stand at its end, and are found from there: everything before them would have to be decoded.
    """
    bits = int.from_bytes(setup, "little")
    found: list[bool] = []
    modes: list[bool] = []
    start = bits.bit_length() - 1  # of the framing flag
    while start >= _MODE + 6 and len(modes) < 64:
        start -= _MODE
        if bits >> (start + 1) & 0xFFFFFFFF:  # types of window and transform, of which there is only 0
            break
        modes.insert(0, bool(bits >> start & 1))
        if (bits >> (start - 6) & 63) + 1 == len(modes):
            found = list(modes)
    return found


@dataclass(frozen=True)
class _Page:
    start: int
    flags: int
    granule: int
    body: int
    whole: bool


def _packets(data: mmap.mmap, start: int) -> Iterator[tuple[bytes, int]]:
    """All packets of a stream from a page on, each with the granule, below 0 too, of the page on which it ends."""
    packet = b""
    for page in _pages(data, start):
        position = page.body
        for size in data[page.start + _HEADER : page.body]:
            packet += data[position : position + size]
            position += size
            if size < 255:
                yield packet, page.granule - (page.granule >> 63 << 64)
                packet = b""


def _pages(data: mmap.mmap, start: int = 0) -> Iterator[_Page]:
    """All pages from a place on; the last one may have only half a header."""
    start = data.find(b"OggS", start)
    while start >= 0:
        sizes = start + _HEADER
        if sizes > len(data):
            yield _Page(start, 0, _NO_GRANULE, len(data), False)
            return
        body = sizes + data[sizes - 1]
        end = body + sum(data[sizes:body])
        granule = int.from_bytes(data[start + 6 : start + 14], "little")
        yield _Page(start, data[start + 5], granule, body, end <= len(data))
        start = data.find(b"OggS", end if end <= len(data) else start + 4)


def _link(start: int, packet: bytes) -> OggLink:
    """A link by its first packet (Vorbis I specification, 4.2.2; RFC 7845, 5.1)."""
    if packet.startswith(b"\x01vorbis") and len(packet) >= 16:
        channels, rate = struct.unpack_from("<BI", packet, 11)
        return OggLink(start, rate, channels)
    if packet.startswith(b"OpusHead") and len(packet) >= 19:
        return OggLink(start, _OPUS_RATE, packet[9], placed=packet[18] in _SPEAKERS)
    return OggLink(start)


def _skipped(link: OggLink, data: mmap.mmap) -> int:
    """Samples at the start that an Opus decoder leaves out."""
    head = data.find(b"OpusHead", link.start, link.start + 128)
    return int.from_bytes(data[head + 10 : head + 12], "little") if head >= 0 else 0
