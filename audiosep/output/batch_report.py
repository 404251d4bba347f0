"""What became of the files of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from audiosep.errors import BatchError, portable
from audiosep.inference.explanation import Explanation

if TYPE_CHECKING:  # reports of what failed early are made without torch
    from audiosep.hearing.activity import Activity


@dataclass(frozen=True)
class FinishedFile:
    """A recording whose outputs are in their places.

    Attributes:
        input: the recording; Path("-") for standard input.
        outputs: name -> file; what is left of the mixture comes last, as "without piano", or "instrumental" beside the
            stem vocals.
    """

    input: Path
    outputs: dict[str, Path]


@dataclass(frozen=True)
class FileResult(FinishedFile):
    """One separated file.

    Attributes:
        input: as in `FinishedFile`.
        outputs: as in `FinishedFile`.
        presence: target name -> 0..1, or None when the model does not say.
        gain: factor that all outputs were multiplied by so that none clips; 1.0 unless `on_clip="gain"` had to act.
        clipped: number of samples that were saturated (only with `on_clip="clip"`).
        loudness: of the loudest output as it was written, LUFS; None unless it was asked for, and for silence.
        samples: of each output, per channel, at `sample_rate`.
        sample_rate: of each output, Hz; a format that lacks it has the next one.
        channels: of each output.
        explanation: as of `Separation`.
        activity: as of `Separation`; empty for what an earlier run with Ray has separated.
        labels: name of an output -> the label file beside it, where they were asked for.
        loudness_shortfall: LU that `loudness` stays below what was asked for, because more would clip; 0 where it is
            reached, None where `loudness` is.
    """

    presence: dict[str, float] | None
    gain: float
    clipped: int
    loudness: float | None
    samples: int
    sample_rate: int
    channels: int
    explanation: dict[str, Explanation] = field(default_factory=dict)
    activity: dict[str, Activity] = field(default_factory=dict)
    labels: dict[str, Path] = field(default_factory=dict)
    loudness_shortfall: float | None = None


@dataclass(frozen=True)
class BatchEvent:
    """Something that has happened in a batch.

    Attributes:
        input: the recording.
        number: of the recording, from 1.
        total: recordings that the batch separates.
        outcome: None when the recording begins, its result when it is finished, or why it failed.
    """

    input: Path
    number: int
    total: int
    outcome: FileResult | Exception | None


Watch = Callable[[BatchEvent], object]
"""Called with what happens in a batch, from one thread at a time."""


@dataclass(frozen=True)
class BatchReport:
    """What became of each file of a batch.

    Attributes:
        results: the separated files, in order.
        failures: path -> why it failed; nothing was written for these.
        skipped: recordings that were not separated because their outputs exist (`skip_existing`).
    """

    results: list[FileResult] = field(default_factory=list)
    failures: dict[Path, Exception] = field(default_factory=dict)
    skipped: Sequence[FinishedFile] = field(default_factory=list)

    def __getstate__(self) -> dict[str, object]:
        """What pickle writes: the report comes back whole from another process."""
        return {**self.__dict__, "failures": portable(self.failures)}

    def raise_for_failures(self) -> None:
        """Do nothing if every file was separated.

        Raises:
            BatchError: some failed; its `failures` and `successes` list them.
        """
        if self.failures:
            raise BatchError(self.failures, [result.input for result in self.results])
