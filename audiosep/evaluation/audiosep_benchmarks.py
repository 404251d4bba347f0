"""The six benchmarks of AudioSep (Liu et al. 2023) as its authors publish them: a CSV of queries beside wav files.

As the authors do, all are read in mono at 32 kHz, with one target in each mixture.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from audiosep.errors import DataError
from audiosep.evaluation.benchmarks import Average, Benchmark, Item, Target
from audiosep.evaluation.scene_files import SetLayout, SourceFile, files_version, read_scene
from audiosep.query.query import Query

RATE = 32000
OWNER = 'https://github.com/Audio-AGI/AudioSep (README, "Benchmark Evaluation")'


def _layout(title: str, name: str, files: str) -> SetLayout:
    tree = f"metadata/{name}_eval.csv\n" + "\n".join(f"data/{name}/{file}" for file in files.split())
    return SetLayout(title, f"{tree}\n(or the CSV in the same folder as the audio)", OWNER)


_NUMBERED = "segment-0.wav mixture-0.wav segment-1.wav ..."
LAYOUTS = {
    "audiocaps": _layout("AudioCaps mixtures", "audiocaps", _NUMBERED),
    "audioset": _layout(
        "AudioSet mixtures",
        "audioset",
        "class_id=0/class_id=0,index=000,source.wav class_id=0/class_id=0,index=000,mixture.wav ...",
    ),
    "clotho": _layout("Clotho mixtures", "clotho", _NUMBERED),
    "esc50": _layout("ESC-50 mixtures", "esc50", _NUMBERED),
    "music": _layout("MUSIC mixtures", "music", _NUMBERED),
    "vggsound": _layout("VGGSound+ mixtures", "vggsound", "data/mix_wav/ID.wav data/s0_wav/ID.wav data/s1_wav/ID.wav"),
}
ESC50_CLIPS = SetLayout(
    "ESC-50 mixtures rebuilt from the clips",
    "audio/1-100032-A-0.wav ...   (2,000 clips)\nesc50_eval.csv   (idx,caption,src_wav,noise_wav; or pairs=FILE)",
    "https://github.com/karolpiczak/ESC-50 (clips) and https://github.com/Audio-AGI/AudioSep (evaluation/metadata)",
)


def read_audiocaps(root: Path, *, query: str = "caption") -> Benchmark:
    """AudioCaps test mixtures; `query` is caption or labels."""
    if query not in ("caption", "labels"):
        raise DataError(f"audiocaps: query is caption or labels, not {query!r}")
    return _numbered(root, "audiocaps", query, labelled=False)


def read_clotho(root: Path) -> Benchmark:
    """Clotho evaluation mixtures, caption queries."""
    return _numbered(root, "clotho", "caption", labelled=False)


def read_music(root: Path) -> Benchmark:
    """MUSIC mixtures of ten instruments; averaged over the means of the instruments, as its owners do."""
    return _numbered(root, "music", "caption", labelled=True, average="classes")


def read_esc50(root: Path, *, pairs: str = "") -> Benchmark:
    """ESC-50 mixtures: the published wav files, or rebuilt at 0 dB from the clips and the list of pairs."""
    if not pairs and not _esc50_clips(root):
        return _numbered(root, "esc50", "caption", labelled=True)
    table = Path(pairs) if pairs else root / "esc50_eval.csv"
    clips = root / "audio" if (root / "audio").is_dir() else root
    items = []
    for row in _rows(ESC50_CLIPS, root, table):
        paths = [clips / row["src_wav"], clips / row["noise_wav"]]
        _need(ESC50_CLIPS, root, paths)
        sources = (SourceFile("target", str(paths[0])), SourceFile("rest", str(paths[1])))
        load = partial(read_scene, None, sources, rate=RATE, mono=True, ratio=0.0)
        items.append(
            Item(row["idx"], (_target(row["caption"], row["caption"]),), load, version=files_version(paths, "0 dB"))
        )
    return Benchmark("esc50", tuple(items), f"ESC-50 pairs at 0 dB, rebuilt; {ESC50_CLIPS.owner}", root)


def read_vggsound(root: Path) -> Benchmark:
    """VGGSound+ mixtures of two clips, label queries."""
    layout = LAYOUTS["vggsound"]
    table, folder = _places(layout, root, "vggsound")
    items = []
    for row in _rows(layout, root, table):
        paths = [folder / row[key] for key in ("mix_wav", "s0_wav")]
        _need(layout, root, paths)
        load = partial(read_scene, str(paths[0]), (SourceFile("target", str(paths[1])),), rate=RATE, mono=True)
        target = _target(row["s0_text"], row["s0_text"])
        items.append(Item(row["file_id"], (target,), load, version=files_version(paths)))
    return Benchmark("vggsound", tuple(items), f"{layout.title}; {OWNER}", root)


def read_audioset(root: Path) -> Benchmark:
    """AudioSet mixtures of 527 classes; averaged over the medians of the classes, as its owners do."""
    layout = LAYOUTS["audioset"]
    table, folder = _places(layout, root, "audioset")
    items = []
    for row in _rows(layout, root, table):
        # The paths in the table start at the authors' working directory; only their last two parts exist here.
        paths = [folder.joinpath(*Path(row[key]).parts[-2:]) for key in ("noise_wav", "src_wav")]
        _need(layout, root, paths)
        load = partial(read_scene, str(paths[0]), (SourceFile("target", str(paths[1])),), rate=RATE, mono=True)
        name = paths[1].name.removesuffix(",source.wav")
        items.append(Item(name, (_target(row["caption"], row["caption"]),), load, version=files_version(paths)))
    return Benchmark("audioset", tuple(items), f"{layout.title}; {OWNER}", root, "class medians")


def _numbered(root: Path, name: str, column: str, *, labelled: bool, average: Average = "clips") -> Benchmark:
    """Mixtures `mixture-N.wav` with the target `segment-N.wav`; the query is the text of row N."""
    layout = LAYOUTS[name]
    table, folder = _places(layout, root, name)
    items = []
    for row in _rows(layout, root, table):
        paths = [folder / f"{kind}-{row['idx']}.wav" for kind in ("mixture", "segment")]
        _need(layout, root, paths)
        load = partial(read_scene, str(paths[0]), (SourceFile("target", str(paths[1])),), rate=RATE, mono=True)
        target = _target(row[column], row[column] if labelled else "")
        items.append(Item(row["idx"], (target,), load, version=files_version(paths)))
    return Benchmark(name, tuple(items), f"{layout.title}, mono 32 kHz; {OWNER}", root, average)


def _target(text: str, label: str) -> Target:
    return Target("target", Query(text=text), label)


def _esc50_clips(root: Path) -> bool:
    """Whether the folder is ESC-50 itself: clips named fold-source-take-class.wav."""
    return next((root / "audio").glob("[1-5]-*-*-*.wav"), None) is not None


def _places(layout: SetLayout, root: Path, name: str) -> tuple[Path, Path]:
    """The table and the audio folder, in the authors' repository, in its evaluation folder, or in a single folder."""
    for base in (root, root / "evaluation", root.parent.parent):
        table = base / "metadata" / f"{name}_eval.csv"
        folder = base / "data" / name
        if table.is_file() and folder.is_dir():
            return table, folder
    table = root / f"{name}_eval.csv"
    if not table.is_file():
        raise layout.missing(f"no {name}_eval.csv", root)
    return table, root


def _rows(layout: SetLayout, root: Path, table: Path) -> Iterator[dict[str, str]]:
    if not table.is_file():
        raise layout.missing(f"no {table.name}", root)
    with table.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file)


def _need(layout: SetLayout, root: Path, paths: Sequence[Path]) -> None:
    for path in paths:
        if not path.is_file():
            raise layout.missing(f"no {path.name}", root)
