"""The reader of tar shards with indices beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audiosep.data.clip_audio import ShardReader
from audiosep.data.manifest import Clip, label_text
from audiosep.data.reading import OnError, collect, json_rows
from audiosep.errors import AudioError, DataError


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
        try:
            return _shard_clip(values, shard, member)
        except DataError as error:
            raise DataError(f"{index}, line {number}: {error}") from error

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
        label=label_text(row["label"]),
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
            words = [re.findall(r"[^\W_]+", name.lower()) for name in names]
            return "+".join(f"{key}:{'-'.join(parts)}" for parts in words)
    return ""
