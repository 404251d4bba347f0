"""Separate files to files in bounded memory: decode, separate, write, block by block."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from audiosep.audio import MAX_SECONDS, SUFFIXES, AudioReader, is_recording, probe
from audiosep.errors import AudioError, AudioSepError, BatchError, Cancelled, InputError
from audiosep.inference.stream import Stream
from audiosep.output.files import OnClip, Outputs, check_options
from audiosep.output.names import STDOUT, TEMPLATE, plan_outputs
from audiosep.output.separation import RESIDUAL, remainder

logger = logging.getLogger(__name__)

Progress = Callable[[float], Any]
_GUESS = 60.0  # seconds, for a recording whose length only decoding can tell


@dataclass(frozen=True)
class FileResult:
    """One separated file.

    Attributes:
        input: the recording; Path("-") for standard input.
        outputs: target name -> written file; what is left is called "residual", or "instrumental" beside vocals.
        presence: target name -> 0..1, or None when the model does not say.
        gain: what all outputs were multiplied by so that none clips; 1.0 unless `on_clip="gain"` had to act.
        clipped: samples that were saturated (only with `on_clip="clip"`).
        samples, sample_rate, channels: of the input and of each output.
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
    """What became of each file.

    Attributes:
        results: the separated files, in order.
        failures: path -> why it failed; nothing was written for these.
    """

    results: list[FileResult] = field(default_factory=list)
    failures: dict[Path, Exception] = field(default_factory=dict)

    def check(self) -> None:
        """Raise BatchError if any file failed."""
        if self.failures:
            raise BatchError(self.failures, [result.input for result in self.results])


@dataclass(frozen=True)
class Writing:
    """How outputs are written; see `Separator.separate_files`."""

    folder: str | Path
    format: str = "wav"
    template: str = TEMPLATE
    residual: bool = True
    only: tuple[str, ...] | None = None
    on_clip: OnClip = "gain"
    overwrite: bool = False
    max_seconds: float | None = None

    def kept(self, names: Sequence[str]) -> list[str]:
        """The targets that are written, of those that are separated.

        Raises:
            InputError: an impossible option, or `only` names something else.
        """
        check_options(format=self.format, template=self.template, on_clip=self.on_clip)
        unknown = [name for name in self.only or () if name not in names]
        if unknown or self.only == ():
            wrong = ", ".join(map(repr, unknown)) or "nothing"
            raise InputError(f"{wrong} cannot be the only output: choose from {', '.join(names)}")
        return list(names) if self.only is None else list(dict.fromkeys(self.only))

    def rest(self, kept: Sequence[str], stems: bool) -> str | None:
        """The name of what is left, None where it is not written: of all stems together nothing is left."""
        if not self.residual or Path(self.folder) == STDOUT or (stems and self.only is None):
            return None
        return "instrumental" if stems and tuple(kept) == ("vocals",) else RESIDUAL


@dataclass(frozen=True)
class Recording:
    """An input file, and the subfolder of its outputs."""

    path: Path
    subfolder: Path = Path()


def separate_files(
    open_stream: Callable[[int, int], Stream],
    names: Sequence[str],
    inputs: str | Path | Sequence[str | Path],
    writing: Writing,
    *,
    stems: bool = False,
    progress: Progress | None = None,
) -> BatchReport:
    """Separate each recording; one that fails does not keep the others from being finished.

    Args:
        open_stream: (sample rate, channels) -> a fresh stream of the targets.
        names: of the targets.
        inputs: files, folders (searched with their subfolders), or "-" for standard input.
        writing: what is written, and where.
        stems: the targets are a model's fixed stems.
        progress: called with the fraction of all samples of the job; returning False cancels.

    Raises:
        InputError: an option that no file could be written with.
        Cancelled: by `progress`. Files that were finished before stay, nothing else does.
    """
    kept = writing.kept(names)
    report = BatchReport()
    recordings = list(find_recordings(inputs, writing.folder, report.failures))
    if Path(writing.folder) == STDOUT and len(recordings) > 1:
        raise InputError(f"standard output carries one recording, not {len(recordings)}: name a folder for the outputs")
    meter = Meter(progress, [recording.path for recording in recordings])
    job = _Job(open_stream, kept, writing.rest(kept, stems), writing, recordings)
    for index, recording in enumerate(recordings):
        try:
            report.results.append(job.separate(recording, partial(meter.at, index)))
        except Cancelled:
            raise
        except Exception as error:
            logger.info("%s failed: %s", recording.path, error, exc_info=not isinstance(error, AudioSepError))
            report.failures[recording.path] = error
        meter.at(index, math.inf)
    return report


class _Job:
    """What all recordings of a job have in common."""

    def __init__(
        self,
        open_stream: Callable[[int, int], Stream],
        kept: Sequence[str],
        rest: str | None,
        writing: Writing,
        recordings: Sequence[Recording],
    ) -> None:
        self._open_stream = open_stream
        self._kept, self._rest = list(kept), rest
        self._writing = writing
        self._plan = Plan([*kept, *([rest] if rest else [])], writing, recordings)

    def separate(self, recording: Recording, progress: Callable[[float], None]) -> FileResult:
        """Separate one recording into its files."""
        limit = self._writing.max_seconds
        paths = self._plan.paths(recording)
        with AudioReader(recording.path, max_seconds=MAX_SECONDS if limit is None else limit) as reader:
            info = reader.info
            stream = self._open_stream(info.sample_rate, info.channels)
            with Outputs(
                paths,
                info.sample_rate,
                info.channels,
                format=self._writing.format,
                depth=info.depth,
                tags=info.tags,
                on_clip=self._writing.on_clip,
                overwrite=self._writing.overwrite,
            ) as outputs:
                for block in reader:
                    outputs.write(self._blocks(stream.push(block), stream))
                    progress(stream.returned / info.sample_rate)
                outputs.write(self._blocks(stream.finish(), stream))
        return FileResult(
            input=recording.path,
            outputs=paths,
            presence=stream.presence and {name: stream.presence[name] for name in self._kept},
            gain=outputs.gain,
            clipped=outputs.clipped,
            samples=stream.received,
            sample_rate=info.sample_rate,
            channels=info.channels,
        )

    def _blocks(self, targets: Any, stream: Stream) -> dict[str, Any]:
        """Target name -> (channels, n) samples, with what is left of the mixture."""
        blocks = {name: targets[stream.names.index(name)] for name in self._kept}
        if self._rest is not None:
            blocks[self._rest] = remainder(stream.mix, list(blocks.values()))
        return blocks


class Plan:
    """Where the outputs of a job go: never onto an input or another output of the job.

    Args:
        names: of the outputs of each recording.
        writing: how they are written.
        recordings: all of the job.
        taken: other files that are not free.
    """

    def __init__(
        self, names: Sequence[str], writing: Writing, recordings: Iterable[Recording], taken: Iterable[Path] = ()
    ) -> None:
        self._names = list(names)
        self._writing = writing
        self._originals = {_real(recording.path) for recording in recordings}
        self._taken = set(map(_folded, taken))
        self._reached: dict[str, int] = {}  # number of the last recording of a name: thousands may share one

    def paths(self, recording: Recording) -> dict[str, Path]:
        """Name -> path of each output of a recording.

        Of several recordings of one name (song.wav, song.flac) all but the first are numbered. A recording keeps its
        paths also when it fails, so that they depend on nothing but the inputs.

        Raises:
            AudioError: there are no free paths for it.
        """
        file = "stdin" if str(recording.path) == "-" else recording.path.stem
        folder = Path(self._writing.folder)
        if folder != STDOUT:
            folder /= recording.subfolder
        plan = partial(
            plan_outputs, folder, self._names, file=file, format=self._writing.format, template=self._writing.template
        )
        name = _folded(folder / file)
        number = self._reached.get(name, 1)
        paths = plan(number=number)
        while taken := [path for path in paths.values() if _folded(path) in self._taken]:
            number += 1
            before, paths = paths, plan(number=number)
            if paths == before:
                raise AudioError(f"{taken[0]} is for another input of this job: put {{file}} into the template")
        self._reached[name] = number
        if folder == STDOUT:
            return paths
        for path in paths.values():
            if _real(path) in self._originals:
                raise AudioError(f"{path} is an input of this job and would be overwritten: choose another folder")
        self._taken.update(map(_folded, paths.values()))
        return paths


class Meter:
    """The fraction of a whole job, from seconds of each recording.

    Args:
        progress: gets the fraction, never less than before; returning False cancels.
        paths: the recordings.
    """

    def __init__(self, progress: Progress | None, paths: Sequence[Path]) -> None:
        self._progress = progress
        self._seconds = [_seconds(path) for path in paths] if progress else []
        self._reached = 0.0

    def at(self, index: int, seconds: float) -> None:
        """Recording `index` has come to `seconds`, those before it are done."""
        if self._progress is None:
            return
        total = sum(self._seconds)
        here = min(seconds, self._seconds[index])
        self._reached = max(self._reached, min(1.0, (sum(self._seconds[:index]) + here) / total))
        if self._progress(self._reached) is False:
            raise Cancelled("cancelled by the progress callback; nothing half-written is left")


def _seconds(path: Path) -> float:
    """Roughly how long a recording is; one that cannot be read fails later, where it is reported."""
    if str(path) == "-":
        return _GUESS
    try:
        return probe(path).seconds or _GUESS
    except Exception:  # whatever it is, it must not keep the other recordings from being separated
        return 1.0


def find_recordings(
    inputs: str | Path | Sequence[str | Path], folder: str | Path, failures: dict[Path, Exception]
) -> Iterator[Recording]:
    """The recordings of a job, each once.

    Args:
        inputs: files, folders (searched with their subfolders), or "-" for standard input.
        folder: of the outputs; what lies there is no input, and it may not be a folder that is searched.
        failures: gets the folders without recordings.

    Raises:
        InputError: outputs would go among the recordings of a folder.
    """
    seen: set[Path] = set()
    outputs = _real(Path(folder))
    for item in [inputs] if isinstance(inputs, str | Path) else inputs:
        path = Path(item)
        found = [Recording(path)]
        if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir fails where nobody may look, reading says why
            found = _search(path, outputs)
            if not found:
                failures[path] = InputError(
                    f"{path} is a folder without recordings; known: {' '.join(sorted(SUFFIXES))}"
                )
        for recording in found:
            if _real(recording.path) not in seen:
                seen.add(_real(recording.path))
                yield recording


def _search(folder: Path, outputs: Path) -> list[Recording]:
    """The recordings in a folder. The outputs of one run are not the next run's inputs: where they go is left out.

    Raises:
        InputError: they would go among the recordings, where nothing tells them apart.
    """
    root = _real(folder)
    inside = outputs != root and outputs.is_relative_to(root)
    files = sorted(p for p in folder.rglob("*") if is_recording(p))
    there = (p for p in files if os.path.isfile(p))  # noqa: PTH113 - Path.is_file fails where nobody may look
    files = [p for p in there if not (inside and _real(p).is_relative_to(outputs))]
    found = [Recording(file, file.parent.relative_to(folder)) for file in files]
    if not inside and any((outputs / recording.subfolder).is_relative_to(root) for recording in found):
        raise InputError(
            f"the outputs would go among the recordings of the folder {folder}, and be taken for recordings the next "
            f"time: choose a folder for them alone, such as {folder / 'separated'}, or name the recordings one by one"
        )
    return found


def _folded(path: Path) -> str:
    """The same for paths that differ only in case, which are one file on some file systems."""
    return str(path).casefold()


def _real(path: Path) -> Path:
    return path.resolve()
