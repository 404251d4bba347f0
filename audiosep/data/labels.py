"""Which labels imply which names: the table behind mixtures without ambiguous queries, and behind the splits.

`labels.json` lists direct implications: "rain on a surface" is a kind of "rain", "drum kit" contains "snare drum",
"street traffic" contains "car engine". Names that are no label of any clip ("bird", "flowing water") connect labels
that one query could match.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping
from importlib import resources

_STOP = frozenset(
    re.findall(
        r"\w+",
        """a an the of in on at and or with to for from by over under sound sounds noise someone somebody person people
        man woman playing played being recording loud soft distant small large hit hits hitting ambience solo synth
        toy my our your his her their its this that""",
    )
)


class LabelTable:
    """Implications between labels, and those that follow from them.

    Args:
        implications: label -> names that a clip of this label is a kind of, or contains.
    """

    def __init__(self, implications: Mapping[str, Iterable[str]]) -> None:
        self._direct = {label: frozenset(names) for label, names in implications.items()}
        self._closures: dict[str, frozenset[str]] = {}

    def implied(self, label: str) -> frozenset[str]:
        """Every name that `label` implies, directly or over other names, itself included.

        Args:
            label: any label; one that the table does not have implies itself only.
        """
        if label not in self._closures:
            found, todo = {label}, [label]
            while todo:
                fresh = self._direct.get(todo.pop(), frozenset()) - found
                found |= fresh
                todo.extend(fresh)
            self._closures[label] = frozenset(found)
        return self._closures[label]

    def implies(self, label: str, name: str) -> bool:
        """Whether every clip of `label` matches the query `name`: it is that, a kind of it, or contains it.

        Args:
            label: of a clip.
            name: a label, or another name of the table.
        """
        return name in self.implied(label)

    def conflict(self, a: str, b: str) -> bool:
        """Whether clips of two labels must not be different sources of one mixture.

        They conflict when they imply a common name (as they do when one implies the other) or share a significant word.

        Args:
            a: one label.
            b: the other label.
        """
        return not self.implied(a).isdisjoint(self.implied(b)) or not tokens(a).isdisjoint(tokens(b))

    def related(self, label: str, labels: Iterable[str]) -> frozenset[str]:
        """Those of `labels` that imply `label` or that it implies, itself included.

        Args:
            label: any label.
            labels: labels to choose from.
        """
        return frozenset(other for other in labels if self.implies(other, label) or self.implies(label, other))


@functools.cache
def tokens(text: str) -> frozenset[str]:
    """The significant words of a text: lower case, without function words, general words and plural endings.

    Args:
        text: a label or a caption.
    """
    words = re.findall(r"[^\W_]+", text.lower())
    return frozenset(_singular(word) for word in words if word not in _STOP)


def mentions(text: str, label: str) -> bool:
    """Whether a text contains all significant words of a label.

    Args:
        text: a caption.
        label: a label; one without significant words is never mentioned.
    """
    words = tokens(label)
    return bool(words) and words <= tokens(text)


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


@functools.cache
def _file() -> dict[str, object]:
    data: dict[str, object] = json.loads(resources.files("audiosep.data").joinpath("labels.json").read_text("utf-8"))
    return data


@functools.cache
def label_table() -> LabelTable:
    """The table of the package."""
    implications = _file()["implications"]
    assert isinstance(implications, dict)
    return LabelTable(implications)


@functools.cache
def everyday_labels() -> frozenset[str]:
    """The ten ESC-10 classes: sounds so common that they are never zero-shot labels."""
    everyday = _file()["everyday"]
    assert isinstance(everyday, list)
    return frozenset(everyday)
