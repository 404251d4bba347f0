"""Readers of corpora in the layouts that users have: from files to a list of clips."""

from __future__ import annotations

import csv
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from audiosep.audio import is_recording
from audiosep.data.manifest import STEMS, Clip
from audiosep.data.queries import STEM_CAPTIONS
from audiosep.data.reading import SPLIT_NAMES, OnError, audio_files, collect, label_of, probed
from audiosep.errors import ConfigError, DataError
from audiosep.weights.configs import from_dict


def read_folders(folder: str | Path, on_error: OnError = "raise") -> list[Clip]:
    """Read a folder with one subfolder for each label.

    ```
    my_sounds/
      kettle/
        kettle_01.wav
        kettle_02.flac
      my_cat/
        monday/meow1.mp3        files of one subfolder are one group: they stay in one split
        monday/meow2.mp3
        tuesday.wav
    ```
    The label is the folder's name, lower case, with spaces for underscores and hyphens.

    Args:
        folder: the outer folder.
        on_error: what to do about broken files: leave them out ("skip") or "raise".

    Raises:
        DataError: no audio below a subfolder, or broken files (all are named) unless `on_error` is "skip".
    """
    folder = Path(folder)
    files = [p for p in audio_files(folder) if len(p.relative_to(folder).parts) > 1]
    if not files:
        raise DataError(f"{folder}: no audio in subfolders; expected {folder.name}/<label>/*.wav")

    def clip(path: Path) -> Clip:
        parts = path.relative_to(folder).parts
        label = label_of(parts[0])
        group = "/".join(parts[:-1]) if len(parts) > 2 else path.relative_to(folder).as_posix()
        return probed(path, id=path.relative_to(folder).as_posix(), label=label, group=f"file:{group}")

    return collect(files, clip, on_error)


def read_songs(folder: str | Path, on_error: OnError = "raise") -> list[Clip]:
    """Read songs as folders of stems: MUSDB18-HQ, or datasets for Demucs.

    ```
    musdb18hq/                      my_songs/
      train/                          first song/
        A Classic Education - .../      vocals.wav
          bass.wav                      drums.wav
          drums.wav                     bass.wav
          mixture.wav     (ignored)     other.wav
          other.wav                     guitar.wav      (any other name: a stem "other" with that label)
          vocals.wav
      test/ ...           (train, valid and test become the splits train, val and test)
    ```

    Args:
        folder: the outer folder.
        on_error: what to do about broken files: leave them out ("skip") or "raise".

    Raises:
        DataError: no folder of stems, or broken files unless `on_error` is "skip".
    """
    folder = Path(folder)
    songs = sorted({p.parent for p in audio_files(folder) if p.stem.lower() in STEMS})
    if not songs:
        raise DataError(f"{folder}: no song folders; expected {folder.name}/<song>/vocals.wav, drums.wav, ...")
    files = [p for song in songs for p in sorted(song.iterdir()) if is_recording(p)]
    files = [p for p in files if p.stem.lower() not in ("mixture", "mix")]

    def clip(path: Path) -> Clip:
        name = path.stem.lower()
        song = path.parent.relative_to(folder).as_posix()
        label = "accompaniment" if name == "other" else label_of(name)
        return probed(
            path,
            id=path.relative_to(folder).with_suffix("").as_posix(),
            label=label,
            captions=STEM_CAPTIONS.get(name, ()),
            family="music",
            stem=name if name in STEMS else "other",
            song=song,
            group=f"song:{song}",
            split=SPLIT_NAMES.get(path.parent.relative_to(folder).parts[0].lower(), "train"),
        )

    return collect(files, clip, on_error)


def read_audiosep(path: str | Path, on_error: OnError = "raise") -> list[Clip]:
    """Read the JSON file of the published AudioSep code.

    ```
    datafiles.json      {"data": [{"wav": "audio/0001.wav", "caption": "a dog barks"}, ...]}
    audio/0001.wav      (relative paths start at the JSON's folder)
    ```
    The label is the caption; of a list of captions, the first one.

    Args:
        path: the JSON file.
        on_error: what to do about broken files: leave them out ("skip") or "raise".

    Raises:
        DataError: another kind of JSON file, or broken files unless `on_error` is "skip".
    """
    path = Path(path)
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["data"]
        pairs = [(path.parent / row["wav"], row["caption"]) for row in rows]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise DataError(f'{path}: expected {{"data": [{{"wav": ..., "caption": ...}}]}}, but {error!r}') from error

    def clip(row: tuple[int, tuple[Path, str | list[str]]]) -> Clip:
        number, (audio, caption) = row
        captions = [caption] if isinstance(caption, str) else caption
        label = captions[0].strip().lower()
        return probed(audio, id=f"{path.stem}-{number:06d}", label=label, captions=captions, group=f"file:{audio.name}")

    return collect(list(enumerate(pairs)), clip, on_error)


def read_csv(path: str | Path, on_error: OnError = "raise") -> list[Clip]:
    """Read a table with one row for each clip; its columns are the manifest's keys.

    ```
    sounds.csv          path,label,captions,group,start,seconds
                        a/1.wav,kettle,kettle boiling|water boiling,kitchen,0,4.5
    ```
    `path` (relative to the table) and `label` are required; captions are separated by "|"; an empty cell is the
    default. Without `seconds` the clip is the rest of the file.

    Args:
        path: the table.
        on_error: what to do about broken files: leave them out ("skip") or "raise".

    Raises:
        DataError: a missing or unknown column, a value of the wrong type, or broken files unless `on_error` is "skip".
    """
    path = Path(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = csv.DictReader(file)
        columns = set(table.fieldnames or ())
        known = {field.name for field in fields(Clip)}
        if not {"path", "label"} <= columns or columns - known:
            wrong = sorted({"path", "label"} - columns) or sorted(columns - known)
            problem = "no column" if {"path", "label"} - columns else "unknown column"
            raise DataError(f"{path}: {problem} {wrong[0]!r}; columns are {', '.join(sorted(known))}")
        rows = list(enumerate(table, 2))

    def clip(numbered: tuple[int, dict[str, str]]) -> Clip:
        number, row = numbered
        try:
            values = {key: _cell(key, value) for key, value in row.items() if value}
            given = from_dict(Clip, {"id": f"{path.stem}-{number:06d}", "path": "", "label": ""} | values)
        except (ConfigError, ValueError) as error:
            raise DataError(f"{path}, line {number}: {error}") from error
        known = {f.name: getattr(given, f.name) for f in fields(Clip) if f.name in values or f.name == "id"}
        audio = path.parent / known.pop("path", "")
        known["label"] = given.label.strip().lower()
        return probed(audio, **({"group": f"file:{audio.name}"} | known))

    return collect(rows, clip, on_error)


def _cell(key: str, value: str) -> Any:
    if key == "captions":
        return [text.strip() for text in value.split("|")]
    if key in ("start", "seconds", "gain_db"):
        return float(value)
    return int(value) if key in ("source_rate", "channel") else value
