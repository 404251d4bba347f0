"""Starting a training from the weights of another model, also of a smaller one."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from audiosep.errors import ModelError
from audiosep.training.engine.run_state import AVERAGE, MODEL, latest_checkpoint

logger = logging.getLogger(__name__)


@dataclass
class WarmStart:
    """What `warm_start` did, as lists of weight names.

    Attributes:
        copied: weights of equal shape.
        grown: larger weights that contain the smaller one.
        fresh: weights that keep their initial values.
        unused: weights of the file that the model does not have.
    """

    copied: list[str] = field(default_factory=list)
    grown: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = ", ".join(f"{len(names)} {kind}" for kind, names in dataclasses.asdict(self).items())
        examples = [*self.grown[:2], *self.fresh[:3], *self.unused[:3]]
        return counts + (f" (such as {', '.join(examples)})" if examples else "")


def find_weights(path: Path) -> Path:
    """Find the weights file that `init` means.

    Args:
        path: the file itself, or the folder of a model, a checkpoint or a run.

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
    """Copy the weights of another model where they fit.

    A weight of equal shape is copied. One with the same number of axes but other sizes (a wider layer, more inputs) is
    copied into the corner that both share; a weight that the model stacks from parts along the first axis (their
    number is the model's `stacked(name)`), part by part. All other values stay as they are.

    Args:
        model: the model to be trained; changed in place.
        path: see `find_weights`.

    Returns:
        The names of the weights by what happened to them.

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
