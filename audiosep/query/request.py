"""What is to be separated from a recording: queries that are embedded, and queries that a stem answers."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from audiosep.query.query import Query, meaning
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
    def sounds(self) -> dict[str, str]:
        """Name of each target -> that of the first target that is the same sound, which may have another name."""
        first: dict[Hashable, str] = {}
        asked = zip(self.names, self.queries, strict=True) if self.queries is not None else ()
        return {name: first.setdefault(self.stems.get(name) or meaning(query), name) for name, query in asked}

    @property
    def all_stems(self) -> bool:
        """Whether the targets are all stems, which sum to the mixture."""
        return self.queries is None
