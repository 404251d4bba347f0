"""Outputs of another shape than their recording: a stretch of it, mono, another sample rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from audiosep.audio import StreamResampler
from audiosep.audio.inputs import is_pipe
from audiosep.audio.preview import representative_start
from audiosep.audio.samples import Array
from audiosep.audio.spool import name_of
from audiosep.errors import InputError
from audiosep.output.output_options import OutputOptions


class Shaper:
    """Blocks of outputs, mixed to mono and resampled where that is wanted.

    The network hears the recording as it is; only what it gives is changed.

    Args:
        names: of the outputs.
        sample_rate: of the recording, Hz.
        channels: of the recording.
        output: what is wanted.

    Attributes:
        sample_rate: of the outputs, Hz.
        channels: of the outputs.
    """

    def __init__(self, names: Sequence[str], sample_rate: int, channels: int, output: OutputOptions) -> None:
        self.sample_rate = output.rate or sample_rate
        self.channels = 1 if output.mono else channels
        self._mono = output.mono
        self._resamplers = {name: StreamResampler(sample_rate, self.sample_rate, self.channels) for name in names}

    def push(self, blocks: Mapping[str, Array]) -> dict[str, Array]:
        """Take a block of each output, give back what is ready.

        Args:
            blocks: name -> (channels, samples).
        """
        mixed = {name: block.mean(0, keepdims=True) if self._mono else block for name, block in blocks.items()}
        return {name: self._resamplers[name].push(block) for name, block in mixed.items()}

    def finish(self) -> dict[str, Array]:
        """The rest of each output."""
        return {name: resampler.finish() for name, resampler in self._resamplers.items()}


def stretch_of(path: Path, output: OutputOptions) -> tuple[float, float | None]:
    """The part of a recording that is separated.

    Args:
        path: of the recording; `-` for standard input, or a named pipe.
        output: what is wanted.

    Returns:
        Where it starts, and its length, in seconds; None to the end.

    Raises:
        InputError: a preview of a pipe.
    """
    if output.preview is None:
        return output.start, None if output.end is None else output.end - output.start
    if is_pipe(path):
        raise InputError(f"a preview would read {name_of(path)} twice, which is a pipe: give start and end instead")
    return representative_start(path, output.preview, track=output.track), output.preview
