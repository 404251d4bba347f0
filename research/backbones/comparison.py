"""Training every network for the same processor time on the same data, and measuring each at its published size.

    FOLDER/manifest.jsonl  recipe.json  cache/    the part of the corpus that is used, at 16 kHz
    FOLDER/<family>.json                          configuration of a run, and FOLDER/<family>/ the run
    FOLDER/<family>.full.json                     speed and memory at the published size

Everything that is there already is not done again, so that the command may be stopped and started at any time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from audiosep.atomic import write_text
from audiosep.bench.object_process import ObjectProcess
from audiosep.data.corpus import Corpus
from audiosep.data.manifest import read_manifest, write_manifest
from audiosep.data.recipe_drawing import draw_recipe
from audiosep.errors import ConfigError, TrainingError
from research.backbones.entries import RATE, Entry, build, parameters
from research.finished_runs import last_validation

VALIDATION = 280  # mixtures


@dataclass(frozen=True)
class Source:
    """The corpus.

    Attributes:
        manifest: of the corpus.
        captions: embeddings of its captions.
        families: that are used.
        minutes: processor time of each training.
    """

    manifest: Path
    captions: Path
    families: tuple[str, ...] = ("music", "instrument")
    minutes: float = 20.0


@dataclass(frozen=True)
class FullSize:
    """A network at its published size, one window of stereo noise on one core.

    Attributes:
        parameters: in millions.
        sample_rate: Hz.
        seconds: length of the window.
        taken: processor seconds of computing it.
        memory: peak resident memory of the process, MB.
    """

    parameters: float
    sample_rate: int
    seconds: float
    taken: float
    memory: float

    @property
    def factor(self) -> float:
        """Real-time factor: above 1 it is slower than the recording."""
        return self.taken / self.seconds


def prepare(source: Source, folder: Path) -> None:
    """Write the part of the manifest that is used, decode it, and draw the validation recipe.

    Args:
        source: the corpus.
        folder: of the comparison.

    Raises:
        ConfigError: no clip is of these families.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "recipe.json").is_file():
        return
    clips = [clip for clip in read_manifest(source.manifest) if clip.family in source.families]
    if not clips:
        raise ConfigError(f"{source.manifest} has no clips of {', '.join(source.families)}; choose --families")
    write_manifest(folder / "manifest.jsonl", clips)
    draw_recipe(Corpus(folder / "manifest.jsonl", folder / "cache", RATE)).save(folder / "recipe.json")


def configuration(entry: Entry, source: Source, folder: Path) -> dict[str, Any]:
    """Make the configuration of a run; all but the network is the same for all.

    Args:
        entry: the network.
        source: the corpus.
        folder: of the comparison.
    """
    return {
        "task": "waveform",
        "model": entry.compared,
        "data": {
            "manifest": str(folder / "manifest.jsonl"),
            "cache": str(folder / "cache"),
            "captions": str(source.captions),
        },
        "options": {"validation": str(folder / "recipe.json"), "validation_items": VALIDATION},
        "sampling": {
            "mixtures": 4, "seconds": 2.0, "queries": 1, "songs": 0.75, "mixed_songs": 0.15, "absent": 0.0,
            "negatives": 0.1, "examples": 0.0,
        },
        "trainer": {
            "minutes": source.minutes, "clock": "processor", "learning_rate": 1e-3, "warmup": 30, "ema": 0.99,
            "precision": "fp32", "device": "cpu", "checkpoint_minutes": 2.0, "log_every": 20,
        },
    }  # fmt: skip


def train(entry: Entry, source: Source, folder: Path) -> None:
    """Train one network on one thread, in a process of its own; a finished run is not repeated.

    Args:
        entry: the network.
        source: the corpus.
        folder: of the comparison.

    Raises:
        ConfigError: the folder holds a run of another configuration.
        TrainingError: the run failed or was stopped; it has printed its own message.
    """
    config, path = configuration(entry, source, folder), folder / f"{entry.family}.json"
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != config:
        raise ConfigError(f"{path} is of another comparison (other minutes, data or sizes): choose another folder")
    write_text(path, json.dumps(config, indent=1) + "\n")
    if trained(entry, folder) is not None:
        return
    command = [sys.executable, "-m", "audiosep", "train", str(path), "-o", str(folder / entry.family)]
    code = subprocess.run(command, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}).returncode
    if trained(entry, folder) is None:
        raise TrainingError(f"{entry.family} ended before its time (exit code {code}); the same command resumes it")


def trained(entry: Entry, folder: Path) -> dict[str, Any] | None:
    """The last validation of a finished run with its "steps", "items" and "parameters"; None if it is not finished.

    Args:
        entry: the network.
        folder: of the comparison.
    """
    found = last_validation(folder / entry.family)
    return None if found is None else found | {"parameters": parameters(build(entry.compared))}


def measure(entry: Entry, folder: Path) -> FullSize:
    """Speed and memory of a network at its published size, in a process of its own; measured once.

    Args:
        entry: the network.
        folder: of the comparison.
    """
    path = folder / f"{entry.family}.full.json"
    if path.is_file():
        return FullSize(**json.loads(path.read_text(encoding="utf-8")))
    process = ObjectProcess(OneWindow, entry.family)
    try:
        size, rate, seconds, taken = process.call("run")
        memory, _ = process.memory()
    finally:
        process.close()
    found = FullSize(size, rate, seconds, taken, memory or 0.0)
    write_text(path, json.dumps(asdict(found)) + "\n")
    return found


class OneWindow:
    """A network at its published size with random weights, and one window for it.

    Args:
        family: of the network.
    """

    def __init__(self, family: str) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.model = build({"family": family}).eval()
        self.mix = 0.1 * torch.randn(1, 2, self.model.window)

    def run(self) -> tuple[float, int, float, float]:
        """Compute the window once.

        Returns:
            Parameters in millions, sample rate, seconds of the window, processor seconds.
        """
        began = time.process_time()
        with torch.inference_mode():
            self.model.stems(self.mix)
        taken = time.process_time() - began
        rate = self.model.sample_rate
        return parameters(self.model), rate, self.model.window / rate, taken


def compare(entries: Collection[Entry], source: Source, folder: Path, *, full: bool = True) -> None:
    """Do all that is missing, one network after the other.

    Args:
        entries: the networks.
        source: the corpus.
        folder: of the comparison.
        full: whether the published sizes are measured too.
    """
    prepare(source, folder)
    for entry in entries:
        train(entry, source, folder)
        if full:
            measure(entry, folder)
