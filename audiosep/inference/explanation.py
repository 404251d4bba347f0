"""The prototypes and queries behind a text query."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    """The prototypes behind a text query, and the queries that were made of it.

    Attributes:
        labels: label of prototypes, its share of the answer, its number of recordings; the largest share first.
        ways: way of querying -> its weight, the mean over the windows; empty where there is one way.
        own: whether the label is a name of the user's own, and the recordings are its examples.
    """

    labels: tuple[tuple[str, float, int], ...]
    ways: dict[str, float]
    own: bool = False
