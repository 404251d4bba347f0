"""The analysis of a listening test: who is left out, then means, medians and intervals (ITU-R BS.1534-3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from audiosep.evaluation.listening import MID_ANCHOR, REFERENCE

Ratings = Mapping[str, Mapping[tuple[str, str], float]]


@dataclass(frozen=True)
class Opinion:
    """Ratings of a system, over all items or of one.

    Attributes:
        system: its name. listeners: how many.
        mean: over listeners, of each listener's mean. low, high: its 95 % interval (Student's t); None for one.
        median, lower, upper: median and quartiles of all ratings.
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
class Analysis:
    """A listening test's result.

    Attributes:
        overall: best first. items: item -> opinions, best first.
        excluded: listener -> why their ratings are left out.
    """

    overall: tuple[Opinion, ...]
    items: dict[str, tuple[Opinion, ...]]
    excluded: dict[str, str]

    def markdown(self) -> str:
        """Tables and who was left out."""
        parts = ["## All items", _table(self.overall)]
        for item, opinions in self.items.items():
            parts += [f"## {item}", _table(opinions)]
        parts += ["Means with the 95 % interval over listeners (Student's t); median and quartiles of all ratings."]
        parts += [f"Left out: {listener}: {reason}." for listener, reason in self.excluded.items()]
        return "\n\n".join(parts) + "\n"

    def data(self) -> dict[str, Any]:
        """The same for machines."""
        return asdict(self)


def analyse(ratings: Ratings) -> Analysis:
    """Leave out unreliable listeners, then describe every system.

    Args:
        ratings: listener -> (item, system) -> 0 to 100.
    """
    excluded = screen(ratings)
    kept = {listener: given for listener, given in ratings.items() if listener not in excluded}
    items = sorted({item for given in ratings.values() for item, _ in given})
    return Analysis(_opinions(kept, items), {item: _opinions(kept, [item]) for item in items}, excluded)


def screen(ratings: Ratings) -> dict[str, str]:
    """Listeners whose ratings cannot be used, and why (BS.1534-3, section 4.1.2).

    They rated the hidden reference below 90 for more than 15 % of the items, or the mid anchor above 90 for more than
    15 % of the items; an item whose mid anchor more than a quarter of the listeners rated above 90 is not counted
    there, because it is the item that the anchor does not harm.
    """
    excluded = {}
    high = {
        item: np.mean([given[item, MID_ANCHOR] > 90 for given in ratings.values()])
        for item in {item for given in ratings.values() for item, system in given if system == MID_ANCHOR}
    }
    for listener, given in ratings.items():
        low = np.mean([value < 90 for (_, system), value in given.items() if system == REFERENCE])
        fooled = [v > 90 for (item, system), v in given.items() if system == MID_ANCHOR and high[item] <= 0.25]
        if low > 0.15:
            excluded[listener] = f"rated the hidden reference below 90 in {low:.0%} of the items"
        elif fooled and np.mean(fooled) > 0.15:
            excluded[listener] = f"rated the 7 kHz anchor above 90 in {np.mean(fooled):.0%} of the items"
    return excluded


def _opinions(ratings: Ratings, items: Sequence[str]) -> tuple[Opinion, ...]:
    systems = sorted({system for given in ratings.values() for _, system in given})
    opinions = []
    for system in systems:
        table = np.array([[given[item, system] for item in items] for given in ratings.values()])  # (listeners, items)
        mean = table.mean(1)
        count = len(mean)
        half = student.ppf(0.975, count - 1) * mean.std(ddof=1) / np.sqrt(count) if count > 1 else None
        lower, median, upper = np.percentile(table, [25, 50, 75]).tolist()
        middle = float(mean.mean())
        low, high = (None, None) if half is None else (middle - float(half), middle + float(half))
        opinions.append(Opinion(system, middle, low, high, median, lower, upper, count))
    return tuple(sorted(opinions, key=lambda opinion: -opinion.mean))


def _table(opinions: Sequence[Opinion]) -> str:
    head = ("system", "mean", "95 % interval", "median", "quartiles", "listeners")
    rows = [head, ("---", *["---:"] * 5)]
    for o in opinions:
        interval = "-" if o.low is None or o.high is None else f"{o.low:.1f} to {o.high:.1f}"
        quartiles = f"{o.lower:.1f} to {o.upper:.1f}"
        rows.append((o.system, f"{o.mean:.1f}", interval, f"{o.median:.1f}", quartiles, str(o.listeners)))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
