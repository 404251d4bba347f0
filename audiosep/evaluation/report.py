"""The report of an evaluation: Markdown, and one HTML file with pictures and sound in it."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from audiosep.audio import read_audio
from audiosep.evaluation.baselines import BASELINES, FLOORS, baseline_class
from audiosep.evaluation.benchmarks import Benchmark
from audiosep.evaluation.measures import MEASURES
from audiosep.evaluation.runner import Outcome
from audiosep.evaluation.summary import Stat, SystemSummary, summarise
from audiosep.evaluation.worker import Settings, example_file, slug
from audiosep.inference.environment import environment
from audiosep.output.spectrogram import png, spectrogram
from audiosep.weights.catalogue import MODELS

NONE = "–"
_ALWAYS = ("si_sdri", "better", "sdri")
_INTERVALS = ("si_sdri", "sdri")
_HIDDEN = ("level", "presence")


@dataclass(frozen=True)
class Table:
    """Cells of text; `bounds` are the rows that are oracles or floors."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    bounds: frozenset[int] = frozenset()


@dataclass
class Report:
    """An evaluation and where its examples lie.

    Args:
        benchmarks: in the order of the report. outcome: what the runner gave. folder: the runner's.
        settings: the runner's. title: the heading.
    """

    benchmarks: Sequence[Benchmark]
    outcome: Outcome
    folder: Path
    settings: Settings
    title: str = "Evaluation"
    summaries: dict[str, list[SystemSummary]] = field(init=False)

    def __post_init__(self) -> None:
        self.summaries = {b.name: summarise(self.outcome.rows, b) for b in self.benchmarks}

    def markdown(self) -> str:
        """The report as Markdown, without pictures and sound."""
        parts = [f"# {self.title}"]
        for benchmark in self.benchmarks:
            parts += [f"## {benchmark.name}", f"{benchmark.description}. {len(benchmark.items)} items."]
            parts += [_markdown_table(table) for table in self.tables(benchmark)]
        parts += ["## Systems", *(f"- **{name}**: {about}" for name, about in self.abouts().items())]
        parts += ["## Measures", *(f"- **{MEASURES[m].title}**: {MEASURES[m].definition}" for m in self.measures())]
        parts += [f"- {_INTERVAL_NOTE}"]
        parts += ["## Machine", *(f"- {key}: {value}" for key, value in machine(self.settings).items())]
        if self.outcome.failures:
            parts += ["## Not evaluated", *(f"- {text}" for text in self.failures())]
        return _joined(parts)

    def html(self) -> str:
        """The report as one HTML file with everything in it.

        Raises:
            DependencyError: matplotlib is not installed.
        """
        parts = []
        for benchmark in self.benchmarks:
            parts += [f"<h2>{_text(benchmark.name)}</h2>"]
            parts += [f"<p>{_text(benchmark.description)}. {len(benchmark.items)} items.</p>"]
            parts += [_html_table(table) for table in self.tables(benchmark)]
            parts += [self._bars(benchmark), *self._examples(benchmark)]
        parts += [_definitions("Systems", self.abouts())]
        measures = {MEASURES[m].title: MEASURES[m].definition for m in self.measures()}
        parts += [_definitions("Measures", measures | {"[low, high]": _INTERVAL_NOTE})]
        parts += [_definitions("Machine", machine(self.settings))]
        if self.outcome.failures:
            parts += ["<h2>Not evaluated</h2><ul>", *(f"<li>{_text(t)}</li>" for t in self.failures()), "</ul>"]
        template = (resources.files("audiosep.evaluation") / "templates" / "report.html").read_text(encoding="utf-8")
        return Template(template).substitute(title=_text(self.title), body="\n".join(parts))

    def short(self) -> str:
        """The tables alone, as Markdown."""
        parts = [part for b in self.benchmarks for part in (f"## {b.name}", *map(_markdown_table, self.tables(b)))]
        return _joined(parts)

    def data(self) -> dict[str, Any]:
        """The numbers of the tables for machines: set -> system -> numbers."""
        return {name: {s.name: asdict(s) for s in rows} for name, rows in self.summaries.items()}

    def tables(self, benchmark: Benchmark) -> list[Table]:
        """All tables of one set; systems that could be asked for none of its targets are named in a note."""
        summaries = [summary for summary in self.summaries[benchmark.name] if summary.answered]
        idle = [summary.name for summary in self.summaries[benchmark.name] if not summary.answered]
        tables = [_scores(summaries, benchmark, idle)]
        groups = sorted({group for summary in summaries for group in summary.groups})
        if len(groups) > 1:
            tables.append(_by_group(summaries, groups, benchmark.groups))
        tables.append(_costs([summary for summary in summaries if summary.name not in FLOORS]))
        return tables

    def measures(self) -> list[str]:
        """Measures that stand in a table."""
        found = {m for rows in self.summaries.values() for summary in rows for m in summary.stats}
        return [m for m in MEASURES if m in found and m not in _HIDDEN]

    def abouts(self) -> dict[str, str]:
        """What each system is, for those that say so."""
        names = dict.fromkeys(summary.name for rows in self.summaries.values() for summary in rows)
        return {name: _about(name) for name in names}

    def failures(self) -> list[str]:
        """What could not be evaluated, and why."""
        return [f"{' '.join(filter(None, where))}: {error}" for *where, error in self.outcome.failures]

    def _bars(self, benchmark: Benchmark) -> str:
        """SI-SDRi by label, one fold-out a system."""
        parts = []
        for summary in self.summaries[benchmark.name]:
            if summary.bound or len(summary.labels) < 2:
                continue
            ordered = sorted(summary.labels.items(), key=lambda pair: -pair[1].mean)
            widest = max(1.0, *(abs(stat.mean) for _, stat in ordered))
            bars = "".join(_bar(label, stat, widest) for label, stat in ordered)
            title = f"<summary>{_text(summary.name)}: SI-SDRi by label</summary>"
            parts.append(f'<details>{title}<div class="bars">{bars}</div></details>')
        return "\n".join(parts)

    def _examples(self, benchmark: Benchmark) -> Iterable[str]:
        """Strips and players of the items whose audio was kept."""
        items = {item.id: item for item in benchmark.items}
        names = [summary.name for summary in self.summaries[benchmark.name] if summary.name not in FLOORS]
        for item_id in self.outcome.examples.get(benchmark.name, []):
            folder = self.folder / "examples" / slug(benchmark.name) / slug(item_id)
            mix = example_file(folder, "mix")
            if not mix.is_file():
                continue
            highest = float(spectrogram(*read_audio(mix)).max())
            yield f"<h3>{_text(item_id)}</h3>"
            for target in items[item_id].targets:
                files = {"mixture": mix, "target": example_file(folder, "true", target.name)}
                files |= {name: example_file(folder, "estimate", target.name, name) for name in names}
                figures = "".join(_figure(name, path, highest) for name, path in files.items() if path.is_file())
                asked = target.query.text or "(a recording)"
                yield f'<p>asked for: <b>{_text(asked)}</b></p><div class="examples">{figures}</div>'


_AREA_NOTE = (
    "AUC: how well a sound that is there is told from one that is not, by the system's own score (presence) or by how "
    "loud its output is (level); 0.5 is chance."
)
_INTERVAL_NOTE = "95 % interval of the mean, bootstrap over items (1000 resamples, seed 0)."


def machine(settings: Settings) -> dict[str, str]:
    """What the figures were measured on, as name -> text."""
    found = environment()
    texts = {
        "software": ", ".join(f"{name} {version}" for name, version in found.versions.items()),
        "Python": found.python,
        "system": found.system,
        "CPU": f"{found.cpu}, {found.cpus} CPUs",
        "workers": str(settings.workers),
        "models": f"device {settings.device}, precision {settings.precision}, engine {settings.engine}",
    }
    return texts | ({"GPU": ", ".join(found.gpus)} if found.gpus else {})


def _bounds(summaries: Sequence[SystemSummary]) -> frozenset[int]:
    return frozenset(i for i, summary in enumerate(summaries) if summary.bound)


def _scores(summaries: Sequence[SystemSummary], benchmark: Benchmark, idle: Sequence[str]) -> Table:
    found = {measure for summary in summaries for measure in summary.stats}
    shown = [m for m in MEASURES if (m in found or m in _ALWAYS) and m not in _HIDDEN]
    areas = [score for score in ("presence", "level") if any(score in s.auc for s in summaries)]
    published = list(dict.fromkeys(m for s in summaries for m in s.published))
    head = ["system", "answered", *(MEASURES[m].title for m in shown)]
    head += [f"AUC by {area}" for area in areas]
    head += [f"{MEASURES[m].title}, mean of {benchmark.average}" for m in published]
    rows = []
    for summary in summaries:
        row = [summary.name, f"{summary.answered}/{summary.total}"]
        row += [_cell(m, summary.stats.get(m)) for m in shown]
        row += [f"{summary.auc[a]:.3f}" if a in summary.auc else NONE for a in areas]
        row += [_number(summary.published[m]) if m in summary.published else NONE for m in published]
        rows.append(row)
    notes = [_AREA_NOTE] if areas else []
    notes += [f"Not asked here, because no query of this set is one they take: {', '.join(idle)}."] if idle else []
    return Table("Scores", head, rows, " ".join(notes), _bounds(summaries))


def _by_group(summaries: Sequence[SystemSummary], groups: Sequence[str], meaning: Mapping[str, str]) -> Table:
    rows = [[s.name, *(_group_cell(s.groups.get(group, {})) for group in groups)] for s in summaries]
    note = (
        "SI-SDRi in dB (share of clips that got better); where the sound is absent, by how much the output went down: "
        "the median, and what 90% of the clips reach."
    )
    if meaning:
        note += " " + "; ".join(f"{group}: {meaning[group]}" for group in groups if group in meaning) + "."
    return Table("By group", ["system", *groups], rows, note, _bounds(summaries))


def _costs(summaries: Sequence[SystemSummary]) -> Table:
    head = ["system", "real-time factor", "peak memory", "peak device memory"]
    rows = []
    for summary in summaries:
        rtf = NONE if summary.rtf is None else f"{summary.rtf:.3f}"
        rows.append([summary.name, rtf, _bytes(summary.rss), _bytes(summary.device_memory)])
    note = "Real-time factor: processing time of all of an item's targets over its length, median of the items."
    return Table("Speed and memory", head, rows, note, _bounds(summaries))


def _cell(measure: str, stat: Stat | None) -> str:
    if stat is None:
        return NONE
    chosen = MEASURES[measure]
    if chosen.unit == "%":
        return f"{100 * stat.mean:.0f}%"
    value = stat.median if chosen.median else stat.mean
    text = _number(value) if chosen.unit == "dB" else f"{value:.3f}"
    return f"{text} [{_number(stat.low)}, {_number(stat.high)}]" if measure in _INTERVALS else text


def _group_cell(stats: Mapping[str, Stat]) -> str:
    if "si_sdri" in stats:
        return f"{_number(stats['si_sdri'].mean)} ({100 * stats['better'].mean:.0f}%)"
    if "suppression" in stats:
        down = stats["suppression"]
        return f"{0.0 - round(down.median, 1):.1f} dB (90%: {0.0 - round(down.tenth, 1):.1f})"
    return NONE


def _number(value: float) -> str:
    """Two decimals, and no minus before a zero."""
    return f"{round(value, 2) + 0.0:.2f}"


def _bytes(count: int) -> str:
    return f"{count / 2**20:.0f} MiB" if count else NONE


def _about(name: str) -> str:
    if name in BASELINES:
        return baseline_class(name).about
    known = MODELS.get(name.partition(":")[0])
    return known.description if known else "a model in a folder"


def _markdown_table(table: Table) -> str:
    rows = [table.head, ["---", *["---:"] * (len(table.head) - 1)]]
    rows += [[f"*{row[0]}*", *row[1:]] if i in table.bounds else row for i, row in enumerate(table.rows)]
    lines = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    return f"### {table.title}\n\n{lines}" + (f"\n\n{table.note}" if table.note else "")


def _joined(parts: Sequence[str]) -> str:
    """Paragraphs with empty lines between them; lists stay together."""
    text = ""
    for before, part in zip(["", *parts], parts, strict=False):
        text += ("\n" if before.startswith("- ") and part.startswith("- ") else "\n\n") + part
    return text.strip() + "\n"


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{_text(cell)}</th>" for cell in table.head)
    rows = "".join(
        f'<tr class="{"bound" if i in table.bounds else "system"}">{"".join(f"<td>{_text(c)}</td>" for c in row)}</tr>'
        for i, row in enumerate(table.rows)
    )
    note = f"<p>{_text(table.note)}</p>" if table.note else ""
    return f'<h3>{_text(table.title)}</h3><div class="wide"><table><tr>{head}</tr>{rows}</table></div>{note}'


def _definitions(title: str, entries: Mapping[str, str]) -> str:
    rows = "".join(f"<dt>{_text(key)}</dt><dd>{_text(value)}</dd>" for key, value in entries.items())
    return f"<h2>{_text(title)}</h2><dl>{rows}</dl>"


def _bar(label: str, stat: Stat, widest: float) -> str:
    """A bar from the middle: right for better, left for worse, with its interval as a line."""
    end = 50 + 50 * stat.mean / widest
    whisker = [min(100.0, max(0.0, 50 + 50 * limit / widest)) for limit in (stat.low, stat.high)]
    drawing = (
        '<svg viewBox="0 0 100 10" preserveAspectRatio="none"><line x1="50" x2="50" y1="0" y2="10" stroke="#888"/>'
        f'<rect x="{min(50, end):.2f}" width="{abs(end - 50):.2f}" y="1" height="8" fill="var(--bar)"/>'
        f'<line x1="{whisker[0]:.2f}" x2="{whisker[1]:.2f}" y1="5" y2="5" stroke="currentColor"/></svg>'
    )
    return f"<span>{_text(label)}</span>{drawing}<span>{stat.mean:.1f} dB ({stat.count})</span>"


def _figure(name: str, path: Path, highest: float) -> str:
    picture = _data_address(png(spectrogram(*read_audio(path)), highest), "image/png")
    sound = _data_address(path.read_bytes(), "audio/flac")
    image = f'<img alt="spectrogram of {_text(name)}" src="{picture}">'
    player = f'<audio controls preload="none" src="{sound}"></audio>'
    return f"<figure>{image}{player}<figcaption>{_text(name)}</figcaption></figure>"


def _data_address(content: bytes, kind: str) -> str:
    """`content` inside an address, such as "data:image/png;base64,...", so that the page needs no other file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _text(text: str) -> str:
    return html.escape(text)
