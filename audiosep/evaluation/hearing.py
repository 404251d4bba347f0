"""How well descriptions and spans are: what is named, and when it is said to sound.

Spans are compared in two ways, as is usual for sound event detection (Mesaros et al., 2016, "Metrics for polyphonic
sound event detection"): by segments of a second, and by events whose borders may be 0.2 s wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from audiosep.hearing.spans import Span

SEGMENT = 1.0  # seconds
COLLAR = 0.2  # seconds
_OF_LENGTH = 0.2  # of an event's length, by which its end may be wrong where that is more than the collar


@dataclass(frozen=True)
class Counts:
    """What was found of what there is; add them up over recordings.

    Attributes:
        right: found and there.
        found: found.
        there: there.
    """

    right: int = 0
    found: int = 0
    there: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.right + other.right, self.found + other.found, self.there + other.there)

    @property
    def recall(self) -> float:
        """Share of what is there that was found; nan where nothing is."""
        return self.right / self.there if self.there else float("nan")

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; nan where nothing is there and nothing was found."""
        return 2 * self.right / (self.found + self.there) if self.found + self.there else float("nan")


def top_counts(listed: Sequence[str], sounds: Sequence[Collection[str]], top: int = 5) -> Counts:
    """How many of a recording's sounds are among the first names of its description.

    Args:
        listed: names, those with the highest scores first.
        sounds: of each sound in the recording the names that are right.
        top: names that count.
    """
    first = set(listed[:top])
    return Counts(sum(bool(first & set(names)) for names in sounds), len(first), len(sounds))


def segment_counts(found: Sequence[Span], true: Sequence[Span], seconds: float, segment: float = SEGMENT) -> Counts:
    """Spans by segments: one counts as sounding where a span overlaps it.

    Args:
        found: spans of a description.
        true: spans of the sound itself.
        seconds: length of the recording.
        segment: length of a segment, seconds.
    """
    count = max(1, int(np.ceil(seconds / segment - 1e-9)))
    a, b = (_sounding(spans, count, segment) for spans in (found, true))
    return Counts(int((a & b).sum()), int(a.sum()), int(b.sum()))


def event_counts(found: Sequence[Span], true: Sequence[Span], collar: float = COLLAR, *, ends: bool = True) -> Counts:
    """Spans by events: one is right where it begins, and ends, when an event does that no other span has taken.

    Args:
        found: spans of a description, in the order of time.
        true: spans of the sound itself, in the order of time.
        collar: seconds by which a border may be wrong; the end also by a fifth of the event's length.
        ends: whether ends count.
    """
    left = list(true)
    right = 0
    for span in found:
        for event in left:
            late = max(collar, _OF_LENGTH * (event.end - event.start))
            if abs(span.start - event.start) <= collar and (not ends or abs(span.end - event.end) <= late):
                left.remove(event)
                right += 1
                break
    return Counts(right, len(found), len(true))


def _sounding(spans: Sequence[Span], count: int, segment: float) -> np.ndarray:
    sounding = np.zeros(count, bool)
    for start, end in spans:
        sounding[int(start / segment) : min(count, int(np.ceil(end / segment - 1e-9)))] = True
    return sounding
