"""`audiosep convert`: turn published checkpoints into model folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audiosep.cli import common, outputs
from audiosep.cli.standard_error import Terminal
from audiosep.weights.catalogue import published_as

app = common.application()


@app.command()
@common.guarded
@outputs.skippable(lambda given: given["folder"])
def convert(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A file with published weights, see docs/stem-models.md.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to write.")],
    kind: Annotated[
        str, typer.Option("--kind", metavar="NAME", help="audiosep, clap, demucs ..., or auto: by the weights.")
    ] = "auto",
    tokenizer: Annotated[
        str | None,
        typer.Option(
            "--tokenizer", metavar="NAME", help="Folder or hub id of RoBERTa's tokenizer [default: from the hub]."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model in that folder.")] = False,
    as_json: common.AsJson = False,
    quiet: common.Quiet = False,
    verbose: common.Verbose = 0,
) -> None:
    """Turn a published checkpoint (AudioSep, CLAP, stem models) into a folder that --model takes.

    audiosep convert audiosep_base_4M_steps.ckpt models/audiosep-base --tokenizer roberta-base/
    """
    from audiosep.convert import convert as convert_checkpoint

    terminal = Terminal()
    common.logs_to(terminal, verbose, quiet)
    published = published_as(checkpoint.name)
    if published is not None and not quiet:
        terminal.print(f"{checkpoint.name}: weights of {published.name}, licence {published.licence}")
    made = convert_checkpoint(checkpoint, folder, kind=kind, tokenizer=tokenizer, overwrite=overwrite)
    if as_json:
        common.emit(
            {
                "folder": str(made),
                "files": sorted(path.name for path in made.iterdir()),
                "licence": None if published is None else published.licence,
            }
        )
    else:
        print(made)
