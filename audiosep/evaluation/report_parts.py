"""Parts of the HTML report of an evaluation: charts as SVG, and players with their pictures and scores."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from audiosep.audio import read_audio, write_audio
from audiosep.evaluation.item_evaluation import Row
from audiosep.evaluation.measures import MEASURES
from audiosep.evaluation.summary import Stat, SystemSummary
from audiosep.evaluation.tables import HIDDEN
from audiosep.output.spectrogram import picture, spectrogram
from audiosep.weights.baseline_names import FLOORS

_KBITS = 48  # a channel: what Opus leaves out at this rate is far below what separation leaves
_MOST_CLIPS = 500  # in a chart
_NOT_BESIDE = {*HIDDEN, *(name for name, measure in MEASURES.items() if measure.unit == "%")}


def definitions(title: str, entries: Mapping[str, str]) -> str:
    """A heading and a list of names with their texts."""
    rows = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in entries.items())
    return f"<h2>{escape(title)}</h2><dl>{rows}</dl>"


def system_chart(summaries: Sequence[SystemSummary], rows: Sequence[Row]) -> str:
    """SI-SDRi of all systems but the floors: a bar with its interval, and a mark for each clip.

    Args:
        summaries: in the order of the chart.
        rows: of the same benchmark.
    """
    shown = [summary for summary in summaries if "si_sdri" in summary.stats and summary.name not in FLOORS]
    if not shown:
        return ""
    clips: dict[str, list[float]] = {summary.name: [] for summary in shown}
    for row in rows:
        found = [target["scores"]["si_sdri"] for target in row["targets"] if "si_sdri" in target["scores"]]
        clips.get(row["system"], []).extend(found)
    stats = {summary.name: summary.stats["si_sdri"] for summary in shown}
    # To the 5th and the 95th percentile: a silent estimate counts as -100 dB.
    ends = np.quantile([value for values in clips.values() for value in values], [0.05, 0.95])
    widest = max(1.0, *map(abs, ends), *(abs(limit) for s in stats.values() for limit in (s.low, s.high)))
    bars = "".join(_bar(name, stat, widest, clips[name]) for name, stat in stats.items())
    return (
        '<figure class="chart"><figcaption>SI-SDRi: mean, 95 % interval, and a mark for each clip</figcaption>'
        f'<div class="bars">{bars}</div></figure>'
    )


def label_chart(summary: SystemSummary) -> str:
    """SI-SDRi of one system by label, in a section that opens; empty for a single label."""
    if summary.bound or len(summary.labels) < 2:
        return ""
    ordered = sorted(summary.labels.items(), key=lambda pair: -pair[1].mean)
    widest = max(1.0, *(abs(stat.mean) for _, stat in ordered))
    bars = "".join(_bar(label, stat, widest) for label, stat in ordered)
    title = f"<summary>{escape(summary.name)}: SI-SDRi by label</summary>"
    return f'<details>{title}<div class="bars">{bars}</div></details>'


def _bar(label: str, stat: Stat, widest: float, clips: Sequence[float] = ()) -> str:
    """A bar from the middle, to the right for positive values, with its interval as a line."""
    end = 50 + 50 * stat.mean / widest
    whisker = [min(100.0, max(0.0, 50 + 50 * limit / widest)) for limit in (stat.low, stat.high)]
    step = -(-len(clips) // _MOST_CLIPS) or 1
    places = [50 + 50 * value / widest for value in sorted(clips)[::step] if abs(value) <= widest]
    marks = "".join(f"M{place:.1f} 2v6" for place in places)
    drawing = (
        '<svg viewBox="0 0 100 10" preserveAspectRatio="none"><line x1="50" x2="50" y1="0" y2="10" stroke="#888"/>'
        f'<rect x="{min(50, end):.2f}" width="{abs(end - 50):.2f}" y="1" height="8" fill="var(--bar)"/>'
        + (f'<path class="clips" d="{marks}"/>' if marks else "")
        + f'<line x1="{whisker[0]:.2f}" x2="{whisker[1]:.2f}" y1="5" y2="5" stroke="currentColor"/></svg>'
    )
    return f"<span>{escape(label)}</span>{drawing}<span>{stat.mean:.1f} dB ({stat.count})</span>"


def player(name: str, path: Path, highest: float, scores: Mapping[str, float] | None = None) -> str:
    """A recording with its spectrogram, a player, and its scores.

    Args:
        name: under the picture.
        path: of the recording.
        highest: the level of the brightest colour, dB.
        scores: measure -> its score; None where it has none.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    x, rate = read_audio(path)
    image = _data_address(picture(spectrogram(x, rate), highest, "webp"), "image/webp")
    sound = _data_address(_opus(path), "audio/ogg; codecs=opus")
    texts = [_score(measure, value) for measure, value in (scores or {}).items() if measure not in _NOT_BESIDE]
    return (
        f'<figure><img alt="spectrogram of {escape(name)}" src="{image}">'
        f'<audio controls preload="none" src="{sound}"></audio>'
        f"<figcaption><b>{escape(name)}</b>{''.join(f'<br>{text}' for text in texts)}</figcaption></figure>"
    )


def _score(measure: str, value: float) -> str:
    title = escape(MEASURES[measure].title)
    return f"{title} {round(value, 1) + 0.0:.1f} dB" if MEASURES[measure].unit == "dB" else f"{title} {value:.2f}"


def _opus(path: Path) -> bytes:
    """A recording as Opus, a tenth of the size of flac."""
    x, rate = read_audio(path)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "x.opus"
        write_audio(made, x, rate, bitrate=_KBITS * len(x))
        return made.read_bytes()


def _data_address(content: bytes, kind: str) -> str:
    """`content` inside an address, such as "data:image/webp;base64,...", so that the page needs no other file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
