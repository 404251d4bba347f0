"""What became of the files of a batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from audiosep.errors import BatchError, portable


@dataclass(frozen=True)
class FileResult:
    """One separated file.

    Attributes:
        input: the recording; Path("-") for standard input.
        outputs: target name -> written file; what is left is called "residual", or "instrumental" beside vocals.
        presence: target name -> 0..1, or None when the model does not say.
        gain: factor that all outputs were multiplied by so that none clips; 1.0 unless `on_clip="gain"` had to act.
        clipped: number of samples that were saturated (only with `on_clip="clip"`).
        samples: of the input and of each output, per channel.
        sample_rate: of the input and of each output, Hz.
        channels: of the input and of each output.
    """

    input: Path
    outputs: dict[str, Path]
    presence: dict[str, float] | None
    gain: float
    clipped: int
    samples: int
    sample_rate: int
    channels: int


@dataclass(frozen=True)
class BatchReport:
    """What became of each file of a batch.

    Attributes:
        results: the separated files, in order.
        failures: path -> why it failed; nothing was written for these.
    """

    results: list[FileResult] = field(default_factory=list)
    failures: dict[Path, Exception] = field(default_factory=dict)

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
