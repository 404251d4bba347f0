"""Many files on many machines: recordings through Ray Data, with a loaded separator in each worker.

    recordings --> those that are not finished --map_batches--> workers --> staging --> outputs
                            ^                                                  |
                   the ledger of the folder <------------ records -------------+

A worker that dies is started again, and its recording is separated again; `staging` makes sure that no output is lost
or written twice.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

import audiosep
from audiosep import errors
from audiosep.audio.inputs import check_file
from audiosep.cluster.allocation import Allocation, allocate
from audiosep.cluster.checks import check_here, check_names, check_places
from audiosep.cluster.ledger import REPORT, Ledger, file_state, open_ledger
from audiosep.cluster.ray_session import import_ray, is_of_this_machine, ray_session
from audiosep.cluster.staging import Record, Staging
from audiosep.cluster.workers import (
    ACTIVITY,
    ATTEMPTS,
    RESULT_FIELDS,
    ModelFacts,
    SeparationWorker,
    WorkerSettings,
    inspect_model,
    job_digest,
    unpacked,
)
from audiosep.errors import AudioError, AudioSepError, Cancelled, ModelError
from audiosep.inference.options import Engine, Options
from audiosep.output.batch_report import BatchEvent, BatchReport, FileResult, FinishedFile, Watch
from audiosep.output.output_options import OutputOptions
from audiosep.output.plan import OutputPaths, unseen
from audiosep.output.readable import is_readable
from audiosep.output.recordings import InputFile, find_recordings
from audiosep.progress import Progress, says_stop
from audiosep.query.example import example_samples
from audiosep.query.query import Query, as_queries
from audiosep.separator import Queries
from audiosep.weights.catalogue import MODELS, expand_home

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RayReport(BatchReport):
    """The result of a job with Ray.

    Attributes:
        results: as in `BatchReport`, in the order in which they were finished.
        failures: as in `BatchReport`.
        skipped: files that an earlier run had finished, or whose outputs exist (`skip_existing`).
        path: of the JSON report of all runs into the same folder.
        model: that was used.
        device: that was used.
        precision: that was used.
        workers: number of processes.
    """

    path: Path = Path(REPORT)
    model: str = ""
    device: str = ""
    precision: str = ""
    workers: int = 0


def separate_with_ray(
    inputs: str | Path | Sequence[str | Path],
    queries: Queries | None,
    out_dir: str | Path,
    *,
    model: str | Path = "mini",
    device: str = "auto",
    precision: str = "auto",
    adapter: str | Path | None = None,
    engine: Engine = "torch",
    stems: str | Path | None = None,
    output: OutputOptions = OutputOptions(),
    options: Options = Options(),
    workers: int | None = None,
    cluster: str | None = None,
    begin: Callable[[BatchReport, int], object] | None = None,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> RayReport:
    """Separate files and folders to files with Ray; what an earlier run finished in that folder is not done again.

    A recording counts as finished when it is what it was, was separated by the same weights with the same options, and
    all its outputs are there. On several machines, the recordings, the model and `out_dir` must have the same paths.

    Args:
        inputs: as in `Separator.separate_files`, but not standard input.
        queries: as in `Separator.separate_files`.
        out_dir: as in `Separator.separate_files`, but not standard output.
        model: as in `audiosep.load`.
        device: as in `audiosep.load`.
        precision: as in `audiosep.load`.
        adapter: as in `audiosep.load`.
        engine: as in `audiosep.load`.
        stems: as in `audiosep.load`.
        output: what to write; with `overwrite`, files that are not known to be finished are replaced.
        options: how to separate.
        workers: processes; by default one for each GPU, or where there is none or it is not wanted, for each two CPUs.
        cluster: address of a running Ray cluster, or "auto"; by default $RAY_ADDRESS, else this machine alone. If this
            process is connected to a cluster already, that is used.
        begin: called with the recordings that are not separated, because they are finished or have failed already,
            and with the number of the others.
        progress: called with the fraction of the whole job; returning False cancels.
        watch: called when a recording is finished or has failed.

    Returns:
        What became of each file; the same stands as JSON in the folder.

    Raises:
        DependencyError: Ray is not installed.
        InputError: something that no file could be separated with.
        QueryError: a query that the model cannot take.
        ModelError: as in `audiosep.load`.
        Cancelled: by `progress`. Files that were finished before stay, nothing else does.
    """
    folder = Path(out_dir)
    check_places(inputs, folder, device, workers, output)
    package = import_ray()
    if queries is not None:
        check_names(as_queries(queries))
    settings = WorkerSettings(
        model=_place(model),
        device=device,
        precision=precision,
        engine=engine,
        adapter=None if adapter is None else Path(adapter).resolve(),
        queries=None if queries is None else tuple(_portable(query) for query in as_queries(queries)),
        folder=folder.resolve(),
        output=output,
        options=options,
        stems=None if stems is None else _place(stems),
    )
    found, failures = find_recordings(inputs, folder)
    recordings = [recording for recording in found if is_readable(recording.path, failures, pipes=False)]
    if settings.adapter is not None:
        check_file(settings.adapter)
    if is_of_this_machine(package, cluster):
        check_here(settings)
    job = None
    with open_ledger(folder.resolve(), overwrite=output.overwrite) as ledger:
        if not recordings:
            job = _Run(ledger, folder, settings, _unknown(settings), Allocation(0, 0, 0), [], failures, begin)
            job.close()
            return job.report()
        try:
            with ray_session(cluster, workers) as ray:
                nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
                allocation = allocate(nodes, device, workers, len(recordings))
                facts = _inspect(ray, settings, allocation)
                for text in facts.warnings:
                    logger.warning("%s", text)
                job = _Run(ledger, folder, settings, facts, allocation, recordings, failures, begin)
                job.run(ray, progress, watch)
        finally:
            if job is not None:  # now that no worker is left
                job.close()
    return job.report()


def _place(model: str | Path) -> str | Path:
    """A model as workers with other current folders find it."""
    folder = expand_home(model)
    named = isinstance(model, str) and model in MODELS  # whatever folders there are, as for `locate`
    return folder.resolve() if folder.is_dir() and not named else model


def _unknown(settings: WorkerSettings) -> ModelFacts:
    """What is known of a model that nobody has loaded."""
    return ModelFacts(Path(settings.model).name, settings.device, settings.precision, {}, None, "")


def _portable(query: Query) -> Query:
    """The query with arrays in place of files and tensors, for processes that have neither the file nor the device."""
    audio, embedding = query.audio, query.embedding
    name = query.name if audio is None else query.label  # which may be that of the file
    if audio is not None:
        audio = example_samples(audio, None)
    negative = tuple(map(_portable, query.negatives)) or None
    return dataclasses.replace(query, audio=audio, embedding=_array(embedding), negative=negative, name=name)


def _array(values: Any) -> Any:
    return values.detach().float().cpu().numpy() if isinstance(values, Tensor) else values


def _inspect(ray: Any, settings: WorkerSettings, allocation: Allocation) -> ModelFacts:
    try:
        found = ray.get(ray.remote(**allocation.options)(inspect_model).remote(settings))
    except ray.exceptions.RayError as error:
        raise ModelError(f"no worker can load {settings.model} ({_reason(error)}): has it enough memory?") from error
    if isinstance(found, AudioSepError):
        raise found
    facts: ModelFacts = found
    return facts


class _Run:
    """The recordings of one run: which have to be separated, and the results."""

    def __init__(
        self,
        ledger: Ledger,
        shown: Path,
        settings: WorkerSettings,
        facts: ModelFacts,
        allocation: Allocation,
        recordings: Sequence[InputFile],
        failures: dict[Path, Exception],
        begin: Callable[[BatchReport, int], object] | None,
    ) -> None:
        self._ledger, self._shown = ledger, shown
        self._settings, self._facts, self._allocation = settings, facts, allocation
        self._run = secrets.token_hex(8)
        self._began = time.perf_counter()
        self._failures = failures
        self._results: list[FileResult] = []
        self._skipped: list[FinishedFile] = []
        self._paths: dict[int, Path] = {}
        self._tasks = list(self._plan(recordings))
        if begin is not None:
            begin(BatchReport(failures=dict(failures), skipped=self._skipped), len(self._tasks))

    def _plan(self, recordings: Sequence[InputFile]) -> Iterator[dict[str, Any]]:
        """The tasks of the workers."""
        job = job_digest(self._settings, self._facts)
        done = {r.path: record for r in recordings if (record := self._ledger.done(r.path.resolve(), job))}
        folder = self._ledger.folder
        # Finished outputs keep their names, even if new recordings come before them in the order.
        taken = [folder / output for record in done.values() for output in record["outputs"].values()]
        plan = OutputPaths(folder, self._facts.works, self._settings.output, recordings, taken)
        for index, recording in enumerate(recordings):
            if recording.path in done:
                self._skipped.append(_result(recording.path, done[recording.path], self._shown))
                continue
            try:
                paths = plan.of(recording)
                kept = plan.kept(recording.path, paths) if self._settings.output.skip_existing else frozenset()
            except (AudioSepError, OSError) as error:
                self._failures[recording.path] = unseen(error) if isinstance(error, OSError) else error
                continue
            if kept is None:
                shown = {name: self._shown / path.relative_to(folder) for name, path in paths.items()}
                self._skipped.append(FinishedFile(recording.path, shown))
                continue
            self._paths[index] = recording.path
            path = recording.path.resolve()
            record = {
                "input": str(path),
                "outputs": {name: output.relative_to(folder).as_posix() for name, output in paths.items()},
                "job": job,
                "source": file_state(path),
            }
            staging = str(self._staging(index).folder)
            yield {"index": index, "staging": staging, "record": record, "kept": sorted(kept)}

    def run(self, ray: Any, progress: Progress | None, watch: Watch | None) -> None:
        """Separate the recordings that are not finished.

        Raises:
            Cancelled: by `progress`.
        """

        def take(outcome: dict[str, Any]) -> None:
            path, result = self._take(outcome)
            waiting.discard(outcome["index"])
            if watch is not None:
                watch(BatchEvent(path, len(sizes) - len(waiting), len(sizes), result))

        sizes = {task["index"]: (task["record"]["source"] or [1])[0] or 1 for task in self._tasks}
        waiting, reached, whole = set(sizes), 0, sum(sizes.values())
        settings = dataclasses.replace(self._settings, queries=self._facts.queries)
        reason = "the cluster lost this recording: run again"
        try:
            for outcome in _outcomes(ray, self._allocation, settings, self._tasks) if self._tasks else ():
                take(outcome)
                reached += sizes[outcome["index"]]
                if progress is not None and says_stop(progress(reached / whole)):
                    raise Cancelled("cancelled by the progress callback; nothing half-written is left")
        except ray.exceptions.RayError as error:
            reason = f"Ray ended with an error: {_reason(error)}"
        for index in sorted(waiting):
            take(self._settled(index) or {"index": index, "error": ("", reason)})

    def _settled(self, index: int) -> dict[str, Any] | None:
        """The outcome of a recording that a worker finished before it was lost; None where none did."""
        try:
            record = self._staging(index).settle(overwrite=self._settings.output.overwrite)
        except AudioError as error:
            return {"index": index, "error": (type(error).__name__, str(error))}
        return {"index": index, "record": record} if record else None

    def _staging(self, index: int) -> Staging:
        return self._ledger.staging(f"{self._run}-{index}")

    def _take(self, outcome: dict[str, Any]) -> tuple[Path, FileResult | Exception]:
        """Record the result of a recording."""
        path = self._paths[outcome["index"]]
        for text in outcome.get("warnings", ()):
            logger.warning("%s: %s", path, text)
        if "error" in outcome:
            self._failures[path] = _error(*outcome["error"])
            logger.info("%s failed: %s", path, self._failures[path])
            return path, self._failures[path]
        self._results.append(_result(path, outcome["record"], self._shown))
        return path, self._results[-1]

    def close(self) -> None:
        """Write the report and delete unfinished outputs."""
        document = {
            "version": audiosep.__version__,
            "model": self._facts.model,
            "device": self._facts.device,
            "precision": self._facts.precision,
            "workers": self._allocation.workers,
            "seconds": round(time.perf_counter() - self._began, 3),
        }
        failures = [
            {"input": str(path.resolve()), "type": type(error).__name__, "message": str(error)}
            for path, error in self._failures.items()
        ]
        self._ledger.close(self._run, document, failures)

    def report(self) -> RayReport:
        """The report that the caller gets."""
        facts = self._facts
        return RayReport(
            self._results,
            self._failures,
            skipped=self._skipped,
            path=self._shown / REPORT,
            model=facts.model,
            device=facts.device,
            precision=facts.precision,
            workers=self._allocation.workers,
        )


def _reason(error: Exception) -> str:
    """What an error of Ray says below the traceback of the worker."""
    return str(error).strip().splitlines()[-1]


def _outcomes(
    ray: Any, allocation: Allocation, settings: WorkerSettings, tasks: Sequence[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """The outcomes of tasks, as they are finished."""
    data = ray.data.from_items([{"task": json.dumps(task)} for task in tasks], override_num_blocks=len(tasks))
    data.context.enable_progress_bars = False
    data.context.execution_no_progress_timeout_s = -1  # a recording may take hours
    data.context.max_errored_blocks = -1
    data.context.max_consecutive_actor_init_deaths = ATTEMPTS
    # Ray restarts dead workers and repeats their tasks without limit, so that `Staging.attempt` counts the attempts.
    mapped = data.map_batches(
        SeparationWorker,
        fn_constructor_kwargs={"settings": settings, "threads": allocation.cpus},
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(allocation.workers, len(tasks)), max_tasks_in_flight_per_actor=1),
        **allocation.options,
    )
    for row in mapped.iter_rows():
        yield json.loads(row["outcome"])


def _result(path: Path, record: Record, folder: Path) -> FileResult:
    outputs = {name: folder / output for name, output in record["outputs"].items()}
    activity = {name: unpacked(values) for name, values in record.get(ACTIVITY, {}).items()}  # none of earlier runs
    return FileResult(path, outputs, **{name: record[name] for name in RESULT_FIELDS}, activity=activity)


def _error(kind: str, message: str) -> AudioSepError:
    """The error of a worker, of its own class if that is one of ours."""
    ours = getattr(errors, kind, None)
    if isinstance(ours, type) and issubclass(ours, AudioSepError):
        return ours(message)
    return AudioSepError(f"{kind}: {message}" if kind else message)
