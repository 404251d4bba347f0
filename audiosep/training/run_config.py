"""A training run as one JSON file.

    {"task": "separation", "preset": "24", "seed": 0, "trainer": {...}, "model": {...}, "data": {...}, "options": {...}}

`task` chooses the class, `trainer` is a `TrainerConfig`, everything else is the `Config` of the task. `preset` is a
starting point for a size of memory, under what the file itself says.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiosep.errors import ConfigError
from audiosep.training.engine.config import TrainerConfig
from audiosep.training.engine.presets import preset
from audiosep.weights import configs

TASKS = {
    "separation": "audiosep.training.separation.task:SeparationTask",
    "text": "audiosep.training.towers.text:TextDistillation",
    "audio": "audiosep.training.towers.audio:AudioDistillation",
    "contrastive": "audiosep.training.towers.contrastive:Contrastive",
}


@dataclass(frozen=True)
class Recipe:
    """A checked configuration.

    Attributes:
        task: name in `TASKS`.
        trainer: the trainer's part.
        options: the task's part: the configuration of the task's class.
    """

    task: str
    trainer: TrainerConfig
    options: dict[str, Any]


def read_recipe(path: Path | str, overrides: Sequence[str] = (), size: str | None = None) -> Recipe:
    """Read a training configuration.

    Args:
        path: the JSON file.
        overrides: "dotted.key=value" each, the value in JSON or a bare word: trainer.minutes=60.
        size: memory preset in place of the file's, see `presets.preset`.

    Raises:
        ConfigError: no such file, no JSON, an unknown task or key, or an impossible value.
    """
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error}") from error
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected an object with task, trainer, data ...")
    for text in overrides:
        override(data, text)
    return make_recipe(data, size)


def make_recipe(data: Mapping[str, Any], size: str | None = None) -> Recipe:
    """Check the JSON data of a configuration; see `read_recipe`."""
    rest = dict(data)
    task, chosen = rest.pop("task", None), size or rest.pop("preset", None)
    rest.pop("preset", None)
    if task not in TASKS:
        raise ConfigError(f"task: {task!r} is not one of {', '.join(map(repr, TASKS))}")
    if chosen is not None:
        rest = merged(preset(task, str(chosen)), rest)
    trainer = dict(rest.pop("trainer", {}))
    if "seed" in rest:
        trainer.setdefault("seed", rest["seed"])
    return Recipe(task, configs.from_dict(TrainerConfig, trainer, "trainer"), rest)


def build_task(recipe: Recipe, run_dir: Path) -> Any:
    """The task that a recipe describes.

    Raises:
        ConfigError: its configuration is wrong.
    """
    module, name = TASKS[recipe.task].split(":")
    return getattr(importlib.import_module(module), name).from_config(recipe.options, run_dir)


def about(recipe: Recipe) -> dict[str, Any]:
    """What the run folder shall know about its origin: the whole configuration, sha256 of the files it names."""
    files = {text: file_hash(Path(text)) for text in _strings(recipe.options) if _is_file(text)}
    return {"task": recipe.task, **recipe.options, "files": files}


def file_hash(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def override(data: dict[str, Any], text: str) -> None:
    """Set one value of nested JSON data from "dotted.key=value".

    Raises:
        ConfigError: no "=", or the path leads through something that is no object.
    """
    place, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text}: expected dotted.key=value, such as trainer.minutes=60")
    *parents, key = place.split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise ConfigError(f"--set {text}: {parent!r} holds no further keys")
    try:
        data[key] = json.loads(value)
    except json.JSONDecodeError:
        data[key] = value


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, object by object."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


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
