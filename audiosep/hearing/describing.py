"""Listening to a recording: once for what is in it, and once more, by separation, for when it begins and ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from audiosep.audio.resampling import StreamResampler
from audiosep.audio.samples import Array
from audiosep.errors import Cancelled
from audiosep.hearing.activity import Activity
from audiosep.hearing.description import Description, HeardSound
from audiosep.hearing.replayable_recording import ReplayableRecording
from audiosep.hearing.score_track import WINDOW, Listen, Scores, ScoreTrack
from audiosep.hearing.spans import Hysteresis, Span, SpanTracker
from audiosep.progress import Progress, says_stop

_HOP = 0.25  # seconds between two scores
_LONGER, _LONGER_HOP = 3.0, 1.0  # seconds of windows that tell better what it is, though not when
_LONG = 5  # values that the score of a sound is a mean of, at its best place; of longer windows the best one counts
_EXPLAINED = 0.25  # of what one sound does to the score of another
_GENERAL = 0.3  # how much less the score of a special name may be than that of its family
# Score -> how sure: logistic regressions on held-back mixtures, for the vocabulary and for words of the user's
# own (`python -m research.hearing --fit`).
_SURE = (0.44, -1.7)
_SURE_OF_WORDS = (0.26, -0.43)
_RULE = Hysteresis(on=-5.5, off=-7.0, gap=0.6, least=_HOP, reach=2.0)
_RULE_OF_WORDS = Hysteresis(on=-1.5, off=-2.5, gap=0.6, least=_HOP, reach=2.0)
LEAST = 0.06  # how sure a sound of the vocabulary must be to be listed
_SHORTEST = 0.05  # seconds of a recording in which a sound can be told
_TAGGING = 0.3  # share of the work that the first listening is, for the progress


@dataclass(frozen=True)
class Candidates:
    """What may be heard.

    Attributes:
        names: of sounds.
        families: of each name the number of its family, of which one name is listed; the first one is the general one.
        scores: of what is heard, for each name.
        spill: (names, names), how much of the score of one is what another does to it; None for words of the user's
            own, which are all listed, however low their scores.
    """

    names: tuple[str, ...]
    families: tuple[int, ...]
    scores: Scores
    spill: NDArray[np.float32] | None = None


class Separating(Protocol):
    """A stream that measures when its targets sound."""

    @property
    def activity(self) -> Mapping[str, Activity]:
        """Target -> when it sounds."""

    def pieces(self, block: Array | None, /) -> Iterable[object]:
        """Take a block, or the end of the recording for None, while the pieces of the targets are taken."""


def describe_recording(
    recording: ReplayableRecording,
    candidates: Candidates,
    listen: Listen,
    rate: int,
    *,
    most: int,
    separate: Callable[[Sequence[str]], Separating] | None,
    progress: Progress | None = None,
) -> Description:
    """Describe a recording in memory that does not grow with its length.

    Args:
        recording: to listen to.
        candidates: what may be heard.
        listen: of the model.
        rate: of the model, Hz.
        most: how many sounds of the vocabulary are listed.
        separate: opens a stream that separates sounds by their names, which tells where they begin and end to
            hundredths of a second; None for what is heard, to half a second.
        progress: called with the fraction that is done; returning False cancels.

    Raises:
        Cancelled: by `progress`.
    """
    tell = _Progress(progress, recording, 1.0 if separate is None else _TAGGING)
    tracker = CandidateTracker(candidates, listen, rate)
    down = StreamResampler(recording.sample_rate, rate, recording.channels)
    samples = 0
    for block in recording.blocks():
        samples += block.shape[1]
        tracker.push(down.push(block))
        tell(samples)
    tracker.push(down.finish())
    seconds = samples / recording.sample_rate
    sounds = tracker.finish(seconds, most)
    heard = [sound.name for sound in sounds if sound.spans]
    if separate is not None and heard:
        stream = separate(heard)
        tell.again()
        done = 0
        for block in recording.blocks():
            done += block.shape[1]
            _drain(stream.pieces(block))
            tell(done)
        _drain(stream.pieces(None))
        sounds = [_placed(sound, stream.activity) for sound in sounds]
    tell.end()
    return Description(tuple(sounds), seconds)


def _drain(pieces: Iterable[object]) -> None:
    """Compute targets that only the stream itself measures."""
    for _ in pieces:
        pass


class CandidateTracker:
    """Scores and rough spans of candidates in a recording that arrives in blocks.

    Args:
        candidates: what may be heard.
        listen: of the model.
        rate: of the model, Hz.
    """

    def __init__(self, candidates: Candidates, listen: Listen, rate: int) -> None:
        self._candidates = candidates
        self._track = ScoreTrack(listen, candidates.scores, rate, _HOP)
        self._longer = ScoreTrack(listen, candidates.scores, rate, _LONGER_HOP, _LONGER)
        self._members = [
            np.flatnonzero(np.array(candidates.families) == f) for f in range(max(candidates.families) + 1)
        ]
        self._tracker = SpanTracker(len(self._members), _HOP, _RULE_OF_WORDS if candidates.spill is None else _RULE)
        self._best = np.full(len(candidates.names), -np.inf, np.float32)
        self._best_longer = self._best.copy()
        self._last = np.zeros((0, len(candidates.names)), np.float32)

    def push(self, low: Array) -> None:
        """Take a block, (channels, n) at the rate of the model."""
        self._take(self._track.push(low))
        self._take_longer(self._longer.push(low))

    def finish(self, seconds: float, most: int) -> list[HeardSound]:
        """End the recording.

        Args:
            seconds: its length.
            most: how many sounds of the vocabulary are listed.
        """
        self._take(self._track.finish())
        self._take_longer(self._longer.finish())
        if not np.isfinite(self._best).all() and len(self._last):  # shorter than what scores are a mean of
            self._best = self._last.mean(0)
        self._best = np.float32(0.5) * (self._best + self._best_longer)
        found = self._tracker.finish()
        listed = self._listed(most) if self._candidates.spill is not None else list(enumerate(self._best.tolist()))
        sounds = []
        for name, score in listed:
            moved = [_moved(span, seconds) for span, _ in found[self._candidates.families[name]]]
            spans = tuple(Span(round(a, 3), round(b, 3)) for a, b in moved if a < seconds and seconds >= _SHORTEST)
            sounds.append(HeardSound(self._candidates.names[name], self._sure(score), spans))
        if self._candidates.spill is not None:
            sounds = [sound for sound in sounds if sound.score >= LEAST and sound.spans]
        return sorted(sounds, key=lambda sound: -sound.score)

    def _listed(self, most: int) -> list[tuple[int, float]]:
        """The names that are listed, one of a family, and how much of their scores no other one explains.

        The one with the highest score is taken, what it adds to the scores of the others is subtracted, and so on.
        """
        spill = self._candidates.spill
        assert spill is not None
        families, left, listed = np.array(self._candidates.families), self._best.copy(), []
        for _ in range(min(most, len(self._members))):
            chosen = int(left.argmax())
            listed.append((self._representative(families[chosen]), float(left[chosen])))
            left -= _EXPLAINED * spill[:, chosen] * max(0.0, float(self._best[chosen]))
            left[families == families[chosen]] = -np.inf
        return listed

    def _representative(self, family: int) -> int:
        """The name that is listed of a family: a special one, unless the general one has a higher score."""
        members = self._members[family]
        special = members[1:][self._best[members[1:]].argmax()] if len(members) > 1 else members[0]
        return int(special if self._best[special] >= self._best[members].max() - _GENERAL else members[0])

    def _take(self, values: Array) -> None:
        if not len(values):
            return
        self._tracker.push(np.stack([values[:, members].max(1) for members in self._members], 1))
        whole = np.concatenate([self._last, values])
        if len(whole) >= _LONG:
            sums = np.cumsum(np.pad(whole, ((1, 0), (0, 0))), 0, dtype=np.float64)
            self._best = np.maximum(self._best, ((sums[_LONG:] - sums[:-_LONG]) / _LONG).max(0)).astype(np.float32)
        self._last = whole[-(_LONG - 1) :]

    def _take_longer(self, values: Array) -> None:
        if len(values):
            self._best_longer = np.maximum(self._best_longer, values.max(0))

    def _sure(self, score: float) -> float:
        slope, constant = _SURE_OF_WORDS if self._candidates.spill is None else _SURE
        return round(1 / (1 + math.exp(-min(30.0, max(-30.0, slope * score + constant)))), 4)


def _placed(sound: HeardSound, activity: Mapping[str, Activity]) -> HeardSound:
    """A sound with the borders that its separation has."""
    found = activity.get(sound.name)
    return replace(sound, spans=found.spans) if found is not None and found.spans else sound


def _moved(span: Span, seconds: float) -> Span:
    """A span of values as a span of the recording: a value stands for the middle of its second."""
    middle = (WINDOW - _HOP) / 2
    start = 0.0 if span.start == 0 else span.start + middle
    end = span.end + middle
    return Span(start, seconds if end > seconds - WINDOW / 2 else end)


class _Progress:
    """The fraction that is done, of one listening or two."""

    def __init__(self, progress: Progress | None, recording: ReplayableRecording, share: float) -> None:
        self._progress, self._share, self._first = progress, share, 0.0
        self._rate, self._seconds = recording.sample_rate, recording.seconds

    def __call__(self, samples: int) -> None:
        done = min(1.0, samples / self._rate / self._seconds) if self._seconds else 0.0
        self._tell(self._first + self._share * done)

    def again(self) -> None:
        """The second listening begins."""
        self._first, self._share = self._share, 1 - self._share

    def end(self) -> None:
        """All is done."""
        self._tell(1.0)

    def _tell(self, fraction: float) -> None:
        if self._progress is not None and says_stop(self._progress(fraction)):
            raise Cancelled("cancelled by the progress callback")
