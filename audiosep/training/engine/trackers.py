"""Sounds and spectrograms for the trackers (TensorBoard, Weights & Biases, trackio) that Accelerate starts."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiosep.errors import DependencyError
from audiosep.output.spectrogram import colours, spectrogram

PROJECT = "audiosep"


@dataclass(frozen=True)
class Sample:
    """A sound or a picture for the trackers.

    Attributes:
        name: path-like, such as "dog barking/estimate".
        audio: (channels, samples) in -1..1, or None.
        sample_rate: of `audio`, Hz.
        image: (3, height, width) uint8, or None.
    """

    name: str
    audio: Tensor | None = None
    sample_rate: int = 0
    image: Tensor | None = None


def check_trackers(names: Iterable[str]) -> None:
    """Refuse trackers that are not installed; Accelerate would ignore them silently.

    Args:
        names: of the trackers.

    Raises:
        DependencyError: one is missing.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise DependencyError(f"the tracker {name} is not installed: pip install {name}")


def start_trackers(accelerator: Any, run_dir: Path, config: dict[str, Any]) -> None:
    """Start the trackers under the name of the run folder.

    Args:
        accelerator: the run's.
        run_dir: the run folder.
        config: values to show with the run.
    """
    options = {"wandb": {"name": run_dir.name, "dir": str(run_dir)}, "trackio": {"name": run_dir.name}}
    plain = {k: v if isinstance(v, int | float | str | bool) else str(v) for k, v in config.items()}
    accelerator.init_trackers(PROJECT, config=plain, init_kwargs=options)


def log_samples(trackers: Iterable[Any], samples: Iterable[Sample], step: int) -> None:
    """Give samples to each tracker in its own format.

    Args:
        trackers: `Accelerator.trackers`.
        samples: sounds and pictures.
        step: steps done.
    """
    samples = list(samples)
    for tracker in trackers:
        for sample in samples:
            if tracker.name == "tensorboard":
                _to_tensorboard(tracker.writer, sample, step)
            else:
                values = _media(importlib.import_module(tracker.name), sample)
                tracker.log(values, step=step)


def comparison_samples(name: str, sample_rate: int, sounds: Mapping[str, Tensor]) -> list[Sample]:
    """Sounds of one query with their spectrograms, on one scale.

    Args:
        name: what the samples' names begin with.
        sample_rate: Hz.
        sounds: rest of the name -> (channels, samples).
    """
    levels = {kind: spectrogram(x.float().cpu().numpy(), sample_rate) for kind, x in sounds.items()}
    highest = max(float(level.max()) for level in levels.values())
    pictures = {kind: torch.from_numpy(colours(level, highest)).permute(2, 0, 1) for kind, level in levels.items()}
    return [Sample(f"{name}/{kind}", x, sample_rate, pictures[kind]) for kind, x in sounds.items()]


def _to_tensorboard(writer: Any, sample: Sample, step: int) -> None:
    if sample.audio is not None:
        mono = sample.audio.float().cpu().mean(0, keepdim=True).clamp(-1, 1)
        writer.add_audio(sample.name, mono, step, sample_rate=sample.sample_rate)
    if sample.image is not None:
        writer.add_image(sample.name, sample.image, step)


def _media(library: Any, sample: Sample) -> dict[str, Any]:
    """Convert for wandb and trackio, which take (samples, channels) and (height, width, 3)."""
    values: dict[str, Any] = {}
    if sample.audio is not None:
        # trackio normalises floats to full scale, integers keep their level.
        audio = (sample.audio.float().cpu().clamp(-1, 1) * 32767).round().short().T.numpy()
        values[sample.name] = library.Audio(audio, sample_rate=sample.sample_rate)
    if sample.image is not None:
        values[f"{sample.name} picture"] = library.Image(sample.image.permute(1, 2, 0).cpu().numpy())
    return values
