"""Hostile and odd files without end, from a seed: cut, flipped, spliced, renamed, nested, and with huge claims."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from odd_files import Sound, container, renumbered, small, tones

KINDS = ("cut", "flipped", "spliced", "renamed", "nested", "huge")
SECONDS = 1.0  # of each good file


@dataclass(frozen=True)
class Hostile:
    """A file, and what is known of it.

    Attributes:
        path: the name says what was done.
        seconds: of the good file that it was made of, or of both.
        whole: whether all samples of one good file are in it. A header that was changed may state another rate, with
            which they last longer or shorter.
    """

    path: Path
    seconds: float
    whole: bool


def whole_files(folder: Path) -> dict[str, bytes]:
    """Suffix -> a good file of SECONDS."""
    x, fast = Sound(tones(2, SECONDS)), Sound(tones(2, SECONDS, 48_000), 48_000)
    made = [small(folder / f"a{suffix}") for suffix in (".wav", ".aiff", ".flac", ".mp3", ".au", ".w64")]
    codecs = {"m4a": "aac", "caf": "pcm_s24be", "mka": "flac", "wv": "wavpack"}
    codecs |= {name: name for name in ("ac3", "mp2", "tta")}
    exact = {"fflags": "+bitexact"}  # without random numbers
    made += [container(folder / f"a.{suffix}", codec, [x], **exact) for suffix, codec in codecs.items()]
    made += [container(folder / "a.aac", "aac", [x], format="adts", **exact)]
    made += [container(folder / f"a.{suffix}", "libopus", [fast], **exact) for suffix in ("webm", "opus")]
    films = {".mkv": "flac", ".mp4": "aac", ".ts": "mp2", ".avi": "mp2", ".mov": "pcm_s16le"}
    made += [container(folder / f"film{suffix}", codec, [x], picture=1, **exact) for suffix, codec in films.items()]
    good = {path.suffix: path.read_bytes() for path in made}
    return {**good, ".ogg": bytes(renumbered(bytearray(small(folder / "a.ogg").read_bytes()), 1))}


def hostile_files(folder: Path, seed: int, count: int) -> Iterator[Hostile]:
    """Write files one by one.

    Args:
        folder: where they go; it has the good files too.
        seed: of the generator.
        count: how many files.

    Yields:
        Each file, when it is written.
    """
    dice = random.Random(seed)
    good = whole_files(folder)
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        suffix = dice.choice(list(good))
        data = bytearray(good[suffix])
        other = dice.choice(list(good))
        match kind:
            case "cut":
                del data[dice.randrange(len(data)) :]
            case "flipped":
                for _ in range(dice.choice((1, 5, 50))):
                    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
            case "spliced":
                _splice(data, good[other], dice)
            case "renamed":
                suffix = other
            case "nested":
                suffix, data = _nest(data, good[other], other, suffix, dice)
            case "huge":
                at = dice.randrange(min(len(data) - 8, 256))
                struct.pack_into(
                    dice.choice("<>") + "I", data, at, dice.choice((0, 0x7FFFFFFF, 0xFFFFFFFF, 0x10000000))
                )
        path = folder / f"{number:03d} {kind}{suffix}"
        path.write_bytes(data)
        seconds = 2 * SECONDS if kind in ("spliced", "nested") else SECONDS
        yield Hostile(path, seconds, kind in ("renamed", "huge"))


def _splice(data: bytearray, other: bytes, dice: random.Random) -> None:
    """Take a stretch out, put zeros or a stretch of another file in its place, or put one in between."""
    start = dice.randrange(len(data))
    end = min(len(data), start + dice.randrange(1, len(data) // 2))
    stretch = other[: dice.randrange(1, len(other))]
    data[start:end] = dice.choice((b"", bytes(end - start), stretch, bytes(data[start:end]) + stretch))


def _nest(data: bytearray, other: bytes, others: str, suffix: str, dice: random.Random) -> tuple[str, bytearray]:
    """One file behind another, in its tag, or in its samples."""
    size = len(other)
    tag = b"ID3\3\0\0" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + other
    wav = (
        b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 44_100, 88_200, 2, 16)
    )
    return dice.choice(
        (
            (suffix, data + other),
            (suffix, bytearray(tag) + data),
            (".wav", bytearray(wav + b"data" + struct.pack("<I", size) + other)),
            (others, data + other),
        )
    )
