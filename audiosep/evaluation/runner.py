"""Systems over test sets: every finished item is a line of a file, so that an evaluation can be stopped at any time.

A line is keyed by everything that decides its scores (system, item, measures, device); a second run computes only what
is missing and gives the same tables.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from audiosep.atomic import write_bytes
from audiosep.errors import AudioSepError, DataError
from audiosep.evaluation.benchmarks import Benchmark
from audiosep.evaluation.systems import identity
from audiosep.evaluation.worker import Failure, Job, Row, Settings, evaluate, kept, slug
from audiosep.inference.threads import available_cpus
from audiosep.query.query import Query

logger = logging.getLogger(__name__)


@dataclass
class Outcome:
    """What an evaluation gave.

    Attributes:
        rows: one a system and item, in the order of systems and items.
        failures: (system, set, item, error); the item is empty when the system could not be loaded.
        examples: set -> ids of the items whose audio was kept.
    """

    rows: list[Row] = field(default_factory=list)
    failures: list[tuple[str, str, str, str]] = field(default_factory=list)
    examples: dict[str, list[str]] = field(default_factory=dict)


def run(
    systems: Sequence[str],
    benchmarks: Sequence[Benchmark],
    folder: Path,
    settings: Settings | None = None,
    progress: Callable[[int, int, str], object] | None = None,
) -> Outcome:
    """Evaluate systems on test sets, or finish an evaluation that was stopped.

    Args:
        systems: names as in `load_system`.
        benchmarks: their names must differ.
        folder: gets `results.jsonl` and `examples/`; results that are there already are reused.
        settings: how.
        progress: called with (finished, all, what is being done).

    Raises:
        DataError: two sets have one name.
    """
    settings = settings or Settings()
    if len({b.name for b in benchmarks}) < len(benchmarks):
        raise DataError("two test sets have the same name; evaluate them in two runs")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.jsonl"
    done = read_results(path)
    outcome = Outcome(examples={b.name: choose_examples(b, settings.examples, settings.seed) for b in benchmarks})
    wanted: dict[str, list[Job]] = {}
    for name in dict.fromkeys(systems):
        try:
            version = identity(name)
        except AudioSepError as error:
            outcome.failures.append((name, "", "", str(error)))
            continue
        wanted[name] = [job for b in benchmarks for job in _jobs(name, version, b, folder, outcome.examples, settings)]
    total = sum(map(len, wanted.values()))
    finished = 0
    for name, jobs in wanted.items():
        missing = [job for job in jobs if job.key not in done or not kept(job, done[job.key])]
        finished += len(jobs) - len(missing)
        for job, result in _evaluate_all(name, missing, settings):
            finished += 1
            if isinstance(result, Failure) and result.fatal:
                outcome.failures.append((name, "", "", result.message))
                break
            if isinstance(result, Failure):
                outcome.failures.append((name, job.benchmark, job.item.id, result.message))
                logger.warning("%s on %s %s: %s", name, job.benchmark, job.item.id, result.message)
            else:
                done[job.key] = result
                _append(path, result)
            if progress is not None:
                progress(finished, total, name)
        outcome.rows += [done[job.key] for job in jobs if job.key in done]
    return outcome


def read_results(path: Path) -> dict[str, Row]:
    """Finished items by key; a last line that was cut off by a kill is dropped."""
    rows: dict[str, Row] = {}
    if path.is_file():
        text = path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if len(whole) < len(text):
            write_bytes(path, whole)
        for line in whole.decode("utf-8").split("\n")[:-1]:
            row = json.loads(line)
            rows[row["key"]] = row
    return rows


def choose_examples(benchmark: Benchmark, count: int, seed: int) -> list[str]:
    """Ids of `count` items, drawn with `seed`, taking turns among the groups."""
    groups: dict[str, list[str]] = {}
    for index in np.random.default_rng(seed).permutation(len(benchmark.items)):
        item = benchmark.items[index]
        groups.setdefault(item.group, []).append(item.id)
    turns = sorted((turn, group, name) for group, names in groups.items() for turn, name in enumerate(names))
    return [name for _, _, name in turns[:count]]


def _jobs(
    name: str, version: str, benchmark: Benchmark, folder: Path, examples: Mapping[str, list[str]], settings: Settings
) -> Iterator[Job]:
    for item in benchmark.items:
        parts = (version, benchmark.name, item.id, item.version, settings.device, settings.precision, settings.engine)
        asked = [(t.name, _query_text(t.query), t.aliases, t.parts) for t in item.targets]
        text = repr((parts, asked, sorted(settings.measures), settings.clap))
        key = hashlib.sha256(text.encode()).hexdigest()[:24]
        kept = folder / "examples" / slug(benchmark.name) / slug(item.id)
        yield Job(key, name, benchmark.name, item, kept if item.id in examples[benchmark.name] else None)


def _query_text(query: Query) -> str:
    """A query as text that is the same at every run."""
    audio = query.audio[0] if isinstance(query.audio, tuple) else query.audio
    arrays = [
        x if x is None or isinstance(x, str | Path) else np.asarray(x).tobytes() for x in (audio, query.embedding)
    ]
    plain = (query.text, query.weight, [_query_text(q) for q in query.negatives], arrays)
    return hashlib.sha256(repr(plain).encode()).hexdigest()


def _append(path: Path, row: Row) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def _evaluate_all(name: str, jobs: Sequence[Job], settings: Settings) -> Iterator[tuple[Job, Row | Failure]]:
    """Results as they come, each job once."""
    if settings.workers < 1:
        for job in jobs:
            yield job, evaluate(job, settings)
        return
    if not jobs:
        return
    workers = min(settings.workers, len(jobs))
    # A fresh process for every system: its memory is then its own. Spawned, because torch does not survive a fork.
    with _threads(workers), ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from _as_completed(pool, jobs, settings, 2 * workers)


def _as_completed(
    pool: Executor, jobs: Sequence[Job], settings: Settings, ahead: int
) -> Iterator[tuple[Job, Row | Failure]]:
    """Keep `ahead` jobs submitted, so that stopping early leaves little behind."""
    queue = iter(jobs)
    running: dict[Future[Row | Failure], Job] = {}
    try:
        while True:
            for job in queue:
                running[pool.submit(evaluate, job, settings)] = job
                if len(running) >= ahead:
                    break
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _threads(workers: int) -> Iterator[None]:
    """Share the cores among the workers; read by the linear algebra libraries when a worker starts."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    chosen = {name: str(max(1, available_cpus() // workers)) for name in names if name not in os.environ}
    os.environ.update(chosen)
    try:
        yield
    finally:
        for name in chosen:
            os.environ.pop(name, None)
