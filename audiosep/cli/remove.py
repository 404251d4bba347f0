"""`audiosep remove`: recordings without the sounds you name."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from audiosep.cli import common, job
from audiosep.cli.job_options import RemoveOptions
from audiosep.cli.query_options import QueryOptions

app = common.application()


@app.command()
@common.guarded
def remove(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT [SOUND]", help="A recording, a folder or - (standard input), then sounds."),
    ] = None,
    query: Annotated[
        list[str] | None,
        typer.Option("--query", "-q", metavar="TEXT", help="A sound to remove; every argument is then an input."),
    ] = None,
    *,
    wanted: QueryOptions,
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="Also where the sound was not heard, what the model takes for it.")
    ] = False,
    options: RemoveOptions,
    chosen: common.ModelOptions,
) -> int:
    """Remove sounds from recordings: one output for each, the recording without them.

    Where a sound is not heard, the recording stays as it is (--everywhere: also there without what resembles it).

    audiosep remove street.wav "dog barking" -o out/

    audiosep remove office.wav --like our_fan.wav -o out/

    audiosep remove film.mp4 music --video -o out/

    audiosep remove - wind -o - < in.wav > out.wav
    """
    inputs, queries = wanted.asked(arguments, query, options.manifest)
    options = replace(options, output=replace(options.output, rest_only=True, everywhere=everywhere))
    return job.run(inputs, queries, options, chosen, by_words=wanted.by_words)
