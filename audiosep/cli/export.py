"""`audiosep export`: write a network as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audiosep.cli import common, outputs
from audiosep.cli.standard_error import Terminal

app = common.application()


@app.command()
@common.guarded
@outputs.skippable(lambda given: given["path"])
def export(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The ONNX file to write.")],
    query: Annotated[
        list[str] | None,
        typer.Option(
            "--query", "-q", metavar="TEXT", help="A sound in words, whose embedding is written into the file."
        ),
    ] = None,
    inside: Annotated[
        bool,
        typer.Option(
            "--stft-inside",
            help="Put the STFT into the file: waveform in, waveforms out; without it power in, masks out.",
        ),
    ] = False,
    stems: Annotated[bool, typer.Option("--stems", help="Export the fixed stems instead of the queries.")] = False,
    model: common.Model = "mini",
    adapter: common.Adapter = None,
    sounds: common.SoundsFile = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    as_json: common.AsJson = False,
    quiet: common.Quiet = False,
    verbose: common.Verbose = 0,
) -> None:
    """Write a network as an ONNX file, and compare it with torch in ONNX Runtime.

    audiosep export mini.onnx -q piano -q speech

    audiosep export stems.onnx --stems --stft-inside
    """
    from audiosep.api import load
    from audiosep.export import onnx

    common.logs_to(Terminal(), verbose, quiet)
    outputs.check_file(path, ".onnx")
    separator = load(model, "cpu", "fp32", adapter, sounds=sounds or True)
    done = onnx.export(
        separator,
        path,
        transforms="inside" if inside else "outside",
        stems=stems,
        queries=query or (),
        overwrite=overwrite,
    )
    if as_json:
        common.emit({"path": str(done.path), "bytes": done.size, "inputs": done.inputs, "outputs": done.outputs,
                     "deviation": done.deviation})  # fmt: skip
        return
    print(done.path)
    if not quiet:
        terminal = Terminal()
        for kind, shapes in (("in", done.inputs), ("out", done.outputs)):
            for name, shape in shapes.items():
                terminal.print(f"{kind:4}{name} ({', '.join(map(str, shape))})")
        terminal.print(f"{done.size / 1e6:.1f} MB; differs from torch by at most {done.deviation:.0e} of full scale")
