"""Text queries for the sources of a mixture, and which other sources such a text matches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from audiosep.data.labels import label_table, mentions
from audiosep.data.manifest import STEMS, Clip

STEM_CAPTIONS: dict[str, tuple[str, ...]] = {
    "vocals": ("vocals", "singing voice", "singing", "lead vocals", "a person singing", "the singer"),
    "drums": ("drums", "drum kit", "percussion", "the drum track"),
    "bass": ("bass", "bass guitar", "the bass line", "bass line"),
    "other": ("accompaniment without drums and bass", "the other instruments"),
}
_ABSENT_TRIES = 20


def query_texts(clips: Sequence[Clip]) -> set[str]:
    """Every text that can be a query in mixtures of these clips: their labels and captions, and the stem captions.

    Args:
        clips: the clips that mixtures are made of.
    """
    stems = {text for texts in STEM_CAPTIONS.values() for text in texts}
    return stems | {text for clip in clips for text in clip.texts}


class Relation(IntEnum):
    """How two labels are related."""

    UNRELATED = 0  # no common name, word or caption
    SIBLINGS = 1  # something in common, but each has texts that do not match the other (male and female speech)
    OVERLAPPING = 2  # one implies or mentions the other, or no text tells them apart


@dataclass(frozen=True)
class TextQuery:
    """A text query.

    Args:
        caption: the text.
        members: the sources of the mixture that it matches.
    """

    caption: str
    members: tuple[int, ...]


class QueryBuilder:
    """Chooses texts for sources and finds the sources that a text matches.

    Args:
        clips: the clips that mixtures are made of.
        numbers: their numbers in the corpus; all methods take these.
    """

    def __init__(self, clips: Sequence[Clip], numbers: Sequence[int]) -> None:
        self.table = label_table()
        self.clips = dict(zip(numbers, clips, strict=True))
        self.texts: dict[str, set[str]] = defaultdict(set)
        for clip in clips:
            self.texts[clip.label].update(clip.texts)
        self._relations: dict[tuple[str, str], Relation] = {}
        self._stems = {stem: [n for n, clip in self.clips.items() if clip.stem == stem] for stem in STEMS[:3]}
        self._stems = {stem: numbers for stem, numbers in self._stems.items() if numbers}

    def separable(self, a: int, b: int, siblings: bool = False) -> bool:
        """Whether two clips may be different sources of one mixture.

        Args:
            a: one clip.
            b: the other clip.
            siblings: accept siblings too; texts that match both are then not used for one of them alone.
        """
        return self.relation(self.clips[a].label, self.clips[b].label) <= int(siblings)

    def relation(self, a: str, b: str) -> Relation:
        """How two labels are related, whatever their order.

        Args:
            a: one label.
            b: the other label.
        """
        pair = (a, b) if a < b else (b, a)
        if pair not in self._relations:
            self._relations[pair] = self._relation(*pair)
        return self._relations[pair]

    def _relation(self, a: str, b: str) -> Relation:
        if a == b or self.table.implies(a, b) or self.table.implies(b, a):
            return Relation.OVERLAPPING
        if any(mentions(text, b) for text in self.texts[a]) or any(mentions(text, a) for text in self.texts[b]):
            return Relation.OVERLAPPING
        if self.texts[a] & self.texts[b] or self.table.conflict(a, b):
            own = [self.texts[x] - self.texts[y] - self.table.implied(y) for x, y in ((a, b), (b, a))]
            return Relation.SIBLINGS if all(own) else Relation.OVERLAPPING
        return Relation.UNRELATED

    def source_query(self, rng: np.random.Generator, clips: Sequence[int], source: int) -> TextQuery:
        """A random text of a source, with all sources that it matches.

        Texts are skipped for which it is not certain whether they match another source: a caption that clips of its
        label have but it has not, or a label that the other clip implies in other words. When all are skipped the
        query is the label itself.

        Args:
            rng: draws the text.
            clips: the clip of each source of the mixture.
            source: index of the source in `clips`.
        """
        clip = self.clips[clips[source]]
        texts = clip.texts
        for i in rng.permutation(len(texts)):
            members = self._members(texts[i], clips, source)
            if members is not None:
                return TextQuery(texts[i], members)
        label = clip.label
        own = tuple(j for j, c in enumerate(clips) if j == source or self.table.implies(self.clips[c].label, label))
        return TextQuery(label, own)

    def _members(self, text: str, clips: Sequence[int], source: int) -> tuple[int, ...] | None:
        """The sources that a text of `source` matches, None when that is uncertain for one of them."""
        members = []
        label = self.clips[clips[source]].label
        for j, number in enumerate(clips):
            other = self.clips[number]
            if j == source or text in other.texts or self.table.implies(other.label, text):
                members.append(j)
            elif (
                self.table.implies(other.label, label) or text in self.texts[other.label] or mentions(text, other.label)
            ):
                return None
        return tuple(members)

    def stem_query(self, rng: np.random.Generator, clips: Sequence[int], source: int) -> TextQuery | None:
        """A text for the whole stem that a source belongs to; None when it belongs to none.

        Args:
            rng: draws the text.
            clips: the clip of each source of the mixture.
            source: index of the source in `clips`.
        """
        stem = self.clips[clips[source]].stem
        if stem not in STEMS:
            return None
        texts = STEM_CAPTIONS[stem]
        members = tuple(j for j, number in enumerate(clips) if self.clips[number].stem == stem)
        return TextQuery(texts[rng.integers(len(texts))], members)

    def absent_query(
        self, rng: np.random.Generator, clips: Sequence[int], pick: Callable[[np.random.Generator], int], song: bool
    ) -> tuple[int, str] | None:
        """A clip that is unrelated to every source of a mixture, and a text of it.

        Args:
            rng: draws clip and text.
            clips: the clip of each source of the mixture.
            pick: draws a clip.
            song: the mixture is a song: half of the time the clip is of a stem that the song does not have.

        Returns:
            The clip and the text; None when no such clip was found.
        """
        there = {self.clips[number].stem for number in clips}
        lacking = [stem for stem in self._stems if stem not in there] if song and rng.random() < 0.5 else []
        for _ in range(_ABSENT_TRIES):
            stem = lacking[rng.integers(len(lacking))] if lacking else ""
            clip = self._stems[stem][rng.integers(len(self._stems[stem]))] if stem else pick(rng)
            if all(self.separable(clip, number) for number in clips):
                texts = STEM_CAPTIONS[stem] if stem else self.clips[clip].texts
                return clip, texts[rng.integers(len(texts))]
        return None

    def negative_text(self, rng: np.random.Generator, clips: Sequence[int], members: Sequence[int]) -> str | None:
        """A text of another source of the mixture that matches no part of the target; None when there is none.

        Args:
            rng: draws the text.
            clips: the clip of each source of the mixture.
            members: the sources that are the target.
        """
        others = [j for j in range(len(clips)) if j not in members]
        targets = [self.clips[clips[m]] for m in members]
        for j in rng.permutation(len(others)):
            texts = self.clips[clips[others[j]]].texts
            clear = [
                text
                for text in texts
                if not any(text in self.texts[t.label] or self.table.implies(t.label, text) for t in targets)
            ]
            if clear:
                return clear[rng.integers(len(clear))]
        return None
