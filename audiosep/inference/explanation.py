"""The prototypes and estimates behind a text query."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    """The prototypes behind a text query, and the estimates that its answer is the mean of.

    Attributes:
        labels: label of prototypes, its share of the answer, its number of recordings; the largest share first.
        ways: way to an estimate -> its weight, the mean over the windows; empty where there is one way.
        own: whether the label is a name of the user's own, and the recordings are its examples.
    """

    labels: tuple[tuple[str, float, int], ...]
    ways: dict[str, float]
    own: bool = False
