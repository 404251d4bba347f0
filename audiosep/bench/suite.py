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

from audiosep.bench.case import Case, CaseFacts, CaseRunner, Findings, Times
from audiosep.bench.comparison import OtherImplementation, peer_case
from audiosep.bench.object_process import ObjectProcess
from audiosep.errors import InputError, counted
from audiosep.evaluation.functions import names_callable
from audiosep.inference.environment import environment
from audiosep.inference.options import Engine, Options, Quality
from audiosep.weights.catalogue import locate

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
    """Another model or implementation on the same case.

    Attributes:
        reference: its name, or "module:callable".
        separate: seconds of separating in memory.
        ratio: these divided by ours, run by run.
        findings: its memory, in which a callable holds the whole recording, and its quality.
    """

    reference: str
    separate: Spread
    ratio: Spread
    findings: Findings


@dataclass(frozen=True)
class Measurement:
    """The result of one case.

    Attributes:
        case: what was measured.
        facts: what was loaded for it.
        runs: how many there were.
        total: seconds from file to files.
        decode: seconds of decoding, in a second pass in memory.
        separate: seconds of separating, in that pass.
        write: seconds of writing, in that pass.
        findings: memory of separating from file to files, and quality.
        roofline: of one window; None if it was not measured.
        against: other models and implementations.
    """

    case: Case
    facts: CaseFacts
    runs: int
    total: Spread
    decode: Spread
    separate: Spread
    write: Spread
    findings: Findings
    roofline: Roofline | None = None
    against: tuple[Comparison, ...] = ()

    @property
    def task(self) -> str:
        """What was separated: "stems", "1 query", "2 queries" ..."""
        return counted(len(self.case.queries), "query", "queries") if self.case.queries else "stems"

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
    recordings: Sequence[str] = (),
    engines: Sequence[Engine] = ("torch",),
    qualities: Sequence[Quality] = (Options.quality,),
) -> list[Case]:
    """All combinations, as cases.

    Args:
        models: as `Case.model`.
        devices: as `Case.device`.
        precisions: as `Case.precision`.
        threads: as `Case.threads`.
        tasks: queries of each; None for the stems.
        lengths: seconds of the test sound.
        recordings: as `Case.recording`, instead of the test sound.
        engines: as `Case.engine`.
        qualities: as `Case.quality`; stems have one.

    Raises:
        InputError: a length or a number of threads that is not positive, or a task without queries.
    """
    if not all(0 < seconds < float("inf") for seconds in lengths):
        raise InputError(f"the test sound must last longer than 0 s, got {', '.join(map(str, lengths))}")
    if any(count is not None and count < 1 for count in threads):
        raise InputError(f"threads must be at least 1, got {', '.join(map(str, threads))}")
    if any(task is not None and not task for task in tasks):
        raise InputError("name at least one query, or measure the stems with --stems")
    sounds: list[tuple[str | None, float]] = [(one, lengths[0]) for one in recordings]
    sounds = sounds or [(None, seconds) for seconds in lengths]
    work = [(task, quality) for task in tasks for quality in (qualities[:1] if task is None else qualities)]
    return [
        Case(model, device, precision, count, task, recording, seconds, engine, quality)
        for model, device, precision, count, (task, quality), (recording, seconds), engine in itertools.product(
            models, devices, precisions, threads, work, sounds, engines
        )
    ]


def measure_cases(
    cases: Sequence[Case],
    *,
    runs: int = 5,
    roofline: bool = True,
    against: Sequence[str] = (),
    progress: Callable[[float], Any] | None = None,
) -> list[Measurement]:
    """Measure cases, interleaved run by run.

    Args:
        cases: what to measure; together with what they are compared with, up to `TOGETHER` have processes at a time.
        runs: of each case.
        roofline: also count a window's operations and bytes, and measure the machine's peaks.
        against: other models that do the same work, as `Case.model`, or "module:callable" of another implementation
            (see `OtherImplementation`).
        progress: called with the fraction that is done.

    Returns:
        One measurement for each case.

    Raises:
        InputError: no case or no run, or `against` cannot be called.
        ModelError: a model to compare with is not on this machine.
        AudioSepError: whatever loading or separating raises.
    """
    if not cases or runs < 1:
        raise InputError(f"there must be at least one case and one run, got {len(cases)} and {runs}")
    if wrong := [case.model for case in cases if names_callable(case.model)]:
        raise InputError(f"{wrong[0]} is no model: compare with module:callable by --against")
    for name in against:
        if not names_callable(name):
            locate(name)
    done: list[Measurement] = []
    together = max(1, TOGETHER // (1 + len(against)))
    for start in range(0, len(cases), together):
        part = cases[start : start + together]

        def advance(fraction: float, start: int = start, count: int = len(part)) -> None:
            if progress is not None:
                progress((start + fraction * count) / len(cases))

        done += _in_turns(part, runs, roofline, against, advance)
    return done


def _in_turns(
    cases: Sequence[Case], runs: int, roofline: bool, against: Sequence[str], advance: Callable[[float], None]
) -> list[Measurement]:
    """Measure cases and what they are compared with; a peer whose work is the same for several cases runs once."""
    running: dict[Case, _Running] = {}
    try:
        for one in (one for case in cases for one in (case, *(peer_case(case, name) for name in against))):
            if one not in running:
                running[one] = _Running(one)
        for number in range(runs):
            for process in running.values():
                process.run()
            advance((number + 1) / runs)
        return [
            running[case].measurement(roofline, [running[peer_case(case, name)] for name in against]) for case in cases
        ]
    finally:
        for process in running.values():
            process.close()


class _Running:
    """A case in its process, and the times of its runs so far."""

    def __init__(self, case: Case) -> None:
        self.case = case
        if names_callable(case.model):
            self._process = ObjectProcess(OtherImplementation, case)
        else:
            self._process = ObjectProcess(CaseRunner, case, time.time())
        try:
            self._facts: CaseFacts = self._process.call("warm_up")
        except BaseException:
            self.close()
            raise
        self._times: list[Times] = []

    def run(self) -> None:
        self._times.append(self._process.call("run"))

    def measurement(self, roofline: bool, peers: Sequence[_Running]) -> Measurement:
        return Measurement(
            case=self.case,
            facts=self._facts,
            runs=len(self._times),
            total=Spread.of([one.total for one in self._times]),
            decode=Spread.of([one.decode for one in self._times]),
            separate=Spread.of([one.separate for one in self._times]),
            write=Spread.of([one.write for one in self._times]),
            findings=self._process.call("findings"),
            roofline=self._process.call("roofline") if roofline else None,
            against=tuple(peer.compared_with(self._times) for peer in peers),
        )

    def compared_with(self, ours: Sequence[Times]) -> Comparison:
        seconds = [one.separate for one in self._times]
        ratio = Spread.of([their / our.separate for our, their in zip(ours, seconds, strict=True)])
        return Comparison(self.case.model, Spread.of(seconds), ratio, self._process.call("findings"))

    def close(self) -> None:
        self._process.close()


def conditions() -> dict[str, Any]:
    """The environment of a measurement, its time, the load of the machine and the variables that set threads."""
    return {
        **asdict(environment()),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "variables": {name: os.environ[name] for name in sorted(os.environ) if name.startswith(("OMP_", "MKL_"))},
    }
