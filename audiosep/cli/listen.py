"""`audiosep listen`: listening tests, made and analysed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audiosep.cli import common

app = common.application("Listening tests by ITU-R BS.1534 (MUSHRA).")


@app.command()
@common.guarded
def make(
    folder: Annotated[Path, typer.Argument(help="Holds reference/ and a folder a system, with the same file names.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write.")] = Path("listening.html"),
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Listening test",
    seconds: Annotated[float, typer.Option(min=1, max=12, help="Longest stretch of an item.")] = 10.0,
    mid_anchor: Annotated[bool, typer.Option("--mid-anchor", help="Add the reference up to 7 kHz.")] = False,
    as_json: common.AsJson = False,
) -> None:
    """Make one HTML page for the listeners, and a key for you.

    audiosep listen make systems/ -o test.html
    """
    from audiosep.evaluation.listening import describe, key_path, make_test

    key = make_test(folder, out, title=title, seconds=seconds, mid_anchor=mid_anchor)
    if as_json:
        common.emit({"page": str(out), "key": str(key_path(out))} | describe(key))
        return
    print(f"{out}: {len(key.trials)} items; give it to the listeners")
    print(f"{key_path(out)}: which version is which; keep it")


@app.command()
@common.guarded
def analyse(
    key: Annotated[Path, typer.Argument(help="The key that `make` wrote.")],
    ratings: Annotated[list[Path], typer.Argument(metavar="RATINGS...", help="The files that the listeners saved.")],
    markdown: Annotated[Path | None, typer.Option(help="Also write the tables to this file.")] = None,
    as_json: common.AsJson = False,
) -> None:
    """Leave out unreliable listeners and show means with intervals.

    audiosep listen analyse test.key.json ratings-*.json
    """
    from audiosep.atomic import write_text
    from audiosep.evaluation import ratings as analysis
    from audiosep.evaluation.listening import Key, read_ratings

    found = analysis.analyse(read_ratings(ratings, Key.load(key)))
    if markdown is not None:
        write_text(markdown, found.markdown())
    if as_json:
        common.emit(found.data())
    else:
        print(found.markdown())
