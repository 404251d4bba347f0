"""Checkpoints of a run, written completely or not at all."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from audiosep.atomic import fill_folder, remove_leftovers, write_text
from audiosep.errors import ConfigError
from audiosep.training.engine.schedule import Clock

MODEL, AVERAGE, OPTIMIZER, TRAINER = "model.safetensors", "ema.safetensors", "optimizer.pt", "trainer.json"


@dataclass
class RunProgress:
    """The counters of a run.

    Attributes:
        step: optimizer steps done.
        minutes: minutes of training done.
        items: training items (queries) seen.
        skipped: steps in a row that were skipped because the gradient was not finite.
        best: best value of the monitored number so far.
        best_step: its step.
        stale: validations since.
        validated: step of the last validation.
    """

    step: int = 0
    minutes: float = 0.0
    items: int = 0
    skipped: int = 0
    best: float | None = None
    best_step: int = 0
    stale: int = 0
    validated: int = -1

    @property
    def clock(self) -> Clock:
        """Steps and minutes, which the schedule depends on."""
        return Clock(self.step, self.minutes)


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    average: Mapping[str, Tensor],
    training: Mapping[str, Any],
    progress: RunProgress,
    keep: int,
) -> Path:
    """Write `folder/step-N`, point `folder/latest` at it and delete all but the newest `keep`.

    Args:
        folder: `checkpoints` of the run.
        model: the trained weights.
        average: the state of the averaged model.
        training: state of optimizer and gradient scaler; tensors and plain values only.
        progress: the counters.
        keep: number of checkpoints that are kept.

    Returns:
        The new checkpoint.
    """
    path = folder / f"step-{progress.step:08d}"
    remove_leftovers(folder, folders=True)
    with fill_folder(path) as part:
        (part / MODEL).write_bytes(save(_storable(model.state_dict())))
        (part / AVERAGE).write_bytes(save(_storable(average)))
        optimizer = io.BytesIO()  # in memory first: on a full disk the error of `torch.save` does not mention the disk
        torch.save(dict(training), optimizer)
        (part / OPTIMIZER).write_bytes(optimizer.getbuffer())
        (part / TRAINER).write_text(json.dumps(dataclasses.asdict(progress)), encoding="utf-8")
    write_text(folder / "latest", path.name)
    for old in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old)
    return path


def latest_checkpoint(folder: Path) -> Path | None:
    """Find the newest complete checkpoint in `folder`, or None."""
    pointer = folder / "latest"
    if pointer.is_file() and (folder / pointer.read_text(encoding="utf-8").strip() / TRAINER).is_file():
        return folder / pointer.read_text(encoding="utf-8").strip()
    found = sorted(path for path in folder.glob("step-*") if (path / TRAINER).is_file())
    return found[-1] if found else None


def load_checkpoint(path: Path, model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any], RunProgress]:
    """Load a checkpoint's weights into `model`.

    Args:
        path: the checkpoint.
        model: changed in place.

    Returns:
        The state of the averaged model, the state of optimizer and scaler, and the counters.

    Raises:
        ConfigError: the model has other weights or shapes than the one that was saved.
    """
    try:
        model.load_state_dict(load_file(path / MODEL))
    except RuntimeError as error:
        differences = str(error).splitlines()[1:]  # behind a heading; there may be hundreds
        raise ConfigError(
            f"{path} holds another model than the configuration describes; "
            f"use a new run folder, with init={str(path)!r} to start from these weights "
            f"(the first of {len(differences)} differences: {shorten(differences[0], 200)})"
        ) from error
    training = torch.load(path / OPTIMIZER, weights_only=True, map_location="cpu")
    progress = RunProgress(**json.loads((path / TRAINER).read_text(encoding="utf-8")))
    return load_file(path / AVERAGE), training, progress


def _storable(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # safetensors refuses tensors that share memory or are not contiguous (channels-last weights are not).
    return {k: v.detach().to("cpu", copy=True).contiguous() for k, v in state.items()}
