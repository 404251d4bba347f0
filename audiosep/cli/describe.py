"""`audiosep describe`: what is heard in recordings, how sure that is, and when."""

from __future__ import annotations

import logging
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import audiosep
from audiosep.cli import common, outputs
from audiosep.cli.job_options import End, Jobs, Manifest, Start
from audiosep.cli.manifests import read_inputs
from audiosep.cli.reporting import failure_entry, failure_line
from audiosep.cli.several import load_for
from audiosep.cli.standard_error import Bar, Terminal, progress_bar
from audiosep.errors import AudioSepError, Cancelled, InputError, counted

if TYPE_CHECKING:
    from audiosep.hearing.description import Description
    from audiosep.output.recordings import InputFile
    from audiosep.progress import Progress

    Describe = Callable[[Path, Progress], Description]

logger = logging.getLogger(__name__)
app = common.application()

_STRIP = 48  # characters
_SPANS = 4  # that the table shows of a sound
_FOLDER = "described"
_OUTPUT = "sounds"
_ENDINGS = {"csv": "csv", "labels": "txt", "srt": "srt"}


@dataclass(frozen=True)
class _Files:
    """The files that are written for each recording.

    Attributes:
        folder: of them.
        kinds: of csv, labels and srt.
        overwrite: whether files that exist are replaced.
        skip_existing: whether they stay, and only the others are written.
    """

    folder: Path
    kinds: tuple[str, ...]
    overwrite: bool
    skip_existing: bool

    def of(self, recordings: Sequence[InputFile]) -> dict[Path, dict[str, Path]]:
        """Recording -> kind -> its file, each of its own.

        Recordings of one name go into subfolders of the names that tell their folders apart; those of one folder, which
        differ in their ending, keep it.

        Raises:
            InputError: names do not tell two recordings apart; names them.
        """
        names = {one.path: one.subfolder / ("stdin" if str(one.path) == "-" else one.path.stem) for one in recordings}
        for same in self._alike(names):
            names |= {path: folder / path.stem for path, folder in _folders_apart(same).items() if folder.parts}
        for same in self._alike(names):
            names |= {path: names[path].with_name(path.name) for path in same}
        if self.kinds and (alike := self._alike(names)):
            first, second, *_ = alike[0]
            raise InputError(f"{first} and {second} have the same name: describe them into two folders (--out)")
        return {path: {kind: self._file(name, kind) for kind in self.kinds} for path, name in names.items()}

    def _file(self, name: Path, kind: str) -> Path:
        """The file of a kind, named as outputs of recordings are, so that every file system takes it."""
        from audiosep.output.names import plan_outputs

        return plan_outputs(self.folder / name.parent, [_OUTPUT], file=name.name, format=_ENDINGS[kind])[_OUTPUT]

    def _alike(self, names: Mapping[Path, Path]) -> list[list[Path]]:
        """The recordings of each file that several have, also where case does not count."""
        found = defaultdict(list)
        for path, name in names.items():
            found[str(self._file(name, next(iter(_ENDINGS)))).casefold()].append(path)
        return [paths for paths in found.values() if len(paths) > 1]

    def missing(self, files: Mapping[str, Path]) -> dict[str, Path]:
        """Those files of a recording that are to be written.

        Raises:
            InputError: one exists, and nothing says what to do with it.
        """
        existing = [] if self.overwrite else [kind for kind, file in files.items() if file.exists()]
        if existing and not self.skip_existing:
            raise InputError(
                f"{files[existing[0]]} exists already: choose another folder, --overwrite or --skip-existing"
            )
        return {kind: file for kind, file in files.items() if kind not in existing}


def _folders_apart(paths: Sequence[Path]) -> dict[Path, Path]:
    """The folder of each path below the folder that all of them are in."""
    folders = {path: path.absolute().parent.parts for path in paths}
    shared = sum(1 for _ in takewhile(lambda parts: len(set(parts)) == 1, zip(*folders.values(), strict=False)))
    return {path: Path(*parts[max(1, shared) :]) for path, parts in folders.items()}  # without the drive of Windows


@dataclass
class _Listening:
    """What a run has found.

    Attributes:
        terminal: standard error.
        as_json: whether a document is written at the end, in place of tables.
        files: of each recording, kind -> its file.
        tasks: recording -> kind -> its file, for those that are to be written.
        failures: path -> why it was not described.
        overwrite: whether files that exist are replaced.
        results: of recordings, for the document.
        began: when, in seconds.
    """

    terminal: Terminal
    as_json: bool
    files: Mapping[Path, Mapping[str, Path]]
    tasks: Mapping[Path, Mapping[str, Path]]
    failures: dict[Path, Exception]
    overwrite: bool
    results: list[dict[str, Any]] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)

    @property
    def skipped(self) -> list[dict[str, Any]]:
        """Recordings whose files exist, for the document."""
        left = [path for path in self.files if path not in self.tasks]
        return [{"input": str(path), "outputs": _paths(self.files[path])} for path in left]

    def run(self, describe: Describe, lengths: Sequence[float], jobs: int, bar: Bar) -> None:
        """Describe recordings and write their files; what is found is told in the order of the recordings.

        Args:
            describe: a recording, while it tells its progress.
            lengths: of the recordings, in seconds.
            jobs: recordings at once.
            bar: gets the progress of all of them.
        """
        from audiosep.atomic import no_empty_folders
        from audiosep.inference.parallel import Meter, in_order

        paths, meter = list(self.tasks), Meter(bar, lengths)

        def compute(number: int) -> Description | Exception:
            path = paths[number]
            bar.describe(f"{number + 1} of {len(paths)}: {path.name}")
            try:
                found = describe(path, lambda fraction: meter.at(number, fraction * lengths[number]))
                _write(path, found, self.tasks[path], overwrite=self.overwrite)
            except Cancelled:
                raise
            except Exception as error:  # whatever it is, the other recordings are described
                logger.info("%s failed: %s", path, error, exc_info=not isinstance(error, AudioSepError))
                return error
            return found

        with no_empty_folders({file.parent for files in self.tasks.values() for file in files.values()}):
            in_order(compute, len(paths), jobs, lambda number, found: self._take(paths[number], found), meter)

    def _take(self, path: Path, found: Description | Exception) -> None:
        """Tell what was found in a recording; why nothing was, is told at the end."""
        if isinstance(found, Exception):
            self.failures[path] = found
            return
        self.results.append(_result(path, found, self.files[path]))
        if not self.as_json:
            for line in (_table(path, found), *map(str, self.tasks[path].values())):
                common.say(line)

    def end(self, model: str, error: Cancelled | None = None) -> int:
        """Write the failures and the document.

        Args:
            model: its name.
            error: where the user has stopped the run.

        Returns:
            The exit code.
        """
        for path, failure in self.failures.items():
            self.terminal.print(failure_line(path, failure))
        if error is not None:
            self.terminal.print(f"audiosep: {error}")
        if self.as_json:
            common.emit(
                {
                    "version": audiosep.__version__,
                    **({} if error is None else {"error": common.describe(error)}),
                    "model": model,
                    "seconds": round(time.perf_counter() - self.began, 3),
                    "results": self.results,
                    "failures": [failure_entry(path, one) for path, one in self.failures.items()],
                    "skipped": self.skipped,
                }
            )
        if error is not None:
            return common.CANCELLED
        return common.FAILED if self.failures else common.DONE


@app.command()
@common.guarded
def describe(
    inputs: Annotated[
        list[str] | None, typer.Argument(metavar="FILE", help="Recordings, folders or - (standard input).")
    ] = None,
    sound: Annotated[
        list[str] | None,
        typer.Option("--sound", "-s", metavar="TEXT", help="A sound to look for, in words [default: any sound]."),
    ] = None,
    most: Annotated[int, typer.Option(metavar="N", min=1, help="How many sounds of each recording are listed.")] = 8,
    quick: Annotated[bool, typer.Option("--quick", help="Much faster; times may be half a second wrong.")] = False,
    table: Annotated[bool, typer.Option("--csv", help="Write the spans as a table.")] = False,
    labels: Annotated[bool, typer.Option("--labels", help="Write the spans as labels for Audacity.")] = False,
    srt: Annotated[bool, typer.Option("--srt", help="Write the spans as subtitles.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FOLDER", help=f"Folder of these files [default: {_FOLDER}].")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out recordings whose files exist; replace nothing.")
    ] = False,
    manifest: Manifest = None,
    track: Annotated[
        str | None, typer.Option(metavar="TRACK", help="Number, language or name of the audio track.")
    ] = None,
    start: Start = 0.0,
    end: End = None,
    jobs: Jobs = 1,
    as_json: common.AsJson = False,
    quiet: common.Quiet = False,
    verbose: common.Verbose = 0,
    *,
    chosen: common.ModelOptions,
) -> int:
    """Say what is heard in recordings, how sure that is, and when.

    audiosep describe street.wav

    audiosep describe film.mp4 -s "dog barking" -s rain --labels -o out/

    audiosep describe night.wav --start 1:02:00 --end 1:10:00

    find . -name "*.wav" -print0 | audiosep describe --manifest - --quick --csv
    """
    from audiosep.inference.parallel import check_jobs
    from audiosep.output.batch import seconds_of
    from audiosep.output.output_options import OutputOptions
    from audiosep.output.readable import is_readable
    from audiosep.output.recordings import find_recordings
    from audiosep.query.query import as_queries

    given = [*([] if manifest is None else read_inputs(manifest)), *(inputs or [])]
    if not given:
        raise InputError("what should be described? For example: audiosep describe FILE")
    queries = as_queries(sound) if sound else None
    part = OutputOptions(start=start, end=end)
    kinds = tuple(kind for kind, wanted in (("csv", table), ("labels", labels), ("srt", srt)) if wanted)
    for option, given_one in (
        ("--out", out is not None),
        ("--skip-existing", skip_existing),
        ("--overwrite", overwrite),
    ):
        if given_one and not kinds:
            raise InputError(f"{option} is for the files that --csv, --labels and --srt write: name one of them")
    if overwrite and skip_existing:
        raise InputError("--overwrite and --skip-existing exclude each other: choose one")
    folder = out or Path(_FOLDER)
    if kinds:
        outputs.check_folder(folder)
    found, failures = find_recordings(given, folder)
    recordings = [recording for recording in found if is_readable(recording.path, failures)]
    wanted = _Files(folder, kinds, overwrite, skip_existing)
    files = wanted.of(recordings)
    tasks = {path: missing for path, each in files.items() if (missing := wanted.missing(each)) or not kinds}
    terminal = Terminal()
    common.logs_to(terminal, verbose, quiet)
    listening = _Listening(terminal, as_json, files, tasks, failures, overwrite)
    if listening.skipped and not quiet:
        terminal.print(f"files of {len(listening.skipped)} of {counted(len(files), 'recording')} exist already")
    if not tasks:
        return listening.end(chosen.model)
    separator, fitting = load_for(jobs, chosen)
    check_jobs(fitting, separator.device.type)
    separator.check_candidates(queries)

    def hear(path: Path, progress: Progress) -> Description:
        return separator.describe(
            path, queries, most=most, quick=quick, track=track, start=start, end=end, progress=progress
        )

    try:
        with progress_bar(terminal, "Listening", quiet) as bar:
            seen = terminal.is_terminal and not quiet
            listening.run(hear, [seconds_of(path, part) if seen else 1.0 for path in tasks], fitting, bar)
    except KeyboardInterrupt:
        done = f"cancelled; {len(listening.results)} of {counted(len(tasks), 'recording')} finished"
        return listening.end(
            separator.name, Cancelled(f"{done} (--skip-existing goes on with the others)" if kinds else done)
        )
    return listening.end(separator.name)


def _write(path: Path, found: Description, files: Mapping[str, Path], *, overwrite: bool) -> None:
    """Write the files of a recording: all of them or none."""
    from audiosep.output.texts import text_files

    with text_files(files, overwrite=overwrite) as write:
        for kind in files:
            write(kind, found.csv(str(path)) if kind == "csv" else found.labels() if kind == "labels" else found.srt())


def _result(path: Path, found: Description, files: Mapping[str, Path]) -> dict[str, Any]:
    """The entry of a recording in the document."""
    return {
        "input": str(path),
        "start": found.start,
        "length": round(found.seconds, 3),
        "sounds": [
            {"name": one.name, "score": one.score, "spans": [list(span) for span in one.spans]} for one in found
        ],
        "outputs": _paths(files),
    }


def _paths(files: Mapping[str, Path]) -> dict[str, str]:
    return {kind: str(file) for kind, file in files.items()}


def _table(path: Path, found: Description) -> str:
    """A line for each sound: how sure, its name, a strip of time, its first spans."""
    from audiosep.hearing.description import strip
    from audiosep.hearing.spans import Span

    encoding = getattr(sys.stdout, "encoding", None) or ""
    marks = "·█" if encoding.lower().startswith("utf") else ".#"
    names = [" ".join(sound.name.split()) for sound in found]
    width = max(map(len, names), default=0)
    part = f" from {found.start:g} s on" if found.start else ""
    lines = [f"{path.name}, {found.seconds:.1f} s{part}" + ("" if found else ": nothing was heard")]
    for name, sound in zip(names, found, strict=True):
        shown = ", ".join(f"{start:.2f}-{end:.2f}" for start, end in sound.spans[:_SPANS])
        more = f" and {len(sound.spans) - _SPANS} more" if len(sound.spans) > _SPANS else ""
        within = [Span(a - found.start, b - found.start) for a, b in sound.spans]
        times = strip(within, found.seconds, _STRIP, marks)
        lines.append(f"{sound.score:5.0%}  {name:{width}}  {times}  {shown or 'nowhere for sure'}{more}")
    return "\n".join(lines)
