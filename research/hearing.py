"""How well the model says what sounds and when, on scenes of held-back clips; and the weights that it says it with.

    python -m research.hearing manifest.jsonl --cache cache/ --teacher mn04_as.pt --into docs/describe.md
    python -m research.hearing manifest.jsonl --cache cache/ --fit

A scene lasts twelve seconds: one clip from its start, and one to four others, each for one to six seconds somewhere in
it, at levels that differ by up to 9 dB. Its clips are of the split "val" and have labels that a name of the vocabulary
means. Half of them, by the digest of their ids, are for `--fit`, the other half for the tables. The teacher is
EfficientAT's mn04_as, read in windows of three seconds with the same vocabulary; of each name its best class counts.
"""

from __future__ import annotations

import argparse
import random
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from audiosep.api import load
from audiosep.data.corpus import Corpus
from audiosep.evaluation.hearing import Counts, event_counts, segment_counts, top_counts
from audiosep.hearing.activity import HOP, SILENT_LEVEL, ActivityMeter
from audiosep.hearing.score_track import ScoreTrack
from audiosep.hearing.spans import Hysteresis, Span, spans_of
from audiosep.hearing.vocabulary import vocabulary
from audiosep.metrics import si_sdr
from audiosep.models.refinement import Heard
from audiosep.query.query import Query
from audiosep.separator import Separator
from research.pages import put

SECONDS = 12.0
_FRAME = 0.02  # seconds
_SURE = 0.8  # least similarity of a label to a name that means it
_ALIKE = 0.05  # names that are nearly as similar mean it too
_TRUE = Hysteresis(on=-30.0, off=-30.0, gap=0.3, least=0.1)  # dB below the loudest frame of a source
_ALONE = 0.5  # most similarity of an absent label to one that is there

Names = dict[str, frozenset[str]]
Teller = Callable[[Tensor], list[str]]
"""(samples,) at the model's rate -> the names that are told, the surest first."""


@dataclass(frozen=True)
class Source:
    """One sound of a scene.

    Attributes:
        label: of its clip.
        samples: (samples,), as they are in the mixture.
        spans: where it sounds.
    """

    label: str
    samples: NDArray[np.float32]
    spans: list[Span]


Scene = list[Source]


def meanings(labels: Sequence[str], separator: Separator) -> Names:
    """Label -> names of the vocabulary that mean it, with all names of their families; labels without are left out."""
    known = vocabulary()
    assert separator.encoder is not None
    likeness = separator.encoder.text(labels) @ separator.encoder.text(known.names).T
    found = {}
    for label, row in zip(labels, likeness, strict=True):
        if row.max() >= _SURE:
            families = {known.families[k] for k in torch.nonzero(row >= row.max() - _ALIKE)[:, 0].tolist()}
            found[label] = frozenset(
                name for name, family in zip(known.names, known.families, strict=True) if family in families
            )
    return found


def scenes(corpus: Corpus, names: Names, count: int, part: int, sources: Sequence[int]) -> list[Scene]:
    """Draw scenes, the same for the same arguments.

    Args:
        corpus: of the clips.
        names: of the labels that may be drawn.
        count: of the scenes.
        part: half of the clips, 0 or 1.
        sources: numbers of sources to choose from.
    """
    rng = random.Random(1000 * part + sum(sources))
    by_label: dict[str, list[int]] = {}
    for number, clip in enumerate(corpus.clips):
        if clip.split == "val" and clip.label in names and zlib.crc32(clip.id.encode()) % 2 == part:
            by_label.setdefault(clip.label, []).append(number)
    drawn = []
    for _ in range(count):
        labels: list[str] = []
        wanted = rng.choice(sources)
        for label in rng.sample(sorted(by_label), len(by_label)):
            if len(labels) < wanted and not any(names[label] & names[one] for one in labels):
                labels.append(label)
        drawn.append([_source(corpus, rng, label, rng.choice(by_label[label]), k) for k, label in enumerate(labels)])
    return drawn


def _source(corpus: Corpus, rng: random.Random, label: str, clip: int, place: int) -> Source:
    rate, length = corpus.sample_rate, int(corpus.lengths[clip])
    whole = int(SECONDS * rate)
    size = min(length, whole if place == 0 else int(rng.uniform(1.0, 6.0) * rate))
    start, at = rng.randrange(length - size + 1), rng.randrange(whole - size + 1)
    part = corpus.segment(clip, start, size).float().numpy().copy()
    edge = min(rate // 100, size // 4)
    part[:edge] *= np.linspace(0, 1, edge)
    part[size - edge :] *= np.linspace(1, 0, edge)
    frames = np.square(part[: size // 640 * 640]).reshape(-1, 640).mean(1) if size >= 640 else np.square(part)
    loud = np.sqrt(frames[frames >= frames.max() * 1e-3].mean()) + 1e-9
    samples = np.zeros(whole, np.float32)
    samples[at : at + size] = part * (0.05 / loud * 10 ** (rng.uniform(-6, 3) / 20))
    energies = np.square(samples[: len(samples) // 640 * 640]).reshape(-1, 640).mean(1)
    decibels = (10 * np.log10((energies + 1e-12) / (energies.max() + 1e-12))).astype(np.float32)
    return Source(label, samples, spans_of(decibels, 640 / rate, _TRUE))


def mixture(scene: Scene) -> NDArray[np.float32]:
    """(1, samples), the sum of the sources."""
    mix: NDArray[np.float32] = np.stack([source.samples for source in scene]).sum(0, keepdims=True)
    return mix


def told_by(separator: Separator, rate: int) -> Teller:
    """What the model tells."""
    return lambda mix: [sound.name for sound in separator.describe(mix, sample_rate=rate, most=5, quick=True)]


def told_by_teacher(path: Path) -> Teller:
    """What the teacher tells: the names whose best classes it is surest of, one of a family.

    Args:
        path: TorchScript, (batch, samples) at 32 kHz -> logits and embeddings.
    """
    teacher, known = torch.jit.load(str(path)).eval(), vocabulary()

    @torch.inference_mode()
    def tell(mix: Tensor) -> list[str]:
        windows = mix.unfold(0, 3 * 32000, 32000)
        logits = teacher(windows)[0].amax(0)
        best = torch.stack([logits[list(members)].max() for members in known.members])
        order, families = best.argsort(descending=True).tolist(), set()
        names = []
        for number in order:
            if known.families[number] not in families:
                families.add(known.families[number])
                names.append(known.names[number])
        return names[:5]

    return tell


@dataclass
class SpanScores:
    """Counts of spans.

    Attributes:
        segments: by segments of a second.
        events: by events with a collar of 0.2 s.
        onsets: by their beginnings alone.
    """

    segments: Counts = field(default_factory=Counts)
    events: Counts = field(default_factory=Counts)
    onsets: Counts = field(default_factory=Counts)

    def add(self, found: Sequence[Span], true: Sequence[Span]) -> None:
        """Count the spans of a sound."""
        self.segments += segment_counts(found, true, SECONDS)
        self.events += event_counts(found, true)
        self.onsets += event_counts(found, true, ends=False)

    def row(self) -> str:
        """Cells of a table."""
        return f"{self.segments.f1:.2f} | {self.events.f1:.2f} | {self.onsets.f1:.2f}"


def span_scores(separator: Separator, drawn: Sequence[Scene], rate: int) -> dict[str, SpanScores]:
    """Spans of sounds by the right words: of separated targets, of the tagger alone, and the whole time."""
    found = {"separated target": SpanScores(), "tagger alone": SpanScores(), "always": SpanScores()}
    for scene in track(drawn, "spans", console=Console(stderr=True)):
        labels = [source.label for source in scene]
        out = separator.separate(mixture(scene), labels, sample_rate=rate)
        rough = {
            sound.name: sound.spans
            for sound in separator.describe(mixture(scene), labels, sample_rate=rate, quick=True)
        }
        for source in scene:
            found["separated target"].add(out.activity[source.label].spans, source.spans)
            found["tagger alone"].add(rough[source.label], source.spans)
            found["always"].add([Span(0.0, SECONDS)], source.spans)
    return found


def removal(separator: Separator, drawn: Sequence[Scene], rate: int) -> dict[str, tuple[float, float]]:
    """Error of what is left when the last source of each scene is removed, within its spans and elsewhere.

    Returns:
        Way -> signal to error in dB, within the spans of the source and outside, medians over the scenes.
    """
    values: dict[str, list[tuple[float, float]]] = {"recording": [], "everywhere": [], "where it is": []}
    for scene in track(drawn, "removing", console=Console(stderr=True)):
        source, mix = scene[-1], mixture(scene)
        rest = mix[0] - source.samples
        out = separator.separate(mix, source.label, sample_rate=rate)
        inside = np.zeros(mix.shape[1], bool)
        for start, end in source.spans:
            inside[int(start * rate) : int(end * rate)] = True
        ways = {"recording": mix[0], "everywhere": out.rest(source.label)[0]}
        ways["where it is"] = out.rest(source.label, everywhere=False)[0]
        for way, left in ways.items():
            values[way].append((_ratio(rest, left, inside), _ratio(rest, left, ~inside)))
    return {
        way: (float(np.nanmedian([a for a, _ in pairs])), float(np.nanmedian([b for _, b in pairs])))
        for way, pairs in values.items()
    }


def by_spans(separator: Separator, drawn: Sequence[Scene], rate: int) -> dict[str, list[float]]:
    """SI-SDRi of the last source of each scene, by its word and by a span of two seconds or less in which it sounds."""
    gains: dict[str, list[float]] = {}
    for scene in track(drawn, "by spans", console=Console(stderr=True)):
        source, mix = scene[-1], mixture(scene)
        longest = max(source.spans, key=lambda span: span.end - span.start)
        span = (longest.start, min(longest.end, longest.start + 2.0))
        ways = {
            "word": Query(source.label, name="x"),
            "word and span": Query(source.label, spans=[span], name="x"),
            "span": Query(spans=[span], name="x"),
            "span, surroundings not kept out": Query(spans=[span], weight=0.0, name="x"),
        }
        target = torch.from_numpy(source.samples)
        before = si_sdr(torch.from_numpy(mix[0]), target)
        for way, query in ways.items():
            out = separator.separate(mix, query, sample_rate=rate)["x"]
            gains.setdefault(way, []).append(float(si_sdr(torch.from_numpy(out[0]), target) - before))
    return gains


def _ratio(true: NDArray[np.float32], left: NDArray[np.float32], where: NDArray[np.bool_]) -> float:
    if not where.any() or not true[where].any():
        return float("nan")
    return float(10 * np.log10(np.square(true[where]).sum() / (np.square(left[where] - true[where]).sum() + 1e-9)))


def tables(separator: Separator, corpus: Corpus, names: Names, teacher: Path | None, count: int) -> str:
    """All figures as Markdown."""
    rate = corpus.sample_rate
    groups = {"2": scenes(corpus, names, count, 1, [2]), "3 to 5": scenes(corpus, names, count, 1, [3, 4, 5])}
    tellers = {"this model": told_by(separator, rate)}
    if teacher is not None:
        tellers["teacher"] = told_by_teacher(teacher)
    lines = ["| sources | scenes | " + " | ".join(f"{who}: top-5 recall" for who in tellers) + " |"]
    lines.append("|---|---:|" + "---:|" * len(tellers))
    for group, drawn in groups.items():
        counts = dict.fromkeys(tellers, Counts())
        for scene in track(drawn, "naming", console=Console(stderr=True)):
            true, mix = [names[source.label] for source in scene], torch.from_numpy(mixture(scene)[0])
            for who, tell in tellers.items():
                counts[who] += top_counts(tell(mix), true)
        lines.append(f"| {group} | {len(drawn)} | " + " | ".join(f"{one.recall:.0%}" for one in counts.values()) + " |")
    lines += [
        "",
        "| sources | spans of | segments of 1 s: F1 | events, collar 0.2 s: F1 | their onsets: F1 |",
        "|---|---|---:|---:|---:|",
    ]
    for group, drawn in groups.items():
        lines += [f"| {group} | {kind} | {one.row()} |" for kind, one in span_scores(separator, drawn, rate).items()]
    lines += [
        "",
        "| what is left, against the true rest (dB, medians) | within the spans | outside |",
        "|---|---:|---:|",
    ]
    lines += [f"| {way} | {a:.1f} | {b:.1f} |" for way, (a, b) in removal(separator, groups["2"], rate).items()]
    lines += ["", "| query | SI-SDRi, dB | better |", "|---|---:|---:|"]
    for way, gains in by_spans(separator, groups["2"], rate).items():
        lines.append(f"| {way} | {np.mean(gains):.2f} | {np.mean(np.array(gains) > 0):.0%} |")
    return "\n".join(lines) + "\n"


def calibration(separator: Separator, drawn: Sequence[Scene], names: Names, rate: int) -> str:
    """Slope and constant that correct the logits of scores, of the vocabulary and of words."""
    rng = random.Random(0)
    kinds: dict[str, tuple[list[float], list[bool]]] = {"vocabulary": ([], []), "words": ([], [])}
    for scene in track(drawn, "scores", console=Console(stderr=True)):
        labels, mix = [source.label for source in scene], mixture(scene)
        right = frozenset[str]().union(*(names[label] for label in labels))
        absent = [label for label in sorted(names) if _unlike(separator, label, labels)]
        words = [*labels, *rng.sample(absent, len(labels))]
        for kind, told, true in (
            ("vocabulary", separator.describe(mix, sample_rate=rate, quick=True), right),
            ("words", separator.describe(mix, words, sample_rate=rate, quick=True), frozenset(labels)),
        ):
            kinds[kind][0].extend(float(np.log(sound.score / (1 - sound.score))) for sound in told)
            kinds[kind][1].extend(sound.name in true for sound in told)
    lines = []
    for kind, (logits, correct) in kinds.items():
        x = np.zeros((len(logits), 4), np.float32)
        x[:, 0] = logits
        row = _regression(x, np.array(correct), [0])
        lines.append(f"{kind}: logit x {row[0]:.3f} + {row[4]:.3f}, {np.mean(correct):.0%} of {len(correct)} right")
    return "\n".join(lines) + "\n"


def fit(separator: Separator, corpus: Corpus, names: Names, count: int) -> str:
    """The weights of `audiosep.hearing.activity`, by logistic regression: with all features, without some."""
    rate = corpus.sample_rate
    drawn = scenes(corpus, names, count, 0, [2]) + scenes(corpus, names, count, 0, [3, 4, 5])
    rng = random.Random(0)
    features, sounding, there = [], [], []
    for scene in track(drawn, "separating", console=Console(stderr=True)):
        labels = [source.label for source in scene]
        absent = rng.choice([label for label in sorted(names) if _unlike(separator, label, labels)])
        curves = _features(separator, mixture(scene), [*labels, absent], rate)
        for k, curve in enumerate(curves):
            spans = scene[k].spans if k < len(scene) else []
            times = (np.arange(curve.shape[1]) + 0.5) * _FRAME
            features.append(curve)
            sounding.append(np.any([(times >= a) & (times < b) for a, b in spans], 0) if spans else times < 0)
            there.append(np.full(len(times), k < len(scene)))
    x, y, present = np.concatenate(features, 1).T, np.concatenate(sounding), np.concatenate(there)
    rows = [_regression(x, y, [0, 1, 2, 3]), _regression(x, y, [0, 1, 3]), _regression(x[present], y[present], [0, 1])]
    weights = "\n".join(str(tuple(round(value, 3) for value in row)) for row in rows) + "\n"
    return weights + calibration(separator, drawn, names, rate)


def _unlike(separator: Separator, label: str, labels: Sequence[str]) -> bool:
    assert separator.encoder is not None
    one, *others = separator.encoder.text([label, *labels])
    return all(float(one @ other) < _ALONE for other in others)


def _features(
    separator: Separator, mix: NDArray[np.float32], labels: Sequence[str], rate: int
) -> list[NDArray[np.float32]]:
    """What speaks for each target, as `ActivityMeter` measures it."""
    assert separator.prototypes is not None
    assert separator.encoder is not None
    recalled = [separator.prototypes.recall(vector) for vector in separator.encoder.text(labels)]
    scores = separator.prototypes.tag_scores(torch.stack([one.tags for one in recalled if one.tags is not None]))
    assert scores is not None

    @torch.inference_mode()
    def listen(windows: Tensor) -> Heard:
        heard = separator.model.heard(windows)
        assert heard is not None
        return heard

    meter = ActivityMeter(len(labels), rate, ScoreTrack(listen, scores, rate, HOP), list(range(len(labels))))
    out = separator.separate(mix, [Query(label) for label in labels], sample_rate=rate)
    meter.hear(mix)
    meter.measure(mix, np.stack(list(out.values())))
    assert out.presence is not None
    return meter.features(list(out.presence.values()))


def _regression(x: NDArray[np.float32], y: NDArray[np.bool_], columns: list[int]) -> list[float]:
    """Weights of four features and a constant by Newton's method; 0 for features that are not among `columns`."""
    kept = x[:, 0] > SILENT_LEVEL
    a = np.c_[x[kept][:, columns], np.ones(kept.sum())].astype(np.float64)
    scale = np.abs(a).mean(0) + 1e-9
    a, w = a / scale, np.zeros(len(columns) + 1)
    for _ in range(20):
        p = 1 / (1 + np.exp(-a @ w))
        w += np.linalg.solve((a * (p * (1 - p))[:, None]).T @ a + 1e-3 * np.eye(len(w)), a.T @ (y[kept] - p))
    row = np.zeros(5)
    row[[*columns, 4]] = w / scale
    return [float(value) for value in row]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m research.hearing", description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--teacher", type=Path, help="mn04_as.pt")
    parser.add_argument("--count", type=int, default=40, help="scenes of each kind")
    parser.add_argument(
        "--fit", action="store_true", help="print the weights of activity.py, and how far scores are off"
    )
    parser.add_argument("--into", type=Path, help="page that gets the tables, at <!-- hearing -->")
    options = parser.parse_args(arguments)
    separator = load(options.model, device="cpu", sounds=False)
    corpus = Corpus(options.manifest, options.cache, separator.sample_rate, on_error="skip")
    labels = sorted({clip.label for clip in corpus.clips if clip.split == "val"})
    names = meanings(labels, separator)
    if options.fit:
        print(fit(separator, corpus, names, options.count), end="")
        return 0
    text = tables(separator, corpus, names, options.teacher, options.count)
    print(text, end="")
    if options.into:
        put(text, options.into, "hearing")
    return 0


if __name__ == "__main__":
    sys.exit(main())
