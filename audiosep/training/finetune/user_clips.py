"""The user's recordings as clips of a corpus, divided into those to train on and those held back."""

from __future__ import annotations

import dataclasses
import logging
import zlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from audiosep.audio import is_recording
from audiosep.data.manifest import Clip, read_manifest
from audiosep.data.readers import read_folders
from audiosep.data.reading import OnError, collect, group_name, probed
from audiosep.data.splits import groups
from audiosep.errors import DataError

logger = logging.getLogger(__name__)

TARGET, NOISE = "target", "noise"  # families of the clips
_Place = Literal["train", "val", "cut"]  # of a group: "cut" is the beginning for training, the end held back
MIN_HELD_BACK_SECONDS = 2.0  # of a recording that is cut into a part to train on and a part to hold back


def gather_clips(
    sounds: Path, noise: Sequence[Path | str], held_back: float, on_error: OnError = "raise"
) -> list[Clip]:
    """Read the user's clips and noise, and divide them into the splits "train" and "val".

    Args:
        sounds: a folder for each label, or a manifest.
        noise: folders of other sounds.
        held_back: share of each label's files that goes to "val".
        on_error: what to do about broken files: leave them out ("skip") or "raise".

    Returns:
        Clips of the families `TARGET` and `NOISE`.

    Raises:
        DataError: a split has fewer than two kinds of sound, or broken files.
    """
    clips = [dataclasses.replace(clip, family=TARGET) for clip in read_user_clips(sounds, on_error)]
    for number, folder in enumerate(noise):
        for clip in _read_noise(Path(folder), on_error):
            clips.append(dataclasses.replace(clip, id=f"noise{number}/{clip.id}", family=NOISE))
    clips = hold_back(clips, held_back)
    for split in ("train", "val"):
        kinds = {clip.label for clip in clips if clip.split == split}
        if len(kinds) < 2:
            use = "train on" if split == "train" else "hold back"
            raise DataError(
                f"{sounds}: mixtures need two kinds of sound, to {use} there is only {', '.join(kinds) or 'none'}: "
                "add another folder of sounds, more files, or --noise"
            )
    return clips


def hold_back(clips: Sequence[Clip], share: float) -> list[Clip]:
    """Give each clip its split, by whole groups (files), also where clips of a group have different labels.

    The groups of a label are ordered by their names' crc32; of each label at least one is held back and one trained on.
    The only file of a label is cut in time instead: its end is held back. Labels with fewer groups come first, so that
    they keep some of either kind.

    Args:
        clips: the clips.
        share: of each label's groups that is held back.

    Returns:
        The clips with the split "train" or "val".
    """
    of = groups(
        [clip if clip.group else dataclasses.replace(clip, group=group_name("path", clip.path)) for clip in clips]
    )
    names: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        names[clip.label].add(of[clip.id])
    places: dict[str, _Place] = {}
    for label in sorted(names, key=lambda label: (len(names[label]), label)):
        order = sorted(names[label], key=lambda name: (zlib.crc32(name.encode()), name))
        if len(order) == 1:
            places.setdefault(order[0], "cut")
            continue
        most = min(len(order) - 1, max(1, round(share * len(order))))
        wanted = most - sum(places.get(name) == "val" for name in order)
        for name in order:
            if name not in places:
                places[name] = "val" if wanted > 0 else "train"
                wanted -= 1
    result: list[Clip] = []
    for clip in sorted(clips, key=lambda clip: clip.label):
        place = places[of[clip.id]]
        result += _cut(clip, share) if place == "cut" else [dataclasses.replace(clip, split=place)]
    for label in sorted(names):
        if all(clip.split == "train" for clip in result if clip.label == label):
            logger.warning("%s: too few or too short recordings to hold one back; all are used for training", label)
    return result


def _cut(clip: Clip, share: float) -> list[Clip]:
    """Cut a recording into a part to train on and, if it is long enough, a part to hold back."""
    end = share * clip.seconds
    if min(end, clip.seconds - end) < MIN_HELD_BACK_SECONDS:
        return [dataclasses.replace(clip, split="train")]
    first = dataclasses.replace(clip, seconds=clip.seconds - end, split="train")
    start = clip.start + clip.seconds - end
    last = dataclasses.replace(clip, id=f"{clip.id}#end", start=start, seconds=end, split="val")
    return [first, last]


def read_user_clips(path: Path, on_error: OnError = "raise") -> list[Clip]:
    """Read a manifest, or a folder with a folder for each label.

    Args:
        path: the manifest or folder.
        on_error: as for `gather_clips`; files of a manifest are not opened here.

    Raises:
        DataError: no clips, or broken files.
    """
    return read_manifest(path) if path.suffix == ".jsonl" else read_folders(path, on_error)


def _read_noise(path: Path, on_error: OnError) -> list[Clip]:
    """Noise may be a manifest, a folder with a folder for each label, or a folder of files without labels."""
    if path.is_dir() and any(is_recording(p) for p in path.iterdir()):
        files = sorted(p for p in path.rglob("*") if is_recording(p))

        def clip(file: Path) -> Clip:
            return probed(
                file,
                id=file.relative_to(path).as_posix(),
                label="background noise",
                group=group_name("file", str(file)),
            )

        return collect(files, clip, on_error)
    return read_user_clips(path, on_error)
