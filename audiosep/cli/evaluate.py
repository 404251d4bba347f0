"""`audiosep evaluate`: measure systems on test sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiosep.cli import common, outputs
from audiosep.cli.standard_error import Terminal, progress_bar

if TYPE_CHECKING:
    from audiosep.evaluation.evaluation_report import EvaluationReport
    from audiosep.evaluation.item_evaluation import EvaluationSettings

app = common.application()


@app.command()
@common.guarded
def evaluate(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            help="A model, MODEL+ADAPTER.safetensors, MODEL:stems, MODEL:live=SECONDS, a function of your own as "
            "MODULE:FUNCTION, a baseline, or oracles, classical, networks; repeatable.",
        ),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="SET", help="NAME=PATH[,OPTION=VALUE...], see --list; repeatable."),
    ] = None,
    results: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder of finished items; a stopped evaluation resumes from it.")
    ] = Path("evaluation"),
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the report to this file, with pictures and sound.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the report to this file, as Markdown.")
    ] = None,
    title: Annotated[str, typer.Option(metavar="TEXT", help="Heading of the reports.")] = "Evaluation",
    measure: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="More measures: bss, museval, speech, clap; repeatable.")
    ] = None,
    clap: Annotated[
        str | None, typer.Option(metavar="NAME", help="Model whose query encoder computes --measure clap.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Use N items of each set, drawn with --seed.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of --limit and of the choice of examples.")] = 0,
    workers: Annotated[
        int, typer.Option(metavar="N", min=0, help="Worker processes; 0 evaluates in this process.")
    ] = 1,
    examples: Annotated[
        int, typer.Option(metavar="N", min=0, help="Items of each set whose sound goes into --html.")
    ] = 3,
    listing: Annotated[bool, typer.Option("--list", help="List test sets, their layouts, and baselines.")] = False,
    device: common.Device = "auto",
    precision: common.Precision = "auto",
    engine: common.EngineName = "torch",
    as_json: common.AsJson = False,
    quiet: common.Quiet = False,
    verbose: common.Verbose = 0,
) -> int:
    """Measure quality, speed and memory of systems on test sets, beside trivial baselines.

    audiosep evaluate --model mini --model repet --set folder=my_songs --html report.html

    audiosep evaluate -m mini -m oracles -s esc50=ESC-50,pairs=esc50_eval.csv --workers 4
    """
    from audiosep.atomic import write_text
    from audiosep.errors import InputError
    from audiosep.evaluation.item_evaluation import EvaluationSettings
    from audiosep.output import spectrogram

    if listing:
        known = _known()
        if as_json:
            common.emit(known)
        else:
            print(_listing(known))
        return common.DONE
    if not model or not sets:
        raise InputError("say at least one --model and one --set; `audiosep evaluate --list` shows what there is")
    outputs.check_folder(results, "--results")
    if markdown is not None:
        outputs.check_file(markdown, ".md")
    if html is not None:
        outputs.check_file(html, ".html", ".htm")
        spectrogram.matplotlib()  # an error now rather than after hours of evaluation
    settings = EvaluationSettings(tuple(measure or ()), clap, device, precision, workers, examples, seed, engine)
    report = _report(model, sets, results, settings, limit, title, quiet, verbose)
    if markdown is not None:
        write_text(markdown, report.markdown())
    if html is not None:
        write_text(html, report.html())
    if as_json:
        common.emit({"sets": report.data(), "failures": report.failures()})
    else:
        print(report.short())
    terminal = Terminal()
    for failure in report.failures():
        terminal.print(f"not evaluated: {failure}")
    return common.FAILED if report.results.failures else common.DONE


def _report(
    model: list[str],
    sets: list[str],
    results: Path,
    settings: EvaluationSettings,
    limit: int | None,
    title: str,
    quiet: bool,
    verbose: int,
) -> EvaluationReport:
    from audiosep.evaluation.evaluation_report import EvaluationReport
    from audiosep.evaluation.runner import run
    from audiosep.evaluation.scores import check_measures
    from audiosep.evaluation.sets import load_set
    from audiosep.evaluation.systems import check_system
    from audiosep.inference.devices import pick_device
    from audiosep.weights.baseline_names import FLOORS, KINDS
    from audiosep.weights.stem_models import STEM_MODELS

    terminal = Terminal()
    common.logs_to(terminal, verbose, quiet)
    kinds = {**KINDS, "networks": tuple(entry.name for entry in STEM_MODELS)}
    # Errors now, not after hours. Of a kind, those that are not on this machine are left out with a warning.
    for name in model:
        if name not in kinds:
            check_system(name)
    pick_device(settings.device)
    check_measures(settings.measures, settings.clap)
    benchmarks = [load_set(text, limit=limit, seed=settings.seed) for text in sets]
    systems = [name for given in model for name in kinds.get(given, (given,))]
    with progress_bar(terminal, "evaluating", quiet, lines=True) as advance:
        evaluated = run(
            [*systems, *FLOORS], benchmarks, results, settings, lambda done, total, name: advance(done / max(1, total))
        )
    return EvaluationReport(benchmarks, evaluated, results, settings, title)


def _known() -> dict[str, list[dict[str, Any]]]:
    """The test sets, the baselines and the stem models that can be named."""
    from audiosep.evaluation.baselines import BASELINES, baseline_class
    from audiosep.evaluation.sets import READERS, options
    from audiosep.weights.stem_models import STEM_MODELS

    return {
        "sets": [
            {
                "name": name,
                "title": reader.layout.title,
                "options": options(name),
                "layout": reader.layout.tree,
                "owner": reader.layout.owner,
            }
            for name, reader in READERS.items()
        ],
        "baselines": [{"name": name, "about": baseline_class(name).about} for name in BASELINES],
        "stem_models": [{"name": entry.name, "about": entry.description} for entry in STEM_MODELS],
    }


def _listing(known: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """All of `_known` as text."""
    lines = ["Test sets (--set NAME=PATH[,OPTION=VALUE...]):", ""]
    for one in known["sets"]:
        options = ", ".join(f"{key}={value}" for key, value in one["options"].items())
        lines += [f"  {one['name']}: {one['title']}" + (f"   options: {options}" if options else "")]
        lines += [f"      {line}" for line in one["layout"].splitlines()]
        lines += [f"      from {one['owner']}", ""]
    lines += ["Baselines (--model NAME):", ""]
    lines += [f"  {one['name']}: {one['about']}" for one in known["baselines"]]
    lines += ["", "Published stem models (--model NAME, after `audiosep models download NAME`; all: networks):", ""]
    lines += [f"  {one['name']}: {one['about']}" for one in known["stem_models"]]
    return "\n".join(lines)
