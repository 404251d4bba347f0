"""Many files on many machines: recordings through Ray Data, with one warm separator in each worker.

    recordings --plan--> what is not done yet --map_batches--> workers --> staging --> outputs
                              ^                                               |
                        the ledger of the folder <------- records ------------+

A worker that dies is started again, and its recording is done again; see `staging` for why nothing is lost or doubled.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

import audiosep
from audiosep import errors
from audiosep.audio import read_audio
from audiosep.cluster.ledger import REPORT, Ledger, ledger, source
from audiosep.cluster.session import Crew, crew, import_ray, session
from audiosep.cluster.staging import Record, Staging
from audiosep.cluster.workers import ATTEMPTS, TOLD, About, Settings, Worker, digest, inspect
from audiosep.errors import AudioSepError, Cancelled, InputError, ModelError
from audiosep.inference.options import Engine, Options, Progress
from audiosep.output.batch import OutputPaths
from audiosep.output.options import OutputOptions
from audiosep.output.recordings import Recording, find_recordings
from audiosep.output.report import BatchReport, FileResult
from audiosep.query.query import Query
from audiosep.query.resolve import as_queries
from audiosep.separator import Queries

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RayReport(BatchReport):
    """What became of each file.

    Attributes:
        results, failures: as in `BatchReport`; results stand in the order in which they were finished.
        skipped: files that an earlier run had finished.
        path: of the report as JSON, over all runs into the same folder.
        model: that was used.
        device: that was used.
        precision: that was used.
        workers: number of processes.
    """

    skipped: list[FileResult] = field(default_factory=list)
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
    output: OutputOptions = OutputOptions(),
    options: Options = Options(),
    workers: int | None = None,
    cluster: str | None = None,
    progress: Progress | None = None,
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
        output: what to write; with `overwrite`, files that are not known to be finished are replaced.
        options: how to separate.
        workers: processes; by default one for each GPU, or where there is none or it is not wanted, for each two CPUs.
        cluster: address of a running Ray cluster, or "auto"; by default $RAY_ADDRESS, else this machine alone. If this
            process is connected to a cluster already, that is used.
        progress: called with the fraction of the whole job; returning False cancels.

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
    _check(inputs, folder, device, workers)
    import_ray()
    settings = Settings(
        model=Path(model).resolve() if Path(model).is_dir() else model,
        device=device,
        precision=precision,
        engine=engine,
        adapter=None if adapter is None else Path(adapter).resolve(),
        queries=None if queries is None else tuple(_portable(query) for query in as_queries(queries)),
        folder=folder.resolve(),
        output=output,
        options=options,
    )
    recordings, failures = find_recordings(inputs, folder)
    job = None
    with ledger(folder.resolve()) as known:
        try:
            with session(cluster, workers) as ray:
                nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
                hired = crew(nodes, device, workers, len(recordings))
                about = _inspect(ray, settings, hired)
                job = _Job(known, folder, settings, about, hired, recordings, failures)
                job.run(ray, progress)
        finally:
            if job is not None:  # now that no worker is left
                job.close()
    return job.report()


def _check(inputs: str | Path | Sequence[str | Path], folder: Path, device: str, workers: int | None) -> None:
    """Refuse what cannot be done by several processes."""
    items = [Path(item) for item in ([inputs] if isinstance(inputs, str | Path) else inputs)]
    if Path("-") in [folder, *items]:
        raise InputError("workers do not share standard input and output: name files, and a folder for the outputs")
    if device.startswith("cuda:"):
        raise InputError(f"Ray gives each worker a GPU of its own: use device 'cuda', not {device!r}")
    if workers is not None and workers < 1:
        raise InputError(f"workers must be at least 1, got {workers}")


def _portable(query: Query) -> Query:
    """The same query, where neither the example's file nor the device of a tensor need be known."""
    audio, embedding = query.audio, query.embedding
    if isinstance(audio, str | Path):
        audio = read_audio(audio)
    elif isinstance(audio, tuple | list) and len(audio) == 2 and np.ndim(audio[1]) == 0:
        audio = (_array(audio[0]), int(audio[1]))
    negative = tuple(map(_portable, query.negatives))
    return dataclasses.replace(
        query, audio=_array(audio), embedding=_array(embedding), negative=negative or None, name=query.label
    )


def _array(values: Any) -> Any:
    return values.detach().float().cpu().numpy() if isinstance(values, Tensor) else values


def _inspect(ray: Any, settings: Settings, hired: Crew) -> About:
    try:
        answer = ray.get(ray.remote(**hired.options)(inspect).remote(settings))
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ModelError(f"no worker can load {settings.model} ({reason}): has it enough memory?") from error
    if isinstance(answer, AudioSepError):
        raise answer
    about: About = answer
    return about


class _Job:
    """The recordings of one run: which are to be done, and what became of them."""

    def __init__(
        self,
        known: Ledger,
        shown: Path,
        settings: Settings,
        about: About,
        hired: Crew,
        recordings: Sequence[Recording],
        failures: dict[Path, Exception],
    ) -> None:
        self._known, self._shown = known, shown
        self._settings, self._about, self._hired = settings, about, hired
        self._run = secrets.token_hex(8)
        self._began = time.perf_counter()
        self._failures = failures
        self._results: list[FileResult] = []
        self._skipped: list[FileResult] = []
        self._paths: dict[int, Path] = {}
        self._tasks = list(self._plan(recordings))

    def _plan(self, recordings: Sequence[Recording]) -> Iterator[dict[str, Any]]:
        """What the workers are to do."""
        job = digest(self._settings, self._about)
        done = {r.path: record for r in recordings if (record := self._known.done(r.path.resolve(), job))}
        folder = self._known.folder
        # What is done keeps its names, also when other recordings have come before it.
        taken = [folder / output for record in done.values() for output in record["outputs"].values()]
        plan = OutputPaths(folder, self._about.outputs, self._settings.output, recordings, taken)
        for index, recording in enumerate(recordings):
            if recording.path in done:
                self._skipped.append(_result(recording.path, done[recording.path], self._shown))
                continue
            try:
                paths = plan.of(recording)
            except AudioSepError as error:
                self._failures[recording.path] = error
                continue
            self._paths[index] = recording.path
            path = recording.path.resolve()
            record = {
                "input": str(path),
                "outputs": {name: output.relative_to(folder).as_posix() for name, output in paths.items()},
                "job": job,
                "source": source(path),
            }
            yield {"index": index, "staging": str(self._staging(index).folder), "record": record}

    def run(self, ray: Any, progress: Progress | None) -> None:
        """Do what is to be done.

        Raises:
            Cancelled: by `progress`.
        """
        sizes = {task["index"]: (task["record"]["source"] or [1])[0] or 1 for task in self._tasks}
        waiting, reached = set(sizes), 0
        told = dataclasses.replace(self._settings, queries=self._about.queries)
        reason = "the cluster has lost it: run again"
        try:
            for outcome in _outcomes(ray, self._hired, told, self._tasks) if self._tasks else ():
                self._take(outcome)
                waiting.discard(outcome["index"])
                reached += sizes[outcome["index"]]
                if progress is not None and progress(reached / sum(sizes.values())) is False:
                    raise Cancelled("cancelled by the progress callback; nothing half-written is left")
        except ray.exceptions.RayError as error:
            reason = f"the cluster gave up: {error}"
        for index in sorted(waiting):
            record = self._staging(index).settle()
            self._take({"index": index, "record": record} if record else {"index": index, "error": ("", reason)})

    def _staging(self, index: int) -> Staging:
        return self._known.staging(f"{self._run}-{index}")

    def _take(self, outcome: dict[str, Any]) -> None:
        """Remember what became of a recording."""
        path = self._paths[outcome["index"]]
        for text in outcome.get("warnings", ()):
            logger.warning("%s: %s", path, text)
        if "error" in outcome:
            self._failures[path] = _error(*outcome["error"])
            logger.info("%s failed: %s", path, self._failures[path])
        else:
            self._results.append(_result(path, outcome["record"], self._shown))

    def close(self) -> None:
        """Write the report; nothing is left in the making."""
        document = {
            "version": audiosep.__version__,
            "model": self._about.model,
            "device": self._about.device,
            "precision": self._about.precision,
            "workers": self._hired.workers,
            "seconds": round(time.perf_counter() - self._began, 3),
        }
        failures = [
            {"input": str(path.resolve()), "type": type(error).__name__, "message": str(error)}
            for path, error in self._failures.items()
        ]
        self._known.close(self._run, document, failures)

    def report(self) -> RayReport:
        """For the caller."""
        about = self._about
        return RayReport(
            self._results,
            self._failures,
            skipped=self._skipped,
            path=self._shown / REPORT,
            model=about.model,
            device=about.device,
            precision=about.precision,
            workers=self._hired.workers,
        )


def _outcomes(ray: Any, hired: Crew, settings: Settings, tasks: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each task's outcome, as they come."""
    data = ray.data.from_items([{"task": json.dumps(task)} for task in tasks], override_num_blocks=len(tasks))
    data.context.enable_progress_bars = False
    data.context.execution_no_progress_timeout_s = -1  # a recording may take hours
    data.context.max_errored_blocks = -1
    data.context.max_consecutive_actor_init_deaths = ATTEMPTS
    # Ray starts workers that die again, and gives them their task again, without end: they count the attempts.
    mapped = data.map_batches(
        Worker,
        fn_constructor_kwargs={"settings": settings, "threads": hired.cpus},
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(hired.workers, len(tasks)), max_tasks_in_flight_per_actor=1),
        **hired.options,
    )
    for row in mapped.iter_rows():
        yield json.loads(row["outcome"])


def _result(path: Path, record: Record, folder: Path) -> FileResult:
    outputs = {name: folder / output for name, output in record["outputs"].items()}
    return FileResult(path, outputs, **{name: record[name] for name in TOLD})


def _error(kind: str, message: str) -> AudioSepError:
    """A worker's error: of its class, where that is one of ours."""
    ours = getattr(errors, kind, None)
    if isinstance(ours, type) and issubclass(ours, AudioSepError):
        return ours(message)
    return AudioSepError(f"{kind}: {message}" if kind else message)
