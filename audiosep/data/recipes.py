"""Recipes: fixed mixtures of held-back clips, written down as clip ids, offsets and gains.

`python -m audiosep.data.recipes manifest.jsonl cache/ recipe.json` draws one, before training.
Groups: a two sources at 0 dB, every family; b three to five sources; c the queried sound is absent; d speech in noise;
e four stems of held-back songs; f as a, but asked with another recording of the sound; g labels never trained on.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from audiosep.atomic import write_text
from audiosep.data.corpus import Corpus
from audiosep.data.labels import label_table
from audiosep.data.manifest import STEMS, Clip
from audiosep.errors import DataError
from audiosep.weights.configs import from_dict, to_dict

SECONDS = 5.0
SONG_SECONDS = 10.0
FAMILIES = ("event", "ambience", "vocal-effect", "instrument", "speech", "music")
SIZES = {"a": 40, "b": 100, "c": 100, "d": 60, "g": 120}
SEED = 20261120


@dataclass(frozen=True)
class Part:
    """One source of a mixture: a piece of a clip from `start` (seconds) with a gain (dB)."""

    clip: str
    start: float
    gain_db: float


@dataclass(frozen=True)
class Entry:
    """One mixture and one query.

    Attributes:
        target: indices of the sources that answer; empty when the sound is absent.
        query: text; example: a recording that is asked with instead.
    """

    id: str
    group: str
    family: str
    label: str
    query: str
    seconds: float
    sources: tuple[Part, ...]
    target: tuple[int, ...]
    example: Part | None = None


@dataclass(frozen=True)
class Recipe:
    """A fixed list of mixtures."""

    entries: tuple[Entry, ...]
    sample_rate: int = 32000
    version: int = 1

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a recipe."""
        return from_dict(cls, json.loads(Path(path).read_text(encoding="utf-8")))

    def save(self, path: str | Path) -> None:
        """Write a recipe, one entry a line."""
        head = {k: v for k, v in to_dict(self).items() if k != "entries"}
        lines = ",\n".join(json.dumps(to_dict(e), ensure_ascii=False) for e in self.entries)
        write_text(path, f'{json.dumps(head)[:-1]}, "entries": [\n{lines}\n]}}\n')


class Pieces:
    """Cuts the sources of entries out of a corpus."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self._numbers = {clip.id: number for number, clip in enumerate(corpus.clips)}

    def clip(self, name: str) -> Clip:
        """The clip of this id."""
        return self.corpus.clips[self._numbers[name]]

    def seconds(self, name: str) -> float:
        """Length of a clip."""
        return float(self.corpus.lengths[self._numbers[name]]) / self.corpus.sample_rate

    def piece(self, part: Part, seconds: float) -> Tensor:
        """(samples,) of a part, zeros after the clip's end."""
        number, rate = self._numbers[part.clip], self.corpus.sample_rate
        samples = round(seconds * rate)
        x = self.corpus.segment(number, round(part.start * rate), samples).float()
        x = x * (float(self.corpus.scales[number]) * 10 ** (part.gain_db / 20))
        return torch.nn.functional.pad(x, (0, samples - len(x)))

    def sources(self, entry: Entry) -> Tensor:
        """(sources, samples) of an entry."""
        return torch.stack([self.piece(part, entry.seconds) for part in entry.sources])


class Drawer:
    """Draws entries from the held-back clips of a corpus, all from one seeded generator.

    Raises:
        DataError: fewer than two labels are held back.
    """

    def __init__(self, corpus: Corpus, seed: int = SEED) -> None:
        self.corpus, self.rng, self.table = corpus, np.random.default_rng(seed), label_table()
        self.pieces = Pieces(corpus)
        self.split: dict[str, list[Clip]] = {"val": [], "zero": [], "train": []}
        for clip in corpus.clips:
            if clip.split in self.split:
                self.split[clip.split].append(clip)
        if len({clip.label for clip in self.split["val"]}) < 2:
            raise DataError("a recipe needs two held-back labels (split val): build the manifest with --split")
        own = sorted({clip.family for clip in self.split["val"]} - set(FAMILIES))
        families = {f: [c for c in self.split["val"] if c.family == f] for f in (*FAMILIES, *own)}
        self.known = tuple(family for family, clips in families.items() if clips)
        self.families = families | {"zero": self.split["zero"]}

    def recipe(self) -> Recipe:
        """All groups."""
        a = [
            self.pair(f"a-{f}-{i}", "a", f, self.pick(self.families[f])) for f in self.known for i in range(SIZES["a"])
        ]
        b = [self.crowd(f"b-{i}") for i in range(SIZES["b"])]
        c = [self.absent(f"c-{i}") for i in range(SIZES["c"])]
        noisy = "speech" in self.known and {"event", "ambience"} & set(self.known)
        d = [self.noisy_speech(f"d-{i}") for i in range(SIZES["d"] if noisy else 0)]
        e = [entry for song in sorted({c.song for c in self.split["val"] if c.song}) for entry in self.song(song)]
        f = [self.by_example(entry) for entry in a]
        labels = sorted({c.label for c in self.split["zero"] if c.family == "event"})
        chosen = [label for label in labels if sum(c.label == label for c in self.split["zero"]) >= 8]
        g = []
        for i in range(SIZES["g"] if chosen else 0):
            clips = [c for c in self.split["zero"] if c.label == chosen[i % len(chosen)]]
            clip = self.pick(clips)
            # Every other mixture has two sounds never trained on.
            others = self.others([clip], 1, ("zero",) if (i // len(chosen)) % 2 else self.known)
            g.append(self.entry(f"g-{i}", "g", "event", clip, others, [0.0, 0.0]))
        return Recipe((*a, *b, *c, *d, *e, *f, *g), self.corpus.sample_rate)

    def pick(self, clips: Sequence[Clip]) -> Clip:
        """A clip, uniform over the labels first."""
        labels = sorted({c.label for c in clips})
        label = labels[self.rng.integers(len(labels))]
        return (mine := [c for c in clips if c.label == label])[self.rng.integers(len(mine))]

    def others(self, taken: list[Clip], count: int, families: Sequence[str] = ()) -> list[Clip]:
        """`count` more clips, fewer if the corpus has no more, none of which the label of another answers."""
        out, families = list(taken), families or self.known
        for _ in range(1000):
            if len(out) == len(taken) + count:
                break
            clip = self.pick(self.families[families[int(self.rng.integers(len(families)))]])
            if not any(self._alike(clip, other) for other in out):
                out.append(clip)
        return out[len(taken) :]

    def _alike(self, a: Clip, b: Clip) -> bool:
        return self.table.conflict(a.label, b.label) or bool(a.song and a.song == b.song)

    def part(self, clip: Clip, level_db: float, seconds: float = SECONDS) -> Part:
        """A piece with sound in it, at an RMS level (dB re full scale)."""
        length = self.pieces.seconds(clip.id)
        for _ in range(20):
            start = round(float(self.rng.uniform(0, max(0.0, length - seconds))), 3)
            rms = float(self.pieces.piece(Part(clip.id, start, 0.0), seconds).square().mean().sqrt())
            if rms > 3e-3:
                break
        return Part(clip.id, start, round(level_db - 20 * float(np.log10(max(rms, 1e-4))), 3))

    def text(self, clip: Clip) -> str:
        """One of a clip's captions."""
        return clip.texts[self.rng.integers(len(clip.texts))]

    def entry(self, name: str, group: str, family: str, clip: Clip, others: list[Clip], levels: list[float]) -> Entry:
        """A mixture of a target and others at the given levels (dB), -26 dB full scale for 0."""
        parts = tuple(self.part(c, -26.0 + g) for c, g in zip([clip, *others], levels, strict=False))
        return Entry(name, group, family, clip.label, self.text(clip), SECONDS, parts, (0,))

    def pair(self, name: str, group: str, family: str, clip: Clip) -> Entry:
        """Two sources at 0 dB."""
        return self.entry(name, group, family, clip, self.others([clip], 1), [0.0, 0.0])

    def crowd(self, name: str) -> Entry:
        """Three to five sources within +-5 dB."""
        family = self.known[self.rng.integers(len(self.known))]
        clip, count = self.pick(self.families[family]), int(self.rng.integers(2, 5))
        levels = [round(float(g), 2) for g in self.rng.uniform(-5, 5, count + 1)]
        return self.entry(name, "b", family, clip, self.others([clip], count), levels)

    def absent(self, name: str) -> Entry:
        """A query that no source of a mixture of two or three answers."""
        clip = self.pick(self.families[self.known[self.rng.integers(len(self.known))]])
        others = self.others([clip], int(self.rng.integers(2, 4)))
        parts = tuple(self.part(c, -26.0 + float(self.rng.integers(-3, 4))) for c in others)
        return Entry(name, "c", clip.family, clip.label, self.text(clip), SECONDS, parts, ())

    def noisy_speech(self, name: str) -> Entry:
        """Speech at 0 or 5 dB over an event or ambience."""
        clip = self.pick(self.families["speech"])
        noise = self.others([clip], 1, [f for f in ("event", "ambience") if f in self.known])
        return self.entry(name, "d", "speech", clip, noise, [float(self.rng.choice([0.0, 5.0])), 0.0])

    def song(self, song: str) -> list[Entry]:
        """The four stems of a song at its own balance, from one place where all are heard."""
        clips = [c for c in self.split["val"] if c.song == song]
        length = min(self.pieces.seconds(c.id) for c in clips)
        start = round(float(self.rng.uniform(0, max(0.0, length - SONG_SECONDS))), 3)
        parts = tuple(Part(c.id, start, c.gain_db) for c in clips)
        out = []
        for stem in STEMS:
            mine = tuple(i for i, c in enumerate(clips) if c.stem == stem)
            if mine:
                out.append(Entry(f"e-{song}-{stem}", "e", "stems", stem, stem, SONG_SECONDS, parts, mine))
        return out

    def by_example(self, entry: Entry) -> Entry:
        """The same mixture, asked with another recording of the sound (of another group where there is one)."""
        target = self.pieces.clip(entry.sources[0].clip)
        alike = [c for c in self.corpus.clips if c.label == target.label and c.id != target.id]
        alike = [c for c in alike if c.split in ("val", "zero")] or alike
        clips = [c for c in alike if c.group != target.group] or alike or [target]
        example = self.part(clips[zlib.crc32(entry.id.encode()) % len(clips)], -26.0)
        values = to_dict(entry) | {"id": "f" + entry.id[1:], "group": "f", "example": to_dict(example)}
        return from_dict(Entry, values)


def main() -> None:
    """Command line: draw a recipe."""
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("recipe", type=Path)
    args = parser.parse_args()
    corpus = Corpus(args.manifest, args.cache)
    Drawer(corpus).recipe().save(args.recipe)


if __name__ == "__main__":
    main()
