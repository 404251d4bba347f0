"""Cover pictures, which are copied from a recording to its outputs."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mutagen
from mutagen import apev2, asf, flac, id3, mp4

from audiosep.audio.attached import attached_pictures

_FRONT = 3  # picture type of ID3v2 (APIC) and of flac
_LARGEST = 2**24 - 2**16  # bytes: a block of flac has less than 16 MiB
_PNG = b"\x89PNG"


@dataclass(frozen=True)
class Cover:
    """A picture.

    Args:
        data: a JPEG or PNG file.
    """

    data: bytes

    @property
    def mime(self) -> str:
        """Its media type."""
        return "image/png" if self.data.startswith(_PNG) else "image/jpeg"


def read_cover(path: Path) -> Cover | None:
    """The front cover of a recording, else its first picture.

    Args:
        path: of any kind; other kinds than mp3, flac, ogg, opus, mp4, wav and aiff need PyAV or ffmpeg.

    Returns:
        The picture; None where none is found, or one that is neither JPEG nor PNG.
    """
    try:
        file = mutagen.File(path)
        if file is None or isinstance(file, asf.ASF | apev2.APEv2File):
            pictures = [(_FRONT if front else 0, data) for front, data in attached_pictures(path)]
        else:
            pictures = _pictures(file)
    except Exception:  # damaged tags raise anything, and a recording can do without its picture
        return None
    pictures.sort(key=lambda picture: picture[0] != _FRONT)
    for _, data in pictures:
        if data.startswith((b"\xff\xd8\xff", _PNG)) and len(data) < _LARGEST:
            return Cover(data)
    return None


def _pictures(file: mutagen.FileType) -> list[tuple[int, bytes]]:
    """(picture type, data) of all pictures."""
    tags: Any = file.tags
    if isinstance(file, flac.FLAC):
        return [(picture.type, picture.data) for picture in file.pictures]
    if tags is None:
        return []
    if isinstance(tags, id3.ID3):
        return [(frame.type, frame.data) for frame in tags.getall("APIC")]
    if isinstance(file, mp4.MP4):
        return [(_FRONT, bytes(data)) for data in tags.get("covr", [])]
    pictures = [flac.Picture(base64.b64decode(block)) for block in tags.get("metadata_block_picture", [])]
    return [(picture.type, picture.data) for picture in pictures]


def id3_frame(cover: Cover) -> id3.APIC:
    """The picture as a frame of ID3."""
    return id3.APIC(encoding=id3.Encoding.LATIN1, mime=cover.mime, type=_FRONT, desc="", data=cover.data)


def add_cover(file: mutagen.FileType, cover: Cover) -> None:
    """Put a picture into a file of flac, ogg, opus or m4a.

    Args:
        file: as mutagen has read it; it is not saved.
        cover: the picture.
    """
    picture = flac.Picture()
    picture.type, picture.mime, picture.data = _FRONT, cover.mime, cover.data
    if isinstance(file, mp4.MP4):
        kind = mp4.MP4Cover.FORMAT_PNG if cover.mime == "image/png" else mp4.MP4Cover.FORMAT_JPEG
        file["covr"] = [mp4.MP4Cover(cover.data, kind)]
    elif isinstance(file, flac.FLAC):
        file.add_picture(picture)
    else:
        file["metadata_block_picture"] = [base64.b64encode(picture.write()).decode()]
