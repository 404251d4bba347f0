"""Tags as bytes, for the two containers whose tags audiosep writes itself.

libsndfile writes mp3 tags in Latin-1, which turns every other script into noise.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

# RIFF INFO (Multimedia Programming Interface and Data Specifications 1.0); ITRK is what most programs read for a track.
_RIFF = {
    "title": b"INAM",
    "artist": b"IART",
    "album": b"IPRD",
    "track": b"ITRK",
    "date": b"ICRD",
    "genre": b"IGNR",
    "comment": b"ICMT",
    "copyright": b"ICOP",
}
# ID3v2.3: the version that also old players and Windows read.
_ID3 = {
    "title": b"TIT2",
    "artist": b"TPE1",
    "album": b"TALB",
    "track": b"TRCK",
    "date": b"TYER",
    "genre": b"TCON",
    "comment": b"COMM",
    "copyright": b"TCOP",
}
_UTF16 = b"\x01"


def riff_info(tags: Mapping[str, str]) -> bytes:
    """A LIST INFO chunk in UTF-8, empty without tags.

    Args:
        tags: by the names of AudioInfo.tags.
    """
    items = b""
    for name, code in _RIFF.items():
        if name in tags:
            text = tags[name].encode() + b"\0"
            items += code + struct.pack("<I", len(text)) + text + b"\0" * (len(text) % 2)
    return b"LIST" + struct.pack("<I", 4 + len(items)) + b"INFO" + items if items else b""


def id3v2(tags: Mapping[str, str]) -> bytes:
    """An ID3v2.3 tag in UTF-16, empty without tags.

    Args:
        tags: by the names of AudioInfo.tags.
    """
    frames = b""
    for name, code in _ID3.items():
        if name in tags:
            text = tags[name][:4] if code == b"TYER" else tags[name]
            # A comment has a language and a short description in front, here unknown and empty.
            prefix = b"und" + "\0".encode("utf-16") if code == b"COMM" else b""
            body = _UTF16 + prefix + text.encode("utf-16")
            frames += code + struct.pack(">IH", len(body), 0) + body
    if not frames:
        return b""
    size = bytes(len(frames) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\x00\x00" + size + frames
