"""How fast models are on this machine and how much memory they take: a grid of cases, measured in turns.

Each case has a process of its own. The processes take turns run by run, so that what else happens on the machine, and
how warm it is, falls on all of them alike.
"""

from __future__ import annotations

import datetime
import itertools
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiosep.bench.figures import rows_figure
from audiosep.bench.measure import Case, Facts, Reference, Runner, Times, Worker
from audiosep.errors import InputError
from audiosep.inference.environment import environment

if TYPE_CHECKING:
    from audiosep.bench.roofline import Roofline

TEXTS = ("speech", "piano", "drums", "dog barking", "electric guitar", "rain", "engine", "applause")
TOGETHER = 8  # processes at a time


@dataclass(frozen=True)
class Spread:
    """Of several runs."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Median, least and largest of `values`."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Against:
    """The reference beside a case. ratio: its seconds / our seconds for separating in memory, run by run."""

    reference: str
    seconds: Spread
    ratio: Spread
    peak_memory_mb: float | None


@dataclass(frozen=True)
class Measurement:
    """One case, measured; all times in seconds.

    Attributes:
        case, facts: what was measured.
        total: from file to files. decode, separate, write: the parts of a further pass, each on its own clock.
        peak_memory_mb: the largest resident set of the whole process, MB (10^6 bytes). peak_device_memory_mb: of
            tensors on a CUDA device. None where nobody says.
        roofline, against: None where not asked for.
    """

    case: Case
    facts: Facts
    runs: int
    total: Spread
    decode: Spread
    separate: Spread
    write: Spread
    peak_memory_mb: float | None
    peak_device_memory_mb: float | None
    roofline: Roofline | None
    against: Against | None

    @property
    def task(self) -> str:
        """What was separated, in words."""
        count = 0 if self.case.queries is None else len(self.case.queries)
        return {0: "stems", 1: "1 query"}.get(count, f"{count} queries")

    @property
    def real_time_factor(self) -> float:
        """Median seconds from file to files for a second of sound; below 1 is faster than real time."""
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
) -> list[Case]:
    """All combinations.

    Args:
        models, devices, precisions, threads: as in `Case`. tasks: queries of each, None for the stems.
        lengths: seconds of the test sound. recording: a file to separate instead of it.

    Raises:
        InputError: a length or a number of threads that is not positive, or a task without queries.
    """
    if not all(0 < seconds < float("inf") for seconds in lengths):
        raise InputError(f"the test sound must last longer than 0 s, got {', '.join(map(str, lengths))}")
    if any(count is not None and count < 1 for count in threads):
        raise InputError(f"threads must be at least 1, got {', '.join(map(str, threads))}")
    if any(task is not None and not task for task in tasks):
        raise InputError("name at least one query, or measure the stems")
    axes = (models, devices, precisions, threads, tasks, lengths[:1] if recording else lengths)
    return [
        Case(model, device, precision, count, task, recording, seconds)
        for model, device, precision, count, task, seconds in itertools.product(*axes)
    ]


def benchmark(
    cases: Sequence[Case],
    *,
    runs: int = 5,
    roofline: bool = True,
    against: str | None = None,
    progress: Callable[[float], Any] | None = None,
) -> list[Measurement]:
    """Measure cases, interleaved run by run.

    Args:
        cases: what to measure; the processes of up to `TOGETHER` of them take turns.
        runs: of each.
        roofline: count a window's operations and bytes, and measure the machine's peaks.
        against: "module:callable" of another implementation (see `measure.Reference`).
        progress: called with the fraction that is done.

    Raises:
        InputError: no case or no run, or a reference that cannot be called.
        AudioSepError: what loading or separating raises.
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
    ours: list[Worker] = []
    theirs: list[Worker] = []
    try:
        facts = []
        for case in cases:
            ours.append(Worker(Runner, case, time.time()))
            facts.append(ours[-1].call("facts"))
            if against is not None:
                theirs.append(Worker(Reference, case, against))
                theirs[-1].call("run")  # the first call may load and compile
        times: list[list[Times]] = [[] for _ in cases]
        seconds: list[list[float]] = [[] for _ in cases]
        for number in range(runs):
            for i, worker in enumerate(ours):
                times[i].append(worker.call("run"))
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
                    against=None if against is None else _against(against, times[i], seconds[i], theirs[i]),
                )
            )
        return done
    finally:
        for worker in (*ours, *theirs):
            worker.close()


def _against(reference: str, ours: Sequence[Times], theirs: Sequence[float], worker: Worker) -> Against:
    ratios = [their / our.separate for our, their in zip(ours, theirs, strict=True)]
    return Against(reference, Spread.of(theirs), Spread.of(ratios), worker.memory()[0])


# ---- what to make of it --------------------------------------------------------------------------------------------


def conditions() -> dict[str, Any]:
    """The environment of a measurement, when it was made, and what else may slow it down."""
    return {
        **asdict(environment()),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "variables": {name: os.environ[name] for name in sorted(os.environ) if name.startswith(("OMP_", "MKL_"))},
    }


def draw(measurements: Sequence[Measurement], path: Path) -> None:
    """A picture: the real-time factor of each case with its spread, and the share of each part.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    figure = rows_figure(len(measurements))
    axes = figure.subplots()
    rows = list(range(len(measurements)))
    left = [0.0] * len(measurements)
    for part in ("decode", "separate", "write"):
        widths = [getattr(m, part).median / m.facts.audio_seconds for m in measurements]
        axes.barh(rows, widths, left=left, label=part)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    totals = [m.real_time_factor for m in measurements]
    spread = [
        [(m.total.median - m.total.low) / m.facts.audio_seconds for m in measurements],
        [(m.total.high - m.total.median) / m.facts.audio_seconds for m in measurements],
    ]
    axes.errorbar(totals, rows, xerr=spread, fmt="k|", capsize=3, label="file to files")
    axes.set_yticks(rows, [label(m) for m in measurements])
    axes.invert_yaxis()
    axes.set_xlabel("seconds for a second of sound")
    axes.legend()
    figure.savefig(path, dpi=120)


def label(measurement: Measurement) -> str:
    """A case in a line."""
    facts = measurement.facts
    sound = f"{facts.audio_seconds:g} s"
    return f"{facts.model}, {measurement.task}, {sound}, {facts.device} {facts.precision}, {facts.threads} threads"
