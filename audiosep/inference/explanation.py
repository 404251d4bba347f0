"""How a query was answered."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    """How a text query was answered.

    Attributes:
        labels: label of prototypes, its share of the answer, its number of recordings; the largest share first.
        ways: way of querying -> its weight, the mean over the windows; empty where there is one way.
        own: whether the label is a name of the user's own, and the recordings are its examples.
    """

    labels: tuple[tuple[str, float, int], ...]
    ways: dict[str, float]
    own: bool = False
