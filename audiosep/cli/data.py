"""`audiosep data`: manifests of training corpora, and what training makes from them before it starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audiosep.audio.limits import MAX_RATE, MIN_RATE
from audiosep.cli import common, outputs
from audiosep.cli.standard_error import Terminal, progress_bar
from audiosep.errors import Cancelled, InputError, counted

if TYPE_CHECKING:
    from audiosep.data.check import ManifestReport
    from audiosep.data.manifest import Clip

app = common.application("Make, extend and check the manifest of a training corpus, and prepare training with it.")

Manifest = Annotated[Path, typer.Argument(metavar="MANIFEST", help="The manifest to read (.jsonl).")]
Sources = Annotated[
    list[Path], typer.Argument(metavar="SOURCE...", help="Folders of recordings, AudioSep JSON files or CSV tables.")
]
ManifestOut = Annotated[Path, typer.Option("--out", "-o", help="The manifest to write (.jsonl).")]
Kind = Annotated[
    str,
    typer.Option(metavar="NAME", help="Layout: auto, folders, songs, csv, shards, dsd100 ..., see the page on data."),
]
Family = Annotated[
    str | None, typer.Option(metavar="NAME", help="Family of all clips [default: as the layout tells it].")
]
Cache = Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the decoded audio; filled as needed.")]
SampleRate = Annotated[
    int, typer.Option(metavar="HZ", min=MIN_RATE, max=MAX_RATE, help="Sample rate of the decoded audio, Hz.")
]


@app.command()
@common.guarded
@outputs.skippable(lambda given: given["out"])
def build(
    sources: Sources,
    out: ManifestOut,
    kind: Kind = "auto",
    family: Family = None,
    zero: Annotated[
        int, typer.Option(metavar="N", min=0, help="Event labels to hold out of training, for zero-shot.")
    ] = 0,
    split: Annotated[
        bool, typer.Option("--split/--no-split", help="Hold back 10% of each family for validation, in whole groups.")
    ] = True,
    skip: common.SkipBroken = False,
    as_json: common.AsJson = False,
    quiet: common.Quiet = False,
) -> None:
    """Write the manifest of recordings in any known layout."""
    from audiosep.data.equal_files import join_equal_files
    from audiosep.data.layouts import read_sources
    from audiosep.data.manifest import write_manifest
    from audiosep.data.splits import split_sources

    common.logs_to(Terminal(), 0, quiet)
    outputs.check_file(out, ".jsonl", inputs=_indices(sources))
    parts = read_sources(sources, kind, family, "skip" if skip else "raise")
    if split:
        clips, held_out = split_sources(join_equal_files(parts), zero)
    else:
        clips, held_out = [clip for part in parts for clip in part], ()
    write_manifest(out, clips)
    if as_json:
        common.emit({"manifest": str(out), "clips": len(clips), "zero": list(held_out), "splits": _splits(clips)})
    elif not quiet:
        for name, (count, hours) in _splits(clips).items():
            print(f"{name:6} {count:7} clips {hours:8.2f} h")
        if held_out:
            print(f"labels held out of training: {', '.join(held_out)}")
        print(out)


@app.command()
@common.guarded
@outputs.skippable(lambda given: given["out"])
def extend(
    manifest: Manifest,
    sources: Sources,
    out: ManifestOut,
    kind: Kind = "auto",
    family: Family = None,
    sound: Annotated[
        bool,
        typer.Option("--sound/--no-sound", help="Also decode the audio, and leave out what held-back clips contain."),
    ] = True,
    skip: common.SkipBroken = False,
    as_json: common.AsJson = False,
    quiet: common.Quiet = False,
) -> None:
    """Add training clips to a manifest; its splits do not change.

    Clips that would leak held-back material into training are left out and listed: those of a held-back group, those
    that match a label held out of training, and (--sound) those that share audio with a held-back clip.

    Ctrl-C keeps what has been compared in OUT.compared; the same command goes on from there.
    """
    from audiosep.data.extend import extend_manifest
    from audiosep.data.layouts import read_sources
    from audiosep.data.manifest import read_manifest, write_manifest

    common.logs_to(Terminal(), 0, quiet)
    outputs.check_file(out, ".jsonl", inputs=_indices(sources))
    clips = read_manifest(manifest)
    finished = out.with_name(f"{out.name}.compared") if sound else None
    with progress_bar(Terminal(), "reading", quiet, lines=True) as progress:
        parts = read_sources(sources, kind, family, "skip" if skip else "raise", clips)
        more = [clip for part in parts for clip in part]
        progress.describe("comparing")
        try:
            found = extend_manifest(
                clips, more, sound=sound, on_error="skip" if skip else "raise", progress=progress, finished=finished
            )
        except KeyboardInterrupt as stopped:
            kept = "nothing is written" if finished is None else f"the same command goes on, with {finished}"
            raise Cancelled(f"cancelled; {kept}") from stopped
    write_manifest(out, found.clips)
    if finished is not None:
        finished.unlink(missing_ok=True)
    added = found.clips[len(clips) :]
    if as_json:
        summary = {"manifest": str(out), "clips": len(found.clips), "added": len(added), "left_out": found.left_out}
        common.emit(summary | {"splits": _splits(found.clips)})
    elif not quiet:
        _list("left out", [f"{name}: {reason}" for name, reason in found.left_out.items()])
        print(f"{counted(len(added), 'clip')} added, {sum(clip.seconds for clip in added) / 3600:.2f} h")
        print(out)


@app.command()
@common.guarded
def check(
    manifest: Manifest,
    audio: Annotated[
        bool, typer.Option("--audio/--no-audio", help="Decode every clip, or only read the manifest.")
    ] = True,
    labels: Annotated[int, typer.Option(metavar="N", min=0, help="Number of labels to list, the rarest first.")] = 20,
    as_json: common.AsJson = False,
    quiet: common.Quiet = False,
) -> int:
    """Report hours, labels, silence, clipping, broken files, duplicates and leaks between splits.

    The exit code is 1 when files are broken, or clips of one group are in different splits.
    """
    from audiosep.data.check import check_manifest
    from audiosep.data.manifest import read_manifest

    clips = read_manifest(manifest)
    if not clips:
        raise InputError(f"{manifest} has no clips: make it again with `audiosep data build`")
    with progress_bar(Terminal(), "decoding", quiet, lines=True) as progress:
        report = check_manifest(clips, audio=audio, progress=progress)
    if as_json:
        common.emit(report.as_dict())
    else:
        _print(report, labels, audio)
    return common.DONE if report.usable else common.FAILED


@app.command()
@common.guarded
@outputs.skippable(lambda given: given["out"])
def draw(
    manifest: Manifest,
    cache: Cache,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the audio files.")],
    config: Annotated[Path | None, typer.Option(help="Training configuration whose `sampling` is used.")] = None,
    step: Annotated[int, typer.Option(min=0, help="Step of the training.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the training.")] = 0,
    sample_rate: SampleRate = 32000,
    as_json: common.AsJson = False,
    quiet: common.Quiet = False,
) -> None:
    """Write one training batch as audio files: its mixtures, targets and examples."""
    from audiosep.data.batch_files import write_batch
    from audiosep.data.corpus import Corpus
    from audiosep.data.sampling import Sampler, SamplingConfig
    from audiosep.training.run_config import read_run_data
    from audiosep.weights.configs import from_dict

    common.logs_to(Terminal(), 1, quiet or as_json)
    outputs.check_folder(out)
    settings = read_run_data(config).get("sampling", {}) if config else {}
    sampler = Sampler(Corpus(manifest, cache, sample_rate), from_dict(SamplingConfig, settings), seed)
    listing = write_batch(sampler, step, out)
    if as_json:
        common.emit(listing)
    elif not quiet:
        for line in listing["queries"]:
            print(f"{line['file']}: {line['query']!r} out of {', '.join(line['mixture'])}")
        print(f"planned in {listing['plan_ms']:.1f} ms, rendered in {listing['render_ms']:.1f} ms")


@app.command()
@common.guarded
@outputs.skippable(lambda given: given["out"])
def recipe(
    manifest: Manifest,
    cache: Cache,
    out: Annotated[Path, typer.Option("--out", "-o", help="The recipe to write (.json).")],
    sample_rate: SampleRate = 32000,
    as_json: common.AsJson = False,
    quiet: common.Quiet = False,
) -> None:
    """Draw the validation recipe of a corpus: fixed mixtures of its held-back clips."""
    from audiosep.data.corpus import Corpus
    from audiosep.data.recipe_drawing import draw_recipe

    common.logs_to(Terminal(), 1, quiet or as_json)
    outputs.check_file(out, ".json")
    drawn = draw_recipe(Corpus(manifest, cache, sample_rate))
    drawn.save(out)
    groups = Counter(entry.group for entry in drawn.entries)
    if as_json:
        common.emit({"recipe": str(out), "entries": len(drawn.entries), "groups": dict(groups)})
    elif not quiet:
        mixtures = counted(len(drawn.entries), "mixture")
        print(f"{mixtures}: " + ", ".join(f"{name} {count}" for name, count in groups.items()))
        print(out)


@app.command()
@common.guarded
@outputs.skippable(lambda given: given["out"])
def captions(
    manifest: Manifest,
    out: Annotated[Path, typer.Option("--out", "-o", help="The caption table to write (.safetensors).")],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="NAME", help="Model, or folder of a trained text tower, that embeds."),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Without --model: sentence encoder [default: the installed one]."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON list of further texts, such as a tagger's class names.")
    ] = None,
    as_json: common.AsJson = False,
    quiet: common.Quiet = False,
) -> None:
    """Write the caption table of a corpus: the embeddings of all labels, captions and stem names."""
    from audiosep.data.manifest import read_manifest
    from audiosep.data.text_files import read_json
    from audiosep.training.towers.embed_captions import embed_captions

    common.logs_to(Terminal(), 0, quiet)
    outputs.check_file(out, ".safetensors")
    more = read_json(labels) if labels else []
    table = embed_captions(read_manifest(manifest), model, teacher, more)
    table.save(out)
    if as_json:
        common.emit({"captions": str(out), "texts": len(table.captions), "dimension": table.embeddings.shape[1]})
    elif not quiet:
        print(counted(len(table.captions), "text"))
        print(out)


def _indices(sources: Sequence[Path]) -> list[Path]:
    """The indices beside tar shards, which end as manifests do."""
    return [index for source in sources if any(source.glob("*.tar")) for index in source.glob("*.jsonl")]


def _splits(clips: Sequence[Clip]) -> dict[str, tuple[int, float]]:
    """Split -> number of clips and hours."""
    from audiosep.data.manifest import SPLITS

    found = {name: [clip for clip in clips if clip.split == name] for name in SPLITS}
    return {name: (len(part), sum(c.seconds for c in part) / 3600) for name, part in found.items() if part}


def _print(report: ManifestReport, labels: int, audio: bool) -> None:
    families = sorted({family for hours in report.hours.values() for family in hours})
    print(f"{counted(report.clips, 'clip')}, {report.seconds / 3600:.2f} h, {counted(len(report.labels), 'label')}")
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
        lengths = [f"{name}: {stated} s, decoded {s} s" for name, (stated, s) in report.wrong_lengths.items()]
        _list("wrong length", lengths)
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
