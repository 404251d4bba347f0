"""What says that a sound is there, and how much: the weights of `audiosep.models.known_sounds`.

    python -m research.presence_evidence audiosep/evaluation/recipes/val.json manifest.jsonl --cache cache/

A logistic regression on recordings of the splits "val" and "zero", each asked for its label or for one that is unlike
it, and on mixtures of groups a and g, each asked for a sound that it has and for one that another mixture has. Sounds
that are there count as much as absent ones. Which parts there are was chosen on these by cross-validation.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from scipy.optimize import minimize
from torch import Tensor

from audiosep.api import load
from audiosep.data.corpus import Corpus
from audiosep.data.validation_recipe import Excerpt, RecipeAudio, ValidationRecipe
from audiosep.errors import ConfigError
from audiosep.metrics import roc_auc
from audiosep.separator import Separator
from research.known_queries import encoded, known_query
from research.presence import pairs_of
from research.presence_calibration import absent

Values = NDArray[np.float64]

_GROUPS = "ag"
_SPLITS = ("val", "zero")
_SECONDS = 10.0
_PENALTY = 1e-3  # on squared weights of parts that are scaled to a deviation of one


@torch.inference_mode()
def evidence(separator: Separator, mix: Tensor, text: str) -> Values | None:
    """(5,): what says that a recording has a sound, see `Among.evidence`; None where no known sound is like the text.

    Args:
        separator: with prototypes.
        mix: (samples,) at the model's rate.
        text: names the sound.
    """
    if (query := known_query(separator, text)) is None:
        return None
    resolved, ways = query
    queries = encoded(separator, mix, resolved)
    decoded, _ = queries.estimate_by_ways(ways)
    found: Values = queries.evidence(decoded, ways.among)[0].double().numpy()
    return found


def asked(
    separator: Separator, audio: RecipeAudio, recipe: ValidationRecipe, pairs: int
) -> Iterator[tuple[Tensor, str, bool]]:
    """Recordings and mixtures, what they are asked for, and whether it is there.

    Args:
        separator: whose encoder says which labels are unlike.
        audio: of the corpus.
        recipe: of the mixtures.
        pairs: of a recording and a label.
    """
    assert separator.encoder is not None
    clips = [clip for clip in audio.corpus.clips if clip.split in _SPLITS and clip.stem is None]
    for pair in pairs_of(sorted(clips, key=lambda clip: clip.id), separator.encoder, pairs, 0):
        seconds = min(_SECONDS, audio.seconds(pair.clip.id))
        yield audio.excerpt(Excerpt(pair.clip.id, 0.0, 0.0), seconds), pair.word, pair.present
    for group in _GROUPS:
        entries = [entry for entry in recipe.entries if entry.group == group]
        for entry in entries:
            yield audio.sources(entry).sum(0), entry.query, True
        for entry, text in absent(separator.encoder, audio, entries):
            yield audio.sources(entry).sum(0), text, False


def fit(parts: Values, there: NDArray[np.bool_]) -> tuple[Values, float]:
    """Weights of parts, and the constant, under which the truth is most likely, as if every second sound was there.

    Args:
        parts: (sounds, parts).
        there: (sounds,).
    """
    mean, spread = parts.mean(0), parts.std(0) + 1e-9
    scaled, sign = (parts - mean) / spread, np.where(there, 1.0, -1.0)
    share = np.where(there, 0.5 / there.sum(), 0.5 / (~there).sum())

    def surprise(values: Values) -> float:
        logits = scaled @ values[:-1] + values[-1]
        return float((share * np.logaddexp(0, -sign * logits)).sum() + _PENALTY * (values[:-1] ** 2).sum())

    best = minimize(surprise, np.zeros(parts.shape[1] + 1), method="BFGS").x
    weights = best[:-1] / spread
    return weights, float(best[-1] - weights @ mean)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--pairs", type=int, default=500, help="recordings and labels [%(default)s]")
    options = parser.parse_args(arguments)
    recipe = ValidationRecipe.load(options.recipe)
    audio = RecipeAudio(Corpus(options.manifest, options.cache, recipe.sample_rate, on_error="skip"))
    separator = load(options.model, "cpu", sounds=False)
    parts, there = [], []
    for mix, text, present in track(asked(separator, audio, recipe, options.pairs), console=Console(stderr=True)):
        if (found := evidence(separator, mix, text)) is not None:
            parts.append(found)
            there.append(present)
    if not parts:
        raise ConfigError(f"{options.model} knows no sound that was asked for: make prototypes with a tagger")
    values, truth = np.stack(parts), np.array(there)
    weights, constant = fit(values, truth)
    for name, scores in (("network", values[:, 0]), ("evidence", values @ weights + constant)):
        print(f"{name}: AUC {roc_auc(scores[truth].tolist(), scores[~truth].tolist()):.3f} of {len(truth)} sounds")
    print(f"weights: {', '.join(f'{weight:.3f}' for weight in weights)}; constant: {constant:.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
