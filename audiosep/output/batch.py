"""Separate files to files in bounded memory: decode, separate, write, block by block."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from audiosep.atomic import no_empty_folders
from audiosep.audio import AudioInfo, AudioReader, probe
from audiosep.audio.inputs import is_pipe
from audiosep.audio.marker import fingerprint
from audiosep.audio.samples import Array
from audiosep.audio.stem_file import SONG
from audiosep.errors import AudioSepError, Cancelled
from audiosep.hearing.activity import Activity
from audiosep.hearing.description import labels_text
from audiosep.hearing.spans import Span
from audiosep.inference.parallel import Meter, in_order
from audiosep.inference.routed_stream import AnyStream
from audiosep.output.batch_report import BatchEvent, BatchReport, FileResult, Watch
from audiosep.output.files import Outputs
from audiosep.output.names import STDOUT
from audiosep.output.output_options import OutputOptions
from audiosep.output.plan import FileTask, Plan
from audiosep.output.shaping import Shaper, stretch_of
from audiosep.output.texts import text_files
from audiosep.output.within_spans import WaitingTargets, each_once, remainder, remainder_within
from audiosep.progress import Progress

logger = logging.getLogger(__name__)

_UNKNOWN_LENGTH = 60.0  # seconds, for a recording whose length only decoding can tell
_BLOCK = 16_384  # samples that are decoded at a time, of which there are several copies

OpenStream = Callable[[int, int], AnyStream]
"""(sample rate in Hz, channels) -> a fresh stream of the targets."""


def run_batch(
    open_stream: OpenStream,
    plan: Plan,
    output: OutputOptions,
    sounds: Mapping[str, str],
    *,
    jobs: int = 1,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> BatchReport:
    """Separate each recording; one that fails does not keep the others from being finished.

    Args:
        open_stream: opens the stream of a recording.
        plan: what is separated to which files.
        output: what is written.
        sounds: name of a target -> that of the first target that is the same sound.
        jobs: recordings that are separated at once.
        progress: called with the fraction of all samples of the batch; returning False cancels.
        watch: called when a recording begins and when it is finished; the latter in the order of the plan.

    Returns:
        What became of each file.

    Raises:
        Cancelled: by `progress`. Files that were finished before stay, nothing else does.
    """
    report = plan.report()
    meter = Meter(progress, [seconds_of(task.input, output) for task in plan.tasks] if progress else [])
    tell = _teller(watch, len(plan.tasks))

    def separate(index: int) -> FileResult | Exception:
        task = plan.tasks[index]
        tell(index, task, None)
        try:
            return _separate(open_stream, task, plan, output, sounds, partial(meter.at, index))
        except Cancelled:
            raise
        except Exception as error:
            logger.info("%s failed: %s", task.input, error, exc_info=not isinstance(error, AudioSepError))
            return error

    plan.remove_leftovers()

    def take(index: int, outcome: FileResult | Exception) -> None:
        _record(report, plan.tasks[index], outcome)
        tell(index, plan.tasks[index], outcome)

    folders = {path.parent for task in plan.tasks for path in task.outputs.values() if path != STDOUT}
    with no_empty_folders(folders):
        in_order(separate, len(plan.tasks), jobs, take, meter)
    return report


def _record(report: BatchReport, task: FileTask, outcome: FileResult | Exception) -> None:
    if isinstance(outcome, FileResult):
        report.results.append(outcome)
    else:
        report.failures[task.input] = outcome


def _separate(
    open_stream: OpenStream,
    task: FileTask,
    plan: Plan,
    output: OutputOptions,
    sounds: Mapping[str, str],
    progress: Callable[[float], None],
) -> FileResult:
    """Separate one recording into its files."""
    start, seconds = stretch_of(task.input, output)
    with AudioReader(
        task.input, _BLOCK, max_seconds=output.max_seconds, track=output.track, start=start, seconds=seconds
    ) as reader:
        stream = open_stream(reader.info.sample_rate, reader.info.channels)
        written = _Written(output.tracks or tuple(task.outputs), plan, stream.names, sounds, reader.info, output)
        within = plan.rest is not None and not output.everywhere
        labels = {name: path for name, path in task.labels.items() if output.overwrite or not path.exists()}
        with (  # labels of an earlier run are perhaps edited
            text_files(labels, overwrite=output.overwrite) as label,
            _open_outputs(task, plan, output, reader, written.shaper) as outputs,
        ):
            with _waiting(task, stream, within) as waiting:
                for separated in _separated(stream, reader, progress):
                    if waiting is None:
                        outputs.write(written.blocks(stream.mix, separated))
                    else:
                        waiting.write(stream.mix, separated)
                activity = {name: stream.activity[name] for name in plan.targets}
                extents = {name: one.extent for name, one in activity.items()}
                for first, mix, separated in waiting.read() if waiting is not None else ():
                    outputs.write(written.blocks(mix, separated, extents, first, stream.returned))
            outputs.write(written.shaper.finish())
            for name in labels:
                mine = [target for target in activity if name in (target, plan.rest) or output.tracks]
                label(name, labels_text((span, target) for target in mine for span in activity[target].spans))
    return _result(task, stream, outputs, written.shaper, activity)


class _Written:
    """What is written of a recording and its separated targets.

    Args:
        names: of the outputs, or of the tracks of a stem file.
        plan: of the batch.
        separated: names of the targets that are separated.
        sounds: as in `run_batch`.
        info: of the recording.
        output: what is written.

    Attributes:
        shaper: gives the outputs their sample rate and channels.
    """

    def __init__(
        self,
        names: Sequence[str],
        plan: Plan,
        separated: Sequence[str],
        sounds: Mapping[str, str],
        info: AudioInfo,
        output: OutputOptions,
    ) -> None:
        self._names, self._rest, self._sounds = names, plan.rest, sounds
        self._rows = {name: separated.index(name) for name in plan.targets}
        self._song, self._sample_rate = bool(output.tracks), info.sample_rate
        self.shaper = Shaper(names, info.sample_rate, info.channels, output)

    def blocks(
        self,
        mix: Array,
        separated: Array,
        extents: Mapping[str, Sequence[Span]] | None = None,
        start: int = 0,
        total: int | None = None,
    ) -> dict[str, Array]:
        """Take a block of the recording, give back what is ready of each output.

        Args:
            mix: (channels, samples) of the recording.
            separated: (targets, channels, samples).
            extents: name of a target -> where it is taken out of what is left; None: everywhere.
            start: number of the first sample within the recording.
            total: samples of the recording, with `extents`.
        """
        targets = {name: separated[row] for name, row in self._rows.items()}
        blocks = {**targets, SONG: mix} if self._song else dict(targets)
        if self._rest is not None:
            taken = each_once(targets, self._sounds)
            if extents is None:
                blocks[self._rest] = remainder(mix, list(taken.values()))
            else:
                blocks[self._rest] = remainder_within(mix, taken, extents, self._sample_rate, start, total)
        return self.shaper.push({name: blocks[name] for name in self._names})


def _open_outputs(task: FileTask, plan: Plan, output: OutputOptions, reader: AudioReader, shaper: Shaper) -> Outputs:
    """The files of a recording, which have what it has beside its samples."""
    info = reader.info
    return Outputs(
        task.outputs,
        shaper.sample_rate,
        shaper.channels,
        format=output.encoding,
        depth=info.depth,
        tags=info.tags,
        speakers=0 if output.mono else info.speakers,
        cover=reader.cover,
        chapters=reader.chapters,
        broadcast=reader.broadcast,
        bitrate=output.bitrate,
        on_clip=output.on_clip,
        overwrite=output.overwrite,
        loudness=output.loudness,
        video=info if output.video else None,
        tracks=output.tracks,
        recording=fingerprint(task.input),
        works=plan.works,
        kept=task.kept,
    )


def _result(
    task: FileTask, stream: AnyStream, outputs: Outputs, shaper: Shaper, activity: dict[str, Activity]
) -> FileResult:
    """What became of a recording whose outputs are in their places."""
    return FileResult(
        input=task.input,
        outputs=task.outputs,
        presence=stream.presence and {name: p for name, p in stream.presence.items() if name in activity},
        gain=outputs.gain,
        clipped=outputs.clipped,
        loudness=outputs.loudness,
        samples=outputs.samples,
        sample_rate=shaper.sample_rate,
        channels=shaper.channels,
        explanation={name: answer for name, answer in stream.explanation.items() if name in activity},
        activity=activity,
        labels=task.labels,
        loudness_shortfall=outputs.loudness_shortfall,
    )


def _separated(stream: AnyStream, reader: AudioReader, progress: Callable[[float], None]) -> Iterator[Array]:
    """The targets of a recording, block by block."""
    for block in reader:
        yield from stream.pieces(block)
        progress(stream.returned / stream.sample_rate)
    for piece in stream.pieces(None):
        yield piece
        progress(stream.returned / stream.sample_rate)


def _waiting(
    task: FileTask, stream: AnyStream, within: bool
) -> contextlib.AbstractContextManager[WaitingTargets | None]:
    """Where the recording and its targets wait until it is known when these sound; None where that is not needed."""
    if not within:
        return contextlib.nullcontext()
    path = next(iter(task.outputs.values()))
    folder = None if path == STDOUT else path.parent
    return contextlib.closing(WaitingTargets(folder, len(stream.names), stream.channels))


def _teller(watch: Watch | None, total: int) -> Callable[[int, FileTask, FileResult | Exception | None], None]:
    """Calls `watch`, from one thread at a time."""
    lock = threading.Lock()

    def tell(index: int, task: FileTask, outcome: FileResult | Exception | None) -> None:
        if watch is not None:
            with lock:
                watch(BatchEvent(task.input, index + 1, total, outcome))

    return tell


def seconds_of(path: Path, output: OutputOptions) -> float:
    """Roughly how much of a recording is separated; one that cannot be read fails later, where it is reported."""
    try:
        whole = _UNKNOWN_LENGTH if is_pipe(path) else probe(path).seconds or _UNKNOWN_LENGTH
    except Exception:  # whatever it is, it must not keep the other recordings from being separated
        return 1.0
    if output.preview is not None:
        return min(whole, output.preview)
    return max(1.0, (whole if output.end is None else min(whole, output.end)) - output.start)
