"""`audiosep describe`: what is heard in recordings, how sure that is, and when."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import audiosep
from audiosep.cli import common
from audiosep.cli.standard_error import Bar, Terminal, progress_bar
from audiosep.errors import AudioError, AudioSepError, Cancelled, InputError

if TYPE_CHECKING:
    from audiosep.hearing.description import Description
    from audiosep.separator import Separator

app = common.application()

_STRIP = 48  # characters
_SPANS = 4  # that the table shows of a sound
_ENDINGS = {"csv": "csv", "labels": "txt", "srt": "srt"}


@dataclass(frozen=True)
class _Files:
    """The files that are written for each recording.

    Attributes:
        folder: of them.
        kinds: of csv, labels and srt.
        overwrite: whether files that exist are replaced.
    """

    folder: Path
    kinds: tuple[str, ...]
    overwrite: bool

    def of(self, recording: Path) -> dict[str, Path]:
        """Kind -> the file for a recording."""
        stem = "stdin" if str(recording) == "-" else recording.stem
        return {kind: self.folder / f"{stem} (sounds).{_ENDINGS[kind]}" for kind in self.kinds}


@app.command()
@common.guarded
def describe(
    inputs: Annotated[list[str], typer.Argument(metavar="FILE...", help="Recordings, folders or - (standard input).")],
    sound: Annotated[
        list[str] | None,
        typer.Option("--sound", "-s", metavar="TEXT", help="A sound to look for, in words [default: any sound]."),
    ] = None,
    most: Annotated[int, typer.Option(metavar="N", min=1, help="How many sounds of each recording are listed.")] = 8,
    quick: Annotated[bool, typer.Option("--quick", help="Much faster; times may be half a second wrong.")] = False,
    table: Annotated[bool, typer.Option("--csv", help="Write the spans as a table.")] = False,
    labels: Annotated[bool, typer.Option("--labels", help="Write the spans as labels for Audacity.")] = False,
    srt: Annotated[bool, typer.Option("--srt", help="Write the spans as subtitles.")] = False,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder of these files.")] = Path(
        "described"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    track: Annotated[
        str | None, typer.Option(metavar="TRACK", help="Number, language or name of the audio track.")
    ] = None,
    as_json: common.AsJson = False,
    quiet: common.Quiet = False,
    verbose: common.Verbose = 0,
    *,
    chosen: common.ModelOptions,
) -> int:
    """Say what is heard in recordings, how sure that is, and when.

    audiosep describe street.wav

    audiosep describe film.mp4 -s "dog barking" -s rain --labels -o out/
    """
    from audiosep.output.recordings import find_recordings
    from audiosep.query.query import as_queries

    if sound:
        as_queries(sound)  # refuses what is no query before a model is loaded
    kinds = tuple(kind for kind, wanted in (("csv", table), ("labels", labels), ("srt", srt)) if wanted)
    if kinds:
        common.check_folder(out)
    files = _Files(out, kinds, overwrite)
    recordings, failures = find_recordings(inputs, out)
    paths = [recording.path for recording in recordings]
    _check_names(files, paths)
    terminal = Terminal()
    common.logs_to(terminal, verbose, quiet)
    began = time.perf_counter()
    results: list[dict[str, Any]] = []
    separator = chosen.load()
    with common.silent_libraries(quiet), progress_bar(terminal, "Listening", quiet) as bar:
        for number, path in enumerate(paths):
            bar.describe(f"{number + 1} of {len(paths)}: {path.name}")
            try:
                results.append(_described(separator, path, sound, most, quick, track, files, bar, as_json=as_json))
            except Cancelled:
                raise
            except (AudioSepError, OSError) as error:
                failures[path] = error
    for path, failure in failures.items():
        terminal.print(f"audiosep: {'' if str(path) in str(failure) else f'{path}: '}{failure}")
    if as_json:
        common.emit(
            {
                "version": audiosep.__version__,
                "model": separator.name,
                "seconds": round(time.perf_counter() - began, 3),
                "results": results,
                "failures": [{"input": str(path), **common.describe(error)} for path, error in failures.items()],
            }
        )
    return common.FAILED if failures else common.DONE


def _check_names(files: _Files, paths: list[Path]) -> None:
    """Refuse files that exist, or that two recordings would share.

    Raises:
        InputError: names them.
    """
    taken: dict[Path, Path] = {}
    for path in paths:
        for file in files.of(path).values():
            if file in taken:
                raise InputError(f"{taken[file]} and {path} would both write {file}: describe them one by one")
            if file.exists() and not files.overwrite:
                raise InputError(f"{file} exists already: choose another folder, or --overwrite")
            taken[file] = path


def _described(
    separator: Separator,
    path: Path,
    sounds: list[str] | None,
    most: int,
    quick: bool,
    track: str | None,
    files: _Files,
    progress: Bar,
    *,
    as_json: bool,
) -> dict[str, Any]:
    """Describe a recording: the table on standard output, the files, and the entry of the document."""
    from audiosep.atomic import make_folder, write_text

    found = separator.describe(path, sounds, most=most, quick=quick, track=track, progress=progress)
    written = files.of(path)
    texts = {"csv": found.csv, "labels": found.labels, "srt": found.srt}
    for kind, file in written.items():
        make_folder(file.parent, AudioError)
        write_text(file, texts[kind]())
    if not as_json:
        common.say(_table(path, found))
        for file in written.values():
            common.say(str(file))
    return {
        "input": str(path),
        "length": round(found.seconds, 3),
        "sounds": [
            {"name": one.name, "score": one.score, "spans": [list(span) for span in one.spans]} for one in found
        ],
        "outputs": {kind: str(file) for kind, file in written.items()},
    }


def _table(path: Path, found: Description) -> str:
    """A line for each sound: how sure, its name, a strip of time, its first spans."""
    from audiosep.hearing.description import strip

    encoding = getattr(sys.stdout, "encoding", None) or ""
    marks = "·█" if encoding.lower().startswith("utf") else ".#"
    width = max((len(sound.name) for sound in found), default=0)
    lines = [f"{path.name}, {found.seconds:.1f} s" + ("" if found else ": nothing was heard")]
    for sound in found:
        shown = ", ".join(f"{start:.2f}-{end:.2f}" for start, end in sound.spans[:_SPANS])
        more = f" and {len(sound.spans) - _SPANS} more" if len(sound.spans) > _SPANS else ""
        times = strip(sound.spans, found.seconds, _STRIP, marks)
        lines.append(f"{sound.score:5.0%}  {sound.name:{width}}  {times}  {shown or 'not heard'}{more}")
    return "\n".join(lines)
