"""YAML files of foreign checkpoints, read as numbers, texts, lists and objects only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from audiosep.errors import DependencyError, ModelError, missing_file

_LARGEST = 1 << 20  # bytes


def read_yaml(path: Path) -> dict[str, Any]:
    """Read an object from a YAML file. Dates are read as texts, Python's tuples as lists; any other tag is an error.

    Args:
        path: the file.

    Raises:
        ModelError: it is missing, damaged, too large, holds no object, or asks for anything but plain data.
        DependencyError: PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError as error:
        raise DependencyError(f"reading {path.name} needs PyYAML: pip install pyyaml") from error

    class Loader(yaml.SafeLoader):  # type: ignore[misc, unused-ignore]  # PyYAML may have no types
        """The safe loader, with tuples."""

    def sequence(loader: Loader, node: yaml.SequenceNode) -> list[Any]:
        return list(loader.construct_sequence(node, deep=True))

    Loader.add_constructor("tag:yaml.org,2002:python/tuple", sequence)
    Loader.add_constructor("tag:yaml.org,2002:timestamp", yaml.SafeLoader.construct_yaml_str)
    for kind in ("set", "binary", "omap", "pairs"):
        Loader.add_constructor(f"tag:yaml.org,2002:{kind}", yaml.SafeLoader.construct_undefined)
    try:
        if path.stat().st_size > _LARGEST:
            raise ModelError(f"{path} is too large for a configuration: give the YAML file of the checkpoint")
        content = yaml.load(path.read_text(encoding="utf-8"), Loader)  # a safe loader
    except FileNotFoundError as error:
        raise ModelError(missing_file(path)) from error
    except (OSError, UnicodeError, RecursionError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path} was refused, and nothing in it was run: {reason}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds no configuration: it should be an object with names and values")
    return content
