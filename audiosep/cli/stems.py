"""`audiosep stems`: songs into vocals, drums, bass and other."""

from __future__ import annotations

from typing import Annotated

import typer

from audiosep.cli import command_line, common, job
from audiosep.cli.job_options import JobOptions
from audiosep.cli.manifests import read_inputs
from audiosep.cli.query_options import corrected, exists
from audiosep.errors import InputError
from audiosep.query.stem_words import stem_of
from audiosep.weights.stem_models import SIX

app = common.application()


@app.command()
@common.guarded
def stems(
    inputs: Annotated[
        list[str] | None, typer.Argument(metavar="INPUT", help="Recordings, folders or - (standard input).")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="STEM", help="Write this stem, and the rest of the song as one file."),
    ] = None,
    *,
    options: JobOptions,
    chosen: common.ModelOptions,
) -> int:
    """Split songs into vocals, drums, bass and other; the stems sum to the song.

    audiosep stems song.mp3 -o out/

    audiosep stems song.mp3 --only vocals -o out/

    audiosep stems --ray albums/ -o out/
    """
    songs = [*([] if options.manifest is None else read_inputs(options.manifest)), *(inputs or [])]
    if not songs:
        raise InputError("what should be separated? For example: audiosep stems FILE")
    words = [name for name in inputs or () if not exists(name) and (stem_of(name, SIX) or name == "other")]
    if words:
        command = corrected(command_line.get(), words, "--only")
        raise InputError(f"{words[0]!r} is no file, and every argument is an input: {command}")
    if options.explain:
        raise InputError("--explain says how words were answered, and stems have none: leave it out")
    return job.run(songs, None, options, chosen, only=only and [stem_of(name) or name for name in only])
