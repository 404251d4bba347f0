"""Benchmarks of files that are named by their stem: MUSDB18, VoiceBank-DEMAND, DnR, and any folder of mixtures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from audiosep.audio import is_recording
from audiosep.data.text_files import read_json
from audiosep.errors import DataError
from audiosep.evaluation.benchmarks import Benchmark, Item, Target
from audiosep.evaluation.scene_files import SetLayout, SourceFile, files_version, read_scene
from audiosep.query.query import Query

STEMS = ("vocals", "drums", "bass", "other")

_TEXTS = {
    "vocals": "singing voice",
    "voice": "singing voice",
    "accompaniment": "instrumental music",
    "instrumental": "instrumental music",
    "drums": "drums",
    "bass": "bass guitar",
    "other": "guitar, piano and other instruments",
    "speech": "speech",
    "music": "music",
    "sfx": "sound effects",
}
"""Text query for the usual names of stems."""

_ALIASES = {
    "vocals": ("vocals",),
    "voice": ("vocals",),
    "drums": ("drums", "percussive"),
    "speech": ("speech", "vocals"),
    "music": ("accompaniment",),
    "instrumental": ("accompaniment",),
}

LAYOUTS = {
    "musdb18-hq": SetLayout(
        "MUSDB18-HQ",
        "test/SONG/mixture.wav\ntest/SONG/vocals.wav\ntest/SONG/drums.wav\ntest/SONG/bass.wav\ntest/SONG/other.wav",
        "https://zenodo.org/records/3338373",
    ),
    "voicebank-demand": SetLayout(
        "VoiceBank-DEMAND",
        "clean_testset_wav/p232_001.wav ...\nnoisy_testset_wav/p232_001.wav ...",
        "https://datashare.ed.ac.uk/handle/10283/2791",
    ),
    "dnr": SetLayout(
        "Divide and Remaster",
        "tt/1002/mix.wav\ntt/1002/speech.wav\ntt/1002/music.wav\ntt/1002/sfx.wav",
        "https://zenodo.org/records/6949108",
    ),
    "folder": SetLayout(
        "a folder of mixtures",
        "ANY/mix.wav         (or mixture.wav; flac, ogg, mp3 too)\nANY/dog barking.wav (the file's name is the query)\n"
        'ANY/speech.wav\nqueries.json        (optional: {"speech": "a man talking"})',
        "you",
    ),
}


def read_musdb(root: Path, *, split: str = "test") -> Benchmark:
    """MUSDB18-HQ: the four stems and the accompaniment of every song of a split."""
    layout = LAYOUTS["musdb18-hq"]
    folder = root / split if (root / split).is_dir() else root
    songs = sorted(path.parent for path in folder.glob("*/mixture.wav"))
    if not songs:
        raise layout.missing("no */mixture.wav", folder)
    targets = (*map(stem_target, STEMS), stem_target("accompaniment", ("drums", "bass", "other")))
    items = []
    for song in songs:
        lacking = [stem for stem in STEMS if not (song / f"{stem}.wav").is_file()]
        if lacking:
            raise layout.missing(f"no {lacking[0]}.wav for {song.name}", folder)
        items.append(_item(song.name, song / "mixture.wav", {s: song / f"{s}.wav" for s in STEMS}, targets))
    return Benchmark("musdb18-hq", tuple(items), f"MUSDB18-HQ {split}; {layout.owner}", root)


def read_voicebank(root: Path) -> Benchmark:
    """VoiceBank-DEMAND: the speech of the noisy test set."""
    layout = LAYOUTS["voicebank-demand"]
    clean, noisy = root / "clean_testset_wav", root / "noisy_testset_wav"
    names = sorted(path.name for path in clean.glob("*.wav"))
    if not names:
        raise layout.missing("no clean_testset_wav/*.wav", root)
    items = []
    for name in names:
        if not (noisy / name).is_file():
            raise layout.missing(f"no noisy_testset_wav/{name}", root)
        items.append(_item(Path(name).stem, noisy / name, {"speech": clean / name}, (stem_target("speech"),)))
    return Benchmark("voicebank-demand", tuple(items), f"VoiceBank-DEMAND test; {layout.owner}", root)


def read_dnr(root: Path, *, split: str = "tt") -> Benchmark:
    """Divide and Remaster: speech, music and effects of every mixture of a split."""
    layout = LAYOUTS["dnr"]
    folder = root / split if (root / split).is_dir() else root
    stems = ("speech", "music", "sfx")
    items = []
    for mix in sorted(folder.glob("*/mix.wav")):
        files = {stem: mix.parent / f"{stem}.wav" for stem in stems}
        lacking = [path.name for path in files.values() if not path.is_file()]
        if lacking:
            raise layout.missing(f"no {lacking[0]} for {mix.parent.name}", folder)
        items.append(_item(mix.parent.name, mix, files, tuple(map(stem_target, stems))))
    if not items:
        raise layout.missing("no */mix.wav", folder)
    return Benchmark("dnr", tuple(items), f"Divide and Remaster {split}; {layout.owner}", root)


def read_folder(root: Path) -> Benchmark:
    """Any folder that holds mixtures beside their stems, at any depth."""
    layout = LAYOUTS["folder"]
    found = sorted(path for path in root.rglob("mix*") if path.stem in ("mix", "mixture") and is_recording(path))
    if not found:
        raise layout.missing("no mix.wav", root)
    texts = _queries(root / "queries.json")
    unused = set(texts)
    items = []
    for mix in found:
        files = {
            p.stem: p for p in sorted(mix.parent.iterdir()) if is_recording(p) and p.stem not in ("mix", "mixture")
        }
        if not files:
            raise layout.missing(f"no stems beside {mix.name}", mix.parent)
        unused -= set(files)
        targets = tuple(stem_target(stem, text=texts.get(stem)) for stem in files)
        name = mix.parent.relative_to(root).as_posix()
        items.append(_item(root.name if name == "." else name, mix, files, targets))
    if unused:
        raise DataError(f"{root / 'queries.json'}: no mixture has a stem {min(unused)!r}: correct the name")
    return Benchmark(root.resolve().name, tuple(items), "mixtures and stems of a folder", root)


def stem_target(name: str, parts: tuple[str, ...] = (), text: str | None = None, stem: str | None = None) -> Target:
    """A target with the given text as query, else the usual words for its name, else its name with spaces.

    Args:
        name: of the target.
        parts: as `Target.parts`.
        text: of the query.
        stem: that it is all of, where its name is another; systems with fixed targets give that.
    """
    words = text or _TEXTS.get(name.lower()) or re.sub(r"[_\s]+", " ", name).strip()
    fixed = (stem or name).lower()
    return Target(name, Query(text=words), name, _ALIASES.get(fixed, (fixed,)), parts)


def _queries(path: Path) -> dict[str, str]:
    """Stem -> text of its query; empty where there is no such file."""
    texts = read_json(path) if path.is_file() else {}
    if not isinstance(texts, dict) or not all(isinstance(text, str) and text.strip() for text in texts.values()):
        raise DataError(f'{path}: expected stems with their queries, such as {{"speech": "a man talking"}}')
    return texts


def _item(name: str, mix: Path, files: Mapping[str, Path], targets: tuple[Target, ...]) -> Item:
    sources = tuple(SourceFile(stem, str(path)) for stem, path in files.items())
    return Item(name, targets, partial(read_scene, str(mix), sources), version=files_version([mix, *files.values()]))
