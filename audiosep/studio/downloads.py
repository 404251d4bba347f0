"""What a page downloads: written when it is asked for, and offered under a key."""

from __future__ import annotations

import functools
import math
import secrets

from audiosep.audio import FORMATS
from audiosep.audio.stem_file import STEM_FILE
from audiosep.errors import InputError
from audiosep.output.names import TEMPLATE
from audiosep.query.query import unique_names
from audiosep.studio.mixdown import (
    MIXED,
    download_name,
    weights_of,
    write_all,
    write_mix,
    write_stem_file,
    write_track,
)
from audiosep.studio.recording import remarks
from audiosep.studio.session import Session
from audiosep.studio.wanted import Message, text_in


def write_download(session: Session, request: str, wanted: Message) -> dict[str, object]:
    """Make a file that the page wants to download.

    Args:
        session: of the page.
        request: that was accepted.
        wanted: "kind", which is track, all, stems, mix or video; "format"; the "track"; "gains" and "rest" of a mix.

    Returns:
        The "key" of the file, and "remarks" on it.

    Raises:
        InputError: no recording, or a request for something else.
        AudioError: it cannot be written, or the format cannot hold the channels.
        DependencyError: the encoder is not installed.
        Cancelled: by the page.
    """
    recording, kind, format = session.opened(), text_in(wanted, "kind"), text_in(wanted, "format") or "wav"
    if format not in FORMATS:
        raise InputError(f"the format of a download is one of {', '.join(FORMATS)}")
    tracks = list(session.tracks.values())
    ending, template = format, TEMPLATE
    if kind == "track":
        track = session.track(text_in(wanted, "track"))
        unique = unique_names([one.name for one in tracks])
        name = next(name for one, name in zip(tracks, unique, strict=True) if one.id == track.id)
    elif kind == "all":
        name, ending = "tracks", "zip"
    elif kind == "stems":
        name, ending, template = "stems", STEM_FILE, "{file}.{ext}"
    elif kind == "mix":
        name = MIXED
    elif kind == "video":
        name, ending = MIXED, recording.path.suffix[1:]
    else:
        raise InputError("a download is a track, all, stems, mix or video")
    shown = download_name(recording, name, ending, template)
    session.begin(request, f"Writing {shown}", "writing")
    if kind == "track" and format == "wav":
        return {
            "key": session.offer(track.path, shown, made=False),
            "remarks": _softer("the track is", "heard", track.gain),
        }
    path = recording.path.parent / f"{secrets.token_hex(8)}.{ending}"
    progress = functools.partial(session.advance, request)
    with remarks() as told:
        if kind == "track":
            told += _softer("the track is", "heard", write_track(path, recording, track, format, progress))
        elif kind == "all":
            told += _softer("all are", "heard", write_all(path, recording, tracks, format, progress))
        elif kind == "stems":
            write_stem_file(path, recording, tracks, progress)
        else:
            weights = weights_of(*_levels(wanted), tracks)
            video = kind == "video"
            gain = write_mix(path, recording, tracks, weights, progress, format=format, video=video)
            told += _softer("the mix is", "set", gain)
    return {"key": session.offer(path, shown), "remarks": told}


def _softer(what: str, wanted: str, gain: float) -> list[str]:
    """A remark on the gain of a download, where it has one."""
    by = -20 * math.log10(gain)
    return [] if gain == 1 else [f"{what} {by:.1f} dB softer than {wanted}, so that nothing clips"]


def _levels(wanted: Message) -> tuple[float, dict[str, float]]:
    """The gain of the rest, and those of the tracks."""
    gains, rest = wanted.get("gains"), wanted.get("rest")
    if not isinstance(gains, dict) or not isinstance(rest, int | float):
        raise InputError("a mix has a gain of the rest and a gain for each track: reload the page")
    return rest, gains
