"""Finding the decoder for a file, and the description of the file."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from audiosep.audio.ffmpeg import FFmpegSource
from audiosep.audio.info import AudioInfo
from audiosep.audio.inputs import AudioFile, check_file, is_opened
from audiosep.audio.pyav import AvSource
from audiosep.audio.sndfile import SoundFileSource
from audiosep.audio.source import Source, Unreadable
from audiosep.audio.spool import name_of, place_of, spool, spool_folder
from audiosep.errors import AudioError, InputError

BACKENDS: dict[str, Callable[[Path, int | str | None], Source]] = {
    "soundfile": SoundFileSource,
    "PyAV": AvSource,
    "ffmpeg": FFmpegSource,
}


def probe(path: AudioFile, track: int | str | None = None) -> AudioInfo:
    """Describe a file without decoding it.

    Args:
        path: an audio file, or a video with sound; also an opened file, which is read, or the bytes of one.
        track: number, language or name of an audio track; None: the default one.

    Raises:
        AudioError: no such file, a folder, or nothing that a decoder knows.
        InputError: an empty file, no such track, or `-`, which can be read only once.
    """
    if is_opened(path):
        with spool_folder() as folder:
            copy = Path(folder, "opened")
            spool(path, copy, None)
            return replace(_described(copy, track, name_of(path)), path=place_of(path))
    if str(path) == "-":
        raise InputError("standard input can be read only once: open it with AudioReader('-') and read its .info")
    return _described(check_file(place_of(path)), track, str(path))


def _described(path: Path, track: int | str | None, name: str) -> AudioInfo:
    source = open_source(path, track, name=name)
    source.close()
    return source.info


def open_source(
    path: Path, track: int | str | None = None, *, name: str | None = None, skip: Collection[str] = ()
) -> Source:
    """Open a file with the first decoder that can read it to its end.

    Args:
        path: an existing file.
        track: number, language or name of an audio track; None: the default one.
        name: its name in messages; by default its path.
        skip: those of BACKENDS that have been tried already.

    Raises:
        AudioError: none can; the message has the reason of each.
        InputError: there is no such track.
    """
    reasons = []
    for backend, opener in BACKENDS.items():
        if backend in skip:
            continue
        try:
            source = opener(path, track)
        except Unreadable as error:
            reasons.append(f"{backend}: {error}")
        except OSError as error:
            raise AudioError(f"{name or path} cannot be read: {error}") from error
        else:
            source.name = name or str(path)
            return source
    raise AudioError(
        f"{name or path} cannot be read as audio. {'; '.join(reasons)}. Is it a recording? If other programs play it, "
        "install what is missing above, if anything is, or export it as wav or flac"
    )
