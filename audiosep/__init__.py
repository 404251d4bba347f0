"""audiosep: separate any sound you can name out of any recording.

>>> import audiosep
>>> out = audiosep.separate("song.mp3", "piano")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Names are resolved on first use so that `import audiosep` and `audiosep --help` load neither torch nor transformers.
_PUBLIC = {
    "separate": "audiosep.api",
    "stems": "audiosep.api",
    "load": "audiosep.api",
    "Query": "audiosep.query.query",
    "Separator": "audiosep.separator",
    "Separation": "audiosep.separator",
    "AudioSepError": "audiosep.errors",
    "Cancelled": "audiosep.errors",
    "BatchError": "audiosep.errors",
}

__all__ = [
    "AudioSepError",
    "BatchError",
    "Cancelled",
    "Query",
    "Separation",
    "Separator",
    "__version__",
    "load",
    "separate",
    "stems",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'audiosep' has no attribute {name!r}; it has {', '.join(sorted(_PUBLIC))}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])


if TYPE_CHECKING:
    from audiosep.api import load, separate, stems
    from audiosep.errors import AudioSepError, BatchError, Cancelled
    from audiosep.query.query import Query
    from audiosep.separator import Separation, Separator
