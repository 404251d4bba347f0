"""Stem files for DJ programs: a song and its four stems as five tracks of one MP4 file (Native Instruments, 2015).

The first track is the song, the only one that other players play. An atom `stem` in `moov.udta` holds JSON with the
names and colours of the others, and the settings of a compressor and a limiter for the sum of the stems, which are off
here: our stems sum to the song.
"""

from __future__ import annotations

import json
import struct
from typing import BinaryIO

from audiosep.errors import AudioError

STEM_FILE = "stem.mp4"
"""The name of the format, and the suffix of its files."""

SONG = "mixture"
STEMS = {"drums": "#009E73", "bass": "#D55E00", "other": "#CC79A7", "vocals": "#56B4E9"}
"""Stem -> colour, in the order that DJ programs expect."""

TRACKS = (SONG, *STEMS)

_COMPRESSOR = {
    "enabled": False, "input_gain": 0.5, "output_gain": 0.5, "threshold": 0, "ratio": 3, "attack": 0.003,
    "release": 0.3, "dry_wet": 50, "hp_cutoff": 300,
}  # fmt: skip
_LIMITER = {"enabled": False, "threshold": 0, "ceiling": -0.35, "release": 0.05}


def check_stem_file(channels: int) -> None:
    """Refuse what DJ programs do not play.

    Args:
        channels: of each track.

    Raises:
        AudioError: more than two.
    """
    if channels > 2:
        raise AudioError(f"{STEM_FILE} has tracks of at most 2 channels, not {channels}: write wav or flac instead")


def metadata() -> bytes:
    """The content of the atom `stem`."""
    stems = [{"name": name.capitalize(), "color": colour} for name, colour in STEMS.items()]
    dsp = {"compressor": _COMPRESSOR, "limiter": _LIMITER}
    return json.dumps({"version": 1, "mastering_dsp": dsp, "stems": stems}).encode()


def add_metadata(file: BinaryIO) -> None:
    """Put the atom `stem` into an MP4 file that is complete and ends with its `moov`, as ffmpeg writes it.

    Args:
        file: opened for reading and writing.

    Raises:
        OSError: the file refuses it.
    """
    content = metadata()
    atom = struct.pack(">I4s", 8 + len(content), b"stem") + content
    end = file.seek(0, 2)
    moov = _atom(file, b"moov", 0, end)
    udta = _atom(file, b"udta", moov + 8, end)
    if udta == end:  # there is none
        atom = struct.pack(">I4s", 8 + len(atom), b"udta") + atom
        _grow(file, moov, len(atom))
        file.seek(end)
        file.write(atom)
        return
    behind = udta + _size(file, udta)
    file.seek(behind)
    rest = file.read()
    _grow(file, udta, len(atom))
    _grow(file, moov, len(atom))
    file.seek(behind)
    file.write(atom + rest)


def _atom(file: BinaryIO, kind: bytes, start: int, end: int) -> int:
    """Where the first atom of a kind begins between two places; the end where there is none."""
    while start < end:
        file.seek(start + 4)
        if file.read(4) == kind:
            break
        start += _size(file, start)
    return start


def _size(file: BinaryIO, atom: int) -> int:
    """The size of an atom in bytes, in 32 or 64 bits."""
    file.seek(atom)
    size, _ = struct.unpack(">I4s", file.read(8))
    return int(struct.unpack(">Q", file.read(8))[0] if size == 1 else size)


def _grow(file: BinaryIO, atom: int, by: int) -> None:
    size = _size(file, atom)
    file.seek(atom)
    file.write(struct.pack(">I", size + by))
