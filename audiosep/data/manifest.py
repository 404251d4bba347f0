"""The manifest of a corpus: one line of JSON for each clip."""

from __future__ import annotations

import dataclasses
import json
import math
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from audiosep.atomic import write_text
from audiosep.data.text_files import named_in, read_text
from audiosep.errors import ConfigError, DataError
from audiosep.weights.configs import from_dict, to_dict

Split = Literal["train", "val", "zero", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "zero", "test")
STEMS = ("vocals", "drums", "bass", "other")


@dataclass(frozen=True)
class Clip:
    """One labelled part of a recording.

    Args:
        id: unique within a manifest.
        path: audio file or tar shard; in a manifest file relative to the manifest's folder.
        label: the name of the sound, lower case; equal labels are the same sound.
        member: name in the tar shard; None for a plain file.
        channel: the channel of the file that is the clip, from 0; None for all.
        start: where the clip starts in the file, seconds.
        seconds: length, seconds; 0 = to the end of the file.
        captions: texts that users could type for this sound, besides the label.
        family: speech, singing, event, ambience, vocal-effect, instrument, music or another name; the sampler balances
            families.
        stem: vocals, drums, bass or other when the clip is a stem of `song`.
        song: name of the song whose stems are sample-aligned.
        group: clips of one group stay in one split: name of a song, speaker, original recording or source.
        gain_db: gain of a stem in the mix of its song, dB.
        source_rate: sample rate of the original recording, Hz (no content above half of it); 0 = unknown.
        split: train, val (validation), zero (labels held out of training) or test.
        licence: licence of the audio.
        credit: author to name.

    Raises:
        DataError: an empty text where one is needed, an impossible number, or an unknown stem.
    """

    id: str
    path: str
    label: str
    member: str | None = None
    start: float = 0.0
    seconds: float = 0.0
    captions: tuple[str, ...] = ()
    family: str = "event"
    stem: str | None = None
    song: str | None = None
    group: str = ""
    gain_db: float = 0.0
    source_rate: int = 0
    split: Split = "train"
    licence: str = ""
    credit: str = ""
    channel: int | None = None

    def __post_init__(self) -> None:
        for name in ("id", "path", "label", "family"):
            if not getattr(self, name).strip():
                remedy = "name the recording, or take the row out" if name == "path" else "give it a name"
                raise DataError(f"{name} is empty: {remedy}")
        for name in ("start", "seconds", "source_rate", "channel"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise DataError(f"{name} must be a number of 0 or more, got {value}")
        if not math.isfinite(self.gain_db):
            raise DataError(f"gain_db must be a finite number, got {self.gain_db}")
        if self.stem is not None and self.stem not in STEMS:
            raise DataError(f"stem {self.stem!r} is not one of {', '.join(STEMS)}")

    @property
    def texts(self) -> tuple[str, ...]:
        """The label and the captions, as `label_text` has them, each once."""
        return tuple(dict.fromkeys(label_text(text) for text in (self.label, *self.captions) if text.strip()))

    @property
    def place(self) -> str:
        """Path of the audio for messages: `file` or `shard.tar:member`."""
        return f"{self.path}:{self.member}" if self.member else self.path


def label_text(text: str) -> str:
    """A label or a caption as queries have it: lower case, without spaces around it, letters with their accents in one.

    Args:
        text: as its author wrote it.
    """
    return unicodedata.normalize("NFC", text).strip().lower()


def read_manifest(path: str | Path) -> list[Clip]:
    """Read a manifest; relative audio paths start at the manifest's folder, and "~" is the home folder.

    Args:
        path: the manifest file.

    Raises:
        DataError: a file that is not in UTF-8, a line that is no clip, an unknown key or an id used twice; the message
            names the line.
    """
    path = Path(path)
    clips: list[Clip] = []
    seen: dict[str, int] = {}
    if path.is_dir() or not path.exists():
        raise DataError(f"there is no manifest {path}: make one with `audiosep data build`")
    # At line breaks only: str.splitlines also breaks at characters that JSON leaves in captions.
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            clip = from_dict(Clip, json.loads(line))
        except (json.JSONDecodeError, ConfigError, DataError) as error:
            raise DataError(f"{path}, line {number}: {error}") from error
        if clip.id in seen:
            raise DataError(f"{path}, line {number}: id {clip.id!r} is already used in line {seen[clip.id]}")
        seen[clip.id] = number
        clips.append(dataclasses.replace(clip, path=str(named_in(path, clip.path))))
    return clips


def write_manifest(path: str | Path, clips: Iterable[Clip]) -> None:
    """Write a manifest; paths of audio below the manifest's folder become relative to it.

    Args:
        path: the manifest file.
        clips: the clips.

    Raises:
        DataError: two clips with one id.
        AudioSepError: the file cannot be written.
    """
    write_text(path, manifest_text(Path(path), clips))


def manifest_text(path: Path, clips: Iterable[Clip]) -> str:
    """What `write_manifest` writes.

    Args:
        path: the manifest file.
        clips: the clips.

    Raises:
        DataError: two clips with one id.
    """
    folder = path.parent.resolve()
    lines: dict[str, str] = {}
    for clip in clips:
        if clip.id in lines:
            raise DataError(f"two clips have the id {clip.id!r}; ids must be unique within {path.name}")
        audio = Path(clip.path).resolve()
        relative = audio.relative_to(folder) if audio.is_relative_to(folder) else audio
        row = to_dict(dataclasses.replace(clip, path=relative.as_posix()))
        lines[clip.id] = json.dumps(row, ensure_ascii=False) + "\n"
    return "".join(lines.values())
