"""Spans of a recording as a query: what sounds in them is the example, and what sounds around them is kept out.

SAM Audio (Shi et al., 2025) calls such spans anchors and trains a model for them; here the query encoder hears them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from audiosep.audio import read_audio
from audiosep.audio.inputs import is_pipe
from audiosep.audio.mixture import Mixture
from audiosep.audio.samples import Array
from audiosep.errors import BehindTheEndError, InputError, QueryError
from audiosep.hearing.spans import Span
from audiosep.output.plan import Plan
from audiosep.query.own_sound import EmbeddedExample, listen
from audiosep.query.query import Query

if TYPE_CHECKING:
    from audiosep.separator import Separator

_AROUND = 10.0  # seconds before and behind a span that are its surroundings
_GUARD = 0.1  # seconds beside a span that belong to neither
_SHORT = 0.05  # seconds that an example must have
_ENOUGH = 0.5  # seconds of surroundings that say something
_SILENT = 1e-4  # peak

ReadPart = Callable[[float, float], tuple[Array, int]]
"""(start, end) in seconds -> (channels, samples) of that part of a recording, and its sample rate in Hz."""


@dataclass(frozen=True)
class Anchor:
    """What a model hears in spans of a recording, and beside them.

    Attributes:
        inside: in the spans of a query; None for a query without.
        outside: in its negative spans, or around the spans of a query without words; None where there is too little
            around them, or silence.
    """

    inside: EmbeddedExample | None
    outside: Tensor | None


def find_anchors(queries: Sequence[Query], read: ReadPart, separator: Separator) -> dict[Query, Anchor]:
    """What the spans of queries sound like.

    Args:
        queries: with or without spans.
        read: reads parts of the recording that is separated.
        separator: that hears them.

    Returns:
        Query -> its anchor, for those with spans.

    Raises:
        QueryError: a span is silent, too short, or behind the end of the recording.
        InputError: NaN or infinity in a span, or around it.
        ModelError: the model takes no examples of sounds.
    """
    return {query: _anchor(query, read, separator) for query in queries if query.anchored}


def parts_of_mixture(mixture: Mixture) -> ReadPart:
    """Reads parts of a recording in memory.

    Args:
        mixture: the recording.
    """
    rate = mixture.sample_rate
    return lambda start, end: (mixture.samples[:, round(start * rate) : round(end * rate)], rate)


def parts_of_file(path: Path, track: str | None = None) -> ReadPart:
    """Reads parts of a file.

    Args:
        path: the file.
        track: number, language or name of its audio track; None: the default one.
    """

    def read(start: float, end: float) -> tuple[Array, int]:
        try:
            return read_audio(path, max_seconds=None, start=start, seconds=end - start, track=track)
        except BehindTheEndError:
            beginning, rate = read_audio(path, max_seconds=None, seconds=0.1, track=track)
            return beginning[:, :0], rate

    return read


def parts_of_plan(plan: Plan, queries: Sequence[Query], track: str | None) -> ReadPart | None:
    """Reads parts of the recording of a plan; None where no query has spans of it.

    Args:
        plan: of one file or more.
        queries: that are asked of them.
        track: of the audio, as in `OutputOptions`.

    Raises:
        InputError: several recordings, or a pipe.
    """
    if not any(query.anchored for query in queries):
        return None
    if len(plan.tasks) > 1:
        raise InputError(f"spans are times of one recording, got {len(plan.tasks)}: separate them one by one")
    path = plan.tasks[0].input
    if is_pipe(path):
        raise InputError("spans need a recording that can be read twice: save standard input to a file first")
    return parts_of_file(path, track)


def _anchor(query: Query, read: ReadPart, separator: Separator) -> Anchor:
    spans, away = [Span(*span) for span in query.spans], [Span(*span) for span in query.negative_spans]
    inside = None
    if spans:
        inside = listen(separator, *_sounding(spans, read))
    if away:
        return Anchor(inside, listen(separator, *_sounding(away, read)).embedding)
    # Words say what is meant; a span alone must be distinguished from what sounds around it, too.
    if query.text is not None:
        return Anchor(inside, None)
    outside, rate = _joined([read(*span) for span in _around(spans)])
    heard = outside.shape[1] >= _ENOUGH * rate and np.abs(outside).max() >= _SILENT
    return Anchor(inside, listen(separator, outside, rate).embedding if heard else None)


def _sounding(spans: Sequence[Span], read: ReadPart) -> tuple[Array, int]:
    """What sounds in spans that a query names."""
    place = ", ".join(f"{start:g}-{end:g} s" for start, end in spans)
    parts = [read(*span) for span in spans]
    for (start, end), (part, _) in zip(spans, parts, strict=True):
        if not part.shape[1]:
            raise QueryError(f"the recording ends before {start:g}-{end:g} s: choose a span within it")
    waveform, rate = _joined(parts)
    if waveform.shape[1] < _SHORT * rate:
        raise QueryError(f"the span {place} is too short to hear a sound in: choose {_SHORT:g} s or more")
    if np.abs(waveform).max() < _SILENT:
        raise QueryError(f"the recording is silent at {place}: choose a span in which the sound can be heard")
    return waveform, rate


def _around(spans: Sequence[Span]) -> list[Span]:
    """The surroundings of spans, without the spans."""
    taken = sorted((max(0.0, start - _GUARD), end + _GUARD) for start, end in spans)
    found, done = [], 0.0
    for number, (start, end) in enumerate(taken):
        following = taken[number + 1][0] if number + 1 < len(taken) else float("inf")
        for a, b in ((max(done, start - _AROUND), start), (end, min(following, end + _AROUND))):
            if b > max(a, done):
                found.append(Span(max(a, done), b))
        done = max(done, found[-1].end if found else 0.0, end)
    return found


def _joined(parts: Sequence[tuple[Array, int]]) -> tuple[Array, int]:
    return np.concatenate([part for part, _ in parts], axis=1), parts[0][1]
