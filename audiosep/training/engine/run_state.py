"""Checkpoints of a run, whole or not at all, and starting from the weights of another model."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from audiosep.atomic import fill_folder, remove_leftovers, write_text
from audiosep.errors import ConfigError, ModelError
from audiosep.training.engine.schedule import Clock

logger = logging.getLogger(__name__)

MODEL, AVERAGE, OPTIMIZER, TRAINER = "model.safetensors", "ema.safetensors", "optimizer.pt", "trainer.json"


@dataclass
class Progress:
    """Everything of a run that is neither a weight nor the optimizer's.

    Attributes:
        step: optimizer steps done. minutes: minutes of training done. items: training items (queries) seen.
        skipped: steps in a row that were thrown away because the gradient was not finite.
        best: best value of the monitored number so far. best_step: its step. stale: validations since.
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
        """Where the schedule is."""
        return Clock(self.step, self.minutes)


@dataclass
class WarmStart:
    """What `warm_start` did, as lists of weight names."""

    copied: list[str] = field(default_factory=list)
    grown: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = ", ".join(f"{len(names)} {kind}" for kind, names in dataclasses.asdict(self).items())
        examples = [*self.grown[:2], *self.fresh[:3], *self.unused[:3]]
        return counts + (f" (such as {', '.join(examples)})" if examples else "")


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    average: Mapping[str, Tensor],
    training: Mapping[str, Any],
    progress: Progress,
    keep: int,
) -> Path:
    """Write `folder/step-N`, point `folder/latest` at it and delete all but the newest `keep`.

    Args:
        folder: `checkpoints` of the run.
        model: the trained weights. average: the state of the averaged model.
        training: state of optimizer and gradient scaler; tensors and plain values only.
        progress: the counters.
        keep: how many checkpoints stay.

    Returns:
        The new checkpoint.
    """
    path = folder / f"step-{progress.step:08d}"
    remove_leftovers(folder)
    with fill_folder(path) as part:
        (part / MODEL).write_bytes(save(_storable(model.state_dict())))
        (part / AVERAGE).write_bytes(save(_storable(average)))
        optimizer = io.BytesIO()  # in memory first: on a full disk `torch.save` raises what tells nothing of the disk
        torch.save(dict(training), optimizer)
        (part / OPTIMIZER).write_bytes(optimizer.getbuffer())
        (part / TRAINER).write_text(json.dumps(dataclasses.asdict(progress)), encoding="utf-8")
    write_text(folder / "latest", path.name)
    for old in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old)
    return path


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint below `folder`, or None."""
    pointer = folder / "latest"
    if pointer.is_file() and (folder / pointer.read_text(encoding="utf-8").strip() / TRAINER).is_file():
        return folder / pointer.read_text(encoding="utf-8").strip()
    found = sorted(path for path in folder.glob("step-*") if (path / TRAINER).is_file())
    return found[-1] if found else None


def load_checkpoint(path: Path, model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any], Progress]:
    """Put a checkpoint's weights into `model`.

    Returns:
        The state of the averaged model, the state of optimizer and scaler, and the counters.

    Raises:
        ConfigError: the model of this run has another shape than the one that was saved.
    """
    try:
        model.load_state_dict(load_file(path / MODEL))
    except RuntimeError as error:
        raise ConfigError(
            f"{path} holds another model than the configuration describes; "
            f"use a new run folder, with init={str(path)!r} to start from these weights ({error})"
        ) from error
    training = torch.load(path / OPTIMIZER, weights_only=True, map_location="cpu")
    progress = Progress(**json.loads((path / TRAINER).read_text(encoding="utf-8")))
    return load_file(path / AVERAGE), training, progress


def find_weights(path: Path) -> Path:
    """The weights file that `init` means: the file itself, or the best guess in a model, checkpoint or run folder.

    Raises:
        ModelError: there is none.
    """
    if path.is_file():
        return path
    for candidate in (path / AVERAGE, path / MODEL, path / "best" / MODEL, path / "model" / MODEL):
        if candidate.is_file():
            return candidate
    newest = latest_checkpoint(path / "checkpoints") or latest_checkpoint(path)
    if newest is None:
        raise ModelError(f"{path}: no weights here; init is a .safetensors file, a model folder, a checkpoint or a run")
    return newest / AVERAGE


def warm_start(model: nn.Module, path: Path) -> WarmStart:
    """Copy the weights of another model as far as they fit.

    A weight of equal shape is copied. One with the same number of axes but other sizes (a wider layer, more inputs) is
    copied into the corner that both share, part by part where a model stacks it from parts (`stacked(name)`: how many,
    along the first axis). All other values stay fresh.

    Args:
        model: the model to be trained; changed in place.
        path: see `find_weights`.

    Raises:
        ModelError: not a single weight fits.
    """
    file = find_weights(path)
    given, report = load_file(file), WarmStart()
    state = model.state_dict()
    stacked: Callable[[str], int] = getattr(model, "stacked", lambda name: 1)
    with torch.no_grad():
        for name, tensor in state.items():
            source = given.get(name)
            if source is None or source.ndim != tensor.ndim:
                report.fresh.append(name)
            elif source.shape == tensor.shape:
                tensor.copy_(source)
                report.copied.append(name)
            else:
                parts = stacked(name)
                for into, part in zip(tensor.chunk(parts), source.chunk(parts), strict=True):
                    corner = tuple(slice(min(a, b)) for a, b in zip(part.shape, into.shape, strict=True))
                    into[corner].copy_(part[corner])
                report.grown.append(name)
    report.unused = sorted(set(given) - set(state))
    if not report.copied and not report.grown:
        raise ModelError(f"{file}: not one of its {len(given)} weights fits the model; is it of another family?")
    logger.info("started from %s: %s", file, report)
    return report


def _storable(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # safetensors refuses tensors that share memory or are not contiguous (channels-last weights are not).
    return {k: v.detach().to("cpu", copy=True).contiguous() for k, v in state.items()}
