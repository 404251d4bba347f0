"""`audiosep listen`: make listening tests and analyse their ratings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audiosep.cli import common, outputs
from audiosep.errors import counted

app = common.application("Listening tests by ITU-R BS.1534 (MUSHRA).")


@app.command()
@common.guarded
@outputs.skippable(lambda given: given["out"])
def make(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="With a folder reference/ and one folder per system, all with the same file names."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The HTML page to write.")] = Path(
        "listening.html"
    ),
    title: Annotated[str, typer.Option(metavar="TEXT", help="Heading of the page.")] = "Listening test",
    seconds: Annotated[
        float, typer.Option(min=1, max=12, metavar="SECONDS", help="Longest excerpt of an item.")
    ] = 10.0,
    mid_anchor: Annotated[
        bool, typer.Option("--mid-anchor", help="Add an anchor: the reference, low-passed at 7 kHz.")
    ] = False,
    as_json: common.AsJson = False,
) -> None:
    """Write one HTML page for the listeners, and a key file for you.

    audiosep listen make systems/ -o test.html
    """
    from audiosep.evaluation.listening import describe, key_path, make_test

    outputs.check_file(out, ".html", ".htm")
    key = make_test(folder, out, title=title, seconds=seconds, mid_anchor=mid_anchor)
    if as_json:
        common.emit({"page": str(out), "key": str(key_path(out))} | describe(key))
        return
    print(f"{out}: {counted(len(key.trials), 'item')}; give it to the listeners")
    print(f"{key_path(out)}: which version is which; keep it")


@app.command()
@common.guarded
def analyse(
    key: Annotated[Path, typer.Argument(metavar="KEY", help="The key file that `listen make` wrote.")],
    ratings: Annotated[
        list[Path], typer.Argument(metavar="RATINGS...", help="The files that the page saved for the listeners.")
    ],
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the tables to this file, as Markdown.")
    ] = None,
    as_json: common.AsJson = False,
) -> None:
    """Exclude unreliable listeners, and show means with confidence intervals.

    audiosep listen analyse test.key.json ratings-*.json
    """
    from audiosep.atomic import write_text
    from audiosep.evaluation import ratings as analysis
    from audiosep.evaluation.listening import Key, read_ratings

    if markdown is not None:
        outputs.check_file(markdown, ".md", inputs=[key, *ratings])
    found = analysis.analyse(read_ratings(ratings, Key.load(key)))
    if markdown is not None:
        write_text(markdown, found.markdown())
    if as_json:
        common.emit(found.data())
    else:
        print(found.markdown())
