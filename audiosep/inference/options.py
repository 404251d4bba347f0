"""How a recording is separated: the options that Python, the command line and Ray jobs share."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal, get_args

from audiosep.errors import InputError

Engine = Literal["torch", "openvino"]
"""What computes the layers of a network."""

Quality = Literal["fast", "balanced", "best"]
"""How much is computed for a text query, see `Options`."""

_MOST_SHIFTS = 16


@dataclass(frozen=True)
class Options:
    """How a recording is separated: more computation for a better result, and how much of it at once.

    Args:
        overlap: share of a window, its context left out, that cross-fades with the next window; from 0 to below 1.
            It is rounded up to the model's grid.
        shifts: number of further passes over time-shifted windows, up to 16, which are averaged: slower, a little
            better, and each needs memory of its own.
        batch: windows computed at once; None for 1 on a CPU, and for as many as fit into the memory of a GPU.
        stem_head: whether queries that name a stem, such as "vocals" or "bass guitar", and have no negative, are
            answered by stems. None: by those of a specialist (`load(stems=)`), whatever else is asked for, and by a
            model that has nothing but stems. True: in `separate_files` also by those of another model itself, where all
            queries name one. False: never. What is left to words takes the mask of the model's own stem as one more
            estimate, unless this is False.
        quality: how much is computed for a text query, see docs/recall.md: an estimate and what it leaves (fast), also
            what is left without another sound that is heard (balanced), or without each of two, and all of them refined
            once more (best). Other queries, stems, live streams and models that mix no ways do not differ.

    Raises:
        InputError: a value out of range or of another type.
    """

    overlap: float = 0.02
    shifts: int = 0
    batch: int | None = None
    stem_head: bool | None = None
    quality: Quality = "balanced"

    def __post_init__(self) -> None:
        if self.quality not in get_args(Quality):
            raise InputError(f"quality must be one of {', '.join(get_args(Quality))}, got {self.quality!r}")
        if not isinstance(self.overlap, Real) or isinstance(self.overlap, bool) or not 0 <= self.overlap < 1:
            raise InputError(f"overlap must be a number of at least 0 and below 1, got {self.overlap!r}")
        if not _is_whole(self.shifts) or not 0 <= self.shifts <= _MOST_SHIFTS:
            raise InputError(f"shifts must be a whole number from 0 to {_MOST_SHIFTS}, got {self.shifts!r}")
        if self.batch is not None and (not _is_whole(self.batch) or self.batch < 1):
            raise InputError(f"batch must be a whole number of at least 1, or None, got {self.batch!r}")
        if not isinstance(self.stem_head, bool | None):
            raise InputError(f"stem_head must be True, False or None, got {self.stem_head!r}")


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
