"""Stretches of time in which something sounds, from curves of how sure that is, as their values arrive."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audiosep.errors import QueryError

Curves = NDArray[np.float32]


class Span(NamedTuple):
    """A stretch of time.

    Attributes:
        start: seconds.
        end: seconds.
    """

    start: float
    end: float


@dataclass(frozen=True)
class Hysteresis:
    """When something begins to sound and when it ends.

    Attributes:
        on: value from which it surely sounds.
        off: value below which it does not; between the two it goes on, or has begun already.
        gap: seconds; shorter pauses are part of a span.
        least: seconds; shorter spans are left out.
        reach: seconds by which a span begins at most before the value reaches `on`.
    """

    on: float
    off: float
    gap: float = 0.3
    least: float = 0.1
    reach: float = 1.0


class SpanTracker:
    """Spans of several curves, whose values arrive in blocks; memory grows with the number of spans alone.

    Args:
        curves: their number.
        step: seconds between two values; value i stands for the time from i * step to (i + 1) * step.
        rule: when a span begins and ends.
    """

    def __init__(self, curves: int, step: float, rule: Hysteresis) -> None:
        self._step, self._rule = step, rule
        self._reach = max(0, round(rule.reach / step))
        self._position = 0
        self._risen = np.full(curves, -1)  # where the value came above `off`; -1 below it
        self._begun = np.full(curves, -1)  # where the span began; -1 outside
        self._peak = np.zeros(curves, np.float32)
        self._found: list[list[tuple[int, int, float]]] = [[] for _ in range(curves)]

    def push(self, values: Curves) -> None:
        """Take the next values.

        Args:
            values: (steps, curves).
        """
        if not len(values):
            return
        above = values >= self._rule.off
        for curve in np.flatnonzero((values >= self._rule.on).any(0) | (self._begun >= 0)):
            self._follow(int(curve), values[:, curve], above[:, curve])
        lasting = np.where(self._risen < 0, self._position, self._risen)
        rises = self._position + len(values) - np.argmin(above[::-1], 0)  # behind the last value below, if one is
        self._risen = np.where(above.all(0), lasting, np.where(above[-1], rises, -1))
        self._position += len(values)

    def _follow(self, curve: int, values: Curves, above: NDArray[np.bool_]) -> None:
        """Take the next values of a curve that sounds, or begins to."""
        edges = np.flatnonzero(np.diff(above, prepend=False, append=False)).reshape(-1, 2)
        if self._begun[curve] >= 0 and not above[0]:
            self._end(curve, self._position)
        for start, stop in edges.tolist():
            first = start
            if self._begun[curve] < 0:
                lit = np.flatnonzero(values[start:stop] >= self._rule.on)
                if not len(lit):
                    continue
                first += int(lit[0])
                risen = self._risen[curve] if start == 0 and self._risen[curve] >= 0 else self._position + start
                self._begun[curve] = max(risen, self._position + first - self._reach)
                self._peak[curve] = 0
            self._peak[curve] = max(self._peak[curve], values[first:stop].max())
            if stop < len(values):
                self._end(curve, self._position + stop)

    def finish(self, seconds: float = math.inf) -> list[list[tuple[Span, float]]]:
        """End the curves.

        Args:
            seconds: length of the recording, where spans end at the latest.

        Returns:
            Of each curve the spans in their order, each with the highest value within.
        """
        for curve in np.flatnonzero(self._begun >= 0):
            self._end(int(curve), self._position)
        found = []
        for runs in self._found:
            spans = [(Span(a * self._step, min(b * self._step, seconds)), peak) for a, b, peak in runs]
            found.append([(span, peak) for span, peak in spans if span.end - span.start >= self._rule.least])
        return found

    def _end(self, curve: int, at: int) -> None:
        runs, begun, peak = self._found[curve], int(self._begun[curve]), float(self._peak[curve])
        if runs and (begun - runs[-1][1]) * self._step < self._rule.gap:
            begun, _, before = runs.pop()
            peak = max(peak, before)
        runs.append((begun, at, peak))
        self._begun[curve] = -1


def spans_of(values: Curves, step: float, rule: Hysteresis) -> list[Span]:
    """The spans of one curve.

    Args:
        values: (steps,).
        step: seconds between two values.
        rule: when a span begins and ends.

    >>> spans_of(np.array([0, 1, 1, 0.4, 0, 0, 0], np.float32), 0.5, Hysteresis(on=0.5, off=0.3))
    [Span(start=0.5, end=2.0)]
    """
    tracker = SpanTracker(1, step, rule)
    tracker.push(values[:, None])
    return [span for span, _ in tracker.finish()[0]]


def checked_spans(spans: object) -> tuple[Span, ...]:
    """Spans that a user has given, in their order in time.

    Args:
        spans: pairs of seconds.

    Raises:
        QueryError: something else, or one that ends before it begins.
    """
    if not isinstance(spans, Iterable) or isinstance(spans, str):
        raise QueryError(f"spans are pairs of seconds, such as [(3.2, 4.1)], got {spans!r}")
    return tuple(sorted(map(_checked, spans)))


def _checked(pair: object) -> Span:
    if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
        raise QueryError(f"a span is a pair of seconds, such as (3.2, 4.1), got {pair!r}")
    start, end = pair
    if not all(isinstance(value, Real) and math.isfinite(value) for value in (start, end)) or not 0 <= start < end:
        raise QueryError(f"a span ends after it begins, and begins at 0 s or later, got {tuple(pair)!r}")
    return Span(float(start), float(end))
