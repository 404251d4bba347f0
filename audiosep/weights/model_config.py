"""`config.json` of a model's folder, read without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from audiosep.errors import ModelError

FORMAT = 1
CONFIG = "config.json"


def read_config(folder: str | Path) -> dict[str, Any]:
    """Read `config.json` of a model's folder and check the entries that all families have.

    Args:
        folder: of the model.

    Returns:
        The object; its "query" is None where the file has none.

    Raises:
        ModelError: no such file, no JSON, or a format that this version does not know.
    """
    path = Path(folder) / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{folder} is no model: it has no {CONFIG}; give a folder that audiosep wrote") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error}); install or convert the model again") from error
    known = isinstance(config, dict) and {"format", "family", "model"} <= set(config)
    if isinstance(config, dict) and "trainer" in config:
        raise ModelError(f"{folder} is the folder of a training run: what it has trained is in {Path(folder) / 'best'}")
    if not known:
        raise ModelError(f"{path} does not describe an audiosep model: it needs 'format', 'family' and 'model'")
    if config["format"] != FORMAT:
        raise ModelError(f"{path} has format {config['format']!r}, this version reads {FORMAT}: update audiosep")
    config.setdefault("query", None)
    return dict(config)


def check_model_place(folder: Path) -> None:
    """Refuse a folder that must not be replaced by a model's: one of other files, or that this process works in.

    Args:
        folder: of the model that will be written, which takes its place as a whole.

    Raises:
        ModelError: names what to do.
    """
    if not folder.is_dir():
        return
    if Path.cwd().is_relative_to(folder.resolve()):
        raise ModelError(f"{folder} is the working folder, or above it, and would be replaced: name a folder in it")
    if any(folder.iterdir()) and not (folder / CONFIG).is_file():
        raise ModelError(f"{folder} is not overwritten: it is not a model's folder (no {CONFIG}); name another one")


def stated_stems(folder: str | Path) -> tuple[str, ...] | None:
    """The stems that a model's configuration states.

    Args:
        folder: of the model.

    Returns:
        Their names in order; None where the configuration leaves them to the model's family.

    Raises:
        ModelError: as `read_config`.
    """
    model = read_config(folder)["model"]
    stems = model.get("stems") if isinstance(model, dict) else None
    return tuple(map(str, stems)) if isinstance(stems, list) else None
