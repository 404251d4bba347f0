"""`audiosep describe`: what is heard in recordings, how sure that is, and when."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import audiosep
from audiosep.cli import common, outputs
from audiosep.cli.reporting import failure_entry, failure_line
from audiosep.cli.standard_error import Bar, Terminal, progress_bar, silent_libraries
from audiosep.errors import AudioError, AudioSepError, Cancelled, InputError, QueryError

if TYPE_CHECKING:
    from audiosep.hearing.description import Description
    from audiosep.output.recordings import InputFile
    from audiosep.query.query import Query
    from audiosep.separator import Separator

app = common.application()

_STRIP = 48  # characters
_SPANS = 4  # that the table shows of a sound
_FOLDER = "described"
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

    def of(self, recordings: Sequence[InputFile]) -> dict[Path, dict[str, Path]]:
        """Recording -> kind -> its file, each of its own; recordings that differ in their ending keep it.

        Raises:
            InputError: a file exists, or two recordings have the same name; names them.
        """
        stems = {one.path: one.subfolder / ("stdin" if str(one.path) == "-" else one.path.stem) for one in recordings}
        counts = Counter(stems.values())
        names = {path: stem if counts[stem] == 1 else stem.with_name(path.name) for path, stem in stems.items()}
        taken: dict[Path, Path] = {}
        for path, name in names.items():
            if self.kinds and name in taken:
                raise InputError(f"{taken[name]} and {path} have the same name: describe them into two folders (--out)")
            taken[name] = path
        files = {
            path: {kind: self.folder / f"{name} (sounds).{_ENDINGS[kind]}" for kind in self.kinds}
            for path, name in names.items()
        }
        for file in (file for kinds in files.values() for file in kinds.values()):
            if file.exists() and not self.overwrite:
                raise InputError(f"{file} exists already: choose another folder, or --overwrite")
        return files


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
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FOLDER", help=f"Folder of these files [default: {_FOLDER}].")
    ] = None,
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

    queries = as_queries(sound) if sound else None
    kinds = tuple(kind for kind, wanted in (("csv", table), ("labels", labels), ("srt", srt)) if wanted)
    if out is not None and not kinds:
        raise InputError("--out is the folder of the files that --csv, --labels and --srt write: name one of them")
    folder = out or Path(_FOLDER)
    if kinds:
        outputs.check_folder(folder)
    recordings, failures = find_recordings(inputs, folder)
    files = _Files(folder, kinds, overwrite).of(recordings)
    terminal = Terminal()
    common.logs_to(terminal, verbose, quiet)
    began = time.perf_counter()
    results: list[dict[str, Any]] = []
    separator = chosen.load()
    with silent_libraries(quiet), progress_bar(terminal, "Listening", quiet) as bar:
        for number, (path, written) in enumerate(files.items()):
            bar.describe(f"{number + 1} of {len(files)}: {path.name}")
            try:
                results.append(_described(separator, path, queries, most, quick, track, written, bar, as_json=as_json))
            except (Cancelled, QueryError):  # a sound that no recording can be asked for
                raise
            except (AudioSepError, OSError) as error:
                failures[path] = error
    for path, failure in failures.items():
        terminal.print(failure_line(path, failure))
    if as_json:
        common.emit(
            {
                "version": audiosep.__version__,
                "model": separator.name,
                "seconds": round(time.perf_counter() - began, 3),
                "results": results,
                "failures": [failure_entry(path, error) for path, error in failures.items()],
            }
        )
    return common.FAILED if failures else common.DONE


def _described(
    separator: Separator,
    path: Path,
    queries: Sequence[Query] | None,
    most: int,
    quick: bool,
    track: str | None,
    files: Mapping[str, Path],
    progress: Bar,
    *,
    as_json: bool,
) -> dict[str, Any]:
    """Describe a recording: the table on standard output, the files, and the entry of the document."""
    from audiosep.atomic import make_folder, write_text

    found = separator.describe(path, queries, most=most, quick=quick, track=track, progress=progress)
    texts = {"csv": found.csv, "labels": found.labels, "srt": found.srt}
    for kind, file in files.items():
        make_folder(file.parent, AudioError)
        write_text(file, texts[kind]())
    if not as_json:
        common.say(_table(path, found))
        for file in files.values():
            common.say(str(file))
    return {
        "input": str(path),
        "length": round(found.seconds, 3),
        "sounds": [
            {"name": one.name, "score": one.score, "spans": [list(span) for span in one.spans]} for one in found
        ],
        "outputs": {kind: str(file) for kind, file in files.items()},
    }


def _table(path: Path, found: Description) -> str:
    """A line for each sound: how sure, its name, a strip of time, its first spans."""
    from audiosep.hearing.description import strip

    encoding = getattr(sys.stdout, "encoding", None) or ""
    marks = "·█" if encoding.lower().startswith("utf") else ".#"
    names = [" ".join(sound.name.split()) for sound in found]
    width = max(map(len, names), default=0)
    lines = [f"{path.name}, {found.seconds:.1f} s" + ("" if found else ": nothing was heard")]
    for name, sound in zip(names, found, strict=True):
        shown = ", ".join(f"{start:.2f}-{end:.2f}" for start, end in sound.spans[:_SPANS])
        more = f" and {len(sound.spans) - _SPANS} more" if len(sound.spans) > _SPANS else ""
        times = strip(sound.spans, found.seconds, _STRIP, marks)
        lines.append(f"{sound.score:5.0%}  {name:{width}}  {times}  {shown or 'nowhere for sure'}{more}")
    return "\n".join(lines)
