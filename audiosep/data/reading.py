"""What all readers of corpora share: clips of files, and one error that names every broken file."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from audiosep.audio import AudioInfo, is_recording, probe
from audiosep.audio.limits import check_channels, check_rate
from audiosep.data.manifest import Clip, Split, label_text
from audiosep.data.text_files import read_text
from audiosep.errors import AudioError, AudioSepError, DataError, InputError, counted, missing_file

log = logging.getLogger(__name__)

OnError = Literal["raise", "skip"]
ROUNDING = 0.1  # seconds that a clip may end behind its recording, as tables round
_LOCAL = frozenset({"file", "mixture", "row", "song"})  # kinds of groups whose names are those of one source
SPLIT_NAMES: dict[str, Split] = {"train": "train", "valid": "val", "validation": "val", "test": "test"}


class LayoutError(DataError):
    """A folder without the files of a published layout."""


class BrokenFilesError(DataError):
    """Files of a dataset that cannot be read.

    Args:
        problems: one for each file, with its name.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        listing = "\n".join(f"  {problem}" for problem in self.problems[:20])
        super().__init__(f"{len(problems)} broken files; repair them, or leave them out with --skip-broken:\n{listing}")


def label_of(name: str) -> str:
    """The label of a folder or file name.

    Args:
        name: without suffix.
    """
    return " ".join(label_text(name).replace("_", " ").replace("-", " ").split())


def audio_files(folder: Path) -> list[Path]:
    """All recordings below a folder, in the order of their paths.

    Args:
        folder: the outer folder.

    Raises:
        DataError: no such folder.
    """
    if not folder.is_dir():
        raise DataError(missing_file(folder, "folder"))
    return sorted(p for p in folder.rglob("*") if is_recording(p))


def group_name(kind: str, name: str) -> str:
    """A group that is named by a file, a folder or a song; a "+" in it does not join groups (`splits.groups`).

    Args:
        kind: what the name is of, such as "file".
        name: of any characters.
    """
    return f"{kind}:{name.replace('+', '%2B')}"


def prefixed(clip: Clip, prefix: str, names: str) -> Clip:
    """A clip whose id is unique among those of several sources, and so are its group and song.

    Args:
        clip: as its source has it.
        prefix: of the id.
        names: prefix of the song and of the groups that are named by files of the source; a speaker or an artist is the
            same one in every source.
    """
    parts = (part.partition(":") for part in clip.group.split("+"))
    group = "+".join(
        group_name(kind, names + name) if colon and kind in _LOCAL else f"{kind}{colon}{name}"
        for kind, colon, name in parts
    )
    song = clip.song and names + clip.song
    return dataclasses.replace(clip, id=prefix + clip.id, group=group, song=song)


def probed(path: Path, **values: Any) -> Clip:
    """A clip of a file, with the length and sample rate of the file unless they are given.

    Args:
        path: the file.
        values: further fields of the clip.

    Raises:
        AudioError: the file cannot be read, or its header tells that the clip cannot be decoded.
        DataError: the clip has an impossible value.
    """
    info = probe(path)
    values.setdefault("seconds", max(0.0, (info.seconds or 0.0) - values.get("start", 0.0)))
    values.setdefault("source_rate", info.sample_rate)
    values["captions"] = tuple(values.get("captions", ()))
    try:
        clip = Clip(path=str(path), **values)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    _check_header(clip, info)
    return clip


def _check_header(clip: Clip, info: AudioInfo) -> None:
    """Refuse what training could not decode, as far as the header of the file tells."""
    try:
        check_channels(info.channels)
        check_rate(info.sample_rate)
    except InputError as error:
        raise AudioError(f"{clip.path}: {error}") from error
    if info.samples == 0:
        raise AudioError(f"{clip.path} holds no samples: export it again")
    if clip.channel is not None and clip.channel >= info.channels:
        raise AudioError(
            f"{clip.path} has {counted(info.channels, 'channel')}, counted from 0: there is no channel {clip.channel}"
        )
    if info.samples is not None:
        length = info.samples / info.sample_rate
        if clip.start >= length or clip.start + clip.seconds > length + ROUNDING:
            end = f"{clip.start + clip.seconds:g} s" if clip.seconds else "its end"
            raise AudioError(f"{clip.path} lasts {length:.2f} s: there is no clip from {clip.start:g} s to {end}")


def collect(rows: Iterable[Any], clip: Callable[[Any], Clip], on_error: OnError) -> list[Clip]:
    """The clips of all rows.

    Args:
        rows: of any kind.
        clip: makes the clip of a row.
        on_error: what to do about broken files: leave them out ("skip") and log, or "raise" one error that names all.

    Raises:
        BrokenFilesError: there are some, and `on_error` is "raise".
        DataError: a row that `clip` refuses.
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
        raise BrokenFilesError(errors)
    for message in errors:
        log.warning("left out: %s", message)
    return clips


def expect_files(files: Sequence[Path], folder: Path, layout: str) -> None:
    """Refuse a folder without the files of a published layout.

    Args:
        files: that were found.
        folder: that was searched.
        layout: one of the files of the layout, relative to the folder.

    Raises:
        LayoutError: there are none.
    """
    if not files:
        raise LayoutError(f"{folder}: not the published layout; expected {folder.name}/{layout}")


def json_rows(index: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and content of each line of a JSONL file.

    Args:
        index: the file.

    Raises:
        DataError: a file that is not in UTF-8, or a line that is no JSON.
    """
    for number, line in enumerate(read_text(index).split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{index}, line {number}: {error}") from error
