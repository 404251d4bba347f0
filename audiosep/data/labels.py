"""Which label answers which query: the implication table behind label-aware mixtures and splits.

`labels.json` holds direct implications: "rain on a surface" answers "rain", "drum kit" contains "snare drum", "street
traffic" contains "car engine". Names that are no label of any clip ("bird", "flowing water") tie labels together that
a query could confuse.
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
        toy""",
    )
)


class LabelTable:
    """Implications between labels, closed over chains.

    Args:
        answers: label -> names that a clip of this label contains or is a kind of.
    """

    def __init__(self, answers: Mapping[str, Iterable[str]]) -> None:
        self._answers = {name: frozenset(names) for name, names in answers.items()}
        self._closures: dict[str, frozenset[str]] = {}

    def implied(self, label: str) -> frozenset[str]:
        """Every name that a clip of `label` answers, itself included."""
        if label not in self._closures:
            found, todo = {label}, [label]
            while todo:
                fresh = self._answers.get(todo.pop(), frozenset()) - found
                found |= fresh
                todo.extend(fresh)
            self._closures[label] = frozenset(found)
        return self._closures[label]

    def answers(self, label: str, query: str) -> bool:
        """Would a listener accept a clip of `label` as an answer to `query`? (kind of it, contains it, same name)"""
        return query in self.implied(label)

    def conflict(self, a: str, b: str) -> bool:
        """May clips of the two labels not meet in one mixture as different sounds?

        They conflict when they imply a common name, one answering the other included, or share a telling word.
        """
        return not self.implied(a).isdisjoint(self.implied(b)) or not tokens(a).isdisjoint(tokens(b))

    def related(self, label: str, labels: Iterable[str]) -> frozenset[str]:
        """Those of `labels` that answer `label` or that it answers, itself included."""
        return frozenset(other for other in labels if self.answers(other, label) or self.answers(label, other))


@functools.cache
def tokens(text: str) -> frozenset[str]:
    """The telling words of a label or caption: lower case, without function words and plural endings."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    return frozenset(_singular(word) for word in words if word not in _STOP)


def names(text: str, label: str) -> bool:
    """Does `text` name `label`: are all telling words of the label in it?"""
    telling = tokens(label)
    return bool(telling) and telling <= tokens(text)


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


@functools.cache
def _file() -> dict[str, object]:
    data: dict[str, object] = json.loads(resources.files("audiosep.data").joinpath("labels.json").read_text("utf-8"))
    return data


@functools.cache
def label_table() -> LabelTable:
    """The table that ships with the package."""
    answers = _file()["answers"]
    assert isinstance(answers, dict)
    return LabelTable(answers)


@functools.cache
def everyday_labels() -> frozenset[str]:
    """The ten ESC-10 classes: sounds so common that they are never held out as zero-shot labels."""
    everyday = _file()["everyday"]
    assert isinstance(everyday, list)
    return frozenset(everyday)
