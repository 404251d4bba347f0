"""`audiosep separate`: the sounds you name, out of recordings."""

from __future__ import annotations

from typing import Annotated

import typer

from audiosep.cli import common, job
from audiosep.cli.job_options import JobOptions
from audiosep.cli.query_options import QueryOptions

app = common.application()


@app.command()
@common.guarded
def separate(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT [QUERY]", help="A recording, a folder or - (standard input), then sounds in words."
        ),
    ] = None,
    query: Annotated[
        list[str] | None,
        typer.Option("--query", "-q", metavar="TEXT", help="A sound to separate; every argument is then an input."),
    ] = None,
    *,
    wanted: QueryOptions,
    options: JobOptions,
    chosen: common.ModelOptions,
) -> int:
    """Separate the sounds you name out of recordings.

    audiosep separate song.mp3 piano "electric guitar" -o out/

    audiosep separate *.wav -q piano -q guitar --not drums -o out/

    audiosep separate street.wav --like my_dog.wav -o out/

    audiosep separate street.wav --at 3.2-4.1 -o out/

    audiosep separate --ray archive/ speech -o out/
    """
    inputs, queries = wanted.asked(arguments, query, options.manifest)
    return job.run(inputs, queries, options, chosen, by_words=wanted.by_words)
