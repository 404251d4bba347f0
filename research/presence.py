"""How far the presence of a sound can be trusted: whole recordings and everyday words, half of which are not in them.

    python -m research.presence manifest.jsonl --cache cache/ --pairs 300

The recordings are those of the split "test": whole collections that nothing was trained on and no prototype was made
of. Each is asked for its own label, or for a label of another family or meaning. So "absent" means: by the label of the
recording; who recorded a dog may have recorded a bird with it.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from rich.console import Console
from rich.progress import track

from audiosep.api import load
from audiosep.data.corpus import Corpus
from audiosep.data.manifest import Clip
from audiosep.data.validation_recipe import Excerpt, RecipeAudio
from audiosep.evaluation.summary import roc_auc
from audiosep.inference.options import Options, Quality
from audiosep.query.encoder import QueryEncoder
from audiosep.separator import Separator

_SECONDS = 10.0
_UNLIKE = 0.45  # similarity of the texts of two labels below which one is absent where the other is
_EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Pair:
    """A recording and a word.

    Attributes:
        clip: the recording.
        word: that it is asked for.
        present: whether its label says so.
    """

    clip: Clip
    word: str
    present: bool


def pairs_of(clips: Sequence[Clip], encoder: QueryEncoder, count: int, seed: int) -> list[Pair]:
    """Recordings and words, each second of which is absent.

    Args:
        clips: with labels.
        encoder: of texts, tells which labels are unlike.
        count: number of pairs.
        seed: of the draw.
    """
    labels = sorted({clip.label for clip in clips})
    texts = encoder.text(labels)
    like = dict(zip(labels, (texts @ texts.T).tolist(), strict=True))
    rng = random.Random(seed)
    pairs = []
    for number in range(count):
        clip = rng.choice(clips)
        unlike = [label for label, value in zip(labels, like[clip.label], strict=True) if value < _UNLIKE]
        pairs.append(Pair(clip, clip.label if number % 2 == 0 else rng.choice(unlike), number % 2 == 0))
    return pairs


def presences(pairs: Sequence[Pair], separator: Separator, audio: RecipeAudio, quality: Quality) -> list[float]:
    """The presence of each pair's word, 0..1, in the first ten seconds of its recording."""
    found: list[float] = []
    for pair in track(pairs, "pairs", console=Console(stderr=True)):
        seconds = min(_SECONDS, audio.seconds(pair.clip.id))
        mix = audio.excerpt(Excerpt(pair.clip.id, 0.0, 0.0), seconds)
        out = separator.separate(mix, pair.word, sample_rate=audio.corpus.sample_rate, options=Options(quality=quality))
        assert out.presence is not None
        found += out.presence.values()
    return found


def report(pairs: Sequence[Pair], found: Sequence[float]) -> str:
    """The area under the ROC curve, errors at 0.5, and the share that is present by what was said."""
    said, present = np.asarray(found), np.asarray([pair.present for pair in pairs])
    lines = [
        f"{len(pairs)} pairs; AUC {roc_auc(said[present], said[~present]):.3f}; "
        f"absent called present {np.mean(said[~present] >= 0.5):.0%}, present called absent "
        f"{np.mean(said[present] < 0.5):.0%} at 0.5",
        "",
        "| presence said | pairs | present |",
        "|---|---:|---:|",
    ]
    for low, high in pairwise(_EDGES):
        inside = (said >= low) & ((said < high) | (high == _EDGES[-1]))
        share = f"{np.mean(present[inside]):.0%}" if inside.any() else ""
        lines.append(f"| {low:.1f} to {high:.1f} | {inside.sum()} | {share} |")
    return "\n".join(lines)


def main() -> None:
    """Print how far the presence of a model can be trusted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", help="with recordings of the split test")
    parser.add_argument("--cache", default="cache", help="folder of decoded clips")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--quality", choices=["fast", "balanced", "best"], default="balanced")
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    corpus = Corpus(args.manifest, args.cache)
    separator = load(args.model, "cpu", sounds=False)
    clips = sorted((clip for clip in corpus.clips if clip.split == "test"), key=lambda clip: clip.id)
    assert separator.encoder is not None
    pairs = pairs_of(clips, separator.encoder, args.pairs, args.seed)
    print(report(pairs, presences(pairs, separator, RecipeAudio(corpus), args.quality)))


if __name__ == "__main__":
    main()
