"""What a remembered name is worth: sounds remembered from a few clips, asked for in mixtures of their other clips.

    python -m research.own_names manifest.jsonl --cache cache/ --into docs/recall.md

Labels that were never trained on (split "zero"). Five clips of each are remembered; its others are mixed at 0 dB with
held-back events. Each is asked for by the word alone, by the word as every query is answered, and by the remembered
name. SI-SDRi in dB, and the share of mixtures that get better.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from torch import Tensor

from audiosep.api import load
from audiosep.atomic import write_bytes
from audiosep.data.corpus import Corpus
from audiosep.data.manifest import Clip
from audiosep.data.validation_recipe import Excerpt, RecipeAudio
from audiosep.metrics import si_sdr
from audiosep.query.query import Query
from audiosep.query.sounds import Sounds
from audiosep.query.sounds_file import packed
from audiosep.separator import Separator
from research.pages import put

SOUNDS = ("drill", "adhesive tape", "slinky", "electric shaver", "camera shutter", "ping pong")
WORD, ANSWERED, REMEMBERED, MEANINGLESS = "word", "word as answered", "remembered name", "remembered, name says nothing"
_NAME = "number {}"  # names that say nothing
_EXAMPLES = 5
_SECONDS = 4.0


@dataclass(frozen=True)
class Mixture:
    """A clip of a sound and a clip of another at the same level, both (samples,)."""

    target: Tensor
    other: Tensor


def examples_and_others(corpus: Corpus, label: str) -> tuple[list[Clip], list[Clip]]:
    """Five clips of a label to remember, of as many origins as there are, and the clips that are left.

    Args:
        corpus: with clips of the label.
        label: of a sound.
    """
    clips = sorted((clip for clip in corpus.clips if clip.label == label), key=lambda clip: clip.id)
    random.Random(label).shuffle(clips)
    origins: Counter[str] = Counter()
    turns = {}
    for clip in clips:
        turns[clip.id] = origins[clip.group]
        origins[clip.group] += 1
    clips.sort(key=lambda clip: turns[clip.id])
    return clips[:_EXAMPLES], clips[_EXAMPLES:]


def mixtures(audio: RecipeAudio, label: str, others: Sequence[Clip], count: int) -> Iterator[Mixture]:
    """Mixtures of a sound with held-back events.

    Args:
        audio: of the corpus.
        label: of the sound.
        others: clips of it that were not remembered.
        count: number of mixtures.
    """
    rng = random.Random(f"{label} in mixtures")
    events = [clip for clip in audio.corpus.clips if clip.split == "val" and clip.family == "event"]
    for number in range(count):
        yield Mixture(_level(audio, others[number % len(others)], rng), _level(audio, rng.choice(events), rng))


def _level(audio: RecipeAudio, clip: Clip, rng: random.Random) -> Tensor:
    """The loudest of a few excerpts of a clip, with an RMS of 0.05."""
    last = max(0.0, audio.seconds(clip.id) - _SECONDS)
    tries = [audio.excerpt(Excerpt(clip.id, rng.uniform(0, last), 0.0), _SECONDS) for _ in range(4)]
    best = max(tries, key=lambda x: float(x.square().mean()))
    return best * (0.05 / float(best.square().mean().sqrt().clamp_min(1e-6)))


def measure(separator: Separator, audio: RecipeAudio, labels: Sequence[str], count: int) -> tuple[str, float]:
    """The table of the page, and the seconds that remembering a sound took, the median.

    Args:
        separator: with prototypes; its own sounds are replaced.
        audio: of the corpus.
        labels: of sounds.
        count: mixtures of each sound.
    """
    rate = audio.corpus.sample_rate
    ways = (WORD, ANSWERED, REMEMBERED, MEANINGLESS)
    gains: dict[str, dict[str, list[float]]] = {label: {way: [] for way in ways} for label in labels}
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        sounds = Sounds(Path(folder) / "sounds.safetensors")
        assert separator.encoder is not None
        for label in track(labels, "sounds", console=Console(stderr=True)):
            examples, others = examples_and_others(audio.corpus, label)
            heard = [audio.excerpt(Excerpt(c.id, 0.0, 0.0), min(10.0, audio.seconds(c.id))) for c in examples]
            start = time.perf_counter()
            sounds.remember(label, [(x.numpy(), rate) for x in heard], separator)
            seconds.append(time.perf_counter() - start)
            nothing = _NAME.format(len(sounds))
            sounds.remember(nothing, [(x.numpy(), rate) for x in heard], separator)
            queries = {
                WORD: (Query(embedding=separator.encoder.text([label])[0], name="target"), None),
                ANSWERED: (Query(label, name="target"), None),
                REMEMBERED: (Query(label, name="target"), sounds),
                MEANINGLESS: (Query(nothing, name="target"), sounds),
            }
            for mixture in mixtures(audio, label, others, count):
                mix = mixture.target + mixture.other
                for way, (query, separator.sounds) in queries.items():
                    estimate = separator.separate(mix, query, sample_rate=rate)["target"]
                    gain = float(si_sdr(estimate, mixture.target) - si_sdr(mix, mixture.target))
                    gains[label][way].append(gain)
    return table(gains), float(np.median(seconds))


def cost_of_names(separator: Separator, audio: RecipeAudio, label: str) -> float:
    """Seconds of a query beside 1,000 remembered names, divided by those without: the median of 15 pairs in turns.

    Args:
        separator: with prototypes; its own sounds are replaced.
        audio: of the corpus.
        label: of the sound that is asked for.
    """
    clip = next(clip for clip in audio.corpus.clips if clip.label == label)
    mix = audio.excerpt(Excerpt(clip.id, 0.0, 0.0), _SECONDS)
    with tempfile.TemporaryDirectory() as folder:
        many = Sounds(Path(folder) / "sounds.safetensors")
        one = many.remember("sound", (mix.numpy(), audio.corpus.sample_rate), separator)
        write_bytes(Path(folder) / "sounds.safetensors", packed(replace(one, name=f"sound {k}") for k in range(1000)))
        ratios = []
        for _ in range(15):
            seconds = []
            for sounds in (many, None):
                separator.sounds = sounds
                start = time.perf_counter()
                separator.separate(mix, label, sample_rate=audio.corpus.sample_rate)
                seconds.append(time.perf_counter() - start)
            ratios.append(seconds[0] / seconds[1])
    return float(np.median(ratios))


def table(gains: dict[str, dict[str, list[float]]]) -> str:
    """Markdown: mean SI-SDRi (share better) of each sound and of all.

    Args:
        gains: sound -> way -> SI-SDRi of each mixture, dB.
    """
    ways = list(next(iter(gains.values())))
    rows = gains | {"all": {way: [gain for by in gains.values() for gain in by[way]] for way in ways}}
    lines = ["| sound | " + " | ".join(ways) + " |", "|---|" + "---:|" * len(ways)]
    for label, by in rows.items():
        cells = [f"{np.mean(by[way]):.1f} ({100 * np.mean(np.array(by[way]) > 0):.0f}%)" for way in ways]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m research.own_names", description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--sounds", nargs="*", default=list(SOUNDS))
    parser.add_argument("--mixtures", type=int, default=20, help="of each sound")
    parser.add_argument("--into", type=Path, help="page that gets the table, at <!-- own names -->")
    options = parser.parse_args(arguments)
    separator = load(options.model, device="cpu")
    audio = RecipeAudio(Corpus(options.manifest, options.cache, separator.sample_rate, on_error="skip"))
    text, seconds = measure(separator, audio, options.sounds, options.mixtures)
    print(text, end="")
    print(f"a query beside 1,000 names takes {cost_of_names(separator, audio, options.sounds[0]):.3f} times as long")
    print(f"{seconds:.2f} s to remember a sound by five examples")
    if options.into:
        put(text, options.into, "own names")
    return 0


if __name__ == "__main__":
    sys.exit(main())
