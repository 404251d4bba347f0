"""Speed and memory of models on this machine: a grid of cases, measured in turns.

Each case has a process of its own. The processes take turns run by run, so that other load and the temperature of the
processor affect all of them alike.
"""

from __future__ import annotations

import datetime
import itertools
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from audiosep.bench.case import Case, CaseFacts, CaseRunner, Times
from audiosep.bench.comparison import OtherImplementation
from audiosep.bench.object_process import ObjectProcess
from audiosep.errors import InputError
from audiosep.inference.environment import environment
from audiosep.inference.options import Engine

if TYPE_CHECKING:
    from audiosep.bench.roofline import Roofline

TEXTS = ("speech", "piano", "drums", "dog barking", "electric guitar", "rain", "engine", "applause")
TOGETHER = 8  # processes at a time


@dataclass(frozen=True)
class Spread:
    """Median, least and largest of several runs."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Describe `values`, at least one."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Comparison:
    """Another implementation on the same case.

    Attributes:
        reference: its name, "module:callable".
        seconds: of its separation in memory.
        ratio: its seconds divided by ours for separating, run by run.
        peak_memory_mb: its largest resident set, MB (10^6 bytes); None where it is not reported.
    """

    reference: str
    seconds: Spread
    ratio: Spread
    peak_memory_mb: float | None


@dataclass(frozen=True)
class Measurement:
    """The result of one case.

    Attributes:
        case: what was measured.
        facts: what was loaded for it.
        runs: how many there were.
        total: seconds from file to files.
        decode: seconds of decoding, in a second pass.
        separate: seconds of separating, in that pass.
        write: seconds of writing, in that pass.
        peak_memory_mb: largest resident set of the process, MB (10^6 bytes); None where it is not reported.
        peak_device_memory_mb: of tensors on a CUDA device, MB; None without one.
        roofline: of one window; None if it was not measured.
        against: another implementation; None if there was none.
    """

    case: Case
    facts: CaseFacts
    runs: int
    total: Spread
    decode: Spread
    separate: Spread
    write: Spread
    peak_memory_mb: float | None
    peak_device_memory_mb: float | None
    roofline: Roofline | None
    against: Comparison | None

    @property
    def task(self) -> str:
        """What was separated: "stems", "1 query", "2 queries" ..."""
        count = 0 if self.case.queries is None else len(self.case.queries)
        return {0: "stems", 1: "1 query"}.get(count, f"{count} queries")

    @property
    def real_time_factor(self) -> float:
        """Median seconds from file to files per second of sound; below 1 is faster than real time."""
        return self.total.median / self.facts.audio_seconds


def grid(
    models: Sequence[str],
    *,
    devices: Sequence[str] = ("auto",),
    precisions: Sequence[str] = ("auto",),
    threads: Sequence[int | None] = (None,),
    tasks: Sequence[tuple[str, ...] | None] = (TEXTS[:1],),
    lengths: Sequence[float] = (60.0,),
    recording: str | None = None,
    engines: Sequence[Engine] = ("torch",),
) -> list[Case]:
    """All combinations, as cases.

    Args:
        models: as `Case.model`.
        devices: as `Case.device`.
        precisions: as `Case.precision`.
        threads: as `Case.threads`.
        tasks: queries of each; None for the stems.
        lengths: seconds of the test sound.
        recording: a file to separate instead of the test sound.
        engines: as `Case.engine`.

    Raises:
        InputError: a length or a number of threads that is not positive, or a task without queries.
    """
    if not all(0 < seconds < float("inf") for seconds in lengths):
        raise InputError(f"the test sound must last longer than 0 s, got {', '.join(map(str, lengths))}")
    if any(count is not None and count < 1 for count in threads):
        raise InputError(f"threads must be at least 1, got {', '.join(map(str, threads))}")
    if any(task is not None and not task for task in tasks):
        raise InputError("name at least one query, or measure the stems with --stems")
    axes = (models, devices, precisions, threads, tasks, lengths[:1] if recording else lengths, engines)
    return [
        Case(model, device, precision, count, task, recording, seconds, engine)
        for model, device, precision, count, task, seconds, engine in itertools.product(*axes)
    ]


def measure_cases(
    cases: Sequence[Case],
    *,
    runs: int = 5,
    roofline: bool = True,
    against: str | None = None,
    progress: Callable[[float], Any] | None = None,
) -> list[Measurement]:
    """Measure cases, interleaved run by run.

    Args:
        cases: what to measure; up to `TOGETHER` of them have processes at the same time.
        runs: of each case.
        roofline: also count a window's operations and bytes, and measure the machine's peaks.
        against: "module:callable" of another implementation (see `OtherImplementation`).
        progress: called with the fraction that is done.

    Returns:
        One measurement for each case.

    Raises:
        InputError: no case or no run, or `against` cannot be called.
        AudioSepError: whatever loading or separating raises.
    """
    if not cases or runs < 1:
        raise InputError(f"there must be at least one case and one run, got {len(cases)} and {runs}")
    done: list[Measurement] = []
    for start in range(0, len(cases), TOGETHER):
        part = cases[start : start + TOGETHER]

        def advance(fraction: float, start: int = start, count: int = len(part)) -> None:
            if progress is not None:
                progress((start + fraction * count) / len(cases))

        done += _in_turns(part, runs, roofline, against, advance)
    return done


def _in_turns(
    cases: Sequence[Case], runs: int, roofline: bool, against: str | None, advance: Callable[[float], None]
) -> list[Measurement]:
    ours: list[ObjectProcess] = []
    theirs: list[ObjectProcess] = []
    try:
        facts = []
        for case in cases:
            ours.append(ObjectProcess(CaseRunner, case, time.time()))
            facts.append(ours[-1].call("facts"))
            if against is not None:
                theirs.append(ObjectProcess(OtherImplementation, case, against))
                theirs[-1].call("run")  # the first call may load and compile
        times: list[list[Times]] = [[] for _ in cases]
        seconds: list[list[float]] = [[] for _ in cases]
        for number in range(runs):
            for i, process in enumerate(ours):
                times[i].append(process.call("run"))
                if theirs:
                    seconds[i].append(theirs[i].call("run"))
            advance((number + 1) / runs)
        done = []
        for i, case in enumerate(cases):
            memory, device_memory = ours[i].memory()
            done.append(
                Measurement(
                    case=case,
                    facts=facts[i],
                    runs=runs,
                    total=Spread.of([one.total for one in times[i]]),
                    decode=Spread.of([one.decode for one in times[i]]),
                    separate=Spread.of([one.separate for one in times[i]]),
                    write=Spread.of([one.write for one in times[i]]),
                    peak_memory_mb=memory,
                    peak_device_memory_mb=device_memory,
                    roofline=ours[i].call("roofline") if roofline else None,
                    against=None if against is None else _compare(against, times[i], seconds[i], theirs[i]),
                )
            )
        return done
    finally:
        for process in (*ours, *theirs):
            process.close()


def _compare(reference: str, ours: Sequence[Times], theirs: Sequence[float], process: ObjectProcess) -> Comparison:
    ratios = [their / our.separate for our, their in zip(ours, theirs, strict=True)]
    return Comparison(reference, Spread.of(theirs), Spread.of(ratios), process.memory()[0])


def conditions() -> dict[str, Any]:
    """The environment of a measurement, its time, the load of the machine and the variables that set threads."""
    return {
        **asdict(environment()),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "variables": {name: os.environ[name] for name in sorted(os.environ) if name.startswith(("OMP_", "MKL_"))},
    }
