"""The numbers of a report, from rows of results: means with bootstrap intervals, by system, group and label."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from audiosep.evaluation.benchmarks import Average, Benchmark
from audiosep.evaluation.item_evaluation import Row
from audiosep.evaluation.measures import MEASURES
from audiosep.evaluation.systems import is_bound
from audiosep.metrics import roc_auc
from audiosep.weights.baseline_names import FLOORS

RESAMPLES = 1000
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Stat:
    """A mean over clips with its 95 % interval.

    Attributes:
        mean: weighted by length where the measure says so.
        low: lower limit of the interval.
        high: upper limit of the interval.
        median: of the clips.
        tenth: 10th percentile of the clips.
        count: clips that have the number.
    """

    mean: float
    low: float
    high: float
    median: float
    tenth: float
    count: int


@dataclass
class SystemSummary:
    """One system on one benchmark.

    Attributes:
        name: of the system.
        bound: whether it is an oracle or a floor.
        separated: targets that it separated.
        total: targets of the benchmark.
        stats: measure -> number over the whole benchmark.
        groups: group -> measure -> number.
        labels: label -> SI-SDRi.
        auc: area under the ROC curve for telling present from absent sounds, by the system's own score ("presence")
            and by the level of its output ("level"); 0.5 is chance.
        published: measure -> the average that the owner publishes, where that is not the mean over clips.
        rtf: median of processing time divided by length; None if nothing was timed.
        rss: peak resident set, bytes; 0 if unknown.
        device_memory: peak CUDA memory, bytes; 0 if unknown.
    """

    name: str
    bound: bool
    separated: int = 0
    total: int = 0
    stats: dict[str, Stat] = field(default_factory=dict)
    groups: dict[str, dict[str, Stat]] = field(default_factory=dict)
    labels: dict[str, Stat] = field(default_factory=dict)
    auc: dict[str, float] = field(default_factory=dict)
    published: dict[str, float] = field(default_factory=dict)
    rtf: float | None = None
    rss: int = 0
    device_memory: int = 0


@dataclass(frozen=True)
class _Point:
    """One scored target."""

    item: str
    group: str
    label: str
    present: bool
    seconds: float
    scores: dict[str, float]


def summarise(rows: Sequence[Row], benchmark: Benchmark) -> list[SystemSummary]:
    """Summarise all systems on one benchmark.

    Args:
        rows: of any benchmarks and systems.
        benchmark: whose rows are used.

    Returns:
        Oracles first, then systems by SI-SDRi, floors last.
    """
    mine = [row for row in rows if row["set"] == benchmark.name]
    total = sum(len(item.targets) for item in benchmark.items)
    names = dict.fromkeys(row["system"] for row in mine)
    summaries = [_system(name, [r for r in mine if r["system"] == name], total, benchmark.average) for name in names]

    def place(summary: SystemSummary) -> tuple[int, float]:
        if summary.name in FLOORS:
            return 2, FLOORS.index(summary.name)
        gain = summary.stats["si_sdri"].mean if "si_sdri" in summary.stats else -np.inf
        return int(not summary.bound), -gain

    return sorted(summaries, key=place)


def mean_interval(values: Floats, weights: Floats, clusters: Sequence[str], seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of a weighted mean, by resampling whole clusters.

    The targets of one item are not independent of each other, so that items are drawn, not targets (B. Efron,
    R. Tibshirani, "An introduction to the bootstrap", 1993, chapter 13).

    Args:
        values: (n,).
        weights: (n,).
        clusters: (n,) names; equal names are drawn together.
        seed: of the resampling.

    Returns:
        Lower and upper limit.
    """
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(index, values * weights, len(names))
    sizes = np.bincount(index, weights, len(names))
    if len(names) == 1:
        return float(sums[0] / sizes[0]), float(sums[0] / sizes[0])
    result = bootstrap(
        (sums, sizes),
        lambda s, n, axis: s.sum(axis) / n.sum(axis),
        paired=True,
        n_resamples=RESAMPLES,
        batch=100,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _system(name: str, rows: Sequence[Row], total: int, average: Average) -> SystemSummary:
    points = [
        _Point(row["item"], row["group"], t["label"], t["present"], row["seconds"], t["scores"])
        for row in rows
        for t in row["targets"]
    ]
    summary = SystemSummary(name, is_bound(name), len(points), total)
    summary.stats = _stats(points)
    for group in sorted({point.group for point in points}):
        summary.groups[group] = _stats([point for point in points if point.group == group])
    for label in sorted({point.label for point in points if point.label}):
        stat = _stats([point for point in points if point.label == label], ["si_sdri"])
        summary.labels |= {label: stat["si_sdri"]} if stat else {}
    for score in ("presence", "level"):
        known = [point for point in points if score in point.scores]
        area = roc_auc(*([p.scores[score] for p in known if p.present is kind] for kind in (True, False)))
        summary.auc |= {} if np.isnan(area) else {score: area}
    if average != "clips":
        middle: Callable[[list[float]], float] = np.mean if average == "classes" else np.median
        for measure in ("sdri", "si_sdr", "si_sdri"):
            classes = [
                middle([p.scores[measure] for p in points if p.label == label and measure in p.scores])
                for label in summary.labels
            ]
            summary.published |= {measure: float(np.mean(classes))} if classes else {}
    timed = [row for row in rows if "wall" in row]
    if timed:
        summary.rtf = float(np.median([row["wall"] / row["seconds"] for row in timed]))
        summary.rss = max(row["rss"] for row in timed)
        summary.device_memory = max(row.get("device_memory", 0) for row in timed)
    return summary


def _stats(points: Sequence[_Point], measures: Iterable[str] = tuple(MEASURES)) -> dict[str, Stat]:
    stats = {}
    for measure in measures:
        known = [point for point in points if measure in point.scores]
        if known:
            values = np.array([point.scores[measure] for point in known])
            seconds = np.array([point.seconds for point in known])
            weights = seconds if MEASURES[measure].weighted else np.ones_like(values)
            low, high = mean_interval(values, weights, [point.item for point in known])
            mean, median, tenth = np.average(values, weights=weights), np.median(values), np.quantile(values, 0.1)
            stats[measure] = Stat(float(mean), low, high, float(median), float(tenth), len(known))
    return stats
