"""`audiosep bench`: measure speed and memory on this machine."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from audiosep.cli import common
from audiosep.cli.standard_error import Terminal, progress_bar
from audiosep.errors import InputError
from audiosep.inference.options import Engine

if TYPE_CHECKING:
    from audiosep.bench.suite import Measurement, Spread

app = common.application()


@app.command()
@common.guarded
def bench(
    recording: Annotated[Path | None, typer.Argument(help="A recording; by default a test sound is made.")] = None,
    model: Annotated[list[str] | None, typer.Option("--model", "-m", help="Name, folder or hub id [mini].")] = None,
    device: Annotated[list[str] | None, typer.Option(help="auto, cpu, cuda ... [auto].")] = None,
    precision: Annotated[list[str] | None, typer.Option(help="auto, fp32, bf16 or fp16 [auto].")] = None,
    engine: Annotated[list[str] | None, typer.Option(help="torch or openvino [torch].")] = None,
    threads: Annotated[list[str] | None, typer.Option(help="CPU threads [as many as CPUs are free].")] = None,
    queries: Annotated[list[str] | None, typer.Option(help="Number of queries [1].")] = None,
    stems: Annotated[
        bool, typer.Option("--stems", help="Measure the stems too; alone if neither --queries nor -q is given.")
    ] = False,
    query: Annotated[list[str] | None, typer.Option("--query", "-q", help="A sound to separate, in words.")] = None,
    seconds: Annotated[list[str] | None, typer.Option(help="Length of the test sound [60].")] = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each case.")] = 5,
    against: Annotated[str | None, typer.Option(help="Compare with another implementation: module:callable.")] = None,
    roofline: Annotated[bool, typer.Option(help="Compare with the measured peaks of this machine.")] = True,
    plot: Annotated[Path | None, typer.Option(help="Draw the figures into this PNG file.")] = None,
    as_json: common.AsJson = False,
    quiet: common.Quiet = False,
) -> None:
    """Measure speed and memory on this machine, for all combinations of the given values.

    audiosep bench --queries 1,4 --stems --threads 1,2 --plot bench.png

    audiosep bench -m audiosep-base --precision fp32,bf16 --against my_module:separate
    """
    from audiosep.bench.pictures import draw
    from audiosep.bench.suite import TEXTS, conditions, grid, measure_cases

    terminal = Terminal()
    common.logs_to(terminal, 0, quiet)
    if against:
        sys.path.insert(0, str(Path.cwd()))  # the module may lie in the current folder, as for python -m
    cases = grid(
        _values(model, "mini"),
        devices=_values(device, "auto"),
        precisions=_values(precision, "auto"),
        engines=_engines(_values(engine, "torch")),
        threads=[int(_number("--threads", text)) for text in _values(threads)] or [None],
        tasks=_tasks(tuple(query or ()), queries, stems, TEXTS),
        lengths=[_number("--seconds", text) for text in _values(seconds, "60")],
        recording=None if recording is None else str(recording),
    )
    with progress_bar(terminal, "Measuring", quiet) as progress:
        done = measure_cases(cases, runs=runs, roofline=roofline, against=against, progress=progress)
    if plot is not None:
        draw(done, plot)
    if as_json:
        common.emit({"environment": conditions(), "cases": [document(one) for one in done]})
        return
    print("\n\n".join(describe(one) for one in done))


def _values(given: list[str] | None, *default: str) -> list[str]:
    """The values of an option, which may be repeated and may hold several values separated by commas."""
    return [value.strip() for text in given or default for value in text.split(",") if value.strip()]


def _engines(names: list[str]) -> list[Engine]:
    engines = [known for name in names for known in get_args(Engine) if known == name]
    if len(engines) != len(names):
        raise InputError(f"--engine takes {' or '.join(get_args(Engine))}, got {', '.join(names)}")
    return engines


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{option} takes numbers, got {text!r}") from None


def _tasks(
    texts: tuple[str, ...], counts: list[str] | None, stems: bool, usual: tuple[str, ...]
) -> list[tuple[str, ...] | None]:
    """The queries of each task; None for the stems."""
    tasks: list[tuple[str, ...] | None] = []
    if counts or not (texts or stems):
        texts = texts or usual
        for count in (int(_number("--queries", text)) for text in _values(counts, "1")):
            if not 0 < count <= len(texts):
                raise InputError(f"--queries {count}: there are 1 to {len(texts)} queries; name more with -q")
            tasks.append(texts[:count])
    elif texts:
        tasks.append(texts)
    return [*tasks, None] if stems else tasks


def document(measured: Measurement) -> dict[str, Any]:
    """A measurement for JSON."""
    whole = dataclasses.asdict(measured)
    roofline = measured.roofline
    if roofline is not None:
        whole["roofline"] |= {"share": roofline.share, "bound_seconds": roofline.bound_seconds, "limit": roofline.limit}
    return {**whole, "task": measured.task, "real_time_factor": measured.real_time_factor}


def describe(measured: Measurement) -> str:
    """A measurement as text."""
    facts, factor = measured.facts, measured.real_time_factor
    rows = {
        "model": f"{facts.model} on {facts.device} by {facts.engine}, {facts.precision}, {facts.threads} threads",
        "task": f"{measured.task}: {', '.join(measured.case.queries)}" if measured.case.queries else measured.task,
        "recording": f"{facts.audio_seconds:.1f} s, {facts.sample_rate} Hz, {facts.channels} channels",
        "start": f"{facts.start_seconds:.2f} s from a fresh process to the loaded model",
        "first sample": f"{facts.first_sample_seconds:.2f} s later, {facts.latency_seconds:.2f} s behind the input",
        "file to files": f"{_spread(measured.total)} s, median (least to largest) of {measured.runs}",
        "real-time factor": f"{factor:.3f} ({1 / factor:.1f} x real time)",
        "decode": f"{_spread(measured.decode)} s",
        "separate": f"{_spread(measured.separate)} s",
        "write": f"{_spread(measured.write)} s",
    }
    if measured.peak_memory_mb is not None:
        rows["peak memory"] = f"{measured.peak_memory_mb:.0f} MB"
    if measured.peak_device_memory_mb is not None:
        rows["peak GPU memory"] = f"{measured.peak_device_memory_mb:.0f} MB"
    roofline, against = measured.roofline, measured.against
    if roofline is not None:
        rows["window"] = (
            f"{roofline.window_seconds:.1f} s of sound in {roofline.seconds:.3f} s: "
            f"{roofline.operations / 1e9:.1f} GFLOP, {roofline.bytes / 1e9:.2f} GB"
        )
        rows["machine"] = (
            f"{roofline.peak_operations / 1e9:.0f} GFLOP/s in a convolution, {roofline.peak_bytes / 1e9:.1f} GB/s; "
            f"reached {roofline.share:.0%} of the first, {roofline.bound_seconds / roofline.seconds:.0%} of the bound "
            f"by {roofline.limit}"
        )
    if against is not None:
        rows["against"] = f"{against.reference}: {_spread(against.seconds)} s, {_spread(against.ratio)} times ours"
    return "\n".join(f"{name:17} {text}" for name, text in rows.items())


def _spread(spread: Spread) -> str:
    return f"{spread.median:.3g} ({spread.low:.3g} to {spread.high:.3g})"
