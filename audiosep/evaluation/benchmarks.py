"""Benchmarks: items whose audio is loaded when it is needed. `audiosep.evaluation.sets` reads them from disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from audiosep.audio.samples import Array
from audiosep.query.query import Query

Average = Literal["clips", "classes", "class medians"]


@dataclass(frozen=True, eq=False)
class Target:
    """One sound to be separated from the mixture of an item.

    Attributes:
        name: unique within the item, and the key of the true source in `Scene.sources` unless `parts` is given. A
            target whose name is not there is absent from the mixture.
        query: for systems that take free text (or audio).
        label: the class that tables and bars are grouped by.
        aliases: names that a system with fixed targets may have for it, best first, such as ("drums", "percussive").
        parts: keys of the sources that sum to this target, such as all stems but the vocals.
    """

    name: str
    query: Query
    label: str = ""
    aliases: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """Keys of the true sources that sum to this target."""
        return self.parts or (self.name,)


@dataclass(frozen=True, eq=False)
class Scene:
    """The audio of one item.

    Attributes:
        mix: (channels, samples).
        sources: name -> (channels, samples), the known true sources. They are different sounds, none the sum of
            others; the mix may contain more.
        sample_rate: of the mix and all sources, Hz.
    """

    mix: Array
    sources: Mapping[str, Array]
    sample_rate: int

    @property
    def seconds(self) -> float:
        """Length of the mixture, seconds."""
        return float(self.mix.shape[-1] / self.sample_rate)

    def present(self, target: Target) -> bool:
        """Whether the target is in the mixture."""
        return any(name in self.sources for name in target.sources)

    def reference(self, target: Target) -> Array:
        """The true target; silence when it is not in the mixture.

        Returns:
            (channels, samples).
        """
        return sum((self.sources[name] for name in target.sources if name in self.sources), np.zeros_like(self.mix))

    def others(self, target: Target) -> dict[str, Array]:
        """The other true sources by name; where none is known, the mixture without the target as "rest"."""
        others = {name: x for name, x in self.sources.items() if name not in target.sources}
        return others or {"rest": self.mix - self.reference(target)}


@dataclass(frozen=True, eq=False)
class Item:
    """One mixture of a benchmark and the targets to be separated from it.

    Attributes:
        id: unique within its benchmark and the same at every run; finished items are recognised by it.
        targets: at least one.
        load: reads or mixes the audio. It must be deterministic, and picklable (a partial of a module's function),
            because items are sent to worker processes.
        group: part of the benchmark that also gets averages of its own, such as a recipe's group "a"; empty for none.
        version: changes whenever the audio does (seed of a recipe, size of a file), so that old scores are not reused.
        meta: further facts for the report, such as the family.
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

    Attributes:
        name: shown in tables.
        items: in a fixed order.
        description: what it holds and where its owner publishes it.
        root: where it was read from.
        average: how its owner averages: over clips, over the means of classes, or over the medians of classes.
        groups: meaning of the groups of items, for the note under their table.
    """

    name: str
    items: tuple[Item, ...]
    description: str
    root: Path | None = None
    average: Average = "clips"
    groups: Mapping[str, str] = field(default_factory=dict)
