"""Seeded mixtures of the clips of a manifest: 2 to 5 different sounds, and now and then a query for none of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from audiosep.data.decode import ShardReader, mono_clip
from audiosep.data.labels import label_table
from audiosep.data.layouts import read_clips
from audiosep.data.manifest import SPLITS, Clip, read_manifest
from audiosep.errors import DataError
from audiosep.evaluation.benchmarks import Array, Benchmark, Item, Scene, Target
from audiosep.query.query import Query

_TRIES = 200


@dataclass(frozen=True)
class Plan:
    """One mixture, decided before any audio is read.

    Args:
        clips: what is in it; the first is the target unless it is absent.
        absent: a clip whose sound is asked for and is not in it, or None.
        text: the query. gains: dB, one a clip. seed: where in the clips to cut.
        seconds: length. rate: Hz.
    """

    clips: tuple[Clip, ...]
    absent: Clip | None
    text: str
    gains: tuple[float, ...]
    seed: tuple[int, int]
    seconds: float
    rate: int


def read_manifest_mixtures(
    root: Path,
    *,
    mixtures: int = 200,
    sources: str = "2-5",
    seconds: float = 5.0,
    level: float = 5.0,
    absent: float = 0.1,
    split: str = "val+zero+test",
    rate: int = 32000,
    seed: int = 0,
) -> Benchmark:
    """Mixtures of the clips of a manifest (JSON lines) or of anything else that `audiosep.data.layouts` reads.

    Args:
        root: the manifest file, or a folder of shards, of labelled folders ...
        mixtures: how many. sources: how many sounds in each, "2-5" or "3", uniformly drawn.
        seconds: length. level: gains are uniform within +-level dB. rate: Hz.
        absent: share of mixtures that are asked for a sound that is not in them.
        split: splits to take, joined by "+"; "any" for all.
        seed: of everything that is drawn.

    Raises:
        DataError: no such manifest, an impossible option, or too few different sounds.
    """
    clips = read_manifest(root) if root.suffix == ".jsonl" else read_clips(root)
    if split != "any":
        wanted = split.split("+")
        unknown = sorted(set(wanted) - set(SPLITS))
        if unknown:
            raise DataError(f"{root}: there is no split {unknown[0]!r}; there are {', '.join(SPLITS)}, or any")
        clips = [clip for clip in clips if clip.split in wanted]
    least, most = _range(sources)
    if len({clip.label for clip in clips}) <= most:
        raise DataError(
            f"{root}: the {len(clips)} clips in {split} have too few labels for mixtures of {most}; "
            "take split=any or fewer sources"
        )
    items = []
    for index in range(mixtures):
        random = np.random.default_rng([seed, index])
        count = int(random.integers(least, most + 1))
        missing = bool(random.random() < absent)
        chosen = _different(clips, count + missing, random)
        asked = chosen[0]
        plan = Plan(
            clips=tuple(chosen[1:] if missing else chosen),
            absent=asked if missing else None,
            text=asked.texts[random.integers(len(asked.texts))],
            gains=tuple(round(float(gain), 2) for gain in random.uniform(-level, level, count)),
            seed=(seed, index),
            seconds=seconds,
            rate=rate,
        )
        items.append(_item(index, plan, asked))
    what = f"{mixtures} mixtures of {sources} clips of {root.name} ({split}), within {level:g} dB, "
    return Benchmark(root.stem, tuple(items), f"{what}{absent:.0%} asked for what is absent, seed {seed}", root)


def render(plan: Plan) -> Scene:
    """The audio of a plan: each source at -26 dB full scale plus its gain, the mixture below full scale."""
    random = np.random.default_rng([*plan.seed, 1])
    samples = round(plan.seconds * plan.rate)
    sources: dict[str, Array] = {}
    for index, (clip, gain) in enumerate(zip(plan.clips, plan.gains, strict=True)):
        piece = _piece(mono_clip(clip, plan.rate, _shards()), samples, random)
        rms = max(float(np.sqrt(np.mean(piece**2))), 1e-6)
        name = "target" if index == 0 and plan.absent is None else clip.label
        sources[name] = (piece * 10 ** ((gain - 26) / 20) / rms).astype(np.float32)[None]
    mix = np.sum(list(sources.values()), axis=0)
    scale = np.float32(min(1.0, 0.99 / max(float(np.abs(mix).max()), 1e-9)))
    return Scene(mix * scale, {name: x * scale for name, x in sources.items()}, plan.rate)


def _item(index: int, plan: Plan, asked: Clip) -> Item:
    target = Target("target", Query(text=plan.text), asked.label, (asked.stem,) if asked.stem else ())
    group = "absent" if plan.absent else f"{len(plan.clips)} sources"
    version = repr((plan.gains, plan.seconds, plan.rate, [clip.id for clip in plan.clips]))
    return Item(f"{index:05d}", (target,), partial(render, plan), group, version, {"family": asked.family})


def _range(text: str) -> tuple[int, int]:
    least, _, most = text.partition("-")
    try:
        low, high = int(least), int(most or least)
    except ValueError:
        low, high = 0, 0
    if not 1 <= low <= high:
        raise DataError(f"sources is a number or a range such as 2-5, got {text!r}")
    return low, high


def _different(clips: Sequence[Clip], count: int, random: np.random.Generator) -> list[Clip]:
    """`count` clips none of whose labels answers another: uniform over labels, then over their clips."""
    labels = sorted({clip.label for clip in clips})
    by_label = {label: [clip for clip in clips if clip.label == label] for label in labels}
    table = label_table()
    for _ in range(_TRIES):
        chosen: list[Clip] = []
        for _ in range(_TRIES):
            options = by_label[labels[random.integers(len(labels))]]
            clip = options[random.integers(len(options))]
            if not any(table.conflict(clip.label, other.label) or _together(clip, other) for other in chosen):
                chosen.append(clip)
            if len(chosen) == count:
                return chosen
    raise DataError(f"found no {count} clips with labels that exclude each other; take fewer sources or more labels")


def _together(a: Clip, b: Clip) -> bool:
    return bool((a.song and a.song == b.song) or (a.group and a.group == b.group))


def _piece(x: Array, samples: int, random: np.random.Generator) -> Array:
    """`samples` of a clip: the loudest of four random cuts, or the whole clip at a random place in silence."""
    if len(x) <= samples:
        start = int(random.integers(samples - len(x) + 1))
        return np.pad(x, (start, samples - len(x) - start))
    starts = random.integers(len(x) - samples + 1, size=4)
    cuts = [x[start : start + samples] for start in starts]
    return max(cuts, key=lambda cut: float(np.square(cut).sum()))


@cache
def _shards() -> ShardReader:
    """One reader a process: each shard is opened and indexed once."""
    return ShardReader()
