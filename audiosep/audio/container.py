"""What a container states about the length of its sound, for the two decoders of ffmpeg's libraries."""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiosep.audio.mpeg import mpeg_length
from audiosep.audio.ogg import ogg_links
from audiosep.audio.riff import stated_size, states_samples
from audiosep.audio.samples import Array

logger = logging.getLogger(__name__)

# Of these ffmpeg guesses the length: by the bit rate of the first frames, or of avi by a size of packets that only some
# encodings have (of ADPCM three times too much).
_GUESSED = frozenset(("aac", "loas", "ac3", "eac3", "dts", "truehd", "mlp", "amr", "adx", "g729", "gsm", "avi"))
_TRANSPORT = (188, 192, 204)  # bytes of a packet of MPEG-TS
_PACKET = 2**16 + 6  # bytes: the longest packet of a program stream
_SOUND_AND_PICTURE = (0xBD, *range(0xC0, 0xF0))
_LAST_FRAMES = 2 * 2048  # samples
_BLOCK = 65_536


@dataclass(frozen=True)
class Lengths:
    """What ffmpeg says about the length of a track, in seconds; None: nothing.

    Args:
        stream: of the audio stream.
        tag: of the stream, in the tag DURATION that Matroska has instead.
        container: of the whole file.
        start: time stamp of the first packet of the stream.
        first: of the first sample that its decoder gives, which leaves out what the encoder started with.
        picture: of the first packet of all pictures; None: there are none.
        other: of the first packet of all other sound; None: there is none.
        alone: whether the file has nothing but this stream.
    """

    stream: float | None
    tag: float | None
    container: float | None
    start: float
    first: float
    picture: float | None
    other: float | None
    alone: bool

    @property
    def zero(self) -> float | None:
        """Time stamp at which the sound should start, with the picture or else with other sound; None: at its own."""
        if self.picture is not None or self.other is None:
            return self.picture
        return self.other + self.first - self.start  # of the other track a decoder leaves out about as much

    @property
    def late(self) -> float:
        """How long after the other streams the stream starts."""
        return 0.0 if self.zero is None else max(0.0, self.first - self.zero)


def tag_seconds(tag: str | None) -> float | None:
    """A duration such as "01:02:03.456000000" in seconds; None where it is none."""
    match = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", (tag or "").strip())
    return None if match is None else int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])


@dataclass(frozen=True)
class Stated:
    """What a file says about its sound.

    Args:
        seconds: how long it must be; None where the file states no length, or ffmpeg guesses it.
        cut: whether the end of the file is missing.
        changes: where the sample rate or the number of channels changes, in seconds; None: nowhere that is known.
    """

    seconds: float | None
    cut: bool
    changes: float | None = None


def stated_length(path: Path, formats: Collection[str], lengths: Lengths) -> Stated:
    """What a container says about its sound.

    Args:
        path: the file.
        formats: names that ffmpeg has for the container.
        lengths: what ffmpeg says.
    """
    if "mp3" in formats:
        mpeg = mpeg_length(path)
        return Stated(mpeg.seconds, mpeg.cut, mpeg.changes)
    if "ogg" in formats:
        ogg = ogg_links(path)
        return Stated(ogg.seconds, not ogg.marked, ogg.changes)
    size = path.stat().st_size
    if "mpegts" in formats:
        cut = all(size % packet for packet in _TRANSPORT)
    elif "mpeg" in formats:
        cut = _ends_within_packet(path, size)
    else:
        cut = (stated_size(path) or 0) > size + 1
    if _GUESSED & set(formats) or ("wav" in formats and not states_samples(path)):
        return Stated(None, cut)
    if lengths.stream is not None:
        return Stated(lengths.stream + lengths.late, cut)
    end = lengths.tag if lengths.tag is not None else lengths.container
    if end is None or not (lengths.tag is not None or lengths.alone or "flv" in formats):
        return Stated(None, cut)
    # Matroska states where its streams end on a time line that need not begin with them.
    begins = lengths.start if lengths.zero is None else min(lengths.start, lengths.zero)
    return Stated(end - max(0.0, begins) if "matroska" in formats else end, cut)


def has_time_stamps(formats: Collection[str]) -> bool:
    """Whether a container says when each packet sounds: of AVI ffmpeg counts it, by a header that may be wrong.

    Args:
        formats: names that ffmpeg has for the container.
    """
    return "avi" not in formats


def report_change(name: str, seconds: float) -> None:
    """Say that the rest of a file has another sample rate or number of channels."""
    logger.warning("%s has another sample rate or number of channels from %.2f s on: converted back", name, seconds)


def _ends_within_packet(path: Path, size: int) -> bool:
    """Whether the last packet of a program stream (ISO/IEC 13818-1, 2.5.3) is not whole."""
    with path.open("rb") as file:
        file.seek(max(0, size - _PACKET))
        data = file.read()
    last = max((data.rfind(b"\0\0\1" + bytes([stream])) for stream in _SOUND_AND_PICTURE), default=-1)
    return 0 <= last < len(data) - 6 and last + 6 + int.from_bytes(data[last + 4 : last + 6], "big") > len(data)


def trimmed(blocks: Iterable[Array], end: Callable[[], int | None]) -> Iterator[Array]:
    """Blocks without the rest of the last frame, which encoders fill up.

    Args:
        blocks: float32 (channels, samples) each.
        end: how many samples the file has, asked for after the last block; None, or more than two frames fewer than
            there are: nothing is left out.
    """
    held: deque[Array] = deque()
    samples = behind = 0
    for block in blocks:
        held.append(block)
        samples += block.shape[1]
        behind += block.shape[1]
        while behind - held[0].shape[1] >= _LAST_FRAMES:
            behind -= held[0].shape[1]
            yield held.popleft()
    stated = end()
    excess = 0 if stated is None else samples - stated
    kept = behind - excess if 0 < excess <= _LAST_FRAMES else behind
    for block in held:
        if kept > 0:
            yield block[:, :kept]
        kept -= block.shape[1]


def silence(channels: int, samples: int) -> Iterator[Array]:
    """Blocks of zeros, float32 (channels, samples) in all."""
    for start in range(0, samples, _BLOCK):
        yield np.zeros((channels, min(_BLOCK, samples - start)), np.float32)
