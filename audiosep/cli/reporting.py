"""What a job tells the user while it runs and at its end: lines of text, one JSON document, or JSON lines."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import audiosep
from audiosep.cli import common
from audiosep.cli.standard_error import Bar, Terminal
from audiosep.errors import Cancelled, counted
from audiosep.output.batch_report import BatchEvent, BatchReport, FileResult, FinishedFile

if TYPE_CHECKING:
    from audiosep.hearing.activity import Activity

_LABELS = 5  # that an explanation names
_PAUSE = 0.5  # seconds between two lines of progress
_AUDIBLE = -60.0  # dB of full scale, below which it is a fact that a target is not heard


class Reporter:
    """Reports a job: paths and JSON on standard output, all else on standard error.

    Args:
        terminal: standard error.
        paths: whether the paths of outputs are written; not where standard output carries audio.
        quiet: errors only.
        as_json: one document at the end, instead of text.
        json_lines: a document a line for each thing that happens, instead of text.
        explain: also how the queries were answered.

    Attributes:
        report: what has become of recordings so far.
        total: recordings that the job separates.
        bar: the progress bar, while there is one.
    """

    def __init__(
        self, terminal: Terminal, *, paths: bool, quiet: bool, as_json: bool, json_lines: bool, explain: bool = False
    ) -> None:
        self._terminal, self._paths, self._quiet = terminal, paths, quiet
        self._as_json, self._json_lines, self._explain = as_json, json_lines, explain
        self._told = -_PAUSE
        self.report = BatchReport()
        self.total = 0
        self.bar: Bar | None = None

    @property
    def needs_progress(self) -> bool:
        """Whether anybody sees how far the job is; otherwise the files need not be measured beforehand."""
        return self._json_lines or (self._terminal.is_terminal and not self._quiet)

    def begin(self, skipped: Sequence[FinishedFile], failures: Mapping[Path, Exception], total: int) -> None:
        """The job begins.

        Args:
            skipped: recordings that are not separated because their outputs exist.
            failures: path -> why it cannot be separated.
            total: recordings that will be separated.
        """
        self.total = total
        for one in skipped:
            self._line({"event": "skipped", **_finished(one)})
        if skipped and not self._quiet and not self._json_lines:
            self._terminal.print(f"outputs of {counted(len(skipped), 'recording')} exist already")
        for path, error in failures.items():
            self.outcome(path, error)

    def progress(self, fraction: float) -> None:
        """The job has come to a fraction, 0 to 1."""
        if self.bar is not None:
            self.bar(fraction)
        now = time.monotonic()
        if self._json_lines and (fraction >= 1 or now - self._told >= _PAUSE):
            self._told = now
            self._line({"event": "progress", "fraction": round(fraction, 4)})

    def watch(self, event: BatchEvent) -> None:
        """Something has happened to a recording."""
        if event.outcome is not None:
            self.outcome(event.input, event.outcome)
            return
        if self.bar is not None:
            self.bar.describe(f"{event.number} of {event.total}: {event.input.name}")
        self._line({"event": "start", "input": str(event.input), "number": event.number, "total": event.total})

    def outcome(self, path: Path, outcome: FileResult | Exception) -> None:
        """A recording is finished, or has failed."""
        if isinstance(outcome, FileResult):
            self.report.results.append(outcome)
            self._line({"event": "result", **entry(outcome, explain=self._explain)})
            if self._paths and not (self._as_json or self._json_lines):
                for output in (*outcome.outputs.values(), *outcome.labels.values()):
                    common.say(str(output))
            for remark in () if self._quiet else _remarks(outcome):
                self._terminal.print(f"{path.name}: {remark}")
            for line in explained(outcome) if self._explain else ():
                self._terminal.print(line)
        else:
            self.report.failures[path] = outcome
            self._line({"event": "failure", **failure_entry(path, outcome)})
            self._terminal.print(failure_line(path, outcome))

    def end(self, report: BatchReport, about: Mapping[str, Any]) -> None:
        """The job has ended.

        Args:
            report: of it.
            about: first entries of the document.
        """
        counts = {"results": len(report.results), "failures": len(report.failures), "skipped": len(report.skipped)}
        self._line({"event": "end", **about, **counts})
        if self._as_json:
            common.emit(document(report, about, explain=self._explain))
        if report.failures:
            self._terminal.print(f"audiosep: {len(report.failures)} of {counted(sum(counts.values()), 'file')} failed")

    def cancelled(self) -> None:
        """The user has cancelled the job: say what is done."""
        done = len(self.report.results)
        error = Cancelled(
            f"cancelled; {done} of {counted(self.total, 'recording')} finished, and no half-written file is left "
            "(--skip-existing goes on with the others)"
        )
        self._terminal.print(f"audiosep: {error}")
        self._line({"event": "end", "error": common.describe(error), "results": done})
        if self._as_json:
            common.emit(document(self.report, {"error": common.describe(error)}, explain=self._explain))

    def _line(self, content: dict[str, Any]) -> None:
        if self._json_lines:
            common.emit_line(content)


def _remarks(result: FileResult) -> Iterator[str]:
    scores = result.presence or {}
    if present := [f"{name} {score:.0%}" for name, score in scores.items() if score >= 0.5]:
        yield f"present: {', '.join(present)}"
    if absent := [name for name, score in scores.items() if score < 0.5]:
        yield f"probably absent: {', '.join(absent)}"
    nowhere = {name: found for name, found in result.activity.items() if not found.spans}
    if silent := [name for name, found in nowhere.items() if not (found.energy > _AUDIBLE).any()]:
        yield f"not heard: {', '.join(silent)}"
    if unsure := {name: found.presence.max(initial=0) for name, found in nowhere.items() if name not in silent}:
        yield f"not surely heard: {', '.join(f'{name} ({most:.0%} at the most)' for name, most in unsure.items())}"
    if result.loudness is not None:
        below = round(result.loudness_shortfall or 0.0, 1)
        why = f", {below} LU too low: more would clip (as wav, --on-clip float reaches it)" if below else ""
        yield f"all outputs were multiplied by {result.gain:.4f}, which makes {result.loudness:.1f} LUFS{why}"
    elif result.gain != 1.0:
        yield f"all outputs were multiplied by {result.gain:.4f} so that none clips (--on-clip float keeps the level)"
    if result.clipped:
        yield f"saturated: {counted(result.clipped, 'sample')} (--on-clip gain or float avoids it)"


def explained(result: FileResult) -> Iterator[str]:
    """The prototypes and estimates behind each text query of a recording, a line for each."""
    for name, explanation in result.explanation.items():
        known = [(label, share, counted(count, "recording")) for label, share, count in explanation.labels[:_LABELS]]
        labels = [f"{label} {share:.0%} ({recordings})" for label, share, recordings in known]
        if explanation.own:
            own = [(label, counted(count, "example")) for label, _, count in explanation.labels]
            labels = [f"your own sound {label!r} ({examples})" for label, examples in own]
        ways = [f"{way} {weight:.0%}" for way, weight in explanation.ways.items()]
        yield f"{name}: from {', '.join(labels)}" + (f"; estimates: {', '.join(ways)}" if ways else "")


def document(report: BatchReport, about: Mapping[str, Any], *, explain: bool) -> dict[str, Any]:
    """A report as the document of `--json`.

    Args:
        report: of the job.
        about: first entries of the document.
        explain: as in `entry`.
    """
    return {
        "version": audiosep.__version__,
        **about,
        "results": [entry(result, explain=explain) for result in report.results],
        "failures": [failure_entry(path, error) for path, error in report.failures.items()],
        "skipped": [
            entry(one, explain=explain) if isinstance(one, FileResult) else _finished(one) for one in report.skipped
        ],
    }


def entry(result: FileResult, *, explain: bool) -> dict[str, Any]:
    """A result for JSON.

    Args:
        result: of a recording.
        explain: whether it says how the queries were answered, which names a hundred labels and more.
    """
    explanation = {name: dataclasses.asdict(each) for name, each in result.explanation.items()}
    return {
        **_finished(result),
        "presence": result.presence,
        **({"explanation": explanation} if explain else {}),
        "activity": {name: _activity(each) for name, each in result.activity.items()},
        "labels": {name: str(path) for name, path in result.labels.items()},
        "gain": result.gain,
        "clipped": result.clipped,
        "loudness": result.loudness,
        "loudness_shortfall": result.loudness_shortfall,
        "samples": result.samples,
        "sample_rate": result.sample_rate,
        "channels": result.channels,
    }


def _activity(activity: Activity) -> dict[str, Any]:
    """When a target sounds, for JSON."""
    return {
        "spans": [[start, end] for start, end in activity.spans],
        "extent": [[start, end] for start, end in activity.extent],
        "step": round(activity.step, 6),
        "energy": [round(value, 1) for value in activity.energy.tolist()],
        "presence": [round(value, 2) for value in activity.presence.tolist()],
    }


def _finished(one: FinishedFile) -> dict[str, Any]:
    return {"input": str(one.input), "outputs": {name: str(path) for name, path in one.outputs.items()}}


def failure_entry(path: Path, error: Exception) -> dict[str, str]:
    """A recording that failed, for JSON."""
    return {"input": str(path), **common.describe(error)}


def failure_line(path: Path, error: Exception) -> str:
    """A recording that failed, in text."""
    where = "" if str(path) in str(error) else f"{path}: "
    return f"audiosep: {where}{common.on_command_line(str(error))}"
