"""Finding the decoder for a file, and the description of the file."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from audiosep.audio.ffmpeg import FFmpegSource
from audiosep.audio.info import AudioInfo
from audiosep.audio.inputs import check_file
from audiosep.audio.pyav import AvSource
from audiosep.audio.sndfile import SoundFileSource
from audiosep.audio.source import Source, Unreadable
from audiosep.errors import AudioError, InputError

BACKENDS: dict[str, Callable[[Path, int | str | None], Source]] = {
    "soundfile": SoundFileSource,
    "PyAV": AvSource,
    "ffmpeg": FFmpegSource,
}


def probe(path: str | Path, track: int | str | None = None) -> AudioInfo:
    """Describe a file without decoding it.

    Args:
        path: an audio file, or a video with sound.
        track: number, language or name of an audio track; None: the default one.

    Raises:
        AudioError: no such file, a folder, or nothing that a decoder knows.
        InputError: an empty file, no such track, or `-`, which can be read only once.
    """
    if str(path) == "-":
        raise InputError("standard input can be read only once: open it with AudioReader('-') and read its .info")
    source = open_source(check_file(path), track)
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
