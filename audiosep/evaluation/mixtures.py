"""Random mixtures of the clips of a manifest, some of them with a query for a sound that is not in the mixture."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from audiosep.audio.samples import Array
from audiosep.data.clip_audio import ClipKeys, ShardReader, mono_clip
from audiosep.data.labels import label_table
from audiosep.data.layouts import read_clips
from audiosep.data.manifest import SPLITS, Clip, read_manifest
from audiosep.errors import DataError, counted
from audiosep.evaluation.benchmarks import Benchmark, Item, Scene, Target
from audiosep.query.query import Query

_TRIES = 200


@dataclass(frozen=True)
class MixturePlan:
    """What is in a mixture, decided before any audio is read.

    Attributes:
        clips: in the mixture; the first is the target unless the target is absent.
        absent: clip of the queried sound where that is not in the mixture; None where it is.
        text: the query.
        gains: one for each clip, dB.
        seed: of the cuts from the clips.
        seconds: length of the mixture.
        rate: sample rate, Hz.
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
        root: the manifest file, or a folder of shards or of one folder of audio a label.
        mixtures: number of mixtures.
        sources: number of clips in each, "2-5" or "3"; drawn uniformly.
        seconds: length of each.
        level: gains are drawn uniformly from -level to +level dB.
        absent: share of mixtures with a query for a sound that is not in them.
        split: splits to take, joined by "+"; "any" for all.
        rate: sample rate, Hz.
        seed: of all random choices.

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
    by_label: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        by_label[clip.label].append(clip)
    labelled = [by_label[label] for label in sorted(by_label)]
    if len(labelled) < most + (absent > 0):
        also = " and one that is absent; take absent=0," if absent else "; take"
        raise DataError(
            f"{root}: the {len(clips)} clips in {split} have too few labels, {len(labelled)}, for mixtures of "
            f"{most}{also} split=any or fewer sources"
        )
    items, key = [], ClipKeys()
    for index in range(mixtures):
        random = np.random.default_rng([seed, index])
        count = int(random.integers(least, most + 1))
        missing = bool(random.random() < absent)
        chosen = _different(labelled, count + missing, random)
        queried = chosen[0]
        plan = MixturePlan(
            clips=tuple(chosen[1:] if missing else chosen),
            absent=queried if missing else None,
            text=queried.texts[random.integers(len(queried.texts))],
            gains=tuple(round(float(gain), 2) for gain in random.uniform(-level, level, count)),
            seed=(seed, index),
            seconds=seconds,
            rate=rate,
        )
        items.append(_item(index, plan, queried, key))
    what = f"{counted(mixtures, 'mixture')} of {sources} clips of {root.name} ({split})"
    how = f"within {level:g} dB, {absent:.0%} with a query for an absent sound, seed {seed}"
    return Benchmark(root.stem, tuple(items), f"{what}, {how}", root)


def render(plan: MixturePlan) -> Scene:
    """Mix the clips of a plan: each source at -26 dB of full scale (RMS) plus its gain, the mixture not clipped."""
    random = np.random.default_rng([*plan.seed, 1])
    samples = round(plan.seconds * plan.rate)
    sources: dict[str, Array] = {}
    for index, (clip, gain) in enumerate(zip(plan.clips, plan.gains, strict=True)):
        cut = _cut(mono_clip(clip, plan.rate, _shards()), samples, random)
        rms = max(float(np.sqrt(np.mean(cut**2))), 1e-6)
        name = "target" if index == 0 and plan.absent is None else clip.label
        sources[name] = (cut * 10 ** ((gain - 26) / 20) / rms).astype(np.float32)[None]
    mix = np.sum(list(sources.values()), axis=0)
    scale = np.float32(min(1.0, 0.99 / max(float(np.abs(mix).max()), 1e-9)))
    return Scene(mix * scale, {name: x * scale for name, x in sources.items()}, plan.rate)


def _item(index: int, plan: MixturePlan, queried: Clip, key: ClipKeys) -> Item:
    target = Target("target", Query(text=plan.text), queried.label, (queried.stem,) if queried.stem else ())
    group = "absent" if plan.absent else counted(len(plan.clips), "source")
    version = repr((plan.gains, plan.seconds, plan.rate, plan.seed, [key(clip) for clip in plan.clips]))
    return Item(f"{index:05d}", (target,), partial(render, plan), group, version, {"family": queried.family})


def _range(text: str) -> tuple[int, int]:
    least, _, most = text.partition("-")
    try:
        low, high = int(least), int(most or least)
    except ValueError:
        low, high = 0, 0
    if not 1 <= low <= high:
        raise DataError(f"sources is a number or a range such as 2-5, got {text!r}")
    return low, high


def _different(labelled: list[list[Clip]], count: int, random: np.random.Generator) -> list[Clip]:
    """Draw clips whose labels exclude each other: uniformly over labels, then over the clips of a label."""
    table = label_table()
    for _ in range(_TRIES):
        chosen: list[Clip] = []
        for _ in range(_TRIES):
            options = labelled[random.integers(len(labelled))]
            clip = options[random.integers(len(options))]
            if not any(table.conflict(clip.label, other.label) or _same_recording(clip, other) for other in chosen):
                chosen.append(clip)
            if len(chosen) == count:
                return chosen
    raise DataError(f"found no {count} clips whose labels exclude each other; take fewer sources or more labels")


def _same_recording(a: Clip, b: Clip) -> bool:
    return bool((a.song and a.song == b.song) or (a.group and a.group == b.group))


def _cut(x: Array, samples: int, random: np.random.Generator) -> Array:
    """A cut of a clip: the loudest of four random ones; a clip that is shorter is placed at random in silence."""
    if len(x) <= samples:
        start = int(random.integers(samples - len(x) + 1))
        return np.pad(x, (start, samples - len(x) - start))
    starts = random.integers(len(x) - samples + 1, size=4)
    cuts = [x[start : start + samples] for start in starts]
    return max(cuts, key=lambda cut: float(np.square(cut).sum()))


@cache
def _shards() -> ShardReader:
    """The reader of this process, which opens and indexes each shard once."""
    return ShardReader()
