"""The analysis of a listening test: listeners are screened, then systems get means, medians and intervals.

As ITU-R BS.1534-3 says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from audiosep.errors import DataError
from audiosep.evaluation.listening import MID_ANCHOR, REFERENCE

Ratings = Mapping[str, Mapping[tuple[str, str], float]]


@dataclass(frozen=True)
class RatingSummary:
    """Ratings of a system, for all items or for one.

    Attributes:
        system: its name.
        mean: over listeners, of each listener's mean.
        low: lower limit of the 95 % interval of the mean (Student's t); None for a single listener.
        high: upper limit.
        median: of all ratings.
        lower: first quartile.
        upper: third quartile.
        listeners: how many.
    """

    system: str
    mean: float
    low: float | None
    high: float | None
    median: float
    lower: float
    upper: float
    listeners: int


@dataclass(frozen=True)
class ListeningResult:
    """The result of a listening test.

    Attributes:
        overall: systems over all items, best first.
        items: item -> systems, best first.
        excluded: listener -> why their ratings are not used.
    """

    overall: tuple[RatingSummary, ...]
    items: dict[str, tuple[RatingSummary, ...]]
    excluded: dict[str, str]

    def markdown(self) -> str:
        """The tables and the excluded listeners, as Markdown."""
        parts = ["## All items", _table(self.overall)]
        for item, summaries in self.items.items():
            parts += [f"## {item}", _table(summaries)]
        parts += ["Means with the 95 % interval over listeners (Student's t); median and quartiles of all ratings."]
        parts += [f"Excluded: {listener}: {reason}." for listener, reason in self.excluded.items()]
        return "\n\n".join(parts) + "\n"

    def data(self) -> dict[str, Any]:
        """The result as JSON values."""
        return asdict(self)


def analyse(ratings: Ratings) -> ListeningResult:
    """Exclude unreliable listeners, then summarise the ratings of every system.

    Args:
        ratings: listener -> (item, system) -> 0 to 100.

    Raises:
        DataError: every listener is excluded.
    """
    excluded = screen(ratings)
    kept = {listener: given for listener, given in ratings.items() if listener not in excluded}
    if not kept:
        reasons = "".join(f"\n  {listener}: {reason}" for listener, reason in excluded.items())
        raise DataError(f"every listener is excluded, ask others:{reasons}")
    items = sorted({item for given in ratings.values() for item, _ in given})
    return ListeningResult(_summaries(kept, items), {item: _summaries(kept, [item]) for item in items}, excluded)


def screen(ratings: Ratings) -> dict[str, str]:
    """Find listeners whose ratings cannot be used (BS.1534-3, section 4.1.2).

    They rated the hidden reference below 90 for more than 15 % of the items, or the mid anchor above 90 for more than
    15 % of the items. An item whose mid anchor more than a quarter of the listeners rated above 90 does not count for
    the second rule, because the anchor does not degrade this item much.

    Args:
        ratings: listener -> (item, system) -> 0 to 100.

    Returns:
        listener -> reason.
    """
    excluded = {}
    high = {
        item: np.mean([given[item, MID_ANCHOR] > 90 for given in ratings.values()])
        for item in {item for given in ratings.values() for item, system in given if system == MID_ANCHOR}
    }
    for listener, given in ratings.items():
        low = np.mean([value < 90 for (_, system), value in given.items() if system == REFERENCE])
        high_anchors = [v > 90 for (item, system), v in given.items() if system == MID_ANCHOR and high[item] <= 0.25]
        if low > 0.15:
            excluded[listener] = f"rated the hidden reference below 90 in {low:.0%} of the items"
        elif high_anchors and np.mean(high_anchors) > 0.15:
            excluded[listener] = f"rated the 7 kHz anchor above 90 in {np.mean(high_anchors):.0%} of the items"
    return excluded


def _summaries(ratings: Ratings, items: Sequence[str]) -> tuple[RatingSummary, ...]:
    systems = sorted({system for given in ratings.values() for _, system in given})
    summaries = []
    for system in systems:
        table = np.array([[given[item, system] for item in items] for given in ratings.values()])  # (listeners, items)
        mean = table.mean(1)
        count = len(mean)
        half = student.ppf(0.975, count - 1) * mean.std(ddof=1) / np.sqrt(count) if count > 1 else None
        lower, median, upper = np.percentile(table, [25, 50, 75]).tolist()
        middle = float(mean.mean())
        low, high = (None, None) if half is None else (middle - float(half), middle + float(half))
        summaries.append(RatingSummary(system, middle, low, high, median, lower, upper, count))
    return tuple(sorted(summaries, key=lambda summary: -summary.mean))


def _table(summaries: Sequence[RatingSummary]) -> str:
    head = ("system", "mean", "95 % interval", "median", "quartiles", "listeners")
    rows = [head, ("---", *["---:"] * 5)]
    for o in summaries:
        interval = "-" if o.low is None or o.high is None else f"{o.low:.1f} to {o.high:.1f}"
        quartiles = f"{o.lower:.1f} to {o.upper:.1f}"
        rows.append((o.system, f"{o.mean:.1f}", interval, f"{o.median:.1f}", quartiles, str(o.listeners)))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
