"""A model on disk: a folder with `config.json` and `model.safetensors`.

    config.json          {"format": 1, "family": "hybrid", "model": {...}, "query": {"encoder": "mini", ...}, ...}
    model.safetensors    the network's tensors under the names of its modules
    ...                  what the query encoder needs

Only numbers and JSON are read: a model from an unknown source cannot run code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

from audiosep.atomic import write_bytes, write_text
from audiosep.errors import ConfigError, ModelError
from audiosep.models.families import family_class, family_of
from audiosep.models.separation_model import SeparationModel
from audiosep.weights.configs import from_dict, to_dict
from audiosep.weights.model_config import CONFIG, FORMAT, read_config

WEIGHTS = "model.safetensors"


def save_model(
    folder: str | Path,
    model: SeparationModel,
    *,
    query: Mapping[str, Any] | None,
    extra: Mapping[str, Any] | None = None,
    half: bool = False,
) -> Path:
    """Write `model` so that `load_model` reads it back.

    Args:
        folder: is made if needed; other files in it stay.
        model: of a registered family.
        query: what `query.load_encoder` needs, such as {"encoder": "mini"}; None for a model without queries.
        extra: more entries of `config.json`, such as "name" and "licence".
        half: store matrices in float16; vectors and statistics stay in float32.

    Returns:
        The folder.

    Raises:
        ModelError: the model's class is no registered family, or a weight does not fit into float16.
        AudioSepError: the folder cannot be written to.
    """
    folder = Path(folder)
    config = {"format": FORMAT, "family": family_of(model), "model": to_dict(model.config)}
    config |= {"query": None if query is None else dict(query), **(extra or {})}
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    # The configuration goes last: a folder without it is no model.
    save_state(folder / WEIGHTS, model.state_dict(), half=half)
    write_text(folder / CONFIG, text)
    return folder


def load_model(folder: str | Path) -> tuple[SeparationModel, dict[str, Any]]:
    """Read the model in a folder.

    Args:
        folder: written by `save_model`.

    Returns:
        The network (float32, CPU, eval mode) and all of `config.json`.

    Raises:
        ModelError: a file is missing, damaged, or of another model; the message names the file and the remedy.
    """
    folder = Path(folder)
    config = read_config(folder)
    family = family_class(config["family"], folder / CONFIG)
    try:
        with SkipRandomWeights():
            model: SeparationModel = family(from_dict(family.Config, config["model"], "model"))
    except ConfigError as error:
        raise ModelError(f"{folder / CONFIG}: {error}; was it made by another version of audiosep?") from error
    load_into(model, load_state(folder / WEIGHTS), folder / WEIGHTS)
    return model.eval().requires_grad_(False), config


class SkipRandomWeights(TorchFunctionMode):
    """Modules that are made within this context have no random weights: those that are loaded take their place.

    Drawing them takes a quarter of the time of loading.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function of torch, unless it draws weights."""
        kwargs = kwargs or {}
        if func in _DRAWING:
            return args[0] if args else kwargs["tensor"]
        if func is torch.randn and "generator" not in kwargs:
            return torch.empty(*args, **kwargs)
        return func(*args, **kwargs)


_DRAWING = (Tensor.uniform_, Tensor.normal_, init.kaiming_uniform_, init.uniform_, init.normal_)


def load_into(model: torch.nn.Module, state: Mapping[str, Tensor], where: Path | str) -> None:
    """Load weights into a model; the keys and shapes must be exactly the model's.

    Args:
        model: changed in place.
        state: name -> tensor.
        where: where `state` was read, for messages.

    Raises:
        ModelError: a key is missing, unknown or of another shape; the message names it.
    """
    own = model.state_dict()
    problems = [f"missing key {key!r}" for key in own if key not in state]
    problems += [f"unknown key {key!r}" for key in state if key not in own]
    problems += [
        f"key {key!r} has shape {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if problems:
        more = f" and {len(problems) - 1} more problems" if len(problems) > 1 else ""
        raise ModelError(f"{where}: {problems[0]}{more}; it does not belong to this {CONFIG}: install the model again")
    model.load_state_dict(dict(state))


def save_state(path: str | Path, state: Mapping[str, Tensor], *, half: bool = False) -> None:
    """Write tensors as a safetensors file.

    Args:
        path: file to write or replace.
        state: name -> tensor.
        half: store floating tensors of two and more dimensions in float16.

    Raises:
        ModelError: a value does not fit into float16, or is not finite.
        AudioSepError: the folder cannot be written to.
    """
    tensors = {}
    for key, tensor in state.items():
        kept = tensor.detach().cpu()
        if half and kept.is_floating_point() and kept.ndim >= 2:
            kept = kept.half()
        if kept.is_floating_point() and not torch.isfinite(kept).all():
            raise ModelError(f"{path}: {key!r} has values that are not finite{' in float16' if half else ''}")
        tensors[key] = kept.contiguous().clone()
    write_bytes(path, save(tensors))


def load_state(path: str | Path) -> dict[str, Tensor]:
    """Read tensors from a safetensors file.

    Args:
        path: the file.

    Returns:
        name -> tensor on the CPU, floating ones in float32.

    Raises:
        ModelError: no such file, or it is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a mapping
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing; install or convert the model again") from error
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged ({error}); install or convert the model again") from error
    return {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
