"""Validation recipes: fixed mixtures of held-back clips, as clip ids, times and gains, and their audio."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from audiosep.atomic import write_text
from audiosep.data.corpus import Corpus
from audiosep.data.manifest import Clip
from audiosep.data.text_files import read_json
from audiosep.errors import ConfigError
from audiosep.weights.configs import from_dict, to_dict


@dataclass(frozen=True)
class Excerpt:
    """A part of a clip, as long as the entry that it belongs to.

    Args:
        clip: id of the clip.
        start: where it begins in the clip, seconds.
        gain_db: gain, dB.
    """

    clip: str
    start: float
    gain_db: float


@dataclass(frozen=True)
class RecipeEntry:
    """One mixture with one query.

    Args:
        id: unique within the recipe.
        group: kind of mixture, a to h; see `recipe_drawing`.
        family: family of the target, for scores by family.
        label: label of the target, for scores by label.
        query: text of the query.
        seconds: length of the mixture.
        sources: the sources that are added up.
        target: indices of the sources that are the target; empty when the queried sound is absent.
        example: recording to query with instead of the text, or None.
    """

    id: str
    group: str
    family: str
    label: str
    query: str
    seconds: float
    sources: tuple[Excerpt, ...]
    target: tuple[int, ...]
    example: Excerpt | None = None


@dataclass(frozen=True)
class ValidationRecipe:
    """A fixed list of mixtures.

    Args:
        entries: the mixtures with their queries.
        sample_rate: Hz.
        version: of the file format.
    """

    entries: tuple[RecipeEntry, ...]
    sample_rate: int = 32000
    version: int = 1

    @classmethod
    def load(cls, path: str | Path) -> ValidationRecipe:
        """Read a recipe.

        Args:
            path: what `save` wrote.

        Raises:
            DataError: it cannot be read, or is no JSON.
            ConfigError: not a recipe.
        """
        return from_dict(cls, read_json(Path(path)))

    @classmethod
    def joined(cls, paths: Sequence[str | Path]) -> ValidationRecipe:
        """Read several recipes as one.

        Args:
            paths: as for `load`, one at least.

        Raises:
            DataError: as `load`.
            ConfigError: not a recipe, or they do not go together: other sample rates, or mixtures of the same name.
        """
        recipes = [cls.load(path) for path in paths]
        entries = tuple(entry for recipe in recipes for entry in recipe.entries)
        names = f"{', '.join(map(str, paths))}: recipes"
        if len({recipe.sample_rate for recipe in recipes}) > 1:
            raise ConfigError(f"{names} of different sample rates cannot be joined")
        if len({entry.id for entry in entries}) < len(entries):
            raise ConfigError(f"{names} that name a mixture twice cannot be joined")
        return cls(entries, recipes[0].sample_rate)

    def save(self, path: str | Path) -> None:
        """Write the recipe as JSON, one entry a line.

        Args:
            path: the file.

        Raises:
            AudioSepError: the file cannot be written.
        """
        head = {k: v for k, v in to_dict(self).items() if k != "entries"}
        lines = ",\n".join(json.dumps(to_dict(e), ensure_ascii=False) for e in self.entries)
        write_text(path, f'{json.dumps(head)[:-1]}, "entries": [\n{lines}\n]}}\n')


class RecipeAudio:
    """The audio of a recipe's entries.

    Args:
        corpus: holds the clips of the recipe.
    """

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus

    def clip(self, name: str) -> Clip:
        """A clip of the corpus.

        Args:
            name: its id.
        """
        return self.corpus.clips[self.corpus.index(name)]

    def seconds(self, name: str) -> float:
        """Length of a clip in seconds.

        Args:
            name: its id.
        """
        return float(self.corpus.lengths[self.corpus.index(name)]) / self.corpus.sample_rate

    def excerpt(self, excerpt: Excerpt, seconds: float) -> Tensor:
        """Samples of an excerpt, (samples,), zeros after the end of the clip.

        Args:
            excerpt: clip, start and gain.
            seconds: length.
        """
        number, rate = self.corpus.index(excerpt.clip), self.corpus.sample_rate
        samples = round(seconds * rate)
        x = self.corpus.segment(number, round(excerpt.start * rate), samples).float()
        x = x * (float(self.corpus.scales[number]) * 10 ** (excerpt.gain_db / 20))
        return torch.nn.functional.pad(x, (0, samples - len(x)))

    def sources(self, entry: RecipeEntry) -> Tensor:
        """The sources of an entry, (sources, samples); their sum is the mixture.

        Args:
            entry: of a recipe.
        """
        return torch.stack([self.excerpt(source, entry.seconds) for source in entry.sources])
