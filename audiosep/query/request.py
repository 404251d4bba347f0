"""What is asked of a recording: queries that are embedded, and queries that a stem answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from audiosep.query.resolve import Resolved


@dataclass(frozen=True)
class Asked:
    """Queries that are asked of the mixture, or of a stem.

    Attributes:
        resolved: the queries, embedded.
        names: name of each target -> its name in `resolved`.
        stem: that is asked; None for the mixture.
    """

    resolved: Resolved
    names: Mapping[str, str]
    stem: str | None = None


@dataclass(frozen=True)
class Request:
    """What is asked of a recording.

    Attributes:
        names: of the targets, in order.
        stems: name of each target that is answered by a stem -> the stem.
        asked: the queries of the other targets.
        all_stems: whether the targets are all stems, which sum to the mixture.
    """

    names: tuple[str, ...]
    stems: Mapping[str, str]
    asked: tuple[Asked, ...] = ()
    all_stems: bool = False
