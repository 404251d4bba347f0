"""What runs in the worker processes of a Ray job: a loaded separator that gets one recording after the other."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audiosep.api import load
from audiosep.cluster.staging import Record, Staging
from audiosep.errors import AudioSepError
from audiosep.hearing.activity import Activity
from audiosep.hearing.spans import Span
from audiosep.inference.options import Engine, Options
from audiosep.inference.threads import available_cpus, use_threads
from audiosep.output.batch_report import BatchReport
from audiosep.output.output_options import OutputOptions
from audiosep.output.plan import works_of_outputs
from audiosep.query.query import Query
from audiosep.query.resolve import resolve
from audiosep.query.work_digest import described
from audiosep.separator import Separator

ATTEMPTS = 3
"""How many workers may die while they separate one recording, before it counts as failed."""

RESULT_FIELDS = (
    *("presence", "gain", "clipped", "loudness", "loudness_shortfall", "samples", "sample_rate", "channels"),
)
"""Fields of a `FileResult` that a record contains as they are."""

ACTIVITY = "activity"
"""Key of a record: name of a target -> its `packed` activity."""


_CURVES = ("energy", "presence")


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker needs to separate recordings.

    Attributes:
        model: as in `audiosep.load`.
        device: as in `audiosep.load`.
        precision: as in `audiosep.load`.
        engine: as in `audiosep.load`.
        adapter: as in `audiosep.load`.
        queries: None for the stems.
        folder: of all outputs.
        output: what is written.
        options: how to separate.
        stems: as in `audiosep.load`.
    """

    model: str | Path
    device: str
    precision: str
    engine: Engine
    adapter: str | Path | None
    queries: tuple[Query, ...] | None
    folder: Path
    output: OutputOptions
    options: Options
    stems: str | Path | None = None

    def load(self) -> Separator:
        """Load the separator, in the process that uses it."""
        return load(self.model, self.device, self.precision, self.adapter, self.engine, sounds=False, stems=self.stems)

    def separate(self, separator: Separator, inputs: Sequence[Path], folder: Path, template: str) -> BatchReport:
        """Separate recordings into a folder, with file names of a template."""
        output = dataclasses.replace(self.output, template=template, overwrite=False, skip_existing=False)
        return separator.separate_files(inputs, self.queries, folder, output=output, options=self.options)


@dataclass(frozen=True)
class ModelFacts:
    """Facts of the loaded model, which only a machine of the cluster may have.

    Attributes:
        model: name of the separator.
        device: of the separator.
        precision: of the separator.
        works: name of each output of a recording -> the digest of what is asked for.
        queries: each sound of the settings once, with embeddings in place of example recordings; None for the stems.
        weights: a digest of the model's files and the adapter.
        warnings: what the library says of the model and the queries.
    """

    model: str
    device: str
    precision: str
    works: Mapping[str, str]
    queries: tuple[Query, ...] | None
    weights: str
    warnings: Sequence[str] = ()


def inspect_model(settings: WorkerSettings) -> ModelFacts | AudioSepError:
    """Load the model and encode the queries.

    Returns:
        Facts of the model, or the error that every recording would fail with.
    """
    warnings: list[str] = []
    try:
        with _collected_warnings(warnings):
            separator = settings.load()
            settings.separate(separator, [], settings.folder, settings.output.template)
        queries = None
        if settings.queries is not None:
            asked = separator.asked(settings.queries, settings.options)
            queries = tuple(_with_embedding(query, separator) for query in asked)
        works = separator.works(queries, settings.output, settings.options)
        targets = settings.output.written_targets(list(works))
        rest = settings.output.written_rest(targets, stems=queries is None)
        return ModelFacts(
            model=separator.name,
            device=str(separator.device),
            precision=separator.precision,
            works=works_of_outputs(works, targets, settings.output.written(targets, rest)),
            queries=queries,
            weights=separator.digest,
            warnings=warnings,
        )
    except AudioSepError as error:
        return error


def _with_embedding(query: Query, separator: Separator) -> Query:
    """The query with the embedding of its example instead of the example, so that it is computed only once."""
    negative = tuple(_with_embedding(one, separator) for one in query.negatives) or None
    if query.audio is None or separator.encoder is None:
        return dataclasses.replace(query, negative=negative)
    (embedding,) = resolve(Query(audio=query.audio), separator.encoder).embeddings.numpy()
    return dataclasses.replace(query, audio=None, embedding=embedding, negative=negative, name=query.label)


def job_digest(settings: WorkerSettings, facts: ModelFacts) -> str:
    """A digest of everything but the recording that decides the outputs; equal for jobs with equal outputs."""
    options = dataclasses.asdict(settings.options)
    del options["batch"]  # changes no output
    output = dataclasses.asdict(settings.output)
    for name in ("overwrite", "skip_existing", "max_seconds"):
        del output[name]
    job: list[Any] = [facts.weights, list(facts.works), settings.precision, settings.engine, options, output]
    job += [[*map(described, settings.queries or ())]]
    return hashlib.sha256(json.dumps(job).encode()).hexdigest()


class SeparationWorker:
    """A loaded separator in a process of its own; Ray calls it with tasks.

    Args:
        settings: of the job.
        threads: CPU threads; fewer where the machine has fewer CPUs than Ray was told.
    """

    def __init__(self, settings: WorkerSettings, threads: int) -> None:
        use_threads(min(threads, available_cpus()))
        self._settings = settings
        self._separator = settings.load()
        self._name = f"{socket.gethostname()}:{os.getpid()}"

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Run tasks.

        Args:
            batch: "task" -> tasks as JSON.

        Returns:
            "outcome" -> one outcome as JSON for each task.
        """
        return {"outcome": np.array([json.dumps(self._outcome(json.loads(task))) for task in batch["task"]])}

    def _outcome(self, task: dict[str, Any]) -> dict[str, Any]:
        outcome: dict[str, Any] = {"index": task["index"], "warnings": []}
        with _collected_warnings(outcome["warnings"]):
            try:
                outcome["record"] = self._record(task)
            except Exception as error:
                outcome["error"] = type(error).__name__, str(error)
        return outcome

    def _record(self, task: dict[str, Any]) -> Record:
        """Separate a recording, unless an earlier attempt completed its outputs and died before it returned."""
        record: Record = {**task["record"], "worker": self._name}
        staging = Staging(Path(task["staging"]), self._settings.folder)
        overwrite = self._settings.output.overwrite
        if done := staging.settle(overwrite=overwrite):
            return done
        made = [name for name in record["outputs"] if name not in task["kept"]]  # the others stay as they are
        staging.check_free(record, made, overwrite=overwrite)
        began = time.perf_counter()
        with staging.attempt(ATTEMPTS) as work:
            report = self._settings.separate(self._separator, [Path(record["input"])], work, "{stem}.part.{ext}")
            for error in report.failures.values():
                raise error
            (result,) = report.results
            record |= {name: getattr(result, name) for name in RESULT_FIELDS}
            record[ACTIVITY] = {name: packed(activity) for name, activity in result.activity.items()}
            record["seconds"] = round(time.perf_counter() - began, 3)
            return staging.commit(work, {name: result.outputs[name] for name in made}, record, overwrite=overwrite)


def packed(activity: Activity) -> dict[str, Any]:
    """When a target sounds, for JSON: its curves as base64 of little-endian float32."""
    curves = {name: base64.b64encode(getattr(activity, name).astype("<f4").tobytes()).decode() for name in _CURVES}
    return {"spans": activity.spans, "extent": activity.extent, "step": activity.step, **curves}


def unpacked(values: Mapping[str, Any]) -> Activity:
    """The activity of what `packed` made."""
    spans, extent = (tuple(Span(*span) for span in values[name]) for name in ("spans", "extent"))
    energy, presence = (np.frombuffer(base64.b64decode(values[name]), "<f4").astype(np.float32) for name in _CURVES)
    return Activity(spans, extent, values["step"], energy, presence)


@contextlib.contextmanager
def _collected_warnings(texts: list[str]) -> Iterator[None]:
    """Append the library's warnings to `texts`, because the log of a worker is not shown to the user."""

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(record.getMessage())

    collector = Collector(logging.WARNING)
    library = logging.getLogger("audiosep")
    library.addHandler(collector)
    try:
        yield
    finally:
        library.removeHandler(collector)
