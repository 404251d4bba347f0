"""`audiosep bench`: measure speed and memory on this machine."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args

import typer

from audiosep.audio.limits import MAX_SECONDS
from audiosep.cli import common
from audiosep.cli.standard_error import Terminal, progress_bar
from audiosep.errors import InputError, counted
from audiosep.inference.options import Engine, Options, Quality
from audiosep.inference.threads import check_threads

if TYPE_CHECKING:
    from audiosep.bench.suite import Measurement, Spread

app = common.application()
Known = TypeVar("Known", bound=str)


@app.command()
@common.guarded
def bench(
    recordings: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RECORDING...]",
            help="Recordings, or folders of a mix.wav and its true sounds, named as targets [a test sound].",
        ),
    ] = None,
    model: Annotated[list[str] | None, typer.Option("--model", "-m", help="Name, folder or hub id [mini].")] = None,
    device: Annotated[list[str] | None, typer.Option(help="auto, cpu, cuda ... [auto].")] = None,
    precision: Annotated[list[str] | None, typer.Option(help="auto, fp32, bf16 or fp16 [auto].")] = None,
    engine: Annotated[list[str] | None, typer.Option(help="torch or openvino [torch].")] = None,
    quality: Annotated[list[str] | None, typer.Option(help="fast, balanced or best, of queries [balanced].")] = None,
    threads: Annotated[list[str] | None, typer.Option(help="CPU threads [as many as CPUs are free].")] = None,
    queries: Annotated[list[str] | None, typer.Option(help="Number of queries [1].")] = None,
    stems: Annotated[
        bool, typer.Option("--stems", help="Measure the stems too; alone if neither --queries nor -q is given.")
    ] = False,
    query: Annotated[list[str] | None, typer.Option("--query", "-q", help="A sound to separate, in words.")] = None,
    seconds: Annotated[list[str] | None, typer.Option(help="Length of the test sound [60].")] = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each case.")] = 5,
    against: Annotated[
        list[str] | None, typer.Option(help="Compare with other models, or other implementations: module:callable.")
    ] = None,
    roofline: Annotated[bool, typer.Option(help="Compare with the measured peaks of this machine.")] = True,
    plot: Annotated[Path | None, typer.Option(help="Draw the figures into this PNG file.")] = None,
    as_json: common.AsJson = False,
    quiet: common.Quiet = False,
) -> None:
    """Measure speed and memory on this machine, for all combinations of the given values.

    audiosep bench --queries 1,4 --stems --threads 1,2 --plot bench.png

    audiosep bench -m audiosep-base --precision fp32,bf16 --against my_module:separate

    audiosep bench songs/* --stems --against htdemucs,umxhq --plot quality.png
    """
    from audiosep.bench import table
    from audiosep.bench.pictures import check_picture, draw
    from audiosep.bench.suite import TEXTS, conditions, grid, measure_cases
    from audiosep.query.query import as_queries

    terminal = Terminal()
    common.logs_to(terminal, 0, quiet)
    peers = _values(against)
    texts = tuple(one.label for one in as_queries(query)) if query else ()
    cases = grid(
        _values(model, "mini"),
        devices=[name.lower() for name in _values(device, "auto")],
        precisions=[name.lower() for name in _values(precision, "auto")],
        engines=_known("--engine", _values(engine, "torch"), get_args(Engine)),
        qualities=_known("--quality", _values(quality, Options.quality), get_args(Quality)),
        threads=[check_threads(_whole("--threads", text)) for text in _values(threads)] or [None],
        tasks=_tasks(texts, queries, stems, TEXTS),
        lengths=[_length(text) for text in _values(seconds, "60")],
        recordings=[str(path) for path in recordings or ()],
    )
    if plot is not None:
        check_picture(plot)
    with progress_bar(terminal, "Measuring", quiet) as progress:
        done = measure_cases(cases, runs=runs, roofline=roofline, against=peers, progress=progress)
    if as_json:
        common.emit({"environment": conditions(), "cases": [document(one) for one in done]})
    else:
        parts = [describe(one) for one in done]
        if len(found := table.rows(done)) > 1:
            parts.append(table.text(found))
        print("\n\n".join(parts))
    if plot is not None:
        draw(done, plot)


def _values(given: list[str] | None, *default: str) -> list[str]:
    """The values of an option, which may be repeated and may hold several values separated by commas."""
    return [value.strip() for text in given or default for value in text.split(",") if value.strip()]


def _known(option: str, names: list[str], known: tuple[Known, ...]) -> list[Known]:
    found = [one for name in names for one in known if one == name.lower()]
    if len(found) != len(names):
        raise InputError(f"{option} takes {', '.join(known[:-1])} or {known[-1]}, got {', '.join(names)}")
    return found


def _length(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= MAX_SECONDS:
        raise InputError(f"--seconds takes lengths up to {MAX_SECONDS:.0f}, got {text!r}")
    return seconds


def _whole(option: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{option} takes whole numbers, got {text!r}") from None


def _tasks(
    texts: tuple[str, ...], counts: list[str] | None, stems: bool, usual: tuple[str, ...]
) -> list[tuple[str, ...] | None]:
    """The queries of each task; None for the stems."""
    tasks: list[tuple[str, ...] | None] = []
    if counts or not (texts or stems):
        texts = texts or usual
        for count in (_whole("--queries", text) for text in _values(counts, "1")):
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
    case, facts, findings, factor = measured.case, measured.facts, measured.findings, measured.real_time_factor
    threads = counted(facts.threads, "thread")
    rows = {
        "model": f"{facts.model} on {facts.device} by {facts.engine}, {facts.precision}, {threads}",
        "task": f"{measured.task}: {', '.join(case.queries)}; {case.quality}" if case.queries else measured.task,
        "recording": f"{facts.audio_seconds:.1f} s, {facts.sample_rate} Hz, {counted(facts.channels, 'channel')}",
        "start": f"{facts.start_seconds:.2f} s from a fresh process to the loaded model",
        "first sample": f"{facts.first_sample_seconds:.2f} s later, {facts.latency_seconds:.2f} s behind the input",
        "file to files": f"{_spread(measured.total)} s, median (least to largest) of {measured.runs}",
        "real-time factor": f"{factor:.3f} ({1 / factor:.1f} x real time)",
        "decode": f"{_spread(measured.decode)} s",
        "separate": f"{_spread(measured.separate)} s",
        "write": f"{_spread(measured.write)} s",
    }
    if findings.peak_memory_mb is not None:
        rows["peak memory"] = f"{findings.peak_memory_mb:.0f} MB"
    if findings.peak_device_memory_mb is not None:
        rows["peak GPU memory"] = f"{findings.peak_device_memory_mb:.0f} MB"
    if findings.si_sdr:
        rows["SI-SDR"] = _scores(findings.si_sdr)
    roofline = measured.roofline
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
    lines = [f"{name:17} {text}" for name, text in rows.items()]
    for peer in measured.against:
        facts_of_peer = f"{_spread(peer.separate)} s, {_spread(peer.ratio)} times ours"
        scores = f"; SI-SDR {_scores(peer.findings.si_sdr)}" if peer.findings.si_sdr else ""
        lines.append(f"{'against':17} {peer.reference}: {facts_of_peer}{scores}")
    return "\n".join(lines)


def _scores(si_sdr: dict[str, float]) -> str:
    return ", ".join(f"{name} {ratio:.2f}" for name, ratio in si_sdr.items()) + " dB"


def _spread(spread: Spread) -> str:
    return f"{spread.median:.3g} ({spread.low:.3g} to {spread.high:.3g})"
