"""Separate files with the options of the command line, and report the results; for `separate` and `stems`."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiosep.cli import common, outputs
from audiosep.cli.job_options import JobOptions
from audiosep.cli.reporting import Reporter
from audiosep.cli.several import load_for
from audiosep.cli.standard_error import Terminal, progress_bar
from audiosep.errors import InputError, ModelError
from audiosep.inference.options import Options
from audiosep.weights.catalogue import expand_home

if TYPE_CHECKING:
    from audiosep.cluster.jobs import RayReport
    from audiosep.output.batch_report import BatchReport
    from audiosep.output.plan import Plan
    from audiosep.query.query import Query


@dataclass(frozen=True)
class _Job:
    """All arguments and options of the command line.

    Attributes:
        inputs: files, folders, or "-".
        queries: None for the stems.
        job: the options of the job, with the targets to write.
        model: which model, and what computes it.
        stems_model: another model, whose stems answer some of the queries; None where there is none.
        configured: whether the model of the stems is named by the user's configuration file alone.
    """

    inputs: Sequence[str]
    queries: Sequence[Query] | None
    job: JobOptions
    model: common.ModelOptions
    stems_model: str | None
    configured: bool


def run(
    inputs: Sequence[str],
    queries: Sequence[Query] | None,
    job: JobOptions,
    model: common.ModelOptions,
    *,
    only: Sequence[str] | None = None,
    by_words: bool = False,
) -> int:
    """Separate files and report what became of them.

    Args:
        inputs: files, folders, or "-".
        queries: None for the stems.
        job: the options of the job.
        model: which model, and what computes it.
        only: the targets to write; None for all.
        by_words: whether queries for vocals, drums and bass are taken as words, and not by the model's stems.

    Returns:
        The exit code: 0 when every file was separated, 1 when some failed.

    Raises:
        AudioSepError: something that no file could be separated with.
    """
    if not job.out:
        raise InputError("--out is empty: perhaps a variable of the shell is not set")
    job = replace(job, out=str(expand_home(job.out)))
    _check_out(inputs, queries, only, job)
    _check_ray(job, model)
    _check_contradictions(job, by_words)
    output, options = replace(job.output, only=only), replace(job.options, stem_head=not by_words)
    job = replace(job, output=output, options=options)
    stems_model = _stems_model(job, queries, model)
    configured = stems_model is not None and job.stems_model is None
    if stems_model is not None and queries is None:
        if model.adapter is not None:
            raise InputError(f"--adapter changes --model, but {stems_model} gives the stems: leave one of them out")
        model, stems_model = replace(model, model=stems_model), None  # the model of the words has nothing to do
    return _run(_Job(inputs, queries, job, model, stems_model, configured))


def _run(work: _Job) -> int:
    job = work.job
    terminal = Terminal()
    common.logs_to(terminal, job.verbose, job.quiet)
    reporter = Reporter(
        terminal,
        paths=job.out != "-",
        quiet=job.quiet,
        as_json=job.as_json,
        json_lines=job.json_lines,
        explain=job.explain,
    )
    for text, names in {} if job.quiet else _lists(work.queries or ()).items():
        several = " ".join(f'"{name}"' for name in names)
        terminal.print(f"{text}: taken for one sound; for each of them write {several}, or -q for each")
    plan = None if job.ray else _plan(work)
    if plan is not None and not plan.tasks:
        plan.remove_leftovers()
        reporter.begin(plan.skipped, plan.failures, 0)
        report, about = plan.report(), {"model": work.model.model}
    else:
        try:
            report, about = _with_ray(work, reporter, terminal) if job.ray else _here(work, plan, reporter, terminal)
        except KeyboardInterrupt:
            reporter.cancelled()
            return common.CANCELLED
    reporter.end(report, about)
    return common.FAILED if report.failures else common.DONE


def _lists(queries: Sequence[Query]) -> dict[str, list[str]]:
    """Queries that seem to be several sounds with commas between them -> the names of these."""
    from audiosep.hearing.vocabulary import vocabulary
    from audiosep.query.stem_words import stem_of

    parts = {query.text: [part.strip() for part in query.text.split(",")] for query in queries if query.text}
    known = vocabulary().names
    return {
        text: names
        for text, names in parts.items()
        if len(names) > 1 and all(name.casefold() in known or stem_of(name) for name in names)
    }


def _stems_model(job: JobOptions, queries: Sequence[Query] | None, model: common.ModelOptions) -> str | None:
    """The specialist for stems, where one is wanted and something is asked of it.

    Raises:
        ConfigError: the user's configuration file is damaged.
        ModelError: the specialist is not on this machine, or has no stems. One that only the configuration file names
            is missed where something is asked of it.
    """
    from audiosep.weights.catalogue import MODELS, locate
    from audiosep.weights.model_config import stated_stems
    from audiosep.weights.stem_models import SIX

    wanted = model.stems_from(job.stems_model)
    if wanted is None:
        return None
    configured = job.stems_model is None
    try:
        with common.stems_of_configuration(configured):
            stems = stated_stems(locate(wanted))
    except ModelError:
        if configured and not _asks_for(queries, MODELS[wanted].stems if wanted in MODELS else SIX, job.options):
            return None
        raise
    return wanted if stems is None or _asks_for(queries, stems, job.options) else None


def _asks_for(queries: Sequence[Query] | None, stems: Sequence[str], options: Options) -> bool:
    """Whether a model with these stems has something to do."""
    from audiosep.query.stem_words import stems_holding, stems_named

    if queries is None:
        return True
    return options.stem_head is not False and bool(stems_named(queries, stems) or stems_holding(queries, stems))


def _plan(work: _Job) -> Plan | None:
    """What the job will do, known before the model is loaded; None where only the model knows its targets.

    Raises:
        AudioSepError: something that no file could be separated with.
    """
    from audiosep.audio.inputs import check_file
    from audiosep.output.plan import plan_batch
    from audiosep.query.work_digest import works_of
    from audiosep.weights.catalogue import locate
    from audiosep.weights.digest import beside, model_digest
    from audiosep.weights.model_config import stated_stems

    folder = locate(work.model.model)
    for query in work.queries or ():
        if isinstance(query.audio, Path):
            check_file(query.audio)
    if work.model.adapter is not None:
        check_file(work.model.adapter)
    stems = stated_stems(folder)
    targets = stems if work.queries is None else work.queries
    if targets is None or _repeat_a_stem(work):
        return None
    specialist = None if work.stems_model is None else model_digest(locate(work.stems_model))
    model = beside(model_digest(folder, work.model.adapter), specialist)
    works = works_of(targets, model, work.job.output, work.job.options)
    return plan_batch(works, work.inputs, work.job.out, work.job.output, stems=work.queries is None)


def _repeat_a_stem(work: _Job) -> bool:
    """Whether two queries name one stem, which then counts once, unless the model answers them by words."""
    from audiosep.query.stem_words import same_stem, stems_named
    from audiosep.weights.stem_models import SIX

    if work.queries is None or work.job.options.stem_head is False:
        return False
    return bool(same_stem(work.queries, stems_named(work.queries, SIX)))


def _check_out(
    inputs: Sequence[str], queries: Sequence[Query] | None, only: Sequence[str] | None, job: JobOptions
) -> None:
    """Refuse an --out that no file of the job could be written to, and two kinds of reports.

    Raises:
        InputError: names what to give instead.
    """
    from audiosep.output.names import check_out

    if job.as_json and job.json_lines:
        raise InputError("--json writes one document and --json-lines many: choose one")
    if job.out != "-":
        outputs.check_folder(Path(job.out))
        check_out(Path(job.out))
        return
    if sys.stdout is not None and sys.stdout.isatty():
        raise InputError("--out - would write sound to the terminal: pipe it into a player or a file, or name a folder")
    if job.output.video:
        raise InputError("a video does not go to standard output: give --out a folder")
    if job.as_json or job.json_lines:
        raise InputError("standard output cannot carry both audio (--out -) and JSON: give --out a folder")
    targets = only if queries is None else queries
    one = job.output.rest_only or job.output.tracks or (targets is not None and len(targets) == 1)
    if len(inputs) != 1 or not one:
        raise InputError("--out - carries one target of one recording: give one query or one --only, or name a folder")


def _check_ray(job: JobOptions, model: common.ModelOptions) -> None:
    """Refuse options that need --ray, or do not go with it.

    Raises:
        InputError: names them.
    """
    if job.ray and model.threads is not None:
        raise InputError("--ray divides the CPUs among its workers: give --workers instead of --threads")
    if job.ray and job.jobs != 1:
        raise InputError("--ray has --workers instead of --jobs: give one of them")
    if job.ray and model.sounds is not None:
        raise InputError("--ray does not know names of your own: give recordings of the sounds instead (--like FILE)")
    if job.ray and job.explain:
        raise InputError("--ray gives no explanations: explain one recording without it, or leave --explain out")
    if not job.ray and (job.workers is not None or job.cluster is not None):
        raise InputError("--workers and --cluster are for --ray: add it")


def _check_contradictions(job: JobOptions, by_words: bool) -> None:
    """Refuse options of which one leaves another nothing to do.

    Raises:
        InputError: names them.
    """
    if job.output.rest_only and not job.output.residual:
        raise InputError("--rest writes what is left, and --no-residual leaves it out: give one of them")
    if by_words and job.stems_model not in (None, common.NO_MODEL):
        raise InputError("--by-words takes no stems, and --stems-model names their model: give one of them")


def _here(work: _Job, plan: Plan | None, reporter: Reporter, terminal: Terminal) -> tuple[BatchReport, dict[str, Any]]:
    """Separate in this process; the report, and the head of the JSON document."""
    job = work.job
    with common.stems_of_configuration(work.configured):
        separator, jobs = load_for(job.jobs, work.model, stems=work.stems_model)
    began = time.perf_counter()
    stems = separator.stems_for(work.queries) if work.queries is not None and job.options.stem_head else {}
    if stems and not job.quiet:
        terminal.print(
            f"{', '.join(stems)}: by the stems of {(separator.specialist or separator).name}, which do this better "
            "than words (--by-words: by words)",
        )
    holding = separator.stems_holding(work.queries) if work.queries is not None and job.options.stem_head else {}
    for name, stem in {} if job.quiet else holding.items():
        terminal.print(f"{name}: separated from the stem {stem} (--by-words: from the recording)")
    plan = plan or separator.plan_files(work.inputs, work.queries, job.out, job.output, job.options)
    reporter.begin(plan.skipped, plan.failures, len(plan.tasks))
    with progress_bar(terminal, "Separating", job.quiet) as reporter.bar:
        report = separator.separate_planned(
            plan,
            work.queries,
            output=job.output,
            options=job.options,
            jobs=jobs,
            progress=reporter.progress if reporter.needs_progress else None,
            watch=reporter.watch,
        )
    return report, {
        "model": separator.name,
        "device": str(separator.device),
        "precision": separator.precision,
        "engine": separator.engine,
        "jobs": jobs,
        "seconds": round(time.perf_counter() - began, 3),
    }


def _with_ray(work: _Job, reporter: Reporter, terminal: Terminal) -> tuple[RayReport, dict[str, Any]]:
    """Separate in the workers of a Ray cluster; the report, and the head of the JSON document."""
    from audiosep.cluster.jobs import separate_with_ray

    job, model = work.job, work.model
    began = time.perf_counter()
    with progress_bar(terminal, "Separating", job.quiet) as reporter.bar, _diverted_output() as told:
        report = separate_with_ray(
            work.inputs,
            work.queries,
            job.out,
            model=model.model,
            stems=work.stems_model,
            device=model.device,
            precision=model.precision,
            adapter=model.adapter,
            engine=model.engine,
            output=job.output,
            options=job.options,
            workers=job.workers,
            cluster=job.cluster,
            begin=told(lambda found, total: reporter.begin(found.skipped, found.failures, total)),
            progress=told(reporter.progress) if reporter.needs_progress else None,
            watch=told(reporter.watch),
        )
    return report, {
        "model": report.model,
        "device": report.device,
        "precision": report.precision,
        "engine": model.engine,
        "workers": report.workers,
        "seconds": round(time.perf_counter() - began, 3),
        "report": str(report.path),
    }


@contextlib.contextmanager
def _diverted_output() -> Iterator[Callable[[Callable[..., None]], Callable[..., None]]]:
    """Send standard output to standard error: Ray reports the death of a worker there, where paths or JSON go.

    Yields:
        What makes a function of ours write to standard output nevertheless.
    """
    stdout = sys.stdout

    def told(tell: Callable[..., None]) -> Callable[..., None]:
        def tell_there(*given: Any) -> None:
            with contextlib.redirect_stdout(stdout):
                tell(*given)

        return tell_there

    with contextlib.redirect_stdout(sys.stderr):
        yield told
