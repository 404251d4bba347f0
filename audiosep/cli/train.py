"""`audiosep train`: run a training from its configuration."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from audiosep.cli import common, outputs
from audiosep.cli.standard_error import Terminal
from audiosep.errors import counted

app = common.application()


@app.command()
@common.guarded
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="JSON configuration of the run.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="Run folder [default: runs/<name of CONFIG>].")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="KEY=VALUE", help="Change a value: trainer.minutes=60; repeatable."),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Batch sizes for a memory: 8, 16, 24, 80, 140 (GB), cpu, or auto."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only check configuration and data, and measure the memory of a step.")
    ] = False,
    profile: Annotated[
        int | None, typer.Option("--profile", metavar="N", min=1, help="Only time N steps, and N of the network alone.")
    ] = None,
    as_json: common.AsJson = False,
    verbose: common.Verbose = 1,
    quiet: common.Quiet = False,
) -> int:
    """Train into a run folder; the same command resumes a run that was stopped.

    With several GPUs: accelerate launch -m audiosep train CONFIG. Ctrl-C writes a checkpoint and stops.
    """
    from audiosep.training.engine.run_log import without_labels
    from audiosep.training.engine.runtime import check_start
    from audiosep.training.engine.step_memory import step_memory
    from audiosep.training.engine.throughput import measure_throughput
    from audiosep.training.engine.trainer import Trainer
    from audiosep.training.run_config import build_task, provenance, read_run_config

    common.logs_to(Terminal(), verbose, quiet)
    run_config = read_run_config(config, overrides or (), preset)
    run_dir = out or Path("runs") / config.stem
    outputs.check_fresh_folder(run_dir, "--out")
    check_start(run_config.trainer, run_dir)
    task = build_task(run_config)
    if check:
        memory = step_memory(task, run_config.trainer)
        if as_json:
            common.emit({"task": run_config.task, "run": str(run_dir), **dataclasses.asdict(memory)})
        else:
            print(f"{config}: {run_config.task} would train {memory.parameters / 1e6:.2f} M parameters into {run_dir}")
            print(memory)
        return common.DONE
    if profile is not None:
        found = measure_throughput(task, run_config.trainer, profile)
        if as_json:
            common.emit(dataclasses.asdict(found) | {"share": found.share})
        else:
            print(found)
        return common.DONE
    trainer = Trainer(task, run_config.trainer, run_dir, provenance(run_config, run_dir))
    result = trainer.fit()
    if as_json and trainer.main:  # of several processes one says how the run ended
        common.emit(dataclasses.asdict(result))
    elif trainer.main:
        ended = "stopped" if result.interrupted else "finished"
        print(f"{ended} after {counted(result.step, 'step')}, {result.minutes:.1f} minutes: {run_dir}")
        for name, value in sorted(without_labels(result.metrics).items()):
            print(f"  {name:32} {value:8.3f}")
    return common.CANCELLED if result.interrupted else common.DONE
