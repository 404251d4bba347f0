"""What a container states about the length of its sound, for the two decoders of ffmpeg's libraries."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

import numpy as np

from audiosep.audio.limits import Array
from audiosep.audio.mpeg import mpeg_length
from audiosep.audio.ogg import ogg_links

# Of these ffmpeg guesses the length by the bit rate of the first frames.
_GUESSED = frozenset(("aac", "loas", "ac3", "eac3", "dts", "truehd", "mlp", "amr", "adx", "g729", "gsm"))
_LAST_FRAMES = 2 * 2048  # samples
_BLOCK = 65_536


def stated_seconds(
    path: Path,
    formats: Collection[str],
    stream: float | None,
    tag: str | None,
    container: float | None,
    *,
    alone: bool,
) -> float | None:
    """How long the sound of a file must be, as its container says.

    Args:
        path: the file.
        formats: names that ffmpeg has for the container.
        stream: duration of the audio stream in seconds.
        tag: the stream's tag DURATION, which Matroska has instead: "01:02:03.456000000".
        container: duration of the whole file in seconds.
        alone: whether the file has nothing but this stream.

    Returns:
        Seconds; None where the file states no length, or ffmpeg guesses it.
    """
    if "mp3" in formats:
        return mpeg_length(path).seconds
    if "ogg" in formats:
        return ogg_links(path).seconds
    if _GUESSED & set(formats):
        return None
    if stream is not None:
        return stream
    if tag is not None and (match := re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", tag.strip())):
        hours, minutes, seconds = match.groups()
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return container if alone else None


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
