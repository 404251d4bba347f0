"""Evaluation of one system on one item: separate, score, measure time and memory, keep the audio of examples."""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audiosep.atomic import make_folder
from audiosep.audio import write_audio
from audiosep.audio.samples import Array
from audiosep.evaluation.benchmarks import Item, Scene, Target
from audiosep.evaluation.scene_files import common_gain, loudest_cut
from audiosep.evaluation.scores import Scorer
from audiosep.evaluation.systems import SeparationSystem, load_system, query_for
from audiosep.inference.memory import peak_memory
from audiosep.inference.options import Engine

logger = logging.getLogger(__name__)

Row = dict[str, Any]
EXAMPLE_SECONDS = 10.0


@dataclass(frozen=True)
class EvaluationSettings:
    """How an evaluation is run.

    Args:
        measures: groups of measures besides `plain`.
        clap: the model whose query encoder scores the group `clap`.
        device: of models, as in `audiosep.load`.
        precision: of models, as in `audiosep.load`.
        workers: processes that share the items of a system; 0 uses only this process, whose peak memory then includes
            that of earlier systems.
        examples: items of each benchmark whose audio is kept for the report.
        seed: of the choice of these items.
        engine: of models, as in `audiosep.load`.
    """

    measures: tuple[str, ...] = ()
    clap: str | None = None
    device: str = "auto"
    precision: str = "auto"
    workers: int = 1
    examples: int = 3
    seed: int = 0
    engine: Engine = "torch"


@dataclass(frozen=True)
class EvaluationTask:
    """One system on one item.

    Attributes:
        key: of the finished row.
        system: its name.
        benchmark: name of the benchmark.
        item: to be separated.
        example: folder for the audio that the report shows; None to keep none.
    """

    key: str
    system: str
    benchmark: str
    item: Item
    example: Path | None


def slug(text: str) -> str:
    """A valid file name for any text, different for different texts."""
    safe = re.sub(r"[^\w.-]+", "_", text).strip("._")[:80] or "item"
    return safe if safe == text else f"{safe}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def example_file(folder: Path, kind: str, target: str = "", system: str = "") -> Path:
    """The file of an example's audio.

    Args:
        folder: of the example.
        kind: "mix", "true" or "estimate".
        target: name of the target, unless `kind` is "mix".
        system: name of the system, if `kind` is "estimate".
    """
    return folder / ("-".join(slug(part) for part in (kind, target, system) if part) + ".flac")


def has_example(task: EvaluationTask, row: Row) -> bool:
    """Whether the audio of a finished task is there; True for tasks that keep none."""
    if task.example is None:
        return True
    return all(example_file(task.example, "estimate", t["name"], task.system).is_file() for t in row["targets"])


_system = lru_cache(maxsize=1)(load_system)


@lru_cache(maxsize=1)
def _scorer(groups: tuple[str, ...], clap: str | None, device: str) -> Scorer:
    encoder = None
    if clap is not None:
        from audiosep.api import load

        encoder = load(clap, device).encoder
    return Scorer(groups, encoder)


@dataclass(frozen=True)
class EvaluationFailure:
    """Why a task has no row.

    Attributes:
        message: the error.
        fatal: the system cannot be evaluated: it could not be loaded, or it ended the process.
    """

    message: str
    fatal: bool = False


def evaluate(task: EvaluationTask, settings: EvaluationSettings) -> Row | EvaluationFailure:
    """Run a task.

    Returns:
        The row of results, or the error; an error of one item does not end an evaluation.
    """
    try:
        system = _system(task.system, settings.device, settings.precision, settings.engine)
    except Exception as error:
        return EvaluationFailure(str(error), fatal=True)
    try:
        return _row(task, settings, system)
    except Exception as error:
        logger.debug("%s on %s %s", task.system, task.benchmark, task.item.id, exc_info=True)
        return EvaluationFailure(f"{type(error).__name__}: {error}")


def _row(task: EvaluationTask, settings: EvaluationSettings, system: SeparationSystem) -> Row:
    scene = task.item.load()
    queried = {t.name: (t, query) for t in task.item.targets if (query := query_for(system, t)) is not None}
    row: Row = {
        "key": task.key,
        "system": task.system,
        "set": task.benchmark,
        "item": task.item.id,
        "group": task.item.group,
        "meta": dict(task.item.meta),
        "seconds": scene.seconds,
        "targets": [],
    }
    if not queried:
        return row
    references = {name: scene.reference(t) for name, (t, _) in queried.items()} if system.needs_references else None
    memory = _PeakMemory()
    start = time.perf_counter()
    separated = system.separate(
        scene.mix, [query for _, query in queried.values()], sample_rate=scene.sample_rate, references=references
    )
    row["wall"] = time.perf_counter() - start
    row |= memory.peaks()
    estimates = {name: np.asarray(separated[name], dtype=np.float32) for name in queried}
    presence = getattr(separated, "presence", None) or {}
    scorer = _scorer(settings.measures, settings.clap, settings.device)
    for name, (target, query) in queried.items():
        scores = scorer.score(estimates[name], target, scene, presence.get(name))
        row["targets"].append(
            {
                "name": name,
                "label": target.label,
                "query": query.text or "(a recording)",
                "present": scene.present(target),
                "sources": len(scene.sources),
                "scores": scores,
            }
        )
    if task.example is not None:
        _keep_example(task.example, task.system, scene, task.item.targets, estimates)
    return row


def _keep_example(
    folder: Path, system: str, scene: Scene, targets: Sequence[Target], estimates: Mapping[str, Array]
) -> None:
    """Write mixture, true targets and estimates, cut to where the first target is loudest, with one gain.

    Cut and gain are those of the item, not of the targets that this system was asked for: the report shows the
    estimates of all systems beside one mixture.
    """
    make_folder(folder)
    loud = scene.reference(targets[0]) if scene.present(targets[0]) else scene.mix
    cut = loudest_cut(loud, round(EXAMPLE_SECONDS * scene.sample_rate))
    truths = {target.name: scene.reference(target) for target in targets}
    gain = common_gain([scene.mix, *truths.values()])
    files = {example_file(folder, "mix"): scene.mix}
    files |= {example_file(folder, "true", name): x for name, x in truths.items()}
    files |= {example_file(folder, "estimate", name, system): x for name, x in estimates.items()}
    for path, x in files.items():
        write_audio(path, gain * x[:, cut], scene.sample_rate, overwrite=True)


class _PeakMemory:
    """Peak memory of this process and of the CUDA device, from construction to `peaks`."""

    def __init__(self) -> None:
        self._cuda = torch.cuda.is_available()
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak on Linux
        except OSError:
            logger.debug("the peak memory cannot be reset: it counts from the start of the process")

    def peaks(self) -> dict[str, int]:
        """`rss` and, with a CUDA device, `device_memory`, in bytes."""
        peaks = {"rss": peak_memory() or 0}
        if self._cuda:
            peaks["device_memory"] = int(torch.cuda.max_memory_allocated())
        return peaks
