"""Readers of corpora in the layouts that users have: from files to a list of clips."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from audiosep.audio import is_recording
from audiosep.data.manifest import STEMS, Clip, label_text
from audiosep.data.queries import STEM_CAPTIONS
from audiosep.data.reading import (
    SPLIT_NAMES,
    OnError,
    audio_files,
    collect,
    group_name,
    label_of,
    probed,
)
from audiosep.data.text_files import named_in, read_json, read_text
from audiosep.errors import AudioError, ConfigError, DataError, InputError, counted
from audiosep.weights.configs import from_dict

log = logging.getLogger(__name__)

_REQUIRED = {"path", "label"}  # columns of a table


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
    found = audio_files(folder)
    files = [p for p in found if p.parent != folder]
    if not files:
        raise DataError(f"{folder}: no audio in subfolders; expected {folder.name}/<label>/*.wav")
    if loose := len(found) - len(files):
        log.warning("left out: %s directly in %s, where no folder names the sound", counted(loose, "recording"), folder)
    named = {path.relative_to(folder).parts[0] for path in files}
    folders = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if empty := [name for name in folders if name not in named]:
        log.warning("no recordings in %s of %s: %s", counted(len(empty), "folder"), folder, ", ".join(empty[:10]))

    def clip(path: Path) -> Clip:
        parts = path.relative_to(folder).parts
        label = label_of(parts[0])
        group = "/".join(parts[:-1]) if len(parts) > 2 else path.relative_to(folder).as_posix()
        return probed(path, id=path.relative_to(folder).as_posix(), label=label, group=group_name("file", group))

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
        DataError: no folder of stems, stems outside of the songs' folders, or broken files unless `on_error` is "skip".
    """
    folder = Path(folder)
    songs = sorted({p.parent for p in audio_files(folder) if p.stem.lower() in STEMS})
    if not songs:
        raise DataError(f"{folder}: no song folders; expected {folder.name}/<song>/vocals.wav, drums.wav, ...")
    if folder in songs:
        raise DataError(
            f"{folder}: there are stems directly in it: give the folder that it lies in, or move them into a folder "
            "with the name of their song"
        )
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
            group=group_name("song", song),
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
        pairs = [(row["wav"], row["caption"]) for row in read_json(path)["data"]]
    except (KeyError, TypeError) as error:
        problem = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f'{path}: expected {{"data": [{{"wav": ..., "caption": ...}}]}}, but {problem}') from error

    def clip(row: tuple[int, tuple[Any, Any]]) -> Clip:
        number, (wav, caption) = row
        if not isinstance(wav, str) or not wav.strip():
            raise DataError(f"{path}, item {number}: wav must be the path of a recording, got {wav!r}")
        captions = [caption] if isinstance(caption, str) else caption
        texts = isinstance(captions, list) and captions and all(isinstance(text, str) for text in captions)
        if not texts or not captions[0].strip():
            raise DataError(f"{path}, item {number}: caption must be a text or a list of texts, got {caption!r}")
        return probed(
            named_in(path, wav),
            id=f"{path.stem}-{number:06d}",
            label=label_text(captions[0]),
            captions=captions,
            group=group_name("file", Path(wav).as_posix()),
        )

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
        DataError: a file that is not in UTF-8, a missing or unknown column, a value that is missing, impossible or of
            the wrong type, or broken files unless `on_error` is "skip".
    """
    path = Path(path)
    text = read_text(path)
    table = csv.DictReader(io.StringIO(text))
    columns = set(table.fieldnames or ())
    known = {field.name for field in fields(Clip)}
    if _REQUIRED - columns or columns - known:
        wrong = sorted(_REQUIRED - columns) or sorted(columns - known)
        problem = "no column" if _REQUIRED - columns else "unknown column"
        header = text.partition("\n")[0]
        raise DataError(
            f"{path}: {problem} {wrong[0]!r} in its first line {header!r}; columns are {', '.join(sorted(known))}, "
            "with commas between them"
        )

    def clip(numbered: tuple[int, dict[str | None, Any]]) -> Clip:
        number, row = numbered
        try:
            values = _cells(row)
            given = from_dict(Clip, {"id": f"{path.stem}-{number:06d}"} | values)
            known = {f.name: getattr(given, f.name) for f in fields(Clip) if f.name in values or f.name == "id"}
            audio = known.pop("path")
            known["label"] = label_text(given.label)
            return probed(named_in(path, audio), **({"group": group_name("file", Path(audio).as_posix())} | known))
        except (ConfigError, DataError) as error:
            raise DataError(f"{path}, line {table.line_num}: {error}") from error
        except (AudioError, InputError) as error:
            raise AudioError(f"{path}, line {table.line_num}: {error}") from error

    filled = ((number, row) for number, row in enumerate(table, 2) if any(row.values()))  # spreadsheets add empty rows
    return collect(filled, clip, on_error)


def _cells(row: Mapping[str | None, Any]) -> dict[str, Any]:
    """The values of the cells of a row that are not empty, and of those that must not be."""
    values: dict[str, Any] = {}
    for key, text in row.items():
        if key is None:  # where csv.DictReader puts cells beyond the columns
            raise DataError(f"more cells than columns, {text[0]!r} is left over: put texts with a comma into quotes")
        if not text and key not in _REQUIRED:
            continue
        try:
            values[key] = _cell(key, text or "")  # None where the row is too short
        except ValueError as error:
            raise DataError(f"column {key!r} must hold a number, got {text!r}") from error
    return values


def _cell(key: str, text: str) -> Any:
    if key == "captions":
        return [caption.strip() for caption in text.split("|")]
    if key in ("start", "seconds", "gain_db"):
        return float(text)
    return int(text) if key in ("source_rate", "channel") else text
