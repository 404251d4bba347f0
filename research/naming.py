"""How often recordings of held-back collections are named right among all their labels.

    python -m research.naming recipe.json manifest.jsonl --cache cache/ --into docs/recall.md

The recordings are the targets of a group of a recipe, without speech and music, each alone. Every label is compared
with them: by its word, by word and recordings (`query.prototypes`), by the tagger, and by the sum of the last
two. Scores of each label are standardised over the recordings, because some fit everything.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from audiosep.api import load
from audiosep.data.corpus import Corpus
from audiosep.data.validation_recipe import RecipeEntry, ValidationRecipe
from audiosep.models.refinement import Heard
from audiosep.query.example import excerpt
from audiosep.separator import Separator
from research.pages import put

_FAMILIES = ("event", "ambience", "vocal-effect", "instrument")


@torch.inference_mode()
def named(separator: Separator, corpus: Corpus, entries: Sequence[RecipeEntry]) -> tuple[int, int, dict[str, float]]:
    """Name the targets of mixtures.

    Args:
        separator: with prototypes and a tagger.
        corpus: with the recordings, at the separator's rate.
        entries: mixtures with one source as their target.

    Returns:
        Numbers of recordings and of labels; way -> share of the recordings that got their own label.
    """
    encoder, prototypes = separator.encoder, separator.prototypes
    assert encoder is not None
    assert prototypes is not None
    own = {entry.sources[entry.target[0]].clip: entry.label for entry in entries}
    places = [number for number, clip in enumerate(corpus.clips) if clip.id in own]
    labels = sorted(set(own.values()))
    embeddings, logits = [], []
    for place in track(places, "listening", console=Console(stderr=True)):
        heard = excerpt(corpus.audio(place), corpus.sample_rate)
        embeddings.append(encoder.audio([heard], corpus.sample_rate)[0])
        tagged = separator.model.heard(heard[None, None])
        assert tagged is not None
        logits.append(tagged.tags[0])
    texts = encoder.text(labels)
    recalled = [prototypes.recall(text) for text in texts]
    tags = prototypes.tag_scores(torch.stack([one.tags for one in recalled if one.tags is not None]))
    assert tags is not None
    scores = {
        "word": _standard(torch.stack(embeddings) @ texts.T),
        "word and recordings": _standard(torch.stack(embeddings) @ torch.stack([one.query for one in recalled]).T),
        "tagger": _standard(tags.of(Heard(torch.stack(embeddings), torch.stack(logits)))),
    }
    scores["recordings and tagger"] = scores["word and recordings"] + scores["tagger"]
    truth = torch.tensor([labels.index(own[corpus.clips[place].id]) for place in places])
    return (
        len(places),
        len(labels),
        {way: float((found.argmax(1) == truth).float().mean()) for way, found in scores.items()},
    )


def _standard(scores: Tensor) -> Tensor:
    """(recordings, labels), with mean 0 and standard deviation 1 over the recordings."""
    return (scores - scores.mean(0)) / scores.std(0)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m research.naming", description=__doc__)
    parser.add_argument("recipes", type=Path, nargs="+", metavar="recipe")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--groups", default="hag", help="those that the recipes lack are left out [%(default)s]")
    parser.add_argument("--into", type=Path, help="page that gets the table, at <!-- naming -->")
    options = parser.parse_args(arguments)
    recipe = ValidationRecipe.joined(options.recipes)
    corpus = Corpus(options.manifest, options.cache, recipe.sample_rate, on_error="skip")
    separator = load(options.model, device="cpu")
    lines: list[str] = []
    for group in options.groups:
        entries = [e for e in recipe.entries if e.group == group and len(e.target) == 1 and e.family in _FAMILIES]
        if not entries:
            continue
        recordings, labels, right = named(separator, corpus, entries)
        if not lines:
            lines += [
                "| group | recordings | labels | " + " | ".join(right) + " |",
                "|---" * 3 + "|---:" * len(right) + "|",
            ]
        lines.append(f"| {group} | {recordings} | {labels} | " + " | ".join(f"{r:.0%}" for r in right.values()) + " |")
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if options.into:
        put(text, options.into, "naming")
    return 0


if __name__ == "__main__":
    sys.exit(main())
