"""By what a file of an adapter is known, read without torch."""

from __future__ import annotations

import json
import struct
from pathlib import Path

ADAPTER = "audiosep_adapter"
"""The entry of an adapter's metadata that says its version."""

_MOST = 1 << 24  # bytes of a header; what no safetensors file has may be any number


def base_of(path: Path) -> str | None:
    """The name of the model that an adapter belongs to.

    Args:
        path: any file.

    Returns:
        None where the file is no adapter.
    """
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))  # of the JSON header of safetensors files
            metadata = json.loads(file.read(size))["__metadata__"] if size < _MOST else {}
        return str(metadata["base"]) if ADAPTER in metadata else None
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return None
