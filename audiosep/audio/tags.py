"""Tags where libsndfile loses some: ID3 (mp3, aiff, wav), RIFF INFO of wav, Vorbis comments and tags of caf that it
does not know.

libsndfile writes ID3 in Latin-1, which turns every other script into noise, and reads Latin-1 as UTF-8. What it writes
into flac, ogg and opus files, and reads from them and from wav files, is right.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from mutagen import File, aiff, flac, id3, mp4, oggopus, oggvorbis, wave

from audiosep.audio.chapters import Chapter, id3_frames, vorbis_chapters
from audiosep.audio.covers import Cover, add_cover, id3_frame
from audiosep.audio.riff import find_chunk
from audiosep.audio.speakers import FLAC_SPEAKERS

# ITRK is what most programs read for a track.
_RIFF = {
    "title": b"INAM",
    "artist": b"IART",
    "album": b"IPRD",
    "track": b"ITRK",
    "date": b"ICRD",
    "genre": b"IGNR",
    "comment": b"ICMT",
    "copyright": b"ICOP",
    "software": b"ISFT",
}
_ID3: dict[str, type[id3.TextFrame]] = {
    "title": id3.TIT2,
    "artist": id3.TPE1,
    "album": id3.TALB,
    "track": id3.TRCK,
    "date": id3.TDRC,
    "genre": id3.TCON,
    "comment": id3.COMM,
    "copyright": id3.TCOP,
    "software": id3.TSSE,
    "album_artist": id3.TPE2,
    "composer": id3.TCOM,
    "disc": id3.TPOS,
    "bpm": id3.TBPM,
    "key": id3.TKEY,
}
_WITH_ID3: dict[str, Any] = {"AIFF": aiff.AIFF, "WAV": wave.WAVE, "WAVEX": wave.WAVE}  # in a chunk
_MUTAGEN: dict[str, Any] = {"flac": flac.FLAC, "ogg": oggvorbis.OggVorbis, "opus": oggopus.OggOpus, "m4a": mp4.MP4}
_VORBIS = {  # that libsndfile does not write
    "album_artist": "albumartist",
    "composer": "composer",
    "disc": "discnumber",
    "bpm": "bpm",
    "key": "initialkey",
}
_LONGEST_INFO = 2**20  # bytes of a chunk
_MP4 = {"bpm": "----:com.apple.iTunes:BPM", "key": "----:com.apple.iTunes:initialkey"}  # that ffmpeg does not write


def riff_info(tags: Mapping[str, str]) -> bytes:
    """A LIST INFO chunk in UTF-8 (Multimedia Programming Interface and Data Specifications 1.0).

    mutagen puts only ID3 into wav files, which few programs read there.

    Args:
        tags: by the names of AudioInfo.tags.

    Returns:
        The chunk; empty without tags.
    """
    items = b""
    for name, code in _RIFF.items():
        if name in tags:
            text = tags[name].encode() + b"\0"
            items += code + struct.pack("<I", len(text)) + text + b"\0" * (len(text) % 2)
    return b"LIST" + struct.pack("<I", 4 + len(items)) + b"INFO" + items if items else b""


def id3v2(tags: Mapping[str, str], cover: Cover | None = None, chapters: Sequence[Chapter] = ()) -> bytes:
    """An ID3v2.3 tag in UTF-16: the version and the encoding that also old players and Windows read.

    Args:
        tags: by the names of AudioInfo.tags; of a date, version 2.3 holds no more than year, month and day.
        cover: a picture.
        chapters: in order.

    Returns:
        The tag; empty without all of these.
    """
    frames = id3.ID3()
    for name, kind in _ID3.items():
        if name in tags:
            language = {"lang": "und", "desc": ""} if kind is id3.COMM else {}
            frames.add(kind(encoding=id3.Encoding.UTF16, text=[tags[name]], **language))
    if cover is not None:
        frames.add(id3_frame(cover))
    for frame in id3_frames(chapters):
        frames.add(frame)
    frames.update_to_v23()
    if not frames:
        return b""
    file = io.BytesIO()
    frames.save(file, v1=id3.ID3v1SaveOptions.REMOVE, v2_version=3, padding=lambda info: 0)
    return file.getvalue()


def read_id3(path: Path, format: str) -> dict[str, str]:
    """The ID3 tags of an mp3, aiff or wav file: ID3v2 of any version, else ID3v1.

    Args:
        path: the file.
        format: libsndfile's name of it.

    Returns:
        By the names of AudioInfo.tags; empty where there are none, or damaged ones.
    """
    try:
        frames = _WITH_ID3[format](path).tags if format in _WITH_ID3 else id3.ID3(path)
        if frames is None:
            return {}
    except Exception:  # damaged tags raise anything, and a recording can do without them
        return {}
    found = {}
    for name, kind in _ID3.items():
        # Programs keep data of their own in comments with a description; mutagen describes those of ID3v1.
        texts = [f for f in frames.getall(kind.__name__) if getattr(f, "desc", "") in ("", "ID3v1 Comment")]
        if kind is id3.COMM:
            texts += frames.getall("TXXX:comment")  # where ffmpeg puts it
        if texts:
            found[name] = "/".join(map(str, texts[0].genres if kind is id3.TCON else texts[0].text))
    return found


def vorbis_comments(path: Path) -> dict[str, str]:
    """The comments of a flac, ogg or opus file: libsndfile reads few of them.

    Args:
        path: the file.

    Returns:
        What each name says, names in lower case, with a slash between several texts as in ID3v2.3; empty where there is
        nothing, or where they are damaged.
    """
    try:
        found: Any = File(path)
        comments = {} if found is None else dict(found.tags or {})
        return {name.lower(): "/".join(dict.fromkeys(map(str, filter(None, said)))) for name, said in comments.items()}
    except Exception:  # as above
        return {}


def caf_information(path: Path) -> dict[str, str]:
    """What the information chunk of a caf file says (Apple Core Audio Format Specification, "Information Chunk").

    Args:
        path: the file.

    Returns:
        What each name says; empty where there is nothing.
    """
    with path.open("rb") as file:
        position, size = find_chunk(file, 8, b"info", ">4sq")
        file.seek(position + 4)  # behind the number of entries
        texts = file.read(min(max(size - 4, 0), _LONGEST_INFO)).decode(errors="replace").split("\0")
    return dict(zip(texts[::2], texts[1::2], strict=False)) if position else {}


def mp4_tempo(path: Path) -> dict[str, str]:
    """The tempo that an mp4 file states in the way of players, which ffmpeg does not read.

    Args:
        path: the file.

    Returns:
        By the name of AudioInfo.tags; empty where there is none.
    """
    try:
        tags: Any = mp4.MP4(path).tags or {}
    except Exception:  # as above
        return {}
    tempo = next(iter(tags.get("tmpo", [])), 0)
    return {"bpm": str(tempo)} if tempo else {}


def speakers_of(comments: Mapping[str, str]) -> int:
    """The speakers of a flac file that has other than the usual ones.

    Args:
        comments: of the file.

    Returns:
        A bit for each, as in `audio.speakers`; 0 where the file does not say.
    """
    try:
        speakers = int(comments.get(FLAC_SPEAKERS.lower(), "0"), 0)
    except ValueError:
        return 0
    return speakers if 0 <= speakers < 2**32 else 0


def add_details(
    file: BinaryIO,
    format: str,
    tags: Mapping[str, str],
    speakers: int,
    cover: Cover | None,
    chapters: Sequence[Chapter] = (),
) -> None:
    """Put into a file that is complete what its encoder does not write.

    Args:
        file: opened for reading and writing.
        format: flac, ogg, opus or m4a.
        tags: by the names of AudioInfo.tags.
        speakers: of a flac file, a bit for each, as in `audio.speakers`; 0: the usual ones.
        cover: a picture.
        chapters: in order; an m4a file has got them by its encoder.

    Raises:
        OSError: the file refuses it.
    """
    details: dict[str, Any]
    if format == "m4a":
        details = {name: [mp4.MP4FreeForm(tags[ours].encode())] for ours, name in _MP4.items() if ours in tags}
        if tempo := _whole_tempo(tags.get("bpm", "")):
            details["tmpo"] = [tempo]  # what players show, which ffmpeg does not read
    else:
        details = {name: tags[ours] for ours, name in _VORBIS.items() if ours in tags} | vorbis_chapters(chapters)
        if speakers:
            details[FLAC_SPEAKERS] = f"0x{speakers:04X}"
    if not details and cover is None:
        return
    file.seek(0)
    whole = _MUTAGEN[format](file)
    if whole.tags is None:
        whole.add_tags()
    whole.update(details)
    if cover is not None:
        add_cover(whole, cover)
    file.seek(0)
    whole.save(file)


def _whole_tempo(text: str) -> int:
    """The nearest whole number that mp4 files can state, else 0."""
    try:
        tempo = float(text)
    except ValueError:
        return 0
    return round(tempo) if 0.5 < tempo < 2**16 - 1 else 0
