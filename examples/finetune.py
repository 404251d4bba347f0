"""Teach the embedded model new sounds, and use it: `python examples/finetune.py --minutes 5`.

Without arguments it makes a folder of sounds from the recordings beside this file, as if they were yours:

    out/my_sounds/lead guitar/*.flac    out/my_sounds/rhythm guitar/*.flac    out/my_sounds/reading voice/*.flac

With `--manifest` and `--labels` it takes clips of a corpus instead, some of its speech and ambience as noise, and
measures the sounds that the corpus held back of those the model was trained on.
"""

from __future__ import annotations

import argparse
import heapq
import logging
from pathlib import Path

import soundfile

import audiosep
from audiosep.audio import write_audio
from audiosep.data.corpus import Corpus
from audiosep.data.manifest import Clip, read_manifest, write_manifest
from audiosep.training.finetune.finetuning import FinetuneConfig, FinetuneReport, finetune

AUDIO = Path(__file__).parent / "audio"
RECORDINGS = {"lead guitar": "lead_guitar", "rhythm guitar": "rhythm", "reading voice": "speech"}
PIECE = 2.0  # seconds


def from_examples(folder: Path) -> None:
    """Cut the recordings of this repository into files of two seconds, a folder a sound."""
    for label, name in RECORDINGS.items():
        audio, rate = soundfile.read(AUDIO / f"{name}.flac", always_2d=True)
        (folder / label).mkdir(parents=True, exist_ok=True)
        length = round(PIECE * rate)
        for number, start in enumerate(range(0, len(audio) - length + 1, length)):
            soundfile.write(folder / label / f"{number}.flac", audio[start : start + length], rate)


def from_manifest(folder: Path, manifest: Path, cache: Path, labels: list[str]) -> None:
    """Write all clips of some labels as files, a folder a label, a subfolder for each original recording."""
    clips = [clip for clip in read_manifest(manifest) if clip.label in labels]
    corpus = Corpus(clips, cache)
    for number, clip in enumerate(corpus.clips):
        group = "".join(c if c.isalnum() else "-" for c in clip.group or clip.id)[:80]
        place = folder / clip.label / group
        place.mkdir(parents=True, exist_ok=True)
        audio = corpus.audio(number)[None].clamp(-1, 1).numpy()
        write_audio(place / f"{number}.flac", audio, corpus.sample_rate, overwrite=True)


def companions(folder: Path, manifest: Path, labels: list[str]) -> tuple[Path, Path]:
    """Manifests of noise (60 clips) and of known sounds (held-back clips of 4 labels a family), no new labels."""
    clips = [clip for clip in read_manifest(manifest) if clip.label not in labels]
    noise = [clip for clip in clips if clip.split == "train" and clip.family in ("ambience", "speech")]
    known: dict[str, dict[str, list[Clip]]] = {}
    for clip in clips:
        if clip.split == "val":
            known.setdefault(clip.family, {}).setdefault(clip.label, []).append(clip)
    often = [heapq.nlargest(4, groups.values(), key=len) for groups in known.values()]
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder / "noise.jsonl", noise[:: max(1, len(noise) // 60)][:60])
    write_manifest(folder / "known.jsonl", [clip for groups in often for group in groups for clip in group[:6]])
    return folder / "noise.jsonl", folder / "known.jsonl"


def show(report: FinetuneReport) -> None:
    """The held-back clips before and after."""
    for title, before, after in (
        ("new", report.before, report.after),
        ("known", report.known_before, report.known_after),
    ):
        for name in sorted(before):
            if name.endswith(("si_sdri", "better")):
                print(f"{title:6} {name:40} {before[name]:8.2f} -> {after.get(name, float('nan')):8.2f}")
    print(
        f"{report.parameters / 1e6:.2f} M parameters, {report.steps} steps, {report.minutes:.1f} minutes: {report.out}"
    )


def main() -> None:
    """Make the folder, fine-tune, separate with the new word."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for everything that is made")
    parser.add_argument("--model", default="mini", help="base: name or folder of a model")
    parser.add_argument("--minutes", type=float, default=5.0, help="longest training")
    parser.add_argument("--steps", type=int, help="train this many steps instead")
    parser.add_argument("--manifest", type=Path, help="corpus to take clips from")
    parser.add_argument("--cache", type=Path, default=Path("out/cache"), help="folder for the corpus' decoded audio")
    parser.add_argument("--labels", nargs="+", default=[], help="labels of that corpus")
    arguments = parser.parse_args()
    logging.basicConfig(level="INFO", format="%(message)s")

    sounds, adapter = arguments.out / "my_sounds", arguments.out / "my_sounds.safetensors"
    noise, known = None, None
    if arguments.manifest:
        from_manifest(sounds, arguments.manifest, arguments.cache, arguments.labels)
        noise, known = companions(arguments.out, arguments.manifest, arguments.labels)
    else:
        from_examples(sounds)
    config = FinetuneConfig(minutes=arguments.minutes, steps=arguments.steps)
    beside = [] if noise is None else [noise]
    run = arguments.out / "run"
    report = finetune(sounds, arguments.model, adapter, noise=beside, known=known, config=config, run_dir=run)
    show(report)
    if report.out is None:
        return
    word = report.labels[0]
    separator = audiosep.load(arguments.model, adapter=report.out)
    mix = next((sounds / word).rglob("*.flac"))
    separator.separate(mix, word).save(arguments.out / "separated", overwrite=True)
    print(f"{word!r} out of {mix}: {arguments.out / 'separated'}")


if __name__ == "__main__":
    main()
