"""The same separation by another implementation, for `audiosep bench --against`."""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from audiosep.audio import read_audio
from audiosep.bench.case import Case, recording
from audiosep.errors import InputError
from audiosep.inference.threads import use_threads


class OtherImplementation:
    """Separates the recording of a case, in memory, with another implementation.

    Args:
        case: gives the recording, the queries and the threads.
        name: "module:callable". It is called as `callable(mix, queries, sample_rate)` with (channels, samples) float32
            and a list of texts, None for the stems.

    Raises:
        InputError: there is no such callable.
    """

    def __init__(self, case: Case, name: str) -> None:
        use_threads(case.threads)
        self._call = find_callable(name)
        self._queries = None if case.queries is None else list(case.queries)
        with tempfile.TemporaryDirectory(prefix="audiosep-bench-") as folder:
            self._mix, self._rate = read_audio(recording(case, Path(folder)))

    def run(self) -> float:
        """Separate once.

        Returns:
            Seconds.
        """
        mix = np.array(self._mix)
        began = time.perf_counter()
        self._call(mix, self._queries, self._rate)
        return time.perf_counter() - began


def find_callable(reference: str) -> Callable[..., Any]:
    """The object that "module:callable" names.

    Raises:
        InputError: it cannot be imported, or is not callable.
    """
    module, _, name = reference.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"--against {reference}: {error}; name it as module:callable") from error
    if not callable(found):
        raise InputError(f"--against {reference}: is a {type(found).__name__}, not callable")
    call: Callable[..., Any] = found
    return call
