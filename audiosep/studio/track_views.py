"""The pictures of a page's tracks, of all of a recording or of the part that the page has zoomed in on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from audiosep.errors import InputError
from audiosep.hearing.spans import Span
from audiosep.studio.mixdown import mixed, weights_of
from audiosep.studio.overview import Overview, overview, overview_of_file
from audiosep.studio.recording import Recording
from audiosep.studio.session import Session
from audiosep.studio.track import MIX, REST, Track

MOST_COLUMNS = 4000
"""That a page may ask for."""


def picture_of(session: Session, track: str, span: Span, columns: int) -> Overview:
    """The picture of a part of a track: columns of the one that is kept, or of the samples where they are too few.

    Args:
        session: of the page.
        track: its id, `MIX` or `REST`.
        span: in seconds of the track's file.
        columns: of the picture at most; there are about half as many at least where the samples suffice.

    Raises:
        InputError: no recording, no such track, or nothing of it within the span.
        AudioError: its file is gone.
    """
    recording = session.opened()
    complete = [one for one in list(session.tracks.values()) if one.complete]
    path: Path | None
    if track == MIX:
        path, seconds, whole = recording.mix, recording.seconds, recording.view
    elif track == REST:
        path, seconds, whole = None, recording.seconds, _rest(session, recording, complete)
    else:
        one = session.track(track)
        path, seconds, whole = one.path, one.seconds, one.view
    span = Span(span.start, min(span.end, seconds))
    if (span.end - span.start) * recording.info.sample_rate < 1:
        raise InputError(f"there is nothing from {span.start:.3f} s on: the end is at {seconds:.3f} s")
    found = whole.part(span, columns)
    if len(found.peaks) >= columns // 2:
        return found
    if path is None:
        return _view_of_rest(recording, complete, span, columns)
    return overview_of_file(path, recording.view.highest, span=span, columns=columns)


def _rest(session: Session, recording: Recording, complete: Sequence[Track]) -> Overview:
    """The picture of all of what the tracks leave, which is kept until other tracks are there."""
    if not complete:
        return recording.view
    with session.drawing:
        version = tuple(track.id for track in complete)
        if session.rest is None or session.rest[0] != version:
            session.rest = version, _view_of_rest(recording, complete)
        return session.rest[1]


def _view_of_rest(
    recording: Recording, complete: Sequence[Track], span: Span | None = None, columns: int | None = None
) -> Overview:
    """The picture of what the tracks leave, from the samples."""
    weights, rate = weights_of(1.0, {}, complete), recording.info.sample_rate
    start, end = span or (0.0, recording.seconds)
    return overview(
        lambda size: mixed(recording, complete, weights, size, span),
        min(round((end - start) * rate), recording.samples - round(start * rate)),
        rate,
        recording.view.highest,
        start=start,
        columns=columns,
    )
