"""`audiosep finetune`: teach a model your own sounds."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audiosep.cli import common, outputs
from audiosep.cli.choices import DEVICES, choice
from audiosep.cli.standard_error import Terminal
from audiosep.errors import InputError, counted

if TYPE_CHECKING:
    from audiosep.training.finetune.finetuning import FinetuneReport

app = common.application()


@app.command()
@common.guarded
@outputs.skippable(lambda given: _output(given["out"], given["sounds"], given["full"]))
def finetune(
    sounds: Annotated[
        Path,
        typer.Argument(
            metavar="SOUNDS", help="A folder with a folder for each sound, named as its query, or a manifest."
        ),
    ],
    base: Annotated[str, typer.Option("--from", help="Model to start from: a name or a folder.")] = "mini",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="File to write [default: <name of SOUNDS>.safetensors], or folder, with --full."
        ),
    ] = None,
    noise: Annotated[
        list[Path] | None, typer.Option("--noise", help="Folder of other sounds to mix with (repeatable).")
    ] = None,
    known: Annotated[
        Path | None,
        typer.Option("--known", help="Recordings of sounds the model knows, to compare before and after."),
    ] = None,
    minutes: Annotated[float, typer.Option(help="Longest training, minutes.")] = 20.0,
    steps: Annotated[int | None, typer.Option(min=1, help="Train this many steps instead.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Train everything; writes a whole model folder.")] = False,
    rank: Annotated[int | None, typer.Option(min=1, help="Size of the adapter [default: 8].")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak; by default 0.003, with --full 0.0001.")] = None,
    held_back: Annotated[float, typer.Option(help="Share of each sound's files for validation only.")] = 0.2,
    rehearsal: Annotated[
        float, typer.Option(min=0, max=1, help="Share of mixtures that also rehearse everyday sounds.")
    ] = 0.5,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of a training mixture.")] = 3.0,
    batch: Annotated[int, typer.Option(min=1, help="Mixtures in a step.")] = 4,
    run: Annotated[
        Path | None, typer.Option("--run", help="Run folder; by default runs/finetune-<name of SOUNDS>.")
    ] = None,
    device: Annotated[
        str, typer.Option("--device", metavar="NAME", parser=choice(*DEVICES), help="auto, cpu, cuda or mps.")
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option("--precision", metavar="NAME", parser=choice("bf16", "fp16", "fp32"), help="bf16, fp16 or fp32."),
    ] = "bf16",
    seed: Annotated[int, typer.Option(min=0, help="Of all random numbers.")] = 0,
    tracker: Annotated[
        list[str] | None, typer.Option("--tracker", help="tensorboard, wandb or trackio (repeatable).")
    ] = None,
    skip: common.SkipBroken = False,
    as_json: common.AsJson = False,
    verbose: common.Verbose = 1,
    quiet: common.Quiet = False,
) -> int:
    """Teach a model your own sounds; use the result with `audiosep separate --adapter FILE`.

    Ctrl-C writes a checkpoint; the same command resumes from there.
    """
    from audiosep.models.adapters import AdapterConfig
    from audiosep.training.finetune import finetuning
    from audiosep.training.finetune.finetune_task import FinetuneOptions

    common.logs_to(Terminal(), verbose, quiet)
    if full and rank is not None:
        raise InputError("--rank is the size of an adapter, and --full writes none: leave one of them out")
    options = FinetuneOptions(rehearsal=rehearsal)
    sampling = dataclasses.replace(options.sampling, mixtures=batch, seconds=seconds)
    config = finetuning.FinetuneConfig(
        minutes=minutes,
        steps=steps,
        full=full,
        adapter=AdapterConfig() if rank is None else AdapterConfig(rank=rank),
        learning_rate=learning_rate,
        held_back=held_back,
        options=dataclasses.replace(options, sampling=sampling),
        device=device,
        precision=precision,
        seed=seed,
        trackers=tuple(tracker or ()),
        skip_broken=skip,
    )
    out = _output(out, sounds, full)
    if full:
        outputs.check_fresh_folder(out, "--out")
    else:
        outputs.check_file(out, ".safetensors")
    if run is not None:
        outputs.check_fresh_folder(run, "--run")
    report = finetuning.finetune(sounds, base, out, noise=noise or (), known=known, config=config, run_dir=run)
    if as_json:
        common.emit(dataclasses.asdict(report))
    else:
        _show(report)
    if report.interrupted:
        return common.CANCELLED
    return common.DONE if report.out is not None else common.FAILED


def _output(out: Path | None, sounds: Path, full: bool) -> Path:
    from audiosep.training.finetune.finetuning import default_output

    return out or default_output(sounds, full)


def _show(report: FinetuneReport) -> None:
    steps = counted(report.steps, "step")
    print(f"trained {report.parameters / 1e6:.2f} M parameters, {steps}, {report.minutes:.1f} minutes")
    head = "held-back mixtures of two sounds at 0 dB"
    print(f"{head:44} {'SI-SDRi before':>16} {'after':>8} {'improved':>9} {'after':>6}")
    new, known = (report.before, report.after), (report.known_before, report.known_after)
    for all_labels, prefix, (before, after) in (("all", "", new), ("all known", "known: ", known)):
        for name in sorted((n for n in before if n.endswith("/si_sdri")), key=lambda n: ("/label/" in n, n)):
            place = name.removesuffix("/si_sdri")
            label = prefix + place.removeprefix("val/label/") if "/label/" in name else all_labels
            gains = [values.get(name, math.nan) for values in (before, after)]
            better = [values.get(f"{place}/better", math.nan) for values in (before, after)]
            print(f"{label:44} {gains[0]:13.2f} dB {gains[1]:5.2f} dB {better[0]:9.0%} {better[1]:6.0%}")
    if report.interrupted:
        print("stopped: the same command resumes")
    elif report.out is None:
        print("not better than the base: add recordings, or train with more --minutes in another --run folder")
    else:
        print(f"written: {report.out}")
