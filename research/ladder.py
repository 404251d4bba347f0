"""What each step from a word to the sound itself is worth: mixtures of a recipe separated in several ways.

    python -m research.ladder recipe.json manifest.jsonl --cache cache/ --model checkpoints/mini --into docs/recall.md

The word alone; word and recordings (quality "fast"); two and more ways mixed ("balanced", "best"); the target's own
sound as the query. SI-SDRi in dB, the share of mixtures that get better, and for absent sounds by how much the output
is turned down. Recordings of the split "train" answer for words, so a recipe of held-back clips is judged fairly.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from audiosep.api import load
from audiosep.data.corpus import Corpus
from audiosep.data.validation_recipe import RecipeAudio, RecipeEntry, ValidationRecipe
from audiosep.inference.options import Options
from audiosep.metrics import si_sdr
from audiosep.query.query import Query
from audiosep.separator import Separator
from research.pages import put

WORD, OWN = "word", "own sound"
QUALITIES = ("fast", "balanced", "best")


@dataclass(frozen=True)
class Score:
    """One mixture separated in one way.

    Attributes:
        entry: id of the mixture.
        group: of the entry, with its family in group a.
        way: of the ladder.
        gain: SI-SDRi, dB; None where the sound is absent.
        level: of the output against the mixture, dB.
        presence: 0..1.
    """

    entry: str
    group: str
    way: str
    gain: float | None
    level: float
    presence: float


def ladder(
    separator: Separator,
    audio: RecipeAudio,
    entries: Sequence[RecipeEntry],
    ways: Sequence[str],
    known: Collection[tuple[str, str]] = (),
) -> Iterator[Score]:
    """Separate the mixtures of entries in several ways.

    Args:
        separator: with prototypes.
        audio: of the entries.
        entries: of a recipe.
        ways: of WORD, QUALITIES and OWN.
        known: entry and way of what is left out.
    """
    for entry in track(entries, "separating", console=Console(stderr=True)):
        todo = [way for way in ways if (entry.id, way) not in known]
        if not todo:
            continue
        parts = audio.sources(entry)
        mix = parts.sum(0)
        target = parts[list(entry.target)].sum(0) if entry.target else None
        for way in todo:
            if way == OWN and target is None:
                continue
            estimate, presence = _separate(separator, audio, entry, mix, target, way)
            gain = None if target is None else float(si_sdr(estimate, target) - si_sdr(mix, target))
            level = 10 * float(torch.log10(estimate.square().mean() / mix.square().mean() + 1e-10))
            for group in _groups(entry):
                yield Score(entry.id, group, way, gain, level, presence)


def read_scores(path: Path) -> list[Score]:
    """The scores of a file of an earlier run; none where it is not there yet.

    Args:
        path: as given with `--scores`.
    """
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [Score(**json.loads(line)) for line in lines]


def _groups(entry: RecipeEntry) -> Iterator[str]:
    yield entry.group
    if entry.group == "a":
        yield f"a {entry.family}"


def _separate(
    separator: Separator, audio: RecipeAudio, entry: RecipeEntry, mix: Tensor, target: Tensor | None, way: str
) -> tuple[Tensor, float]:
    rate = audio.corpus.sample_rate
    if way == OWN and target is not None:
        query = Query(audio=(target, rate), name="target")
    elif entry.example is not None:
        query = Query(audio=(audio.excerpt(entry.example, entry.seconds), rate), name="target")
    elif way == WORD:
        assert separator.encoder is not None
        query = Query(embedding=separator.encoder.text([entry.query])[0], name="target")
    else:
        query = Query(entry.query, name="target")
    options = Options(quality=way) if way in QUALITIES else Options()  # type: ignore[arg-type]
    result = separator.separate(mix, query, sample_rate=rate, options=options)
    return result["target"], (result.presence or {"target": np.nan})["target"]


def table(scores: Sequence[Score], ways: Sequence[str]) -> str:
    """Markdown: mean SI-SDRi (share better) by group and way; for absent sounds the median level."""
    by: dict[str, dict[str, list[Score]]] = defaultdict(lambda: defaultdict(list))
    for score in scores:
        by[score.group][score.way].append(score)
    lines = ["| group | mixtures | " + " | ".join(ways) + " |", "|---|---:|" + "---:|" * len(ways)]
    for group, rows in sorted(by.items()):
        cells = []
        for way in ways:
            gains = [score.gain for score in rows[way] if score.gain is not None]
            if gains:
                cells.append(f"{np.mean(gains):.2f} ({100 * np.mean(np.array(gains) > 0):.0f}%)")
            else:
                levels = [score.level for score in rows[way]]
                cells.append(f"level {np.median(levels):.1f}" if levels else "")
        count = max(len(rows[way]) for way in ways)
        lines.append(f"| {group} | {count} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m research.ladder", description=__doc__)
    parser.add_argument("recipes", type=Path, nargs="+", metavar="recipe")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--groups", default="", help="such as ah; all by default")
    parser.add_argument("--most", type=int, default=10**9, help="entries of a group, spread over it")
    parser.add_argument("--ways", nargs="*", default=[WORD, *QUALITIES, OWN])
    parser.add_argument("--scores", type=Path, help="file of every score; those it has are kept")
    parser.add_argument("--into", type=Path, help="page that gets the table, at <!-- ladder -->")
    options = parser.parse_args(arguments)
    entries = []
    recipe = ValidationRecipe.joined(options.recipes)
    for group in sorted({entry.group for entry in recipe.entries if entry.group in (options.groups or entry.group)}):
        mine = [entry for entry in recipe.entries if entry.group == group]
        entries += mine[:: max(1, len(mine) // options.most)]
    corpus = Corpus(options.manifest, options.cache, recipe.sample_rate, on_error="skip")
    scores = read_scores(options.scores) if options.scores else []
    known = {(score.entry, score.way) for score in scores}
    todo = ladder(load(options.model, device="cpu"), RecipeAudio(corpus), entries, options.ways, known)
    with Path(options.scores or os.devnull).open("a", encoding="utf-8") as file:
        for score in todo:
            scores.append(score)
            file.write(f"{json.dumps(asdict(score))}\n")
            file.flush()
    text = table(scores, options.ways)
    print(text, end="")
    if options.into:
        put(text, options.into, "ladder")
    return 0


if __name__ == "__main__":
    sys.exit(main())
