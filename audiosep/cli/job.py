"""Separate files as the command line asked, and report it: what `separate` and `stems` share."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import audiosep
from audiosep.cli import common
from audiosep.errors import InputError
from audiosep.output.files import OnClip
from audiosep.output.names import TEMPLATE

if TYPE_CHECKING:
    from rich.console import Console

    from audiosep.cluster.jobs import RayReport
    from audiosep.output.batch import BatchReport, FileResult
    from audiosep.query.query import Query
    from audiosep.separator import Separator

__all__ = ["TEMPLATE", "Job", "run"]

Out = Annotated[
    str,
    typer.Option("--out", "-o", metavar="FOLDER", help="Where outputs go; - for one target to standard output."),
]
Format = Annotated[
    str | None, typer.Option("--format", "-f", metavar="NAME", help="wav, flac, ogg, opus or mp3 [default: wav].")
]
Template = Annotated[str, typer.Option("--template", metavar="TEXT", help="Names of the outputs.")]
Residual = Annotated[bool, typer.Option(help="Also write what is left of the mixture.")]
Clip = Annotated[
    OnClip,
    typer.Option(
        help="Where outputs would clip: one gain for all outputs of a file, float samples, or saturation.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
Overlap = Annotated[
    float | None,
    typer.Option(metavar="SHARE", help="Share of a window that cross-fades with the next, 0 to below 1 (0.02)."),
]
Shifts = Annotated[
    int, typer.Option(metavar="N", min=0, help="Average over N more passes, shifted in time: slower, a little better.")
]
Batch = Annotated[int | None, typer.Option(metavar="N", min=1, help="Windows computed at once.")]
MaxSeconds = Annotated[float | None, typer.Option(metavar="SECONDS", help="Refuse recordings longer than this.")]
Adapter = Annotated[str | None, typer.Option(metavar="FILE", help="Made by `audiosep finetune`.")]
Manifest = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Inputs: a manifest of `audiosep data build`, or text with a path a line."),
]
Ray = Annotated[
    bool,
    typer.Option("--ray", help="Use Ray: several processes or machines, skipping what an earlier run has finished."),
]
Workers = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Processes of --ray [default: one a GPU, or one for two CPUs].")
]
Cluster = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Of a running Ray cluster, or auto [default: RAY_ADDRESS, or this machine]."),
]


@dataclass(frozen=True)
class Job:
    """Everything the command line said."""

    inputs: Sequence[str]
    queries: Sequence[Query] | None
    out: str
    format: str | None
    template: str
    residual: bool
    only: Sequence[str] | None
    on_clip: OnClip
    overwrite: bool
    overlap: float | None
    shifts: int
    batch: int | None
    max_seconds: float | None
    model: str
    adapter: str | None
    device: str
    precision: str
    threads: int | None
    as_json: bool
    quiet: bool
    verbose: int
    ray: bool = False
    workers: int | None = None
    cluster: str | None = None


def run(job: Job) -> int:
    """Do the job.

    Returns:
        The exit code: 0 when every file was separated, 1 when some failed.
    """
    terminal = common.console()
    common.logs_to(terminal, job.verbose, job.quiet)
    _check_out(job)
    _check_ray(job)
    report, about = _with_ray(job, terminal) if job.ray else _here(job, terminal)
    if job.as_json:
        common.emit(_document(report, about))
    else:
        _tell(report, job, terminal)
    return common.FAILED if report.failures else common.DONE


def read_inputs(path: Path) -> list[str]:
    """The recordings that a manifest names, relative ones starting at its folder.

    Raises:
        InputError: it cannot be read, or a line is neither a path nor a clip in a file of its own.
    """
    inputs = []
    try:
        # At line breaks only: str.splitlines also breaks at characters that JSON leaves in captions.
        lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n")
    except OSError as error:
        raise InputError(f"--manifest {path}: cannot be read ({error.strerror})") from error
    for number, text in enumerate(lines, 1):
        name = line = text.removesuffix("\r")
        if line.startswith("{"):
            try:
                clip = json.loads(line)
                name = clip["path"]
            except (ValueError, KeyError) as error:
                raise InputError(f"--manifest {path}, line {number}: no clip with a path ({error})") from error
            if clip.get("member"):
                raise InputError(f"--manifest {path}, line {number}: {name} is an archive: unpack it first")
        if name.strip():
            inputs.append(str(path.parent / name))
    if not inputs:
        raise InputError(f"--manifest {path}: names no recording")
    return inputs


def _check_out(job: Job) -> None:
    """Refuse an --out that no file of the job could be written to.

    Raises:
        InputError: tells what to give instead.
    """
    if job.out != "-":
        if Path(job.out).exists() and not Path(job.out).is_dir():
            raise InputError(f"--out {job.out} is a file: name a folder")
        return
    if job.as_json:
        raise InputError("standard output cannot carry both audio (--out -) and --json: give --out a folder")
    wanted = job.only if job.queries is None else job.queries
    if wanted is None or len(wanted) != 1 or len(job.inputs) != 1:
        raise InputError("--out - carries one target of one recording: give one query or one --only, or name a folder")


def _check_ray(job: Job) -> None:
    """Refuse options that need --ray, or do not go with it.

    Raises:
        InputError: names them.
    """
    if job.ray and job.threads is not None:
        raise InputError("--ray shares the CPUs out among its workers: give --workers instead of --threads")
    if not job.ray and (job.workers is not None or job.cluster is not None):
        raise InputError("--workers and --cluster are for --ray: add it")


def _here(job: Job, terminal: Console) -> tuple[BatchReport, dict[str, Any]]:
    """In this process; what the document says of it."""
    from audiosep.api import load  # only now: it loads torch
    from audiosep.inference.threads import use_threads

    use_threads(job.threads)
    separator = load(job.model, job.device, job.precision, job.adapter)
    began = time.perf_counter()
    report = _separate(job, separator, terminal)
    seconds = round(time.perf_counter() - began, 3)
    device, precision = separator.where, str(separator.precision)
    return report, {"model": separator.name, "device": device, "precision": precision, "seconds": seconds}


def _options(job: Job) -> dict[str, Any]:
    """What `separate_files` takes, with Ray as without."""
    names = ("format", "template", "only", "on_clip", "overwrite", "overlap", "shifts", "batch", "max_seconds")
    return {name: getattr(job, name) for name in names} | {"residual": job.residual and job.out != "-"}


def _with_ray(job: Job, terminal: Console) -> tuple[RayReport, dict[str, Any]]:
    """In the workers of a Ray cluster; what the document says of it."""
    from audiosep.cluster.jobs import separate_files

    began = time.perf_counter()
    # Ray reports the death of a worker on standard output, which is for paths or JSON.
    with common.progress_bar(terminal, "Separating", job.quiet) as progress, contextlib.redirect_stdout(sys.stderr):
        report = separate_files(
            list(job.inputs),
            None if job.queries is None else list(job.queries),
            job.out,
            model=job.model,
            device=job.device,
            precision=job.precision,
            adapter=job.adapter,
            **_options(job),
            workers=job.workers,
            cluster=job.cluster,
            progress=progress,
        )
    if report.skipped and not job.quiet:
        terminal.print(f"{len(report.skipped)} files were finished by an earlier run")
    about = {name: getattr(report, name) for name in ("model", "device", "precision", "workers")}
    skipped = [_entry(result) for result in report.skipped]
    return report, {
        **about,
        "seconds": round(time.perf_counter() - began, 3),
        "report": str(report.path),
        "skipped": skipped,
    }


def _separate(job: Job, separator: Separator, terminal: Console) -> BatchReport:
    watched = terminal.is_terminal and not job.quiet
    with common.progress_bar(terminal, "Separating", job.quiet) as progress:
        return separator.separate_files(
            list(job.inputs),
            None if job.queries is None else list(job.queries),
            job.out,
            **_options(job),
            progress=progress if watched else None,  # else no file need be measured beforehand
        )


def _tell(report: BatchReport, job: Job, terminal: Console) -> None:
    """Paths of the outputs on standard output, everything else on standard error."""
    for result in report.results:
        if job.out != "-":
            for path in result.outputs.values():
                print(path)
        if not job.quiet:
            for remark in _remarks(result):
                terminal.print(f"{result.input.name}: {remark}", markup=False)
    for path, error in report.failures.items():
        where = "" if str(path) in str(error) else f"{path}: "
        terminal.print(f"audiosep: {where}{error}", markup=False)
    if report.failures:
        total = len(report.failures) + len(report.results)
        terminal.print(f"audiosep: {len(report.failures)} of {total} files failed", markup=False)


def _remarks(result: FileResult) -> Iterator[str]:
    if result.presence is not None:
        yield "present: " + ", ".join(f"{name} {score:.0%}" for name, score in result.presence.items())
    if result.gain != 1.0:
        yield f"all outputs were multiplied by {result.gain:.4f} so that none clips (--on-clip float keeps the level)"
    if result.clipped:
        yield f"{result.clipped} samples were saturated (--on-clip gain or float avoids it)"


def _document(report: BatchReport, about: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": audiosep.__version__,
        **about,
        "results": [_entry(result) for result in report.results],
        "failures": [{"input": str(path), **common.describe(error)} for path, error in report.failures.items()],
    }


def _entry(result: FileResult) -> dict[str, Any]:
    return {
        "input": str(result.input),
        "outputs": {name: str(path) for name, path in result.outputs.items()},
        "presence": result.presence,
        "gain": result.gain,
        "clipped": result.clipped,
        "samples": result.samples,
        "sample_rate": result.sample_rate,
        "channels": result.channels,
    }
