"""The report of an evaluation: Markdown, or one HTML file that contains charts, pictures and sound."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from audiosep.audio import read_audio
from audiosep.errors import counted
from audiosep.evaluation.baselines import BASELINES, baseline_class
from audiosep.evaluation.benchmarks import Benchmark
from audiosep.evaluation.item_evaluation import EvaluationSettings, Row, example_file, slug
from audiosep.evaluation.measures import MEASURES
from audiosep.evaluation.report_parts import definitions, label_chart, player, system_chart
from audiosep.evaluation.runner import EvaluationResults
from audiosep.evaluation.summary import SystemSummary, summarise
from audiosep.evaluation.systems import is_function, model_of
from audiosep.evaluation.tables import HIDDEN, Table, benchmark_tables
from audiosep.inference.environment import environment
from audiosep.output.spectrogram import spectrogram
from audiosep.weights.baseline_names import FLOORS
from audiosep.weights.catalogue import MODELS


@dataclass
class EvaluationReport:
    """An evaluation as a document.

    Args:
        benchmarks: in the order of the report.
        results: of `run`.
        folder: that `run` wrote to.
        settings: that `run` was given.
        title: heading.
    """

    benchmarks: Sequence[Benchmark]
    results: EvaluationResults
    folder: Path
    settings: EvaluationSettings
    title: str = "Evaluation"
    summaries: dict[str, list[SystemSummary]] = field(init=False)

    def __post_init__(self) -> None:
        self.summaries = {b.name: summarise(self.results.rows, b) for b in self.benchmarks}

    def markdown(self) -> str:
        """The whole report as Markdown, without pictures and sound."""
        parts = [f"# {self.title}"]
        for benchmark in self.benchmarks:
            parts += [f"## {benchmark.name}", f"{benchmark.description}. {counted(len(benchmark.items), 'item')}."]
            parts += [table.markdown() for table in self._tables(benchmark)]
        parts += ["## Systems", *(f"- **{name}**: {about}" for name, about in self.abouts().items())]
        parts += ["## Measures", *(f"- **{MEASURES[m].title}**: {MEASURES[m].definition}" for m in self.measures())]
        parts += [f"- {_INTERVAL_NOTE}"]
        parts += ["## Machine", *(f"- {key}: {value}" for key, value in machine(self.settings).items())]
        if self.results.failures:
            parts += ["## Not evaluated", *(f"- {text}" for text in self.failures())]
        return _joined(parts)

    def html(self) -> str:
        """The whole report as one HTML file.

        Raises:
            DependencyError: matplotlib is not installed.
        """
        parts = []
        for benchmark in self.benchmarks:
            parts += [f"<h2>{escape(benchmark.name)}</h2>"]
            parts += [f"<p>{escape(benchmark.description)}. {counted(len(benchmark.items), 'item')}.</p>"]
            parts += [table.html() for table in self._tables(benchmark)]
            summaries = self.summaries[benchmark.name]
            parts += [system_chart(summaries, self._rows(benchmark)), *map(label_chart, summaries)]
            parts += self._examples(benchmark)
        parts += [definitions("Systems", self.abouts())]
        measures = {MEASURES[m].title: MEASURES[m].definition for m in self.measures()}
        parts += [definitions("Measures", measures | {"[low, high]": _INTERVAL_NOTE})]
        parts += [definitions("Machine", machine(self.settings))]
        if self.results.failures:
            parts += ["<h2>Not evaluated</h2><ul>", *(f"<li>{escape(t)}</li>" for t in self.failures()), "</ul>"]
        template = (resources.files("audiosep.evaluation") / "templates" / "report.html").read_text(encoding="utf-8")
        return Template(template).substitute(title=escape(self.title), body="\n".join(parts))

    def short(self) -> str:
        """Only the tables, as Markdown."""
        parts = [part for b in self.benchmarks for part in (f"## {b.name}", *(t.markdown() for t in self._tables(b)))]
        return _joined(parts)

    def data(self) -> dict[str, Any]:
        """The numbers of the tables as JSON values: benchmark -> system -> numbers."""
        return {name: {s.name: asdict(s) for s in rows} for name, rows in self.summaries.items()}

    def measures(self) -> list[str]:
        """Measures that are in a table."""
        found = {m for rows in self.summaries.values() for summary in rows for m in summary.stats}
        return [m for m in MEASURES if m in found and m not in HIDDEN]

    def abouts(self) -> dict[str, str]:
        """System -> description."""
        names = dict.fromkeys(summary.name for rows in self.summaries.values() for summary in rows)
        return {name: _about(name) for name in names}

    def failures(self) -> list[str]:
        """Systems and items that could not be evaluated, with the error."""
        return [f"{' '.join(filter(None, where))}: {error}" for *where, error in self.results.failures]

    def _tables(self, benchmark: Benchmark) -> list[Table]:
        return benchmark_tables(self.summaries[benchmark.name], benchmark)

    def _examples(self, benchmark: Benchmark) -> Iterator[str]:
        """Spectrograms, players and scores of the items whose audio was kept."""
        items = {item.id: item for item in benchmark.items}
        names = [summary.name for summary in self.summaries[benchmark.name] if summary.name not in FLOORS]
        scores = {
            (row["system"], row["item"], target["name"]): target["scores"]
            for row in self._rows(benchmark)
            for target in row["targets"]
        }
        for item_id in self.results.examples.get(benchmark.name, []):
            folder = self.folder / "examples" / slug(benchmark.name) / slug(item_id)
            mix = example_file(folder, "mix")
            if not mix.is_file():
                continue
            highest = float(spectrogram(*read_audio(mix)).max())
            yield f'<h3>{escape(item_id)}</h3><div class="examples">{player("mixture", mix, highest)}</div>'
            for target in items[item_id].targets:
                figures = [player("true", example_file(folder, "true", target.name), highest)]
                for name in names:
                    path = example_file(folder, "estimate", target.name, name)
                    if path.is_file():
                        figures.append(player(name, path, highest, scores.get((name, item_id, target.name))))
                query = target.query.text or "(a recording)"
                yield f'<p>query: <b>{escape(query)}</b></p><div class="examples">{"".join(figures)}</div>'

    def _rows(self, benchmark: Benchmark) -> list[Row]:
        return [row for row in self.results.rows if row["set"] == benchmark.name]


_INTERVAL_NOTE = "95 % interval of the mean, bootstrap over items (1000 resamples, seed 0)."


def machine(settings: EvaluationSettings) -> dict[str, str]:
    """The machine, the software and the settings of an evaluation, as name -> text."""
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


def _about(name: str) -> str:
    if name in BASELINES:
        return baseline_class(name).about
    if is_function(name):
        return "a function of the user's own"
    model, adapter = model_of(name)
    known = MODELS.get(model)
    about = known.description if known else "a model in a folder"
    return about if adapter is None else f"{about}, with the adapter {adapter.name}"


def _joined(parts: Sequence[str]) -> str:
    """Join parts with empty lines between them, except between items of a list."""
    text = ""
    for before, part in zip(["", *parts], parts, strict=False):
        text += ("\n" if before.startswith("- ") and part.startswith("- ") else "\n\n") + part
    return text.strip() + "\n"
