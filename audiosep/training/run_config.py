"""The configuration of a training run: one JSON file.

    {"task": "separation", "preset": "24", "seed": 0, "trainer": {...}, "model": {...}, "data": {...}, "options": {...}}

`task` chooses the class, `trainer` is a `TrainerConfig`, everything else is the `Config` of the task. `preset` gives
default values for a memory size; values in the file take precedence.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from audiosep.data.text_files import read_json
from audiosep.errors import ConfigError, DataError
from audiosep.training.engine.run_state import latest_checkpoint
from audiosep.training.engine.task import Task
from audiosep.training.engine.trainer_config import TrainerConfig
from audiosep.training.engine.warm_start import find_weights
from audiosep.training.separation.presets import preset
from audiosep.weights import configs
from audiosep.weights.catalogue import expand_home
from audiosep.weights.digest import file_sha256

TASKS = {
    "separation": "audiosep.training.separation.separation_task:SeparationTask",
    "waveform": "audiosep.training.separation.waveform_task:WaveformTask",
    "text": "audiosep.training.towers.text_distillation:TextDistillation",
    "audio": "audiosep.training.towers.audio_distillation:AudioDistillation",
    "contrastive": "audiosep.training.towers.contrastive:Contrastive",
}


@dataclass(frozen=True)
class RunConfig:
    """A checked configuration of a training run.

    Attributes:
        task: name in `TASKS`.
        trainer: the trainer's part.
        task_options: everything else: the JSON data of the task's `Config`.
    """

    task: str
    trainer: TrainerConfig
    task_options: dict[str, Any]


def read_run_config(path: Path | str, overrides: Sequence[str] = (), size: str | None = None) -> RunConfig:
    """Read the configuration of a training run.

    Args:
        path: the JSON file.
        overrides: "dotted.key=value" each, the value in JSON or a bare word: trainer.minutes=60.
        size: memory preset instead of the file's, see `presets.preset`.

    Returns:
        The checked configuration.

    Raises:
        ConfigError: no such file, no JSON, an unknown task or key, or an impossible value.
    """
    data = read_run_data(Path(path))
    for text in overrides:
        set_value(data, text)
    return parse_run_config(data, size)


def read_run_data(path: Path) -> dict[str, Any]:
    """Read the JSON data of a configuration, as its author wrote it.

    Args:
        path: the JSON file.

    Raises:
        ConfigError: no such file, no JSON, or no object.
    """
    try:
        data = read_json(path)
    except DataError as error:
        raise ConfigError(str(error)) from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected an object with task, trainer, data ...")
    return data


def parse_run_config(data: Mapping[str, Any], size: str | None = None) -> RunConfig:
    """Check the JSON data of a configuration.

    Args:
        data: the JSON data.
        size: memory preset instead of the data's, see `presets.preset`.

    Returns:
        The checked configuration.

    Raises:
        ConfigError: an unknown task or key, or an impossible value.
    """
    rest = _at_home(dict(data))
    task, file_size = rest.pop("task", None), rest.pop("preset", None)
    size = size or file_size
    if task not in TASKS:
        raise ConfigError(f"task: {task!r} is not one of {', '.join(map(repr, TASKS))}")
    if size is not None:
        rest = merge(preset(task, str(size)), rest)
    trainer = dict(rest.pop("trainer", {}))
    if "seed" in rest:
        trainer.setdefault("seed", rest["seed"])
    return RunConfig(task, configs.from_dict(TrainerConfig, trainer, "trainer"), rest)


def build_task(config: RunConfig) -> Task:
    """Build the task that a configuration describes.

    Args:
        config: the configuration.

    Returns:
        The task, with its data opened and its model built.

    Raises:
        ConfigError: the task's part of the configuration is wrong.
    """
    torch.manual_seed(config.trainer.seed)  # of the weights that are drawn
    module, name = TASKS[config.task].split(":")
    task: Task = getattr(importlib.import_module(module), name).from_config(config.task_options)
    return task


def provenance(config: RunConfig, run_dir: Path) -> dict[str, Any]:
    """Collect what the run's config.json records: the task's configuration and the sha256 of each file it names.

    Args:
        config: the configuration.
        run_dir: the run folder.

    Returns:
        JSON data; `files` maps path to sha256, and `trainer.init` to that of the weights that the run began with.

    Raises:
        ModelError: there are no weights to begin with.
        DataError: config.json of a run that goes on cannot be read.
    """
    files = {text: file_sha256(Path(text)) for text in _strings(config.task_options) if _is_file(text)}
    files |= _first_weights(config.trainer.init, run_dir)
    return {"task": config.task, **config.task_options, "files": files}


def _first_weights(init: str | None, run_dir: Path) -> dict[str, str]:
    """The digest of the weights of `init`: as a run that goes on has noted it, for there may be others by now."""
    if not init:
        return {}
    if latest_checkpoint(run_dir / "checkpoints") is None:
        return {init: file_sha256(find_weights(Path(init)))}
    noted = run_dir / "config.json"
    files = read_json(noted).get("files", {}) if noted.is_file() else {}
    return {init: files[init]} if init in files else {}


def set_value(data: dict[str, Any], text: str) -> None:
    """Set one value of nested JSON data.

    Args:
        data: changed in place.
        text: "dotted.key=value".

    Raises:
        ConfigError: no "=", or the key leads through a value that is no object.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text}: expected dotted.key=value, such as trainer.minutes=60")
    *parents, last = key.split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise ConfigError(f"--set {text}: {parent!r} holds no further keys")
    try:
        data[last] = json.loads(value)
    except json.JSONDecodeError:
        data[last] = value


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested JSON objects.

    Args:
        base: the values to start from.
        changes: the values that take precedence.

    Returns:
        A new object.
    """
    result = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merge(result[key], value) if both else value
    return result


def _at_home(value: Any) -> Any:
    """The same with the home folder for "~" in front of texts, which are paths: no shell has read them."""
    if isinstance(value, Mapping):
        return {key: _at_home(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_at_home(item) for item in value]
    return str(expand_home(value)) if isinstance(value, str) and value.startswith("~") else value


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def _is_file(text: str) -> bool:
    try:
        return bool(text) and Path(text).is_file()
    except (OSError, ValueError):
        return False
