"""Which texts may ask for a source of a mixture, and what else in the mixture they ask for too."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from audiosep.data.labels import LabelTable, label_table, names
from audiosep.data.manifest import STEMS, Clip

STEM_CAPTIONS: dict[str, tuple[str, ...]] = {
    "vocals": ("vocals", "singing voice", "singing", "lead vocals", "a person singing", "the singer"),
    "drums": ("drums", "drum kit", "percussion", "the drum track"),
    "bass": ("bass", "bass guitar", "the bass line", "bass line"),
    "other": ("accompaniment without drums and bass", "the other instruments"),
}


def askable(clips: Sequence[Clip]) -> set[str]:
    """Every text that may ask for something in mixtures of these clips."""
    stems = {text for texts in STEM_CAPTIONS.values() for text in texts}
    return stems | {text for clip in clips for text in clip.texts}


@dataclass(frozen=True)
class TextQuery:
    """A caption and the sources of the mixture that it asks for."""

    caption: str
    members: tuple[int, ...]


class Asker:
    """Knows the texts of every label and answers what a text means in a mixture.

    Args:
        clips: the clips that mixtures are made of.
        numbers: their numbers in the corpus, by which all methods address them.
        table: label implications.
    """

    def __init__(self, clips: Sequence[Clip], numbers: Sequence[int], table: LabelTable | None = None) -> None:
        self.table = table or label_table()
        self.clips = dict(zip(numbers, clips, strict=True))
        self.texts: dict[str, set[str]] = defaultdict(set)
        for clip in clips:
            self.texts[clip.label].update(clip.texts)
        self._related: dict[tuple[str, str], int] = {}
        self._stems = {stem: [n for n, clip in self.clips.items() if clip.stem == stem] for stem in STEMS[:3]}
        self._stems = {stem: numbers for stem, numbers in self._stems.items() if numbers}

    def apart(self, a: int, b: int, siblings: bool = False) -> bool:
        """May two clips be different sounds of one mixture?

        Args:
            a, b: clips.
            siblings: near relatives (male and female speech) may meet, if neither answers the other; the texts that
                fit both are then not asked.
        """
        return self.relation(self.clips[a].label, self.clips[b].label) <= int(siblings)

    def relation(self, a: str, b: str) -> int:
        """How near two labels are: 0 = nothing in common, 1 = siblings with texts of their own, 2 = one answers, or
        is named by, the other."""
        pair = (a, b) if a < b else (b, a)
        if pair not in self._related:
            self._related[pair] = self._relation(*pair)
        return self._related[pair]

    def _relation(self, a: str, b: str) -> int:
        if a == b or self.table.answers(a, b) or self.table.answers(b, a):
            return 2
        own = [self.texts[x] - self.texts[y] - self.table.implied(y) for x, y in ((a, b), (b, a))]
        shared = self.texts[a] & self.texts[b]
        named = any(names(text, b) for text in self.texts[a]) or any(names(text, a) for text in self.texts[b])
        if named:
            return 2
        if shared or self.table.conflict(a, b):
            return 1 if all(own) else 2
        return 0

    def ask(self, rng: np.random.Generator, clips: Sequence[int], source: int) -> TextQuery | None:
        """A text for a source that asks for it, and for others only where the text surely is theirs too.

        A text is refused when it could, or could not, mean another source: a caption known of its label but not of the
        clip, or a label that the other clip answers in other words. When all are refused the label itself is asked.
        """
        clip = self.clips[clips[source]]
        texts = clip.texts
        for i in rng.permutation(len(texts)):
            members = self._members(texts[i], clips, source)
            if members is not None:
                return TextQuery(texts[i], members)
        label = clip.label
        own = tuple(j for j, c in enumerate(clips) if j == source or self.table.answers(self.clips[c].label, label))
        return TextQuery(label, own)

    def _members(self, text: str, clips: Sequence[int], source: int) -> tuple[int, ...] | None:
        """Sources that a text of `source` asks for, None when it is unclear for one."""
        members = []
        label = self.clips[clips[source]].label
        for j, number in enumerate(clips):
            other = self.clips[number]
            if j == source or text in other.texts or self.table.answers(other.label, text):
                members.append(j)
            elif self.table.answers(other.label, label) or text in self.texts[other.label] or names(text, other.label):
                return None
        return tuple(members)

    def stem(self, rng: np.random.Generator, clips: Sequence[int], source: int) -> TextQuery | None:
        """A text for the whole stem that a source belongs to."""
        stem = self.clips[clips[source]].stem
        if stem not in STEMS:
            return None
        texts = STEM_CAPTIONS[stem]
        members = tuple(j for j, number in enumerate(clips) if self.clips[number].stem == stem)
        return TextQuery(texts[rng.integers(len(texts))], members)

    def absent(
        self, rng: np.random.Generator, clips: Sequence[int], pick: Callable[[np.random.Generator], int], song: bool
    ) -> tuple[int, str] | None:
        """A clip that sounds like nothing in the mixture, and a text of it.

        Args:
            pick: draws a clip. song: ask for a stem that the song lacks half of the time.
        """
        there = {self.clips[number].stem for number in clips}
        lacking = [stem for stem in self._stems if stem not in there] if song and rng.random() < 0.5 else []
        for _ in range(20):
            stem = lacking[rng.integers(len(lacking))] if lacking else ""
            clip = self._stems[stem][rng.integers(len(self._stems[stem]))] if stem else pick(rng)
            if all(self.apart(clip, number) for number in clips):
                texts = STEM_CAPTIONS[stem] if stem else self.clips[clip].texts
                return clip, texts[rng.integers(len(texts))]
        return None

    def negative(self, rng: np.random.Generator, clips: Sequence[int], members: Sequence[int]) -> str | None:
        """A text of another source of the mixture that none of the target answers; None when there is none."""
        others = [j for j in range(len(clips)) if j not in members]
        targets = [self.clips[clips[m]] for m in members]
        for j in rng.permutation(len(others)):
            texts = self.clips[clips[others[j]]].texts
            clear = [
                text
                for text in texts
                if not any(text in self.texts[t.label] or self.table.answers(t.label, text) for t in targets)
            ]
            if clear:
                return clear[rng.integers(len(clear))]
        return None
