"""Choosing the reader for a file or folder, and the reader for Hugging Face audio datasets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from audiosep.atomic import write_bytes
from audiosep.audio import is_recording
from audiosep.data import datasets, readers, reading, shards, song_datasets
from audiosep.data.manifest import STEMS, Clip
from audiosep.data.reading import OnError, prefixed
from audiosep.errors import DataError, DependencyError


def read_huggingface(folder: str | Path, on_error: OnError = "raise") -> list[Clip]:
    """Read an audio dataset of the Hugging Face `datasets` package.

    ```
    my_dataset/                         written by Dataset.save_to_disk (or a DatasetDict: one folder a split)
      data-00000-of-00001.arrow         columns: audio (Audio), label (ClassLabel or text), caption (text or a list)
      dataset_info.json  state.json
    ```
    A column `label` or `caption` is required. Audio that is stored in the tables is written to `audio/` in the folder.

    Args:
        folder: of the dataset.
        on_error: what to do about broken audio: leave the row out ("skip") or "raise".

    Raises:
        DataError: the columns are missing, or broken audio.
        DependencyError: the package `datasets` is missing.
    """
    try:
        import datasets
    except ImportError as error:
        raise DependencyError("reading Hugging Face datasets needs the package: pip install datasets") from error
    dataset = datasets.load_from_disk(str(folder))
    parts = dataset if isinstance(dataset, datasets.DatasetDict) else {"": dataset}
    clips: list[Clip] = []
    for name, part in parts.items():
        columns = part.features
        if "audio" not in columns or not {"label", "caption"} & set(columns):
            raise DataError(
                f"{folder}: the dataset has the columns {', '.join(columns)}; expected 'audio' and 'label' or "
                "'caption': rename them with Dataset.rename_column"
            )
        names = getattr(columns.get("label"), "names", None)
        rows = part.cast_column("audio", datasets.Audio(decode=False))

        def clip(number: int, rows: Any = rows, names: Any = names, prefix: str = name) -> Clip:
            row = rows[number]
            identity = f"{prefix or 'row'}-{number:06d}"
            texts = row.get("caption") or []
            captions = [texts] if isinstance(texts, str) else list(texts)
            value = row.get("label")
            if names is not None and isinstance(value, int):
                value = names[value] if value >= 0 else None  # -1 is a label that is missing
            if value is None and not captions:
                raise DataError(f"{folder}: {identity} has neither a label nor a caption: name its sound, or filter it")
            text = str(captions[0] if value is None else value)
            path = _audio_of(row["audio"], Path(folder) / "audio" / identity)
            split = reading.SPLIT_NAMES.get(prefix, "train")
            values = {"label": reading.label_of(text), "captions": captions, "group": f"row:{identity}"}
            return reading.probed(path, id=identity, split=split, **values)

        clips += reading.collect(range(len(rows)), clip, on_error)
    return clips


def _audio_of(cell: Mapping[str, Any], target: Path) -> Path:
    """The file of an undecoded audio cell; bytes are written to `target` with the suffix of the stored name."""
    name = str(cell.get("path") or "audio.wav")
    if cell.get("bytes") is None:
        return Path(name)
    path = target.with_suffix(Path(name).suffix or ".wav")
    # A dataset that was saved again may have another sound in this row.
    if not path.is_file() or path.stat().st_size != len(cell["bytes"]) or path.read_bytes() != cell["bytes"]:
        write_bytes(path, cell["bytes"])
    return path


READERS: dict[str, Callable[..., list[Clip]]] = {
    "folders": readers.read_folders,
    "songs": readers.read_songs,
    "audiosep": readers.read_audiosep,
    "csv": readers.read_csv,
    "shards": shards.read_shards,
    "huggingface": read_huggingface,
    "dsd100": song_datasets.read_dsd100,
    "mass": song_datasets.read_mass,
    "sisec-speech": datasets.read_sisec_speech,
    "dnr": datasets.read_dnr,
    "slakh": song_datasets.read_slakh,
    "urmp": song_datasets.read_urmp,
    "mir-1k": song_datasets.read_mir1k,
    "ikala": song_datasets.read_ikala,
    "medleydb": song_datasets.read_medleydb,
}

# Files by which the layouts of published datasets are recognised.
PUBLISHED = {
    "dsd100": "Sources/*/*/vocals.wav",
    "slakh": "*/Track*/metadata.yaml",
    "urmp": "*/AuSep_*.wav",
    "dnr": "*/*/sfx.wav",
    "sisec-speech": "*_src_1.wav",
    "mass": "*/*__mix.wav",
    "mir-1k": "Wavfile/*_[0-9]*_[0-9][0-9].wav",
    "ikala": "Wavfile/[0-9]*_[cv][he]*.wav",
    "medleydb": "Audio/*/*_MIX.wav",
}


def detect(path: str | Path) -> str:
    """Find the reader for a file or folder.

    Args:
        path: the file or folder.

    Returns:
        A key of READERS.

    Raises:
        DataError: no reader is for it.
    """
    path = Path(path)
    if path.is_file() and path.suffix.lower() in (".json", ".csv"):
        return "csv" if path.suffix.lower() == ".csv" else "audiosep"
    if not path.is_dir():
        raise DataError(f"{path}: expected a folder, a .csv or AudioSep's .json")
    if any(path.glob("*.tar")) and any(path.glob("*.jsonl")):
        return "shards"
    if any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json")):
        return "huggingface"
    for kind, pattern in PUBLISHED.items():
        if next(path.glob(pattern), None) is not None:
            return kind
    stems = {p.stem.lower() for p in path.glob("*/*") if is_recording(p)}
    stems |= {p.stem.lower() for p in path.glob("*/*/*") if is_recording(p)}
    return "songs" if {"vocals", "drums"} & stems and not stems - {*STEMS, "mixture", "mix"} else "folders"


def read_clips(path: str | Path, kind: str = "auto", on_error: OnError = "raise") -> list[Clip]:
    """Clips of a file or folder in any layout.

    Args:
        path: the file or folder.
        kind: a key of READERS, or "auto".
        on_error: what to do about broken files: leave them out ("skip") or "raise".

    Raises:
        DataError: an unknown kind, a layout that does not fit, no clips, or broken files.
    """
    chosen = detect(path) if kind == "auto" else kind
    if chosen not in READERS:
        raise DataError(f"there is no reader {kind!r}; readers are auto, {', '.join(READERS)}")
    clips = READERS[chosen](path, on_error)
    if not clips:
        raise DataError(f"{path}: there are no clips in it")
    return clips


def read_sources(
    paths: Sequence[Path],
    kind: str = "auto",
    family: str | None = None,
    on_error: OnError = "raise",
    taken: Collection[Clip] = (),
) -> list[list[Clip]]:
    """Clips of several files or folders, with unique ids: where one is taken, all of its source get a prefix.

    Their songs and groups get it, too: folders `01` of two albums are two songs. Not so where the source has files that
    are known, as when a folder has grown: these keep the group they have.

    Args:
        paths: files and folders.
        kind: a key of READERS, or "auto".
        family: of all clips; None keeps what the reader says.
        on_error: as for `read_clips`.
        taken: clips whose ids are taken already.

    Returns:
        The clips of each file or folder.

    Raises:
        DataError: as for `read_clips`.
    """
    clips: list[list[Clip]] = []
    used = {clip.id for clip in taken}
    known = {_file(clip): clip for clip in taken}
    for path in paths:
        found = read_clips(path, kind, on_error)
        prefix, number = "", 1
        while any(prefix + clip.id in used for clip in found):
            prefix = f"{path.name}/" if number == 1 else f"{path.name} ({number})/"
            number += 1
        names = _known_prefix(found, known)
        found = [prefixed(clip, prefix, prefix if names is None else names) for clip in found]
        used |= {clip.id for clip in found}
        known = {_file(clip): clip for clip in found} | known
        clips.append(found if family is None else [dataclasses.replace(clip, family=family) for clip in found])
    return clips


def _known_prefix(found: Sequence[Clip], known: Mapping[tuple[Path, str | None], Clip]) -> str | None:
    """The prefix that a source got whose files are known; None where they are not."""
    for clip in found:
        if (before := known.get(_file(clip))) is not None:
            return before.id.removesuffix(clip.id) if before.id.endswith(clip.id) else ""
    return None


def _file(clip: Clip) -> tuple[Path, str | None]:
    return Path(clip.path).resolve(), clip.member
