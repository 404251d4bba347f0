"""What a separation of one recording gives back: the targets, what is left, and how to write them to files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Generic

import numpy as np

from audiosep.audio import AudioInfo, as_array
from audiosep.audio.arrays import AnyArray
from audiosep.audio.marker import fingerprint
from audiosep.audio.stem_file import SONG
from audiosep.hearing.activity import Activity
from audiosep.inference.explanation import Explanation
from audiosep.output.files import Outputs
from audiosep.output.names import check_out, plan_outputs
from audiosep.output.output_options import OnClip, OutputOptions, rest_name
from audiosep.output.plan import works_of_outputs
from audiosep.output.within_spans import each_once, remainder, remainder_within

_BLOCK = 65_536


class Separation(Mapping[str, AnyArray], Generic[AnyArray]):
    """Targets by name, in the order of the queries.

    The arrays are float32 and of the kind that was separated: `Separation[numpy.ndarray]` for files and numpy arrays,
    `Separation[torch.Tensor]` for tensors (on their device), with a channel axis if the mixture has one.

    Args:
        targets: name -> (samples,) or (channels, samples).
        mix: the mixture, of the same shape.
        sample_rate: Hz.
        presence: target name -> how sure the model is that the sound is in the mixture at all, 0..1; None when the
            model does not say.
        explanation: target name -> the prototypes and queries behind its text query; empty for others and without
            prototypes.
        activity: target name -> when it sounds.
        complete: whether the targets sum to the mixture, so that nothing is left.
        file: stem of the input's file name, for the names of outputs.
        info: what is known about the input file; None for arrays.
        fingerprint: of the recording (`audio.marker`); None: of the file at its path.
        works: what is written -> name of each target -> a digest of what was asked of it; None for arrays.
        sounds: name of a target -> that of the first target that is the same sound.

    Attributes:
        mix: as above.
        sample_rate: as above.
        presence: as above.
        explanation: as above.
        activity: as above.
        complete: as above.
        file: as above.
        info: as above.
    """

    def __init__(
        self,
        targets: Mapping[str, AnyArray],
        mix: AnyArray,
        sample_rate: int,
        *,
        presence: Mapping[str, float] | None = None,
        explanation: Mapping[str, Explanation] | None = None,
        activity: Mapping[str, Activity] | None = None,
        complete: bool = False,
        file: str = "audio",
        info: AudioInfo | None = None,
        fingerprint: str | None = None,
        works: Callable[[OutputOptions], Mapping[str, str]] | None = None,
        sounds: Mapping[str, str] | None = None,
    ) -> None:
        self._targets: dict[str, AnyArray] = dict(targets)
        self.mix: AnyArray = mix
        self.sample_rate = sample_rate
        self.presence = None if presence is None else dict(presence)
        self.explanation = dict(explanation or {})
        self.activity = dict(activity or {})
        self.complete = complete
        self.file = file
        self.info = info
        self._fingerprint = fingerprint
        self._works = works
        self._sounds = dict(sounds or {})

    def __getitem__(self, name: str) -> AnyArray:
        return self._targets[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def __len__(self) -> int:
        return len(self._targets)

    __eq__, __hash__ = object.__eq__, object.__hash__  # that of a Mapping would ask for the truth of arrays

    def __repr__(self) -> str:
        return f"Separation({', '.join(map(repr, self))}; {self.mix.shape} at {self.sample_rate} Hz)"

    @property
    def residual(self) -> AnyArray:
        """The mixture minus the sum of all targets; one sound under several names counts once.

        Queries are independent: where two name overlapping sounds ("speech", "male speech"), their sum contains the
        common part twice, and the residual contains its negative. It is computed each time, as `rest` is, of what the
        mixture and the targets are then: change copies of these.
        """
        return remainder(self.mix, list(each_once(self._targets, self._sounds).values()))

    def rest(self, name: str, *, everywhere: bool = True) -> AnyArray:
        """The mixture minus one target.

        Args:
            name: of the target.
            everywhere: whether the target is taken out of the whole mixture; else where it may sound
                (`Activity.extent`), with edges of 50 ms, and elsewhere the mixture stays as it is.
        """
        if everywhere or name not in self.activity:
            return remainder(self.mix, [self[name]])
        mix, restore = as_array(self.mix)
        spans = {name: self.activity[name].extent}
        rest: AnyArray = restore(remainder_within(mix, {name: as_array(self[name])[0]}, spans, self.sample_rate))
        return rest

    def save(
        self,
        out_dir: str | Path,
        *,
        format: str = OutputOptions.format,
        template: str = OutputOptions.template,
        residual: bool = OutputOptions.residual,
        on_clip: OnClip = OutputOptions.on_clip,
        overwrite: bool = OutputOptions.overwrite,
        bitrate: int | None = OutputOptions.bitrate,
    ) -> list[Path]:
        """Write every target, and what is left, to files: all of them or none.

        Sample depth, tags, cover, chapters, speaker layout and Broadcast Wave follow the input file; arrays are written
        as floats where the format has them.

        Args:
            out_dir: folder, made if needed.
            format: as in `OutputOptions`.
            template: as in `OutputOptions`.
            residual: whether to write also what is left; never written for stems, which leave nothing.
            on_clip: as in `OutputOptions`; what was done is in the log.
            overwrite: whether existing files may be replaced.
            bitrate: as in `OutputOptions`.

        Returns:
            The files, targets first; a stem file alone.

        Raises:
            InputError: an impossible option, or a folder with the name of a file.
            AudioError: a file exists or cannot be written, or the format cannot hold the channels or the bit rate.
            DependencyError: m4a files need PyAV.
        """
        check_out(Path(out_dir))
        output = OutputOptions(format, template, residual, on_clip=on_clip, overwrite=overwrite, bitrate=bitrate)
        arrays = {name: as_array(target)[0] for name, target in self.items()}
        if residual and not self.complete:
            arrays[rest_name(list(self))] = as_array(self.residual)[0]
        files = output.written(list(self), None) if output.tracks else list(arrays)
        paths = plan_outputs(out_dir, files, file=self.file, format=output.format, template=output.file_template)
        if output.tracks:
            arrays[SONG] = as_array(self.mix)[0]
        channels, samples = as_array(self.mix)[0].shape
        with Outputs(
            paths,
            self.sample_rate,
            channels,
            format=output.encoding,
            depth="float" if self.info is None else self.info.depth,
            tags=None if self.info is None else self.info.tags,
            speakers=0 if self.info is None else self.info.speakers,
            cover=None if self.info is None else self.info.cover,
            chapters=() if self.info is None else self.info.chapters,
            broadcast=None if self.info is None else self.info.broadcast,
            bitrate=bitrate,
            on_clip=output.on_clip,
            overwrite=output.overwrite,
            peak=max(float(np.abs(array).max()) for array in arrays.values()),
            tracks=output.tracks,
            recording=self._recording(),
            works=None if self._works is None else works_of_outputs(self._works(output), list(self), files),
        ) as outputs:
            for start in range(0, samples, _BLOCK):
                outputs.write({name: array[:, start : start + _BLOCK] for name, array in arrays.items()})
        return list(paths.values())

    def _recording(self) -> str | None:
        """The fingerprint of the recording; None of arrays, and of a file that is not there any more."""
        return self._fingerprint or (None if self.info is None else fingerprint(self.info.path))
