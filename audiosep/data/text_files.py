"""Text files that users write or export: one error for those that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from audiosep.errors import DataError, missing_file
from audiosep.weights.catalogue import expand_home


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Args:
        path: the file.

    Raises:
        DataError: it cannot be read, or is in another encoding.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(missing_file(path)) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8: save it as that (in spreadsheets as CSV UTF-8)") from error


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Args:
        path: the file.

    Raises:
        DataError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not JSON: {error}") from error


def named_in(file: Path, name: str) -> Path:
    """The path that a file names: a relative one starts at its folder, and "~" is the home folder.

    Args:
        file: a manifest or a table.
        name: of a recording, as it is written there.
    """
    return file.parent / expand_home(name)
