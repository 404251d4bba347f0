"""`audiosep data`: from recordings to a manifest, and what is wrong with one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audiosep.cli import common
from audiosep.errors import InputError

if TYPE_CHECKING:
    from audiosep.data.check import Report
    from audiosep.data.manifest import Clip

app = common.application("Make and check the manifest of a training corpus, and hear what it teaches.")

KIND = "auto, folders, songs, audiosep, csv, shards or huggingface."
FAMILY = "Family of all clips, instead of what the reader says."
SKIP = "Leave broken files out (each is named) instead of stopping."


@app.command()
@common.guarded
def build(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCE...", help="Folders, AudioSep JSON files or CSV tables.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The manifest to write (.jsonl).")],
    kind: Annotated[str, typer.Option(help=KIND)] = "auto",
    family: Annotated[str | None, typer.Option(help=FAMILY)] = None,
    zero: Annotated[int, typer.Option(help="Event labels to hold out of all training (0: none).")] = 0,
    split: Annotated[bool, typer.Option("--split/--no-split", help="Hold back 10% of each family, by group.")] = True,
    skip: Annotated[bool, typer.Option("--skip-broken", help=SKIP)] = False,
    as_json: common.AsJson = False,
    quiet: common.Quiet = False,
) -> None:
    """Read recordings of any layout into one manifest."""
    from audiosep.data.manifest import write_manifest
    from audiosep.data.splits import assign_splits, zero_labels

    common.logs_to(common.console(), 0, quiet)
    clips = _read(sources, kind, family, skip)
    held_out: tuple[str, ...] = ()
    if split:
        # What a reader already put aside (the test half of MUSDB18) stays there.
        free = [clip for clip in clips if clip.split == "train"]
        held_out = zero_labels(free, zero) if zero else ()
        assigned = {clip.id: clip for clip in assign_splits(free, held_out)}
        clips = [assigned.get(clip.id, clip) for clip in clips]
    write_manifest(out, clips)
    if as_json:
        common.emit({"manifest": str(out), "clips": len(clips), "zero": list(held_out), "splits": _splits(clips)})
    elif not quiet:
        for name, (count, hours) in _splits(clips).items():
            print(f"{name:6} {count:7} clips {hours:8.2f} h")
        if held_out:
            print(f"never trained on: {', '.join(held_out)}")
        print(out)


@app.command()
@common.guarded
def extend(
    manifest: Annotated[Path, typer.Argument(help="The manifest (.jsonl) whose splits stay as they are.")],
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="More to train on; see build.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The manifest to write (.jsonl).")],
    kind: Annotated[str, typer.Option(help=KIND)] = "auto",
    family: Annotated[str | None, typer.Option(help=FAMILY)] = None,
    sound: Annotated[
        bool, typer.Option("--sound/--no-sound", help="Also leave out what sounds like a held-back recording.")
    ] = True,
    skip: Annotated[bool, typer.Option("--skip-broken", help=SKIP)] = False,
    as_json: common.AsJson = False,
    quiet: common.Quiet = False,
) -> None:
    """Add recordings to a manifest for training alone; what would teach what is held back is left out."""
    from audiosep.data.extend import extend as add
    from audiosep.data.manifest import read_manifest, write_manifest

    common.logs_to(common.console(), 0, quiet)
    clips = read_manifest(manifest)
    more = _read(sources, kind, family, skip, {clip.id for clip in clips})
    with common.progress_bar(common.console(), "comparing", quiet or as_json or not sound) as progress:
        found = add(clips, more, sound=sound, on_error="skip" if skip else "raise", progress=progress)
    write_manifest(out, found.clips)
    added = len(found.clips) - len(clips)
    if as_json:
        summary = {"manifest": str(out), "clips": len(found.clips), "added": added, "left_out": found.left_out}
        common.emit(summary | {"splits": _splits(found.clips)})
    elif not quiet:
        _list("left out", [f"{name}: {reason}" for name, reason in found.left_out.items()])
        print(f"{added} clips added, {sum(clip.seconds for clip in found.clips[len(clips) :]) / 3600:.2f} h")
        print(out)


@app.command()
@common.guarded
def check(
    manifest: Annotated[Path, typer.Argument(help="The manifest (.jsonl).")],
    audio: Annotated[bool, typer.Option("--audio/--no-audio", help="Decode every clip, or only read the rows.")] = True,
    labels: Annotated[int, typer.Option(help="How many labels to list, the rarest first.")] = 20,
    as_json: common.AsJson = False,
    quiet: common.Quiet = False,
) -> int:
    """Report hours, labels, silence, clipping, broken files, duplicates and leaks between splits.

    The exit code is 1 when files are broken or a group is on both sides of a split.
    """
    from audiosep.data.check import check as examine
    from audiosep.data.manifest import read_manifest

    clips = read_manifest(manifest)
    if not clips:
        raise InputError(f"{manifest} has no clips")
    with common.progress_bar(common.console(), "listening", quiet or as_json) as progress:
        report = examine(clips, audio=audio, progress=progress)
    if as_json:
        common.emit(report.as_dict())
    else:
        _print(report, labels, audio)
    return common.DONE if report.usable else common.FAILED


@app.command()
@common.guarded
def draw(
    manifest: Annotated[Path, typer.Argument(help="The manifest (.jsonl).")],
    cache: Annotated[Path, typer.Option(help="Folder for the decoded audio.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for what was drawn.")],
    config: Annotated[Path | None, typer.Option(help="Training configuration whose `sampling` is used.")] = None,
    step: Annotated[int, typer.Option(help="Which step of a training.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the training.")] = 0,
    sample_rate: Annotated[int, typer.Option(help="Hz.")] = 32000,
    as_json: common.AsJson = False,
    quiet: common.Quiet = False,
) -> None:
    """Write one batch of training mixtures and their targets as audio files, to hear what a model is taught."""
    from audiosep.data.corpus import Corpus
    from audiosep.data.listing import write_batch
    from audiosep.data.sampling import Sampler, SamplingConfig
    from audiosep.weights.configs import from_dict

    common.logs_to(common.console(), 1, quiet or as_json)
    settings = json.loads(config.read_text(encoding="utf-8")).get("sampling", {}) if config else {}
    sampler = Sampler(Corpus(manifest, cache, sample_rate), from_dict(SamplingConfig, settings), seed)
    listing = write_batch(sampler, step, out)
    if as_json:
        common.emit(listing)
    elif not quiet:
        for line in listing["queries"]:
            print(f"{line['file']}: {line['query']!r} out of {', '.join(line['mixture'])}")
        print(f"planned in {listing['plan_ms']:.1f} ms, rendered in {listing['render_ms']:.1f} ms")


def _read(
    sources: Sequence[Path], kind: str, family: str | None, skip: bool, taken: Collection[str] = ()
) -> list[Clip]:
    """Clips of all sources; ids that are taken already get the name of their source in front."""
    from audiosep.data.layouts import read

    clips: list[Clip] = []
    used = set(taken)
    for source in sources:
        found = read(source, kind, "skip" if skip else "raise")
        prefix, number = "", 1
        while any(prefix + clip.id in used for clip in found):
            prefix = f"{source.name}/" if number == 1 else f"{source.name} ({number})/"
            number += 1
        used |= {prefix + clip.id for clip in found}
        clips += [
            dataclasses.replace(clip, id=prefix + clip.id, family=clip.family if family is None else family)
            for clip in found
        ]
    return clips


def _splits(clips: Sequence[Clip]) -> dict[str, tuple[int, float]]:
    from audiosep.data.manifest import SPLITS

    found = {name: [clip for clip in clips if clip.split == name] for name in SPLITS}
    return {name: (len(part), sum(c.seconds for c in part) / 3600) for name, part in found.items() if part}


def _print(report: Report, labels: int, audio: bool) -> None:
    families = sorted({family for hours in report.hours.values() for family in hours})
    print(f"{report.clips} clips, {report.seconds / 3600:.2f} h, {len(report.labels)} labels")
    print("hours   " + "".join(f"{family:>14}" for family in families))
    for name, hours in report.hours.items():
        print(f"{name:8}" + "".join(f"{hours.get(family, 0.0):14.2f}" for family in families))
    rare = sorted(report.labels.items(), key=lambda item: item[1][1])[:labels]
    if rare:
        print("rarest labels: " + ", ".join(f"{name} ({count}, {seconds:.0f} s)" for name, (count, seconds) in rare))
    if audio:
        _list("broken", list(report.broken.values()))
        _list("silent", report.silent)
        _list("clipped", report.clipped)
        _list("duplicates", [" = ".join(ids) for ids in report.duplicates])
        _list("wrong length", [f"{name}: {a} s, decoded {b} s" for name, (a, b) in report.wrong_lengths.items()])
    _list(
        "leaks",
        [f"{name}: {', '.join(f'{s} {i[0]}' for s, i in sides.items())}" for name, sides in report.leaks.items()],
    )


def _list(title: str, lines: Sequence[str], most: int = 20) -> None:
    print(f"{title}: {len(lines)}")
    for line in lines[:most]:
        print(f"  {line}")
    if len(lines) > most:
        print(f"  ... and {len(lines) - most} more (--json lists all)")
