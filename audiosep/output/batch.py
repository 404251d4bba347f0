"""Separate files to files in bounded memory: decode, separate, write, block by block."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from audiosep.audio import AudioReader, probe
from audiosep.audio.limits import Array
from audiosep.errors import AudioError, AudioSepError, Cancelled, InputError
from audiosep.inference.options import Progress
from audiosep.inference.stream import Stream
from audiosep.output.batch_report import BatchReport, FileResult
from audiosep.output.files import Outputs
from audiosep.output.names import STDOUT, plan_outputs
from audiosep.output.output_options import OutputOptions
from audiosep.output.recordings import Recording, find_recordings
from audiosep.output.separation import remainder

logger = logging.getLogger(__name__)

_UNKNOWN_LENGTH = 60.0  # seconds, for a recording whose length only decoding can tell


def run_batch(
    open_stream: Callable[[int, int], Stream],
    names: Sequence[str],
    inputs: str | Path | Sequence[str | Path],
    out_dir: str | Path,
    output: OutputOptions,
    *,
    stems: bool = False,
    progress: Progress | None = None,
) -> BatchReport:
    """Separate each recording; one that fails does not keep the others from being finished.

    Args:
        open_stream: (sample rate in Hz, channels) -> a fresh stream of the targets.
        names: of the targets.
        inputs: files, folders (searched with their subfolders), or "-" for standard input.
        out_dir: folder of the outputs; "-" for standard output.
        output: what is written.
        stems: whether the targets are a model's fixed stems.
        progress: called with the fraction of all samples of the batch; returning False cancels.

    Returns:
        What became of each file.

    Raises:
        InputError: an option that no file could be written with.
        Cancelled: by `progress`. Files that were finished before stay, nothing else does.
    """
    folder = Path(out_dir)
    targets = output.written_targets(names)
    rest = None if folder == STDOUT else output.written_rest(targets, stems=stems)
    recordings, failures = find_recordings(inputs, folder)
    if folder == STDOUT and len(recordings) > 1:
        raise InputError(f"standard output carries one recording, not {len(recordings)}: name a folder for the outputs")
    report = BatchReport(failures=failures)
    meter = _Meter(progress, [recording.path for recording in recordings])
    paths = OutputPaths(folder, [*targets, *([rest] if rest else [])], output, recordings)
    for index, recording in enumerate(recordings):
        try:
            here = partial(meter.at, index)
            report.results.append(
                _separate(open_stream, recording.path, paths.of(recording), targets, rest, output, here)
            )
        except Cancelled:
            raise
        except Exception as error:
            logger.info("%s failed: %s", recording.path, error, exc_info=not isinstance(error, AudioSepError))
            report.failures[recording.path] = error
        meter.at(index, math.inf)
    return report


def _separate(
    open_stream: Callable[[int, int], Stream],
    path: Path,
    paths: dict[str, Path],
    targets: Sequence[str],
    rest: str | None,
    output: OutputOptions,
    progress: Callable[[float], None],
) -> FileResult:
    """Separate one recording into its files."""
    with AudioReader(path, max_seconds=output.max_seconds) as reader:
        info = reader.info
        stream = open_stream(info.sample_rate, info.channels)

        def written(separated: Array) -> dict[str, Array]:
            """Output name -> (channels, n) samples."""
            blocks = {name: separated[stream.names.index(name)] for name in targets}
            return blocks if rest is None else {**blocks, rest: remainder(stream.mix, list(blocks.values()))}

        with Outputs(
            paths,
            info.sample_rate,
            info.channels,
            format=output.format,
            depth=info.depth,
            tags=info.tags,
            on_clip=output.on_clip,
            overwrite=output.overwrite,
        ) as outputs:
            for block in reader:
                outputs.write(written(stream.push(block)))
                progress(stream.returned / info.sample_rate)
            outputs.write(written(stream.finish()))
    return FileResult(
        input=path,
        outputs=paths,
        presence=stream.presence and {name: stream.presence[name] for name in targets},
        gain=outputs.gain,
        clipped=outputs.clipped,
        samples=stream.received,
        sample_rate=info.sample_rate,
        channels=info.channels,
    )


class OutputPaths:
    """Where the outputs of a batch go: never onto an input or another output of the batch.

    Args:
        folder: of the outputs; Path("-") for standard output.
        names: of the outputs of each recording.
        output: format and template.
        recordings: all of the batch.
        taken: other files that are not free.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        output: OutputOptions,
        recordings: Iterable[Recording],
        taken: Iterable[Path] = (),
    ) -> None:
        self._folder, self._names, self._output = folder, list(names), output
        self._originals = {recording.path.resolve() for recording in recordings}
        self._taken = set(map(_folded, taken))
        self._reached: dict[str, int] = {}  # number of the last recording of a name: thousands may share one

    def of(self, recording: Recording) -> dict[str, Path]:
        """Name -> path of each output of a recording.

        Of several recordings of one name (song.wav, song.flac) all but the first are numbered. A recording keeps its
        paths also when it fails, so that they depend on nothing but the inputs.

        Raises:
            AudioError: there are no free paths for it.
        """
        file = "stdin" if str(recording.path) == "-" else recording.path.stem
        folder = self._folder if self._folder == STDOUT else self._folder / recording.subfolder
        plan = partial(
            plan_outputs, folder, self._names, file=file, format=self._output.format, template=self._output.template
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
            if path.resolve() in self._originals:
                raise AudioError(f"{path} is an input of this job and would be overwritten: choose another folder")
        self._taken.update(map(_folded, paths.values()))
        return paths


def _folded(path: Path) -> str:
    """The same for paths that differ only in case, which are one file on some file systems."""
    return str(path).casefold()


class _Meter:
    """The fraction of a whole batch, from seconds of each recording.

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
        return _UNKNOWN_LENGTH
    try:
        return probe(path).seconds or _UNKNOWN_LENGTH
    except Exception:  # whatever it is, it must not keep the other recordings from being separated
        return 1.0
