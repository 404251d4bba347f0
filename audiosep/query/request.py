"""What is asked of a recording: queries that are embedded, and queries that a stem answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from audiosep.query.resolve import Resolved


@dataclass(frozen=True)
class Request:
    """What is asked of a recording.

    Attributes:
        names: of the targets, in order.
        stems: name of each target that is answered by a stem -> the stem.
        queries: name of each other target -> its name in `resolved`.
        resolved: the queries of these targets, embedded; None where there are none.
        all_stems: whether the targets are all stems, which sum to the mixture.
    """

    names: tuple[str, ...]
    stems: Mapping[str, str]
    queries: Mapping[str, str]
    resolved: Resolved | None
    all_stems: bool = False
