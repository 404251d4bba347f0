"""The same separation by another implementation, for `audiosep bench --against`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from audiosep.audio import read_audio
from audiosep.bench.bench_recordings import scores
from audiosep.bench.case import Case, Findings, Times, case_recording
from audiosep.bench.object_process import memory_peaks
from audiosep.evaluation.functions import find_callable
from audiosep.inference.threads import use_threads


class OtherImplementation:
    """Separates the recording of a case, in memory, with an implementation that is no model of ours.

    Args:
        case: gives the recording, the queries and the threads. Its model is "module:callable", which is called as
            `callable(mix, queries, sample_rate)` with (channels, samples) float32 and a list of texts, None for the
            stems. If it returns a mapping of names to (channels, samples), the targets are compared with the true
            sounds; anything else is ignored.

    Raises:
        InputError: there is no such callable.
    """

    def __init__(self, case: Case) -> None:
        use_threads(case.threads)
        self._name = case.model
        self._call = find_callable(case.model)
        self._queries = None if case.queries is None else list(case.queries)
        self._folder = tempfile.TemporaryDirectory(prefix="audiosep-bench-")
        self._recording = case_recording(case, Path(self._folder.name))
        self._targets: Any = None
        self._rate = 0

    def warm_up(self) -> None:
        """Separate once: the first call may load and compile."""
        self.run()

    def run(self) -> Times:
        """Read and separate once; nothing is written."""
        clock = time.perf_counter
        began = clock()
        mix, self._rate = read_audio(self._recording.path)
        read = clock()
        self._targets = self._call(mix, self._queries, self._rate)
        ended = clock()
        return Times(ended - began, read - began, ended - read, 0.0)

    def findings(self) -> Findings:
        """Memory of all runs and quality of the last one."""
        peaks, references = memory_peaks(), self._recording.references
        named = isinstance(self._targets, Mapping)
        found = scores(self._targets, self._rate, references, self._name) if named else {}
        return Findings(*peaks, found)


def peer_case(case: Case, name: str) -> Case:
    """The work of a case for another model or implementation, as it is by default.

    Args:
        case: of ours.
        name: a model as for `Case.model`, or "module:callable".
    """
    device = "cpu" if case.engine == "openvino" else case.device
    return replace(case, model=name, device=device, precision=Case.precision, engine=Case.engine)
