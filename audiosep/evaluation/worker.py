"""One system on one item, in whatever process: separate, score, measure time and memory, keep the audio of examples."""

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

from audiosep.audio import write_audio
from audiosep.evaluation.benchmarks import Array, Item, Scene, Target
from audiosep.evaluation.scene_files import common_gain, loudest_cut
from audiosep.evaluation.scores import Scorer
from audiosep.evaluation.systems import SeparationSystem, ask, load_system
from audiosep.inference.memory import peak_memory
from audiosep.inference.options import Engine

logger = logging.getLogger(__name__)

Row = dict[str, Any]
EXAMPLE_SECONDS = 10.0


@dataclass(frozen=True)
class Settings:
    """How an evaluation is run.

    Args:
        measures: groups of measures besides `plain`.
        clap: the model whose query encoder scores the group `clap`.
        device: of models, as in `audiosep.load`.
        precision: of models, as in `audiosep.load`.
        workers: processes that share the items of a system; 0 runs everything in this process (memory is then that of
            all systems so far).
        examples: items a set whose audio is kept for the report. seed: chooses them.
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
class Job:
    """One system on one item.

    Args:
        key: of the finished row. system: its name. benchmark: the set's name.
        example: the folder that keeps the audio for the report, or None.
    """

    key: str
    system: str
    benchmark: str
    item: Item
    example: Path | None


def slug(text: str) -> str:
    """A file name for any id."""
    safe = re.sub(r"[^\w.-]+", "_", text).strip("._")[:80] or "item"
    return safe if safe == text else f"{safe}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def example_file(folder: Path, kind: str, target: str = "", system: str = "") -> Path:
    """Where an example's audio lies: kind is "mix", "true" or "estimate"."""
    return folder / ("-".join(slug(part) for part in (kind, target, system) if part) + ".flac")


def kept(job: Job, row: Row) -> bool:
    """Whether the audio that a finished example should have left is there."""
    if job.example is None:
        return True
    return all(example_file(job.example, "estimate", t["name"], job.system).is_file() for t in row["targets"])


_system = lru_cache(maxsize=1)(load_system)


@lru_cache(maxsize=1)
def _scorer(groups: tuple[str, ...], clap: str | None, device: str) -> Scorer:
    encoder = None
    if clap is not None:
        from audiosep.api import load

        encoder = load(clap, device).encoder
    return Scorer(groups, encoder)


@dataclass(frozen=True)
class Failure:
    """Why a job gave no row.

    Args:
        message: the error. fatal: the system itself could not be loaded, so no other item will do better.
    """

    message: str
    fatal: bool = False


def evaluate(job: Job, settings: Settings) -> Row | Failure:
    """The row of a job, or what went wrong: an error of one item does not end an evaluation."""
    try:
        system = _system(job.system, settings.device, settings.precision, settings.engine)
    except Exception as error:
        return Failure(str(error), fatal=True)
    try:
        return _row(job, settings, system)
    except Exception as error:
        logger.debug("%s on %s %s", job.system, job.benchmark, job.item.id, exc_info=True)
        return Failure(f"{type(error).__name__}: {error}")


def _row(job: Job, settings: Settings, system: SeparationSystem) -> Row:
    scene = job.item.load()
    asked = {t.name: (t, query) for t in job.item.targets if (query := ask(system, t)) is not None}
    row: Row = {
        "key": job.key,
        "system": job.system,
        "set": job.benchmark,
        "item": job.item.id,
        "group": job.item.group,
        "meta": dict(job.item.meta),
        "seconds": scene.seconds,
        "targets": [],
    }
    if not asked:
        return row
    references = {name: scene.reference(t) for name, (t, _) in asked.items()} if system.needs_references else None
    memory = _Memory()
    start = time.perf_counter()
    answer = system.separate(
        scene.mix, [query for _, query in asked.values()], sample_rate=scene.sample_rate, references=references
    )
    row["wall"] = time.perf_counter() - start
    row |= memory.peaks()
    estimates = {name: np.asarray(answer[name], dtype=np.float32) for name in asked}
    presence = getattr(answer, "presence", None) or {}
    scorer = _scorer(settings.measures, settings.clap, settings.device)
    for name, (target, query) in asked.items():
        scores = scorer.score(estimates[name], target, scene, presence.get(name))
        row["targets"].append(
            {
                "name": name,
                "label": target.label,
                "asked": query.text or "(a recording)",
                "present": scene.present(target),
                "sources": len(scene.sources),
                "scores": scores,
            }
        )
    if job.example is not None:
        _keep_example(job.example, job.system, scene, [t for t, _ in asked.values()], estimates)
    return row


def _keep_example(
    folder: Path, system: str, scene: Scene, targets: Sequence[Target], estimates: Mapping[str, Array]
) -> None:
    """Write mixture, true targets and estimates, cut to where the first target is loudest, at one common gain."""
    folder.mkdir(parents=True, exist_ok=True)
    loud = scene.reference(targets[0]) if scene.present(targets[0]) else scene.mix
    cut = loudest_cut(loud, round(EXAMPLE_SECONDS * scene.sample_rate))
    truths = {target.name: scene.reference(target) for target in targets}
    gain = common_gain([scene.mix, *truths.values()])
    files = {example_file(folder, "mix"): scene.mix}
    files |= {example_file(folder, "true", name): x for name, x in truths.items()}
    files |= {example_file(folder, "estimate", t.name, system): estimates[t.name] for t in targets}
    for path, x in files.items():
        write_audio(path, gain * x[:, cut], scene.sample_rate, overwrite=True)


class _Memory:
    """Peak memory between construction and `peaks`, of this process and of the CUDA device."""

    def __init__(self) -> None:
        self._cuda = torch.cuda.is_available()
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux: forget the old peak
        except OSError:
            logger.debug("peak memory counts from the start of the process")

    def peaks(self) -> dict[str, int]:
        """`rss` and, with a CUDA device, `device_memory`, in bytes."""
        peaks = {"rss": peak_memory() or 0}
        if self._cuda:
            peaks["device_memory"] = int(torch.cuda.max_memory_allocated())
        return peaks
