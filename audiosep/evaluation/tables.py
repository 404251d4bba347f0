"""The tables of a report: what is in their cells, and their text as Markdown and HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from audiosep.evaluation.benchmarks import Benchmark
from audiosep.evaluation.measures import MEASURES
from audiosep.evaluation.summary import Stat, SystemSummary
from audiosep.weights.baseline_names import FLOORS

NONE = "–"
_ALWAYS = ("si_sdri", "better", "sdri")
_INTERVALS = ("si_sdri", "sdri")
HIDDEN = ("level", "presence")


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        title: above the table.
        head: titles of the columns.
        rows: cells of each row; the first names the system.
        note: below the table.
        bounds: rows of oracles and floors.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    bounds: frozenset[int] = frozenset()

    def markdown(self) -> str:
        """The table as Markdown."""
        rows = [self.head, ["---", *["---:"] * (len(self.head) - 1)]]
        rows += [[f"*{row[0]}*", *row[1:]] if i in self.bounds else row for i, row in enumerate(self.rows)]
        lines = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
        return f"### {self.title}\n\n{lines}" + (f"\n\n{self.note}" if self.note else "")

    def html(self) -> str:
        """The table as HTML."""
        head = "".join(f"<th>{escape(cell)}</th>" for cell in self.head)
        rows = "".join(
            f"<tr class={'bound' if i in self.bounds else 'system'}>"
            + "".join(f"<td>{escape(cell)}</td>" for cell in row)
            + "</tr>"
            for i, row in enumerate(self.rows)
        )
        note = f"<p>{escape(self.note)}</p>" if self.note else ""
        return f'<h3>{escape(self.title)}</h3><div class="wide"><table><tr>{head}</tr>{rows}</table></div>{note}'


_AREA_NOTE = (
    "AUC: area under the ROC curve for telling present from absent sounds, by the system's own score (presence) or by "
    "the level of its output; 0.5 is chance."
)


def benchmark_tables(summaries: Sequence[SystemSummary], benchmark: Benchmark) -> list[Table]:
    """All tables of one benchmark.

    Args:
        summaries: of its systems. Those that could be given none of its queries are named in a note.
        benchmark: the benchmark.
    """
    shown = [summary for summary in summaries if summary.separated]
    idle = [summary.name for summary in summaries if not summary.separated]
    tables = [_scores(shown, benchmark, idle)]
    groups = sorted({group for summary in shown for group in summary.groups})
    if len(groups) > 1:
        tables.append(_by_group(shown, groups, benchmark.groups))
    tables.append(_costs([summary for summary in shown if summary.name not in FLOORS]))
    return tables


def _bounds(summaries: Sequence[SystemSummary]) -> frozenset[int]:
    return frozenset(i for i, summary in enumerate(summaries) if summary.bound)


def _scores(summaries: Sequence[SystemSummary], benchmark: Benchmark, idle: Sequence[str]) -> Table:
    found = {measure for summary in summaries for measure in summary.stats}
    shown = [m for m in MEASURES if (m in found or m in _ALWAYS) and m not in HIDDEN]
    areas = [score for score in ("presence", "level") if any(score in s.auc for s in summaries)]
    published = list(dict.fromkeys(m for s in summaries for m in s.published))
    head = ["system", "separated", *(MEASURES[m].title for m in shown)]
    head += [f"AUC by {area}" for area in areas]
    head += [f"{MEASURES[m].title}, mean of {benchmark.average}" for m in published]
    rows = []
    for summary in summaries:
        row = [summary.name, f"{summary.separated}/{summary.total}"]
        row += [_cell(m, summary.stats.get(m)) for m in shown]
        row += [f"{summary.auc[a]:.3f}" if a in summary.auc else NONE for a in areas]
        row += [_number(summary.published[m]) if m in summary.published else NONE for m in published]
        rows.append(row)
    notes = [_AREA_NOTE] if areas else []
    notes += [f"No query of this benchmark is of a kind that these systems take: {', '.join(idle)}."] if idle else []
    return Table("Scores", head, rows, " ".join(notes), _bounds(summaries))


def _by_group(summaries: Sequence[SystemSummary], groups: Sequence[str], meaning: Mapping[str, str]) -> Table:
    rows = [[s.name, *(_group_cell(s.groups.get(group, {})) for group in groups)] for s in summaries]
    note = (
        "SI-SDRi in dB (share of clips that improved); where the sound is absent, how far the output lies below the "
        "mixture: the median, and what 90% of the clips reach."
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
    note = "Real-time factor: processing time of all targets of an item divided by its length, median of the items."
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
        return f"{round(down.median, 1) + 0.0:.1f} dB (90%: {round(down.tenth, 1) + 0.0:.1f})"  # no minus before zero
    return NONE


def _number(value: float) -> str:
    """Two decimals, without a minus before zero."""
    return f"{round(value, 2) + 0.0:.2f}"


def _bytes(count: int) -> str:
    return f"{count / 2**20:.0f} MiB" if count else NONE
