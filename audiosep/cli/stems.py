"""`audiosep stems`: songs into vocals, drums, bass and other."""

from __future__ import annotations

from typing import Annotated

import typer

from audiosep.cli import common, job
from audiosep.errors import InputError

app = common.application()


@app.command()
@common.guarded
def stems(
    inputs: Annotated[
        list[str] | None, typer.Argument(metavar="INPUT", help="Recordings, folders or - (standard input).")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="STEM", help="Write this stem, and all the rest of the song as one file."),
    ] = None,
    out: job.Out = "separated",
    format: job.Format = None,
    template: job.Template = job.TEMPLATE,
    residual: job.Residual = True,
    on_clip: job.Clip = "gain",
    overwrite: job.Overwrite = False,
    overlap: job.Overlap = None,
    shifts: job.Shifts = 0,
    batch: job.Batch = None,
    max_seconds: job.MaxSeconds = None,
    manifest: job.Manifest = None,
    ray: job.Ray = False,
    workers: job.Workers = None,
    cluster: job.Cluster = None,
    model: common.Model = "mini",
    adapter: job.Adapter = None,
    device: common.Device = "auto",
    precision: common.Precision = "auto",
    threads: common.Threads = None,
    as_json: common.AsJson = False,
    quiet: common.Quiet = False,
    verbose: common.Verbose = 0,
) -> int:
    """Split songs into vocals, drums, bass and other; the stems sum to the song.

    audiosep stems song.mp3 -o out/

    audiosep stems song.mp3 --only vocals -o out/

    audiosep stems --ray albums/ -o out/
    """
    songs = [*([] if manifest is None else job.read_inputs(manifest)), *(inputs or [])]
    if not songs:
        raise InputError("what should be separated? For example: audiosep stems FILE")
    return job.run(
        job.Job(
            inputs=songs,
            queries=None,
            out=out,
            format=format,
            template=template,
            residual=residual,
            only=only,
            on_clip=on_clip,
            overwrite=overwrite,
            overlap=overlap,
            shifts=shifts,
            batch=batch,
            max_seconds=max_seconds,
            model=model,
            adapter=adapter,
            device=device,
            precision=precision,
            threads=threads,
            as_json=as_json,
            quiet=quiet,
            verbose=verbose,
            ray=ray,
            workers=workers,
            cluster=cluster,
        )
    )
