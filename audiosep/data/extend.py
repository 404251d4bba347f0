"""More to train on without moving what is held back: the splits of a manifest stay, new clips are for training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from audiosep.data.check import sample_hash
from audiosep.data.decode import decode_many
from audiosep.data.fingerprint import RATE, Fingerprints
from audiosep.data.manifest import Clip
from audiosep.data.readers import OnError
from audiosep.data.splits import groups, zero_clips
from audiosep.errors import AudioError, DataError


@dataclass
class Extension:
    """What came of it.

    Attributes:
        clips: those of the manifest, unchanged, then the new ones.
        left_out: id of a new clip -> why it may not, or cannot, be trained on.
    """

    clips: list[Clip]
    left_out: dict[str, str] = field(default_factory=dict)


def extend(
    clips: Sequence[Clip],
    more: Sequence[Clip],
    *,
    sound: bool = True,
    on_error: OnError = "raise",
    progress: Callable[[float], object] | None = None,
) -> Extension:
    """Add clips for training.

    Left out is what would teach what is held back: clips that their source puts aside (the test half of a collection),
    clips related to a label that is in the split "zero" and not trained on (as `zero_clips`), clips of a group that is
    held back, and, by `sound`, those that share two seconds with a held-back recording or are a copy of one. So are
    files that the manifest has already.

    Args:
        clips: of a manifest with splits.
        more: new ones, of which those of the split "train" are added.
        sound: decode and compare the audio too, of the new clips and of the held-back ones.
        on_error: leave new clips out whose audio is broken, or raise.
        progress: is called with the fraction that is done.

    Returns:
        All clips, and what was left out.

    Raises:
        DataError: the manifest holds nothing back, or two clips have one id.
        AudioError: broken audio; the message names the files.
    """
    held = [clip for clip in clips if clip.split != "train"]
    if not held:
        raise DataError("the manifest holds nothing back; make one with `audiosep data build` (with --split)")
    taken: set[str] = set()
    for clip in [*clips, *more]:
        if clip.id in taken:
            raise DataError(f"two clips have the id {clip.id!r}; give one of them another id")
        taken.add(clip.id)
    left_out = _by_name(clips, more, held)
    if sound:
        left_out |= _by_ear([clip for clip in more if clip.id not in left_out], held, on_error, progress)
    return Extension([*clips, *(clip for clip in more if clip.id not in left_out)], left_out)


def _by_name(clips: Sequence[Clip], more: Sequence[Clip], held: Sequence[Clip]) -> dict[str, str]:
    everything = [*clips, *more]
    of = groups(everything)
    # The split "zero" also holds what had to go along with its labels, such as a rain in which it thunders.
    labels = {clip.label for clip in held if clip.split == "zero"} - {c.label for c in clips if c.split == "train"}
    never = zero_clips(everything, sorted(labels), of=of)
    back = {of[clip.id]: clip.id for clip in [*(c for c in more if c.split != "train"), *held]}
    known = {_place(clip): clip.id for clip in clips}
    left_out = {}
    for clip in more:
        if clip.split != "train":
            left_out[clip.id] = f"put aside by its source, for {clip.split}"
        elif _place(clip) in known:
            left_out[clip.id] = f"in the manifest already, as {known[_place(clip)]}"
        elif of[clip.id] in back:
            left_out[clip.id] = f"of the same group as {back[of[clip.id]]}, which is held back"
        elif clip.id in never:
            left_out[clip.id] = "answers to a label that is never trained on"
    return left_out


def _place(clip: Clip) -> tuple[Path, str | None, float]:
    return Path(clip.path).resolve(), clip.member, clip.start


def _by_ear(
    new: Sequence[Clip], held: Sequence[Clip], on_error: OnError, progress: Callable[[float], object] | None
) -> dict[str, str]:
    """New clips in which a held-back recording is heard, and those that cannot be heard."""
    if not new:
        return {}
    known, copies = Fingerprints(), dict[str, str]()
    found: dict[str, str] = {}
    broken: list[str] = []
    for number, x in enumerate(decode_many([*held, *new], RATE)):
        clip = new[number - len(held)] if number >= len(held) else held[number]
        if isinstance(x, AudioError):
            broken.append(str(x))
            if number >= len(held) and on_error == "skip":
                found[clip.id] = str(broken.pop())
        elif number < len(held):
            known.add(x)
            copies[sample_hash(x, RATE)] = clip.id
        elif (copy := copies.get(sample_hash(x, RATE))) is not None:
            found[clip.id] = f"a copy of {copy}, which is held back"
        elif (match := known.match(x)) is not None:
            found[clip.id] = f"sounds like {held[match[0]].id}, which is held back (correlation {match[1]:.2f})"
        if progress is not None:
            progress((number + 1) / (len(held) + len(new)))
    if broken:
        raise AudioError(
            f"{'; '.join(broken[:5])}{f'; and {len(broken) - 5} more' if len(broken) > 5 else ''}: repair the audio, "
            "leave broken new files out with --skip-broken, or do not compare it, with --no-sound"
        )
    return found
