"""Licences that restrict what weights may be used for: accepted once, and remembered beside the models."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from pathlib import Path

from audiosep.atomic import write_text
from audiosep.errors import ModelError
from audiosep.weights.catalogue import MODELS, RECORD, home
from audiosep.weights.model_entry import ModelEntry

_FILE = "licences.json"


def accepted(entry: ModelEntry) -> bool:
    """Whether a model's licence restricts nothing, or was accepted as it is now.

    Args:
        entry: of the catalogue.
    """
    return not entry.restricted or _record().get(entry.name, {}).get("licence") == entry.licence


def accept(entry: ModelEntry) -> None:
    """Remember that a model's licence was accepted.

    Args:
        entry: of the catalogue.

    Raises:
        AudioSepError: the file cannot be written.
    """
    record = _record()
    record[entry.name] = {"licence": entry.licence, "accepted": datetime.now(UTC).isoformat(timespec="seconds")}
    home().mkdir(parents=True, exist_ok=True)
    write_text(_path(), json.dumps(record, indent=2, sort_keys=True) + "\n")


def check_accepted(entry: ModelEntry) -> None:
    """Refuse to go on before a licence that restricts is accepted.

    Args:
        entry: of the catalogue.

    Raises:
        ModelError: the message says how to accept it.
    """
    if not accepted(entry):
        raise ModelError(
            f"the licence of the weights of {entry.name} ({entry.licence}) does not allow every use: if you accept "
            f"that, `{entry.download}`"
        )


def check_use(model: str | Path, folder: Path) -> None:
    """Refuse a model of the catalogue that was put there by hand before its licence was accepted.

    Those that `download` put there were accepted then.

    Args:
        model: as in `audiosep.load`.
        folder: in which it was found.

    Raises:
        ModelError: as in `check_accepted`.
    """
    entry = MODELS.get(model) if isinstance(model, str) else None
    if entry is not None and not (folder / RECORD).is_file():
        check_accepted(entry)


def _path() -> Path:
    return home() / _FILE


def _record() -> dict[str, dict[str, str]]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(_path().read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return {name: about for name, about in found.items() if isinstance(about, dict)}
    return {}
