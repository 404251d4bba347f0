"""What runs in the worker processes of a Ray job: a warm separator that is given one recording after the other."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audiosep.api import load
from audiosep.cluster.staging import Record, Staging
from audiosep.errors import AudioSepError
from audiosep.inference.options import Engine, Options
from audiosep.inference.threads import use_threads
from audiosep.output.options import OutputOptions
from audiosep.output.report import BatchReport
from audiosep.query.query import Query
from audiosep.query.resolve import resolve
from audiosep.separator import Separator
from audiosep.weights.catalogue import locate

ATTEMPTS = 3
"""Workers that may die over one recording before it is given up."""

TOLD = ("presence", "gain", "clipped", "samples", "sample_rate", "channels")
"""What a record takes over from a `FileResult` as it is."""


@dataclass(frozen=True)
class Settings:
    """What a worker needs to know.

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

    def load(self) -> Separator:
        """The separator, in the process that will use it."""
        return load(self.model, self.device, self.precision, self.adapter, self.engine)

    def separate(self, separator: Separator, inputs: Sequence[Path], folder: Path, template: str) -> BatchReport:
        """Separate recordings into a folder, with file names of a template."""
        output = dataclasses.replace(self.output, template=template, overwrite=False)
        return separator.separate_files(inputs, self.queries, folder, output=output, options=self.options)


@dataclass(frozen=True)
class About:
    """What only a machine with the model can tell.

    Attributes:
        model: name of the separator.
        device: of the separator.
        precision: of the separator.
        outputs: names of the outputs of each recording.
        queries: as in the settings, where examples have become embeddings; None for the stems.
        weights: a digest of the model's files and the adapter.
    """

    model: str
    device: str
    precision: str
    outputs: tuple[str, ...]
    queries: tuple[Query, ...] | None
    weights: str


def inspect(settings: Settings) -> About | AudioSepError:
    """Load the model and ask the queries; what is wrong with them is an answer too."""
    try:
        separator = settings.load()
        settings.separate(separator, [], settings.folder, settings.output.template)
        stream = separator.stream(settings.queries, sample_rate=separator.sample_rate, channels=1)
        targets = settings.output.written_targets(stream.names)
        rest = settings.output.written_rest(targets, stems=settings.queries is None)
        return About(
            model=separator.name,
            device=str(separator.device),
            precision=separator.precision,
            outputs=(*targets, *([rest] if rest else [])),
            queries=None if settings.queries is None else tuple(_heard(q, separator) for q in settings.queries),
            weights=_weights(settings),
        )
    except AudioSepError as error:
        return error


def _heard(query: Query, separator: Separator) -> Query:
    """The embedding of its example in its place, so that this is made once and is the same for all recordings."""
    negative = tuple(_heard(one, separator) for one in query.negatives) or None
    if query.audio is None or separator.encoder is None:
        return dataclasses.replace(query, negative=negative)
    (embedding,) = resolve(Query(audio=query.audio), separator.encoder).embeddings.numpy()
    return dataclasses.replace(query, audio=None, embedding=embedding, negative=negative, name=query.label)


def _weights(settings: Settings) -> str:
    folder = locate(settings.model)
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(_content(path))
    if settings.adapter is not None:
        digest.update(_content(Path(settings.adapter)))
    return digest.hexdigest()


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def digest(settings: Settings, about: About) -> str:
    """The same for jobs that make the same outputs of the same recording."""
    options = dataclasses.asdict(settings.options)
    del options["batch"]  # changes no output
    output = settings.output
    job: list[Any] = [about.weights, about.outputs, settings.precision, settings.engine, options]
    job += [output.format, output.template, output.on_clip, [*map(_description, settings.queries or ())]]
    return hashlib.sha256(json.dumps(job).encode()).hexdigest()


def _description(query: Query) -> list[Any]:
    samples, rate = query.audio if isinstance(query.audio, tuple) else (query.audio, None)
    numbers = query.embedding if samples is None else samples
    sound = None if numbers is None else hashlib.sha256(np.asarray(numbers, np.float32).tobytes()).hexdigest()
    return [query.text, sound, rate, query.weight, [*map(_description, query.negatives)]]


class Worker:
    """A warm separator in a process of its own.

    Args:
        settings: of the job. threads: to compute with.
    """

    def __init__(self, settings: Settings, threads: int) -> None:
        use_threads(threads)
        self._settings = settings
        self._separator = settings.load()
        self._name = f"{socket.gethostname()}:{os.getpid()}"

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Tasks as JSON -> outcomes as JSON."""
        return {"outcome": np.array([json.dumps(self._outcome(json.loads(task))) for task in batch["task"]])}

    def _outcome(self, task: dict[str, Any]) -> dict[str, Any]:
        outcome: dict[str, Any] = {"index": task["index"], "warnings": []}
        with _warnings(outcome["warnings"]):
            try:
                outcome["record"] = self._record(task)
            except Exception as error:
                outcome["error"] = type(error).__name__, str(error)
        return outcome

    def _record(self, task: dict[str, Any]) -> Record:
        """Separate a recording, unless an earlier attempt has, and died before it could say so."""
        record: Record = {**task["record"], "worker": self._name}
        staging = Staging(Path(task["staging"]), self._settings.folder)
        if done := staging.settle():
            return done
        staging.check_free(record, overwrite=self._settings.output.overwrite)
        began = time.perf_counter()
        with staging.attempt(ATTEMPTS) as work:
            report = self._settings.separate(self._separator, [Path(record["input"])], work, "{stem}.part")
            for error in report.failures.values():
                raise error
            (result,) = report.results
            record |= {name: getattr(result, name) for name in TOLD}
            record["seconds"] = round(time.perf_counter() - began, 3)
            return staging.commit(work, result.outputs, record, overwrite=self._settings.output.overwrite)


@contextlib.contextmanager
def _warnings(texts: list[str]) -> Iterator[None]:
    """Collect what the library warns of, to be told where somebody reads it."""

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
