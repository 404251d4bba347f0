"""What is to be separated from a recording: queries that are embedded, and queries that a stem answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from audiosep.query.query import Query
from audiosep.query.resolve import Resolved


@dataclass(frozen=True)
class QueryGroup:
    """Queries of the mixture, or of one of its stems.

    Attributes:
        resolved: the queries, embedded.
        names: name of each target -> its name in `resolved`.
        stem: from which they are separated; None for the mixture.
    """

    resolved: Resolved
    names: Mapping[str, str]
    stem: str | None = None


@dataclass(frozen=True)
class Request:
    """What is to be separated from a recording.

    Attributes:
        names: of the targets, in order.
        stems: name of each target that is answered by a stem -> the stem.
        groups: the queries of the other targets.
        queries: of the targets, each sound once; None for all stems.
    """

    names: tuple[str, ...]
    stems: Mapping[str, str]
    groups: tuple[QueryGroup, ...] = ()
    queries: Sequence[Query] | None = None

    @property
    def all_stems(self) -> bool:
        """Whether the targets are all stems, which sum to the mixture."""
        return self.queries is None
