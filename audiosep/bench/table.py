"""Speed, memory and quality of everything that was measured, side by side."""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from audiosep.bench.suite import Measurement
from audiosep.errors import counted
from audiosep.evaluation.functions import names_callable

HEAD = ("system", "task", "recording", "separate, s", "times real time", "peak memory, MB", "SI-SDR, dB")


@dataclass(frozen=True)
class TableRow:
    """One system on one recording.

    Attributes:
        system: the model and how it computes, or "module:callable".
        task: as `Measurement.task`.
        recording: the end of its path, or the length of the test sound.
        audio_seconds: length of the recording.
        separate: seconds of separating it in memory.
        peak_memory_mb: as `Findings.peak_memory_mb`.
        si_sdr: mean over the targets whose true sounds are known, dB; None where there is none.
    """

    system: str
    task: str
    recording: str
    audio_seconds: float
    separate: float
    peak_memory_mb: float | None
    si_sdr: float | None

    @property
    def speed(self) -> float:
        """Seconds of sound per second of separating."""
        return self.audio_seconds / self.separate

    def cells(self) -> tuple[str, ...]:
        """Texts under `HEAD`."""
        memory = "–" if self.peak_memory_mb is None else f"{self.peak_memory_mb:.0f}"
        quality = "–" if self.si_sdr is None else f"{self.si_sdr:.2f}"
        return (self.system, self.task, self.recording, f"{self.separate:.3g}", f"{self.speed:.1f}", memory, quality)


def rows(measurements: Sequence[Measurement]) -> list[TableRow]:
    """A row for each case and for everything it was compared with; equal work has one row."""
    found: dict[Hashable, TableRow] = {}
    names = _short_names({one.case.recording for one in measurements if one.case.recording is not None})
    for measured in measurements:
        case, seconds = measured.case, measured.facts.audio_seconds
        recording = f"{seconds:g} s of test sound" if case.recording is None else names[case.recording]
        systems = [(case.model, system_label(measured), measured.separate, measured.findings)]
        systems += [
            (peer.reference, _peer_label(peer.reference, measured, measurements), peer.separate, peer.findings)
            for peer in measured.against
        ]
        for model, system, separate, findings in systems:
            quality = statistics.fmean(findings.si_sdr.values()) if findings.si_sdr else None
            memory = findings.peak_memory_mb
            row = TableRow(system, measured.task, recording, seconds, separate.median, memory, quality)
            found.setdefault((model, system, case.queries, recording), row)
    return sorted(found.values(), key=lambda row: (row.task, row.recording))


def _peer_label(reference: str, measured: Measurement, measurements: Sequence[Measurement]) -> str:
    """What a case was compared with, and how it computed where that differs between the cases."""
    parts = [reference]
    if not names_callable(reference):  # a callable knows neither
        if measured.case.queries is not None and len({one.case.quality for one in measurements}) > 1:
            parts.append(measured.case.quality)
        if len({one.facts.device for one in measurements}) > 1:
            parts.append(measured.facts.device)
    if len({one.facts.threads for one in measurements}) > 1:
        parts.append(counted(measured.facts.threads, "thread"))
    return ", ".join(parts)


def _short_names(places: Set[str]) -> dict[str, str]:
    """Path -> as many of its last parts as tell it from the others."""
    found = {}
    for place in places:
        parts = Path(place).parts
        others = [Path(other).parts for other in places - {place}]
        count = next((n for n in range(1, len(parts)) if all(other[-n:] != parts[-n:] for other in others)), len(parts))
        found[place] = str(Path(*parts[-count:]))
    return found


def system_label(measured: Measurement) -> str:
    """The model of a case and how it computes, in one line."""
    facts = measured.facts
    quality = "" if measured.case.queries is None else f", {measured.case.quality}"
    threads = counted(facts.threads, "thread")
    return f"{facts.model}{quality}, {facts.device} {facts.engine} {facts.precision}, {threads}"


def text(found: Sequence[TableRow]) -> str:
    """The rows as a table in plain text."""
    lines = [HEAD, *(row.cells() for row in found)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    return "\n".join("  ".join(_aligned(line, widths)).rstrip() for line in lines)


def _aligned(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Words to the left, numbers to the right."""
    return [cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))]
