"""What a separation of one recording gives back: the targets, what is left, and how to write them to files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audiosep.audio import AudioInfo, as_array
from audiosep.output.files import OnClip, Outputs, check_options
from audiosep.output.names import TEMPLATE, plan_outputs

RESIDUAL = "residual"
_BLOCK = 65_536


class Separation(Mapping[str, Any]):
    """Targets by name, in the order they were asked for.

    The arrays are of the kind that was given (numpy or torch, with or without a channel axis), float32.

    Args:
        targets: name -> (samples,) or (channels, samples).
        mix: the mixture, of the same shape.
        sample_rate: Hz.
        presence: target name -> how sure the model is that the sound is in the mixture at all, 0..1; None when the
            model does not say.
        complete: the targets sum to the mixture, so that nothing is left.
        file: stem of the input's file name, for the names of outputs.
        info: what is known about the input file; None for arrays.
    """

    def __init__(
        self,
        targets: Mapping[str, Any],
        mix: Any,
        sample_rate: int,
        *,
        presence: Mapping[str, float] | None = None,
        complete: bool = False,
        file: str = "audio",
        info: AudioInfo | None = None,
    ) -> None:
        self._targets = dict(targets)
        self.mix = mix
        self.sample_rate = sample_rate
        self.presence = None if presence is None else dict(presence)
        self.complete = complete
        self.file = file
        self.info = info

    def __getitem__(self, name: str) -> Any:
        return self._targets[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def __len__(self) -> int:
        return len(self._targets)

    def __repr__(self) -> str:
        return f"Separation({', '.join(map(repr, self))}; {self.mix.shape} at {self.sample_rate} Hz)"

    @property
    def residual(self) -> Any:
        """The mixture minus the sum of all targets.

        Queries are independent: where two ask for overlapping sounds ("speech", "male speech"), their sum holds the
        common part twice, and the residual holds its negative.
        """
        return remainder(self.mix, list(self.values()))

    def rest(self, name: str) -> Any:
        """The mixture minus the target `name`."""
        return remainder(self.mix, [self[name]])

    def save(
        self,
        out_dir: str | Path,
        *,
        format: str = "wav",
        template: str = TEMPLATE,
        residual: bool = True,
        on_clip: OnClip = "gain",
        overwrite: bool = False,
    ) -> list[Path]:
        """Write every target, and what is left, to files: all of them or none.

        Sample depth and tags follow the input file; arrays are written as floats where the format has them.

        Args:
            out_dir: folder, made if needed.
            format: wav, flac, ogg, opus or mp3.
            template: of the file names, with {file}, {stem} and {ext}.
            residual: also write what is left; never written for stems, of which nothing is left.
            on_clip: where an output would clip: "gain" multiplies all by one gain, "float" writes floats (wav),
                "clip" saturates. What was done is in the log.
            overwrite: whether existing files may be replaced.

        Returns:
            The files, targets first.

        Raises:
            InputError: an impossible option.
            AudioError: a file exists or cannot be written, or the format cannot hold the rate or channels.
        """
        check_options(format=format, template=template, on_clip=on_clip)
        arrays = {name: as_array(target)[0] for name, target in self.items()}
        if residual and not self.complete:
            arrays[RESIDUAL] = as_array(self.residual)[0]
        paths = plan_outputs(out_dir, list(arrays), file=self.file, format=format, template=template)
        channels, samples = as_array(self.mix)[0].shape
        with Outputs(
            paths,
            self.sample_rate,
            channels,
            format=format,
            depth="float" if self.info is None else self.info.depth,
            tags=None if self.info is None else self.info.tags,
            on_clip=on_clip,
            overwrite=overwrite,
            peak=max(float(np.abs(array).max()) for array in arrays.values()),
        ) as outputs:
            for start in range(0, samples, _BLOCK):
                outputs.write({name: array[:, start : start + _BLOCK] for name, array in arrays.items()})
        return list(paths.values())


def remainder(mix: Any, targets: Sequence[Any]) -> Any:
    """The mixture minus the sum of `targets`, added up in their order; numpy or torch."""
    total = targets[0]
    for target in targets[1:]:
        total = total + target
    return mix - total
