"""Readable names for what the tagger hears, in families of sounds that are the same to a listener.

`vocabulary.csv` has a line for each of AudioSet's 527 classes (Gemmeke et al., 2017), in the order of the tagger's
outputs: the class, the name that describes it, and the family of that name. Classes without a name are no sounds
("Inside, small room"). The first name of a family in the file is its general one.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources


@dataclass(frozen=True)
class Vocabulary:
    """Names of sounds.

    Attributes:
        classes: of the tagger.
        names: distinct ones.
        members: of each name the numbers of its classes.
        families: of each name its family, as a number from 0 on.
    """

    classes: tuple[str, ...]
    names: tuple[str, ...]
    members: tuple[tuple[int, ...], ...]
    families: tuple[int, ...]


@lru_cache(maxsize=1)
def vocabulary() -> Vocabulary:
    """The vocabulary of taggers with AudioSet's classes."""
    text = resources.files(__package__).joinpath("vocabulary.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    members: dict[str, list[int]] = {}
    family: dict[str, str] = {}
    for number, row in enumerate(rows):
        if row["name"]:
            members.setdefault(row["name"], []).append(number)
            family[row["name"]] = row["family"]
    order = list(dict.fromkeys(family.values()))
    return Vocabulary(
        tuple(row["class"] for row in rows),
        tuple(members),
        tuple(map(tuple, members.values())),
        tuple(order.index(family[name]) for name in members),
    )
