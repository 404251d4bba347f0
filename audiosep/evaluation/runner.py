"""Evaluation of systems on benchmarks, which can be stopped and continued at any time.

Every finished item is a line of a file, under a key of everything that decides its scores (system, item, measures,
device). A second run computes only the missing lines and gives the same tables.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from audiosep.atomic import make_folder, write_bytes, writing
from audiosep.errors import AudioSepError, DataError
from audiosep.evaluation.benchmarks import Benchmark
from audiosep.evaluation.item_evaluation import (
    EvaluationFailure,
    EvaluationSettings,
    EvaluationTask,
    Row,
    evaluate,
    has_example,
    slug,
)
from audiosep.evaluation.systems import identity
from audiosep.inference.threads import available_cpus
from audiosep.query.query import Query

logger = logging.getLogger(__name__)


@dataclass
class EvaluationResults:
    """The results of an evaluation.

    Attributes:
        rows: one for each system and item, in their order.
        failures: (system, set, item, error); the item is empty when the system could not be loaded.
        examples: benchmark -> ids of the items whose audio is kept.
    """

    rows: list[Row] = field(default_factory=list)
    failures: list[tuple[str, str, str, str]] = field(default_factory=list)
    examples: dict[str, list[str]] = field(default_factory=dict)


def run(
    systems: Sequence[str],
    benchmarks: Sequence[Benchmark],
    folder: Path,
    settings: EvaluationSettings | None = None,
    progress: Callable[[int, int, str], object] | None = None,
) -> EvaluationResults:
    """Evaluate systems on benchmarks, or continue an evaluation that was stopped.

    Args:
        systems: names as in `load_system`.
        benchmarks: with different names.
        folder: for `results.jsonl` and `examples/`; results that are already there are reused.
        settings: of the evaluation.
        progress: called with the number of finished tasks, of all tasks, and the name of the system.

    Raises:
        DataError: two benchmarks have the same name.
        ModelError: the model that scores the group `clap` is not on this machine.
    """
    settings = settings or EvaluationSettings()
    if len({b.name for b in benchmarks}) < len(benchmarks):
        raise DataError("two test sets have the same name; evaluate them in two runs")
    make_folder(folder)
    path = folder / "results.jsonl"
    done = read_results(path)
    outcome = EvaluationResults(
        examples={b.name: choose_examples(b, settings.examples, settings.seed) for b in benchmarks}
    )
    judge = None if settings.clap is None else identity(settings.clap)
    wanted: dict[str, list[EvaluationTask]] = {}
    for name in dict.fromkeys(systems):
        try:
            version = identity(name)
        except AudioSepError as error:
            logger.warning("%s is left out: %s", name, error)
            outcome.failures.append((name, "", "", str(error)))
            continue
        wanted[name] = [
            task for b in benchmarks for task in _tasks(name, version, judge, b, folder, outcome.examples, settings)
        ]
    total = sum(map(len, wanted.values()))
    finished = 0
    for name, tasks in wanted.items():
        missing = [task for task in tasks if task.key not in done or not has_example(task, done[task.key])]
        finished += len(tasks) - len(missing)
        for task, result in _evaluate_all(name, missing, settings):
            finished += 1
            if isinstance(result, EvaluationFailure) and result.fatal:
                outcome.failures.append((name, "", "", result.message))
                break
            if isinstance(result, EvaluationFailure):
                outcome.failures.append((name, task.benchmark, task.item.id, result.message))
                logger.warning("%s on %s %s: %s", name, task.benchmark, task.item.id, result.message)
            else:
                done[task.key] = result
                _append(path, result)
            if progress is not None:
                progress(finished, total, name)
        outcome.rows += [done[task.key] for task in tasks if task.key in done]
    return outcome


def read_results(path: Path) -> dict[str, Row]:
    """Read finished items by key. An incomplete last line, left by a killed run, is removed from the file."""
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
    """Draw the items whose audio is kept, in turn from each group.

    Args:
        benchmark: to draw from.
        count: number of items.
        seed: of the draw.

    Returns:
        Ids.
    """
    groups: dict[str, list[str]] = {}
    for index in np.random.default_rng(seed).permutation(len(benchmark.items)):
        item = benchmark.items[index]
        groups.setdefault(item.group, []).append(item.id)
    turns = sorted((turn, group, name) for group, names in groups.items() for turn, name in enumerate(names))
    return [name for _, _, name in turns[:count]]


def _tasks(
    name: str,
    version: str,
    judge: str | None,
    benchmark: Benchmark,
    folder: Path,
    examples: Mapping[str, list[str]],
    settings: EvaluationSettings,
) -> Iterator[EvaluationTask]:
    for item in benchmark.items:
        parts = (version, benchmark.name, item.id, item.version, settings.device, settings.precision, settings.engine)
        targets = [(t.name, _query_text(t.query), t.aliases, t.parts) for t in item.targets]
        text = repr((parts, targets, sorted(settings.measures), judge))
        key = hashlib.sha256(text.encode()).hexdigest()[:24]
        example = folder / "examples" / slug(benchmark.name) / slug(item.id)
        yield EvaluationTask(key, name, benchmark.name, item, example if item.id in examples[benchmark.name] else None)


def _query_text(query: Query) -> str:
    """A text that is equal for equal queries, in every run."""
    audio = query.audio[0] if isinstance(query.audio, tuple) else query.audio
    arrays = [
        x if x is None or isinstance(x, str | Path | bytes) else np.asarray(x).tobytes()
        for x in (audio, query.embedding)
    ]
    plain = (query.text, query.weight, [_query_text(q) for q in query.negatives], arrays)
    return hashlib.sha256(repr(plain).encode()).hexdigest()


def _append(path: Path, row: Row) -> None:
    with writing(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def _evaluate_all(
    name: str, tasks: Sequence[EvaluationTask], settings: EvaluationSettings
) -> Iterator[tuple[EvaluationTask, Row | EvaluationFailure]]:
    """The result of each task, in the order in which they are finished."""
    if settings.workers < 1:
        for task in tasks:
            yield task, evaluate(task, settings)
        return
    if not tasks:
        return
    workers = min(settings.workers, len(tasks))
    # New processes for every system, so that their peak memory is that of the system; spawned, because torch does not
    # work after a fork.
    with _threads(workers), ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from _as_completed(pool, tasks, settings, 2 * workers)


def _as_completed(
    pool: Executor, tasks: Sequence[EvaluationTask], settings: EvaluationSettings, ahead: int
) -> Iterator[tuple[EvaluationTask, Row | EvaluationFailure]]:
    """Keep only `ahead` tasks submitted, so that little is computed in vain when the evaluation is stopped."""
    queue = iter(tasks)
    running: dict[Future[Row | EvaluationFailure], EvaluationTask] = {}
    try:
        while True:
            for task in queue:
                running[pool.submit(evaluate, task, settings)] = task
                if len(running) >= ahead:
                    break
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
    except BrokenProcessPool:  # whose memory was not enough, mostly
        ended = "a worker process was ended by the system, mostly for want of memory: take fewer --workers"
        yield tasks[0], EvaluationFailure(ended, fatal=True)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _threads(workers: int) -> Iterator[None]:
    """Divide the CPUs among the workers, by variables that the linear algebra libraries read when a worker starts."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    chosen = {name: str(max(1, available_cpus() // workers)) for name in names if name not in os.environ}
    os.environ.update(chosen)
    try:
        yield
    finally:
        for name in chosen:
            os.environ.pop(name, None)
