"""Benchmarks of what the readers of training data find: songs with their stems, pieces with their players, speakers.

The layouts are those of `audiosep.data.song_datasets` and `audiosep.data.datasets`; here the stems of a song meet its
mixture.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from audiosep.audio import is_recording
from audiosep.data import datasets, song_datasets
from audiosep.data.manifest import SPLITS, Clip
from audiosep.data.manifest import STEMS as SONG_STEMS
from audiosep.data.reading import BrokenFilesError, LayoutError
from audiosep.errors import ConfigError, DataError
from audiosep.evaluation.benchmarks import Benchmark, Item, Target
from audiosep.evaluation.multitrack import stem_target
from audiosep.evaluation.scene_files import SetLayout, SourceFile, files_version, read_scene
from audiosep.query.query import Query

LAYOUTS = {
    "dsd100": SetLayout(
        "DSD100",
        "Mixtures/Test/SONG/mixture.wav\nSources/Test/SONG/vocals.wav\nSources/Test/SONG/drums.wav\n"
        "Sources/Test/SONG/bass.wav\nSources/Test/SONG/other.wav",
        "https://sigsep.github.io/datasets/dsd100.html",
    ),
    "ikala": SetLayout(
        "iKala",
        "Wavfile/10161_chorus.wav ...   (left: accompaniment, right: voice)",
        "http://mac.citi.sinica.edu.tw/ikala (on request from its owners)",
    ),
    "mass": SetLayout(
        "MASS",
        "SONG/SONG__snip_6_19__guitar.wav ...   (one file an instrument)\nSONG/SONG__snip_6_19__mix.wav   (optional)",
        "https://www.upf.edu/web/mtg/mass",
    ),
    "medleydb": SetLayout(
        "MedleyDB",
        "Audio/TRACK/TRACK_MIX.wav\nAudio/TRACK/TRACK_STEMS/TRACK_STEM_01.wav ...\n"
        "Audio/TRACK/TRACK_METADATA.yaml   (or Metadata/TRACK_METADATA.yaml)",
        "https://zenodo.org/records/1649325 (on request)",
    ),
    "mir-1k": SetLayout(
        "MIR-1K",
        "Wavfile/abjones_1_01.wav ...   (left: accompaniment, right: voice)",
        "https://zenodo.org/records/3532216",
    ),
    "sisec-speech": SetLayout(
        "SiSEC underdetermined speech",
        "dev1_female3_src_1.wav ...        (a speaker alone, as recorded)\n"
        "dev1_female3_inst_mix.wav ...     (a mixture)\n"
        "dev1_female3_inst_sim_1.wav ...   (the speakers as they are in it)",
        "http://sisec.wiki.irisa.fr",
    ),
    "slakh": SetLayout(
        "Slakh2100",
        "test/Track01876/mix.flac\ntest/Track01876/metadata.yaml\ntest/Track01876/stems/S00.flac ...",
        "https://zenodo.org/records/4599666",
    ),
    "urmp": SetLayout(
        "URMP",
        "01_Jupiter_vn_vc/AuMix_01_Jupiter_vn_vc.wav\n01_Jupiter_vn_vc/AuSep_1_vn_01_Jupiter.wav ...",
        "https://doi.org/10.5061/dryad.ng3r749",
    ),
}


def read_dsd100(root: Path, *, split: str = "test") -> Benchmark:
    """DSD100: the four stems and the accompaniment of every song of a split."""
    layout = LAYOUTS["dsd100"]
    items = []
    for song, clips in _songs(_found("dsd100", song_datasets.read_dsd100, root, split)).items():
        stems = {clip.stem: Path(clip.path) for clip in clips}
        if lacking := [stem for stem in SONG_STEMS if stem not in stems]:
            raise layout.missing(f"no {lacking[0]}.wav for {song}", root)
        part = stems["vocals"].parts[-3]
        targets = (*map(stem_target, SONG_STEMS), stem_target("accompaniment", ("drums", "bass", "other")))
        mix = _there("dsd100", root / "Mixtures" / part / song / "mixture.wav", root)
        items.append(_item(song, mix, clips, targets))
    return _benchmark("dsd100", items, root, split)


def read_mir1k(root: Path, *, ratio: str = "", split: str = "any") -> Benchmark:
    """MIR-1K: voice and accompaniment of every clip, mixed as recorded or at a voice-to-accompaniment `ratio` in dB."""
    return _voice_and_accompaniment("mir-1k", song_datasets.read_mir1k, root, ratio, split)


def read_ikala(root: Path, *, ratio: str = "") -> Benchmark:
    """iKala, read as MIR-1K."""
    return _voice_and_accompaniment("ikala", song_datasets.read_ikala, root, ratio, "any")


def read_mass(root: Path) -> Benchmark:
    """MASS: every instrument of every excerpt, in its mixture, or the sum of the instruments where it has none."""

    def mix(clips: Sequence[Clip]) -> Path | None:
        first = Path(clips[0].path)
        excerpt = first.stem.rpartition("__")[0]
        return next((p for p in sorted(first.parent.glob(f"{glob.escape(excerpt)}__mix*")) if is_recording(p)), None)

    clips = _found("mass", song_datasets.read_mass, root)
    return _instruments("mass", clips, mix, root)


def read_medleydb(root: Path, *, bleed: bool = False) -> Benchmark:
    """MedleyDB: every instrument of every track; tracks whose stems have bleed are left out unless `bleed`."""

    def mix(clips: Sequence[Clip]) -> Path:
        folder = Path(clips[0].path).parent.parent
        return _there("medleydb", folder / f"{clips[0].song}_MIX.wav", root)

    clips = _found("medleydb", partial(song_datasets.read_medleydb, bleed=bleed), root)
    return _instruments("medleydb", clips, mix, root)


def read_slakh(root: Path, *, split: str = "test") -> Benchmark:
    """Slakh2100: every instrument of every track of a split."""

    def mix(clips: Sequence[Clip]) -> Path:
        folder = Path(clips[0].path).parent.parent
        kinds = [path for path in sorted(folder.glob("mix.*")) if is_recording(path)]
        return kinds[0] if kinds else _there("slakh", folder / "mix.flac", root)

    clips = _found("slakh", song_datasets.read_slakh, root, split)
    return _instruments("slakh", clips, mix, root, split)


def read_urmp(root: Path) -> Benchmark:
    """URMP: every instrument of every piece; two violins are one target."""

    def mix(clips: Sequence[Clip]) -> Path:
        folder = Path(clips[0].path).parent
        # The folder of a piece ends with one code for each player: 01_Jupiter_vn_vc.
        if len(clips) != (players := len(folder.name.split("_")) - 2):
            raise LAYOUTS["urmp"].missing(f"{len(clips)} of {players} players of {folder.name}", root)
        return _there("urmp", folder / f"AuMix_{folder.name}.wav", root)

    return _instruments("urmp", _found("urmp", song_datasets.read_urmp, root), mix, root)


def read_sisec_speech(root: Path, *, mixing: str = "") -> Benchmark:
    """SiSEC's underdetermined mixtures of speech: every speaker of every mixture.

    Each speaker is asked for by their own recording from before the mixing, so that this measures separation and not
    naming: no word tells three women apart. `mixing` chooses the mixtures whose names have it, such as "inst".
    """
    layout = LAYOUTS["sisec-speech"]
    items = []
    for group, clips in _by(_found("sisec-speech", datasets.read_sisec_speech, root), lambda clip: clip.group).items():
        speakers, folder = group.removeprefix("speaker:"), Path(clips[0].path).parent
        for mix in sorted(folder.glob(f"{glob.escape(speakers)}_*_mix.wav")):
            name = mix.stem.removesuffix("_mix")
            if mixing not in name:
                continue
            if len(list(folder.glob(f"{glob.escape(name)}_sim_*.wav"))) > len(clips):
                raise layout.missing(f"not every {speakers}_src_*.wav for {name}", root)
            sources: list[SourceFile] = []
            targets: list[Target] = []
            for clip in clips:
                number = Path(clip.path).stem.rpartition("_")[2]
                image = _there("sisec-speech", folder / f"{name}_sim_{number}.wav", root)
                sources.append(SourceFile(f"speaker {number}", str(image)))
                targets.append(Target(f"speaker {number}", Query(audio=clip.path), clip.label))
            paths = [str(mix), *(source.path for source in sources), *(clip.path for clip in clips)]
            load = partial(read_scene, str(mix), tuple(sources))
            items.append(Item(name, tuple(targets), load, version=files_version(paths)))
    if not items:
        raise layout.missing(f"no *{mixing}*_mix.wav", root)
    return _benchmark("sisec-speech", items, root)


def _found(name: str, read: Callable[..., list[Clip]], root: Path, split: str = "any") -> list[Clip]:
    """The clips of a split, with the errors of a benchmark."""
    layout = LAYOUTS[name]
    if split not in (*SPLITS, "any"):
        raise ConfigError(f"{name} has no split {split!r}; there are {', '.join(SPLITS)} and any")
    try:
        clips = read(root)
    except BrokenFilesError as error:
        raise layout.missing(f"cannot read {error.problems[0]}", root) from error
    except LayoutError as error:
        raise layout.missing("not the published layout", root) from error
    except DataError as error:
        raise layout.missing(str(error), root) from error
    chosen = [clip for clip in clips if split in (clip.split, "any")]
    if not chosen:
        raise layout.missing(f"nothing of the split {split}", root)
    return chosen


def _by(clips: Iterable[Clip], key: Callable[[Clip], str]) -> dict[str, list[Clip]]:
    groups: dict[str, list[Clip]] = {}
    for clip in clips:
        groups.setdefault(key(clip), []).append(clip)
    return groups


def _songs(clips: Iterable[Clip]) -> dict[str, list[Clip]]:
    return _by(clips, lambda clip: clip.song or "")


def _instruments(
    name: str, clips: Sequence[Clip], mix: Callable[[Sequence[Clip]], Path | None], root: Path, split: str = ""
) -> Benchmark:
    """Every label of every song is a target: the sum of its stems."""
    items = []
    for song, stems in _songs(clips).items():
        targets = []
        for label in dict.fromkeys(clip.label for clip in stems):
            own = [clip for clip in stems if clip.label == label]
            stem = own[0].stem
            # A drum set is what a system with fixed targets calls drums, if nothing else of the song is drums.
            whole = stem != "other" and own == [clip for clip in stems if clip.stem == stem]
            targets.append(stem_target(label, tuple(map(_source_name, own)), stem=stem if whole else None))
        items.append(_item(song, mix(stems), stems, tuple(targets)))
    return _benchmark(name, items, root, split)


def _voice_and_accompaniment(
    name: str, read: Callable[..., list[Clip]], root: Path, ratio: str, split: str
) -> Benchmark:
    try:
        level = float(ratio) if ratio else None
    except ValueError as error:
        raise ConfigError(f"{name}: ratio is a number of dB, got {ratio!r}") from error
    targets = (stem_target("vocals"), stem_target("accompaniment"))
    items = [
        _item(song, None, clips, targets, level) for song, clips in _songs(_found(name, read, root, split)).items()
    ]
    how = f"voice at {ratio} dB" if ratio else "as recorded"
    return _benchmark(name, items, root, how if split == "any" else f"{split}, {how}")


def _item(
    song: str, mix: Path | None, clips: Sequence[Clip], targets: tuple[Target, ...], ratio: float | None = None
) -> Item:
    sources = tuple(SourceFile(_source_name(clip), clip.path, clip.channel) for clip in clips)
    load: Any = partial(read_scene, None if mix is None else str(mix), sources, ratio=ratio)
    paths = dict.fromkeys([*([] if mix is None else [str(mix)]), *(clip.path for clip in clips)])
    return Item(song, targets, load, version=files_version(paths, ratio))


def _source_name(clip: Clip) -> str:
    """The last part of the id, which is unique in a song."""
    return clip.id.rpartition("/")[2]


def _benchmark(name: str, items: Sequence[Item], root: Path, what: str = "") -> Benchmark:
    layout = LAYOUTS[name]
    return Benchmark(name, tuple(items), "; ".join(filter(None, (layout.title, what, layout.owner))), root)


def _there(name: str, path: Path, root: Path) -> Path:
    """The file, or the error of a benchmark for a missing one."""
    if not path.is_file():
        raise LAYOUTS[name].missing(f"no {path.name} in {path.parent.name}", root)
    return path
