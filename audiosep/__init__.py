"""audiosep: separate any sound you can name out of any recording.

>>> import audiosep
>>> out = audiosep.separate("song.mp3", "piano")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

__version__ = "0.2.0"

# OpenMP reads these once, when torch is loaded. By default threads that wait for each other spin for long (GNU: 300,000
# rounds; LLVM: 200 ms), which takes the CPU from what they wait for where other programs are busy. Threads that sleep
# at once are slow on an idle machine. docs/bench.md has both.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & set(os.environ):
    os.environ.update(GOMP_SPINCOUNT="3000", KMP_BLOCKTIME="1")
# With a dynamic number of threads, layers of torch that have shared out their work before leave some of it undone.
os.environ["OMP_DYNAMIC"] = "FALSE"

# Name -> module. Names are resolved on first use: `import audiosep` and `audiosep --help` load neither torch nor
# transformers.
_PUBLIC = {
    "separate": "audiosep.api",
    "stems": "audiosep.api",
    "load": "audiosep.api",
    "use_threads": "audiosep.inference.threads",
    "Query": "audiosep.query.query",
    "Prototypes": "audiosep.query.prototypes",
    "Sounds": "audiosep.query.sounds",
    "OwnSound": "audiosep.query.own_sound",
    "Options": "audiosep.inference.options",
    "OutputOptions": "audiosep.output.output_options",
    "Separator": "audiosep.separator",
    "Separation": "audiosep.output.separation",
    "Activity": "audiosep.hearing.activity",
    "Description": "audiosep.hearing.description",
    "HeardSound": "audiosep.hearing.description",
    "Span": "audiosep.hearing.spans",
    "Explanation": "audiosep.inference.explanation",
    "Stream": "audiosep.inference.stream",
    "BatchEvent": "audiosep.output.batch_report",
    "BatchReport": "audiosep.output.batch_report",
    "FinishedFile": "audiosep.output.batch_report",
    "FileResult": "audiosep.output.batch_report",
    "AudioSepError": "audiosep.errors",
    "InputError": "audiosep.errors",
    "AudioError": "audiosep.errors",
    "QueryError": "audiosep.errors",
    "ModelError": "audiosep.errors",
    "ConfigError": "audiosep.errors",
    "DataError": "audiosep.errors",
    "TrainingError": "audiosep.errors",
    "DependencyError": "audiosep.errors",
    "Cancelled": "audiosep.errors",
    "BatchError": "audiosep.errors",
    "BehindTheEndError": "audiosep.errors",
}

__all__ = [
    "Activity",
    "AudioError",
    "AudioSepError",
    "BatchError",
    "BatchEvent",
    "BatchReport",
    "BehindTheEndError",
    "Cancelled",
    "ConfigError",
    "DataError",
    "DependencyError",
    "Description",
    "Explanation",
    "FileResult",
    "FinishedFile",
    "HeardSound",
    "InputError",
    "ModelError",
    "Options",
    "OutputOptions",
    "OwnSound",
    "Prototypes",
    "Query",
    "QueryError",
    "Separation",
    "Separator",
    "Sounds",
    "Span",
    "Stream",
    "TrainingError",
    "__version__",
    "load",
    "separate",
    "stems",
    "use_threads",
]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'audiosep' has no attribute {name!r}; it has {', '.join(sorted(_PUBLIC))}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])


if TYPE_CHECKING:
    from audiosep.api import load, separate, stems
    from audiosep.errors import (
        AudioError,
        AudioSepError,
        BatchError,
        BehindTheEndError,
        Cancelled,
        ConfigError,
        DataError,
        DependencyError,
        InputError,
        ModelError,
        QueryError,
        TrainingError,
    )
    from audiosep.hearing.activity import Activity
    from audiosep.hearing.description import Description, HeardSound
    from audiosep.hearing.spans import Span
    from audiosep.inference.explanation import Explanation
    from audiosep.inference.options import Options
    from audiosep.inference.stream import Stream
    from audiosep.inference.threads import use_threads
    from audiosep.output.batch_report import BatchEvent, BatchReport, FileResult, FinishedFile
    from audiosep.output.output_options import OutputOptions
    from audiosep.output.separation import Separation
    from audiosep.query.own_sound import OwnSound
    from audiosep.query.prototypes import Prototypes
    from audiosep.query.query import Query
    from audiosep.query.sounds import Sounds
    from audiosep.separator import Separator
