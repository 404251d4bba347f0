"""`audiosep convert`: published checkpoints into model folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audiosep.cli import common

app = common.application()


@app.command()
@common.guarded
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="AudioSep's .ckpt or LAION's CLAP .pt.")],
    folder: Annotated[Path, typer.Argument(help="Folder to make.")],
    kind: Annotated[str, typer.Option("--kind", help="audiosep, clap, or auto to tell by the weights.")] = "auto",
    tokenizer: Annotated[
        str | None,
        typer.Option("--tokenizer", help="Folder or hub id of RoBERTa's tokenizer [default: from the hub]."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model that lies there.")] = False,
    as_json: common.AsJson = False,
    quiet: common.Quiet = False,
    verbose: common.Verbose = 0,
) -> None:
    """Turn a published AudioSep or CLAP checkpoint into a folder that --model takes.

    audiosep convert audiosep_base_4M_steps.ckpt models/audiosep-base --tokenizer roberta-base/
    """
    from audiosep.convert import convert as convert_checkpoint

    common.logs_to(common.console(), verbose, quiet)
    made = convert_checkpoint(checkpoint, folder, kind=kind, tokenizer=tokenizer, overwrite=overwrite)
    if as_json:
        common.emit({"folder": str(made), "files": sorted(path.name for path in made.iterdir())})
    else:
        print(made)
