"""Separate files with the options of the command line, and report the results; for `separate` and `stems`."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import audiosep
from audiosep.cli import common
from audiosep.errors import InputError
from audiosep.inference.options import Options
from audiosep.output.output_options import OutputOptions

if TYPE_CHECKING:
    from rich.console import Console

    from audiosep.cluster.jobs import RayReport
    from audiosep.output.batch_report import BatchReport, FileResult
    from audiosep.query.query import Query


_OUTPUT = {
    "format": typer.Option("--format", "-f", metavar="NAME", help="wav, flac, ogg, opus or mp3."),
    "template": typer.Option("--template", metavar="TEXT", help="File names of the outputs."),
    "residual": typer.Option(help="Also write what is left of the mixture."),
    "on_clip": typer.Option(
        help="Where outputs would clip: one gain for all outputs of a file, floats, or saturation."
    ),
    "overwrite": typer.Option("--overwrite", help="Replace outputs that exist."),
    "max_seconds": typer.Option(metavar="SECONDS", help="Refuse recordings longer than this."),
}
"""The fields of `OutputOptions` but `only`, which is an option of `stems`."""

_OPTIONS = {
    "overlap": typer.Option(metavar="SHARE", help="Share of a window that cross-fades with the next, 0 to below 1."),
    "shifts": typer.Option(
        metavar="N", min=0, help="Average over N more passes, shifted in time: slower, a little better."
    ),
    "batch": typer.Option(metavar="N", min=1, help="Windows computed at once [default: 1, on a GPU as many as fit]."),
}
"""The fields of `Options`."""


@dataclass(frozen=True)
class JobOptions:
    """The options of `separate` and `stems`; what they mean in the library: `OutputOptions` and `Options`."""

    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", metavar="FOLDER", help="Folder of the outputs; - writes one target to standard output."
        ),
    ] = "separated"
    output: Annotated[OutputOptions, _OUTPUT] = OutputOptions()
    options: Annotated[Options, _OPTIONS] = Options()
    manifest: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File with inputs: from `audiosep data build`, or text with a path a line."),
    ] = None
    ray: Annotated[
        bool,
        typer.Option("--ray", help="Use Ray: several processes or machines; skip what an earlier run finished."),
    ] = False
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Processes of --ray [default: one per GPU, or one per two CPUs]."),
    ] = None
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Of a running Ray cluster, or auto [default: RAY_ADDRESS, or this machine]."
        ),
    ] = None
    as_json: common.AsJson = False
    quiet: common.Quiet = False
    verbose: common.Verbose = 0


@dataclass(frozen=True)
class _Job:
    """All arguments and options of the command line.

    Attributes:
        inputs: files, folders, or "-".
        queries: None for the stems.
        job: the options of the job, with the targets to write.
        model: which model, and what computes it.
    """

    inputs: Sequence[str]
    queries: Sequence[Query] | None
    job: JobOptions
    model: common.ModelOptions


def run(
    inputs: Sequence[str],
    queries: Sequence[Query] | None,
    job: JobOptions,
    model: common.ModelOptions,
    *,
    only: Sequence[str] | None = None,
) -> int:
    """Separate files and report what became of them.

    Args:
        inputs: files, folders, or "-".
        queries: None for the stems.
        job: the options of the job.
        model: which model, and what computes it.
        only: the targets to write; None for all.

    Returns:
        The exit code: 0 when every file was separated, 1 when some failed.

    Raises:
        AudioSepError: something that no file could be separated with.
    """
    terminal = common.console()
    common.logs_to(terminal, job.verbose, job.quiet)
    _check_out(inputs, queries, only, job)
    _check_ray(job, model)
    work = _Job(inputs, queries, replace(job, output=replace(job.output, only=only)), model)
    report, about = _with_ray(work, terminal) if job.ray else _here(work, terminal)
    if job.as_json:
        common.emit(_document(report, about))
    else:
        _show(report, job, terminal)
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


def _check_out(
    inputs: Sequence[str], queries: Sequence[Query] | None, only: Sequence[str] | None, job: JobOptions
) -> None:
    """Refuse an --out that no file of the job could be written to.

    Raises:
        InputError: names what to give instead.
    """
    if job.out != "-":
        if Path(job.out).exists() and not Path(job.out).is_dir():
            raise InputError(f"--out {job.out} is a file: name a folder")
        return
    if job.as_json:
        raise InputError("standard output cannot carry both audio (--out -) and --json: give --out a folder")
    targets = only if queries is None else queries
    if targets is None or len(targets) != 1 or len(inputs) != 1:
        raise InputError("--out - carries one target of one recording: give one query or one --only, or name a folder")


def _check_ray(job: JobOptions, model: common.ModelOptions) -> None:
    """Refuse options that need --ray, or do not go with it.

    Raises:
        InputError: names them.
    """
    if job.ray and model.threads is not None:
        raise InputError("--ray divides the CPUs among its workers: give --workers instead of --threads")
    if not job.ray and (job.workers is not None or job.cluster is not None):
        raise InputError("--workers and --cluster are for --ray: add it")


def _here(work: _Job, terminal: Console) -> tuple[BatchReport, dict[str, Any]]:
    """Separate in this process; the report, and the head of the JSON document."""
    separator = work.model.load()
    began = time.perf_counter()
    watched = terminal.is_terminal and not work.job.quiet
    with common.progress_bar(terminal, "Separating", work.job.quiet) as progress:
        report = separator.separate_files(
            work.inputs,
            work.queries,
            work.job.out,
            output=work.job.output,
            options=work.job.options,
            progress=progress if watched else None,  # else the files need not be measured beforehand
        )
    return report, {
        "model": separator.name,
        "device": str(separator.device),
        "precision": separator.precision,
        "engine": separator.engine,
        "seconds": round(time.perf_counter() - began, 3),
    }


def _with_ray(work: _Job, terminal: Console) -> tuple[RayReport, dict[str, Any]]:
    """Separate in the workers of a Ray cluster; the report, and the head of the JSON document."""
    from audiosep.cluster.jobs import separate_with_ray

    job, model = work.job, work.model
    began = time.perf_counter()
    # Ray reports the death of a worker on standard output, which is for paths or JSON.
    with common.progress_bar(terminal, "Separating", job.quiet) as progress, contextlib.redirect_stdout(sys.stderr):
        report = separate_with_ray(
            work.inputs,
            work.queries,
            job.out,
            model=model.model,
            device=model.device,
            precision=model.precision,
            adapter=model.adapter,
            engine=model.engine,
            output=job.output,
            options=job.options,
            workers=job.workers,
            cluster=job.cluster,
            progress=progress,
        )
    if report.skipped and not job.quiet:
        terminal.print(f"{len(report.skipped)} files were finished by an earlier run")
    return report, {
        "model": report.model,
        "device": report.device,
        "precision": report.precision,
        "engine": model.engine,
        "workers": report.workers,
        "seconds": round(time.perf_counter() - began, 3),
        "report": str(report.path),
        "skipped": [_entry(result) for result in report.skipped],
    }


def _show(report: BatchReport, job: JobOptions, terminal: Console) -> None:
    """Write the paths of the outputs to standard output, everything else to standard error."""
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
