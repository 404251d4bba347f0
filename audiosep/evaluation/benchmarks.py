"""What a test set is: items that load lazily. `audiosep.evaluation.sets` reads them from disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from audiosep.query.query import Query

Array = NDArray[np.float32]
Average = Literal["clips", "classes", "class medians"]


@dataclass(frozen=True, eq=False)
class Target:
    """One sound to be separated from an item's mixture.

    Args:
        name: unique within the item; the key of the true source in `Scene.sources` unless `parts` says otherwise. A
            name that is not there is a target absent from the mixture.
        query: what a system that takes free text (or audio) is asked.
        label: the class that tables and bars are grouped by.
        aliases: what a system with fixed targets may call it, best first, such as ("drums", "percussive").
        parts: keys of the sources that add up to this target, such as all stems but the vocals.
    """

    name: str
    query: Query
    label: str = ""
    aliases: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """Keys of the true sources that make up this target."""
        return self.parts or (self.name,)


@dataclass(frozen=True, eq=False)
class Scene:
    """The audio of one item.

    Args:
        mix: (channels, samples).
        sources: name -> (channels, samples), the true sources that are known: different sounds, no sums of others;
            with what is unknown they add up to the mix.
        sample_rate: Hz, of all of them.
    """

    mix: Array
    sources: Mapping[str, Array]
    sample_rate: int

    @property
    def seconds(self) -> float:
        """Length of the mixture."""
        return float(self.mix.shape[-1] / self.sample_rate)

    def present(self, target: Target) -> bool:
        """Whether the target is in the mixture at all."""
        return any(name in self.sources for name in target.sources)

    def reference(self, target: Target) -> Array:
        """What a perfect system would give; silence when the target is not in the mixture.

        Returns:
            (channels, samples).
        """
        return sum((self.sources[name] for name in target.sources if name in self.sources), np.zeros_like(self.mix))

    def others(self, target: Target) -> dict[str, Array]:
        """What else is in the mixture, by name; where only the target is known, all the rest under one name."""
        others = {name: x for name, x in self.sources.items() if name not in target.sources}
        return others or {"rest": self.mix - self.reference(target)}


@dataclass(frozen=True, eq=False)
class Item:
    """One mixture of a test set and the targets asked from it.

    Args:
        id: unique within its set and the same at every run; finished items are recognised by it.
        targets: at least one.
        load: reads or mixes the audio; picklable (a partial of a module's function), because items travel to worker
            processes, and deterministic.
        group: part of the set whose scores are averaged apart, such as a recipe's group "a"; empty for none.
        version: changes whenever the audio does (a recipe's seed, a file's size), so that stale scores are not reused.
        meta: anything worth showing in the report, such as the family.
    """

    id: str
    targets: tuple[Target, ...]
    load: Callable[[], Scene]
    group: str = ""
    version: str = ""
    meta: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A named set of items.

    Args:
        name: as it stands in tables.
        items: in a fixed order.
        description: what it holds and where its owner publishes it.
        root: where it was read from.
        average: how its owner averages: over clips, over the means of classes, or over the medians of classes.
        groups: what the items' groups are, for the note under their table.
    """

    name: str
    items: tuple[Item, ...]
    description: str
    root: Path | None = None
    average: Average = "clips"
    groups: Mapping[str, str] = field(default_factory=dict)
