"""How far the presence of a sound can be trusted: whole recordings and everyday words, half of which are not in them.

    python -m research.presence manifest.jsonl --cache cache/ --pairs 300 --into docs/recall.md

The recordings are those of the split "test": whole collections that nothing was trained on and no prototype was made
of. Each is asked for its own label, or for a label of another family or meaning. So "absent" means: by the label of the
recording; who recorded a dog may have recorded a bird with it.
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from audiosep.api import load
from audiosep.data.corpus import Corpus
from audiosep.data.manifest import Clip
from audiosep.data.validation_recipe import Excerpt, RecipeAudio
from audiosep.inference.options import Options, Quality
from audiosep.query.encoder import QueryEncoder
from audiosep.separator import Separator
from research.pages import put
from research.presence_calibration import Said, table

SECTION = "presence in recordings"

_SECONDS = 10.0
_UNLIKE = 0.45  # similarity of the texts of two labels below which one is absent where the other is


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
    recordings: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        recordings[clip.label].append(clip)
    labels = sorted(recordings)
    texts = encoder.text(labels)
    like = dict(zip(labels, (texts @ texts.T).tolist(), strict=True))
    rng = random.Random(seed)
    pairs = []
    for number in range(count):
        clip = rng.choice(recordings[rng.choice(labels)])  # hundreds of notes of one instrument count as one label
        unlike = [label for label, value in zip(labels, like[clip.label], strict=True) if value < _UNLIKE]
        pairs.append(Pair(clip, clip.label if number % 2 == 0 else rng.choice(unlike), number % 2 == 0))
    return pairs


def said(pairs: Sequence[Pair], separator: Separator, audio: RecipeAudio, quality: Quality) -> Said:
    """The presence of each pair's word in the first ten seconds of its recording."""
    found: list[float] = []
    for pair in track(pairs, "pairs", console=Console(stderr=True)):
        seconds = min(_SECONDS, audio.seconds(pair.clip.id))
        mix = audio.excerpt(Excerpt(pair.clip.id, 0.0, 0.0), seconds)
        out = separator.separate(mix, pair.word, sample_rate=audio.corpus.sample_rate, options=Options(quality=quality))
        assert out.presence is not None
        found += out.presence.values()
    return Said(np.array(found, np.float64), np.array([pair.present for pair in pairs]))


def report(heard: Said) -> str:
    """Errors at 0.5, the share that is there by what was said, and the area under the ROC curve."""
    called = heard.scores >= 0.5
    return (
        f"{len(called)} pairs; absent called present {called[~heard.there].mean():.0%}, present called absent "
        f"{(~called[heard.there]).mean():.0%} at 0.5\n\n{table(heard)}"
    )


def main() -> None:
    """Print how far the presence of a model can be trusted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", help="with recordings of the split test")
    parser.add_argument("--cache", default="cache", help="folder of decoded clips")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--quality", choices=["fast", "balanced", "best"], default="balanced")
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--into", type=Path, help=f"page that gets the table, at <!-- {SECTION} -->")
    args = parser.parse_args()
    corpus = Corpus(args.manifest, args.cache)
    separator = load(args.model, "cpu", sounds=False)
    clips = sorted((clip for clip in corpus.clips if clip.split == "test"), key=lambda clip: clip.id)
    assert separator.encoder is not None
    pairs = pairs_of(clips, separator.encoder, args.pairs, args.seed)
    text = report(said(pairs, separator, RecipeAudio(corpus), args.quality))
    print(text)
    if args.into:
        put(text, args.into, SECTION)


if __name__ == "__main__":
    main()
