"""The description of an audio file, the same for all decoders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audiosep.audio.broadcast import Broadcast
from audiosep.audio.chapters import Chapter
from audiosep.audio.covers import Cover
from audiosep.audio.tracks import AudioTrack

# Tags that are carried from input to output, and their names elsewhere.
TAGS = (
    *("title", "artist", "album", "track", "date", "genre", "comment", "copyright", "software"),
    *("album_artist", "composer", "disc", "bpm", "key"),  # wav files have no place for these
)
_TAG_SYNONYMS = {
    "tracknumber": "track",
    "track number": "track",
    "discnumber": "disc",
    "year": "date",
    "recorded date": "date",
    "description": "comment",
    "comments": "comment",
    "albumartist": "album_artist",
    "album artist": "album_artist",
    "tbpm": "bpm",
    "tempo": "bpm",
    "initialkey": "key",
    "initial_key": "key",
    "tkey": "key",
    "key signature": "key",
}

_LOSSY = "16"
_DEPTHS = {
    "PCM_S8": "16",
    "PCM_U8": "16",
    "PCM_16": "16",
    "PCM_24": "24",
    "PCM_32": "float",
    "FLOAT": "float",
    "DOUBLE": "float",
    "ALAC_16": "16",
    "ALAC_20": "24",
    "ALAC_24": "24",
    "ALAC_32": "float",
}


@dataclass(frozen=True)
class AudioInfo:
    """One audio file, or an audio track of a video.

    Args:
        path: of the file; `-` for standard input, and for an opened file without a name.
        sample_rate: Hz.
        channels: number of channels.
        samples: exact length per channel as the file states it; None where only decoding can find it.
        depth: what an output that follows this input uses: "16", "24" or "float". 8-bit and lossy formats count as
            "16"; 32-bit integers, which float32 holds as well as 24-bit integers would, as "float".
        format: container: "wav", "flac", "ogg", "opus", "mp3", "mp4", ...
        encoding: the decoder's name of the encoding: "PCM_24", "VORBIS", "aac", ...
        backend: what decodes it: "soundfile", "PyAV" or "ffmpeg".
        tags: those of TAGS that the file carries.
        estimate: approximate duration in seconds where `samples` is None.
        speakers: a bit for each, as in `audio.speakers`; 0 where the file does not say, and for mono and stereo.
        tracks: all audio tracks of the file.
        track: number of the one that is read.
        start: of the sound, in seconds on the time line of the file, which need not begin at 0.
        cover: the picture that the file carries, where it was looked for (`AudioReader.cover`).
        chapters: of the recording, where they were looked for (`AudioReader.chapters`).
        broadcast: what Broadcast Wave says, where it was looked for (`AudioReader.broadcast`).
    """

    path: Path
    sample_rate: int
    channels: int
    samples: int | None
    depth: str
    format: str
    encoding: str
    backend: str
    tags: Mapping[str, str] = field(default_factory=dict)
    estimate: float | None = None
    speakers: int = 0
    tracks: tuple[AudioTrack, ...] = (AudioTrack(1),)
    track: int = 1
    start: float = 0.0
    cover: Cover | None = field(default=None, repr=False)
    chapters: tuple[Chapter, ...] = ()
    broadcast: Broadcast | None = field(default=None, repr=False)

    @property
    def heard(self) -> AudioTrack:
        """The track that is read."""
        return self.tracks[self.track - 1]

    @property
    def seconds(self) -> float | None:
        """Duration in seconds, exact where `samples` is known, else an estimate or None."""
        return self.estimate if self.samples is None else self.samples / self.sample_rate


def sndfile_depth(subtype: str) -> str:
    """AudioInfo.depth of a libsndfile subtype."""
    return _DEPTHS.get(subtype, _LOSSY)


def ffmpeg_depth(codec: str, sample_format: str) -> str:
    """AudioInfo.depth of an ffmpeg codec name and sample format.

    ffmpeg decodes most lossy formats to floats, which says nothing about the recording, and 24-bit lossless formats
    to 32-bit integers.
    """
    sample_format = sample_format.removesuffix("p")
    if codec.startswith(("pcm_f", "pcm_s32")) or (codec == "wavpack" and sample_format == "flt"):
        return "float"
    return "24" if sample_format == "s32" else _LOSSY


def clean_tags(raw: Mapping[str, Any]) -> dict[str, str]:
    """Those of TAGS that `raw` has, whatever the case of its keys."""
    found: dict[str, str] = {}
    for key, value in raw.items():
        name = _TAG_SYNONYMS.get(key.lower(), key.lower())
        text = str(value).replace("\0", "").strip()
        if name in TAGS and text:
            found.setdefault(name, text)
    return found


def tags_of_track(container: Mapping[str, Any], track: Mapping[str, Any], *, film: bool) -> dict[str, str]:
    """The tags of a recording that is an audio track of a container.

    Args:
        container: its raw tags, which come first.
        track: the raw tags of the track; some formats have no others.
        film: whether there is a picture that moves: then the title of the track is not that of the recording, but says
            which language it is, or that it is a commentary.
    """
    own = clean_tags(track)
    if film:
        own.pop("title", None)
    return own | clean_tags(container)
