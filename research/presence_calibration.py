"""How sure a model is that a sound is there, brought to what happens: of the sounds that get 0.7, 70% are there.

    python -m research.presence_calibration recipe.json manifest.jsonl --cache cache/ --into docs/recall.md

The scale and shift of the network's logits (Platt, 1999) are fitted on mixtures of group a of a recipe: each is asked
for a sound that it has and for one that another mixture has, as live streams ask. Put them into `presence_calibration`
of the model's configuration. The table compares what is said of words, by the evidence of
`research.presence_evidence`, with what holds on other groups, where as many sounds are there (b, h) as are absent (c).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from scipy.optimize import minimize
from scipy.special import expit, logit

from audiosep.api import load
from audiosep.data.corpus import Corpus
from audiosep.data.validation_recipe import RecipeAudio, RecipeEntry, ValidationRecipe
from audiosep.errors import ConfigError
from audiosep.metrics import roc_auc
from audiosep.models.hybrid import Hybrid
from audiosep.query.encoder import QueryEncoder
from audiosep.query.query import Query
from audiosep.query.resolve import resolve
from audiosep.separator import Separator
from research.pages import put

FITTED, THERE, ABSENT = "a", "bh", "c"
_OTHER = 0.5  # most similarity of a text to the labels of a mixture that does not have the sound
_LEAST = 1e-4  # said, and 1 - _LEAST at most
_EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Said:
    """What a model says about some sounds.

    Attributes:
        scores: (sounds,) 0 to 1.
        there: (sounds,) whether the sound is there.
    """

    scores: NDArray[np.float64]
    there: NDArray[np.bool_]

    def calibrated(self, scale: float, shift: float) -> Said:
        """The same with other logits.

        Args:
            scale: of the logits.
            shift: that is added then.
        """
        return Said(expit(scale * _logits(self.scores) + shift), self.there)


def fit(said: Said) -> tuple[float, float]:
    """Scale and shift of the logits under which the truth is most likely, as if every second sound was there.

    Args:
        said: about sounds of both kinds.
    """
    logits, sign = _logits(said.scores), np.where(said.there, 1.0, -1.0)
    weight = np.where(said.there, 1 / said.there.sum(), 1 / (~said.there).sum())

    def surprise(values: NDArray[np.float64]) -> float:
        return float((weight * np.logaddexp(0, -sign * (values[0] * logits + values[1]))).sum())

    scale, shift = minimize(surprise, np.array([1.0, 0.0]), method="Nelder-Mead").x
    return float(scale), float(shift)


def table(said: Said) -> str:
    """Markdown: what is said against what holds, in five ranges of what is said, and the AUC.

    Args:
        said: about sounds of both kinds, which count as much as each other.
    """
    weight = np.where(said.there, 0.5 / said.there.sum(), 0.5 / (~said.there).sum())
    lines = ["| presence | sounds | mean presence | there |", "|---|---:|---:|---:|"]
    for low, high in pairwise(_EDGES):
        mine = (said.scores >= low) & ((said.scores < high) | (high == 1))
        if mine.any():
            mean = np.average(said.scores[mine], weights=weight[mine])
            share = np.average(said.there[mine], weights=weight[mine])
            lines.append(f"| {low} to {high} | {mine.sum()} | {mean:.2f} | {share:.2f} |")
    area = roc_auc(said.scores[said.there].tolist(), said.scores[~said.there].tolist())
    error = float(np.sqrt((weight * (said.scores - said.there) ** 2).sum()))
    return "\n".join([*lines, f"\nAUC {area:.3f}, root mean square error {error:.3f}."]) + "\n"


def said(
    separator: Separator, audio: RecipeAudio, asked: Sequence[tuple[RecipeEntry, str, bool]], *, by_network: bool
) -> Said:
    """Ask a separator for sounds.

    Args:
        separator: whose model has a presence.
        audio: of the mixtures.
        asked: mixtures, the texts, and whether the sound is there.
        by_network: whether what the network alone says is asked for, by the embeddings of the texts.
    """
    assert separator.encoder is not None
    scores: list[float] = []
    for entry, text, _ in track(asked, "separating", console=Console(stderr=True)):
        query: str | Query = text
        if by_network:
            resolved = resolve([text], separator.encoder, prototypes=separator.prototypes)
            query = Query(embedding=resolved.embeddings[0], name=text)
        mix = audio.sources(entry).sum(0)
        result = separator.separate(mix, query, sample_rate=audio.corpus.sample_rate)
        assert result.presence is not None
        scores += result.presence.values()
    return Said(np.array(scores, np.float64), np.array([there for *_, there in asked]))


def absent(
    encoder: QueryEncoder, audio: RecipeAudio, entries: Sequence[RecipeEntry]
) -> Iterator[tuple[RecipeEntry, str]]:
    """Mixtures, each with a query of another one that means none of its sounds; those for which there is none are left.

    Args:
        encoder: says what means the same.
        audio: of the mixtures.
        entries: the mixtures, with queries of different sounds.
    """
    labels = {clip.id: clip.label for clip in audio.corpus.clips}
    queries = encoder.text([entry.query for entry in entries])
    order = np.random.default_rng(0).permutation(len(entries)).tolist()
    for number, entry in enumerate(entries):
        own = encoder.text([entry.query, *(labels[source.clip] for source in entry.sources)])
        likeness = (queries @ own.T).amax(1)
        following = order[number:] + order[:number]
        text = next((entries[other].query for other in following if likeness[other] < _OTHER), None)
        if text is not None:
            yield entry, text


def _logits(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = logit(np.clip(scores, _LEAST, 1 - _LEAST))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m research.presence_calibration", description=__doc__)
    parser.add_argument("recipes", type=Path, nargs="+", metavar="recipe")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--most", type=int, default=100, help="mixtures of a group, spread over it")
    parser.add_argument("--into", type=Path, help="page that gets the table, at <!-- presence -->")
    options = parser.parse_args(arguments)
    recipe = ValidationRecipe.joined(options.recipes)
    audio = RecipeAudio(Corpus(options.manifest, options.cache, recipe.sample_rate, on_error="skip"))
    separator = load(options.model, device="cpu")
    assert separator.encoder is not None
    assert isinstance(separator.model, Hybrid)

    def some(group: str) -> list[RecipeEntry]:
        mine = [entry for entry in recipe.entries if entry.group == group]
        return mine[:: max(1, -(-len(mine) // options.most))]

    fitted = some(FITTED)
    others = list(absent(separator.encoder, audio, fitted))
    if not others:
        raise ConfigError(f"group {FITTED}: every query means a sound of every mixture; use a recipe with more labels")
    asked = [(entry, entry.query, True) for entry in fitted]
    asked += [(entry, text, False) for entry, text in others]
    scale, shift = fit(said(separator, audio, asked, by_network=True))
    before = separator.model.config.presence_calibration
    print(f"presence_calibration: [{scale * before[0]:.3f}, {scale * before[1] + shift:.3f}], now {list(before)}")
    tested = [(entry, entry.query, group != ABSENT) for group in THERE + ABSENT for entry in some(group)]
    text = table(said(separator, audio, tested, by_network=False))
    print(text, end="")
    if options.into:
        put(text, options.into, "presence")
    return 0


if __name__ == "__main__":
    sys.exit(main())
