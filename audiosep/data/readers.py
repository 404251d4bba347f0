"""Readers of corpora: from each known layout of files to a list of clips."""

from __future__ import annotations

import csv
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from audiosep.audio import is_recording, probe
from audiosep.data.clip_audio import ShardReader
from audiosep.data.manifest import STEMS, Clip, Split
from audiosep.data.queries import STEM_CAPTIONS
from audiosep.errors import AudioError, AudioSepError, ConfigError, DataError
from audiosep.weights.configs import from_dict

log = logging.getLogger(__name__)

OnError = Literal["raise", "skip"]
SONG_SPLITS: dict[str, Split] = {"train": "train", "valid": "val", "validation": "val", "test": "test"}


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
    files = [p for p in _audio_files(folder) if len(p.relative_to(folder).parts) > 1]
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
    songs = sorted({p.parent for p in _audio_files(folder) if p.stem.lower() in STEMS})
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
            split=SONG_SPLITS.get(path.parent.relative_to(folder).parts[0].lower(), "train"),
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
    return int(value) if key == "source_rate" else value


def read_shards(folder: str | Path, on_error: OnError = "raise") -> list[Clip]:
    """Read tar shards with JSONL indices beside them (similar to WebDataset).

    ```
    corpus/
      events-0.tar      ev0001.opus, ev0002.opus, ...        (or <song>/<stem>.opus)
      music-0.tar
      real.jsonl        {"id": "ev0001", "shard": "events-0.tar", "label": "dog barking", "family": "event", ...}
      music.jsonl       {"id": "song000/vocals", "shard": "music-0.tar", "member": "song000/vocals.opus", "song": ...}
    ```
    `id`, `shard` and `label` are required; without `member` it is the member named `id` with any suffix. Rows of a song
    (`song`, `stem`, `gain_db`) are of the family music. The group is the song, else the `speaker` (or several with
    commas), else the `origin` (the original recording), else the `source`.

    Args:
        folder: of the shards and indices.
        on_error: what to do about missing members: leave them out ("skip") or "raise".

    Raises:
        DataError: no index, a row without a required key, or members that are missing unless `on_error` is "skip".
    """
    folder = Path(folder)
    indices = sorted(folder.glob("*.jsonl"))
    if not indices:
        raise DataError(f"{folder}: no *.jsonl index beside the shards")
    shards = ShardReader()
    members: dict[str, dict[str, str]] = {}

    def clip(row: tuple[Path, int, dict[str, Any]]) -> Clip:
        index, number, values = row
        lacking = [key for key in ("id", "shard", "label") if not values.get(key)]
        if lacking:
            raise DataError(f"{index}, line {number}: no {lacking[0]!r}")
        shard = str(folder / values["shard"])
        if shard not in members:
            names = shards.names(shard)
            members[shard] = {name: name for name in names} | {name.rpartition(".")[0]: name for name in names}
        member = members[shard].get(values.get("member") or values["id"])
        if member is None:
            raise AudioError(f"{index}, line {number}: {shard} has no member for {values['id']!r}")
        return _shard_clip(values, shard, member)

    rows = [(index, number, row) for index in indices for number, row in json_rows(index)]
    try:
        return collect(rows, clip, on_error)
    finally:
        shards.close()


def _shard_clip(row: Mapping[str, Any], shard: str, member: str) -> Clip:
    song = row.get("song")
    return Clip(
        id=row["id"],
        path=shard,
        member=member,
        seconds=float(row.get("seconds") or 0),
        label=row["label"].strip().lower(),
        captions=tuple(row.get("captions") or ()),
        family=row.get("family") or ("music" if song else "event"),
        stem=row.get("stem"),
        song=song,
        group=group_of(row),
        gain_db=float(row.get("gain_db") or 0),
        source_rate=int(row.get("source_rate") or 0),
        licence=row.get("licence") or "",
        credit=row.get("credit") or "",
    )


def group_of(row: Mapping[str, Any]) -> str:
    """The group of a row: of its song, else its speakers, else its original recording, else its source.

    Args:
        row: of an index of shards.
    """
    for key in ("song", "speaker", "origin", "source"):
        if row.get(key):
            names = str(row[key]).split(",") if key == "speaker" else [str(row[key])]
            return "+".join(f"{key}:{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}" for name in names)
    return ""


# ---- shared by all readers -----------------------------------------------------------------------------------------


def label_of(name: str) -> str:
    """The label of a folder or file name.

    Args:
        name: without suffix.
    """
    return " ".join(name.replace("_", " ").replace("-", " ").lower().split())


def _audio_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    return sorted(p for p in folder.rglob("*") if is_recording(p))


def probed(path: Path, **values: Any) -> Clip:
    """A clip of a file, with the length and sample rate of the file unless they are given.

    Args:
        path: the file.
        values: further fields of the clip.

    Raises:
        AudioError: the file cannot be read.
    """
    info = probe(path)
    values.setdefault("seconds", max(0.0, (info.seconds or 0.0) - values.get("start", 0.0)))
    values.setdefault("source_rate", info.sample_rate)
    values["captions"] = tuple(values.get("captions", ()))
    return Clip(path=str(path), **values)


def collect(rows: Iterable[Any], clip: Callable[[Any], Clip], on_error: OnError) -> list[Clip]:
    """The clips of all rows.

    Args:
        rows: of any kind.
        clip: makes the clip of a row.
        on_error: what to do about broken files: leave them out ("skip") and log, or "raise" one error that names all.

    Raises:
        DataError: broken files, or a row that `clip` refuses.
    """
    clips: list[Clip] = []
    errors: list[str] = []
    for row in rows:
        try:
            clips.append(clip(row))
        except DataError:
            raise
        except (AudioSepError, OSError) as error:
            errors.append(str(error))
    if errors and on_error == "raise":
        listing = "\n".join(f"  {error}" for error in errors[:20])
        raise DataError(f"{len(errors)} broken files; repair them, or leave them out with --skip-broken:\n{listing}")
    for message in errors:
        log.warning("left out: %s", message)
    return clips


def json_rows(index: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and content of each line of a JSONL file.

    Args:
        index: the file.

    Raises:
        DataError: a line that is no JSON.
    """
    with index.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except json.JSONDecodeError as error:
                    raise DataError(f"{index}, line {number}: {error}") from error
