"""The frozen splits: what is held back, and which labels are never trained on; crc32 of names decides."""

from __future__ import annotations

import dataclasses
import zlib
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence

from audiosep.data.labels import LabelTable, everyday_labels, label_table, mentions
from audiosep.data.manifest import Clip, Split

HELD_BACK = 0.10
MOST_HELD_BACK = 0.20
ZERO_LABELS = 20
ZERO_CLIPS = 8
# A zero-shot label may take only sounds of these families with it: never speech, instruments or songs.
ZERO_FAMILIES = frozenset({"event", "ambience", "vocal-effect"})


def assign_splits(clips: Sequence[Clip], zero: Collection[str] | None = None) -> list[Clip]:
    """Give every clip its split.

    Args:
        clips: clips with label, family, group and seconds.
        zero: zero-shot labels; chosen by `zero_labels` when None, none held out when empty.

    Returns:
        The clips in order, split "zero" (see `zero_clips`), "val" (about 10% of the seconds of each family, whole
        groups, see `held_back_groups`), else "train".
    """
    chosen = zero_labels(clips) if zero is None else tuple(zero)
    out = zero_clips(clips, chosen)
    rest = [clip for clip in clips if clip.id not in out]
    of, held = groups(rest), held_back_groups(rest)

    def split(clip: Clip) -> Split:
        if clip.id in out:
            return "zero"
        return "val" if of[clip.id] in held else "train"

    return [dataclasses.replace(clip, split=split(clip)) for clip in clips]


def groups(clips: Sequence[Clip]) -> dict[str, str]:
    """Clip id -> what it must share a side with.

    `Clip.group` may join several names with "+" (a clip of five speakers): clips that share a name share a group, and
    so on along the chain. A clip without a group is its own.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    first = {clip.id: (clip.group or f"clip:{clip.id}").split("+") for clip in clips}
    for members in first.values():
        for name in members[1:]:
            a, b = sorted((root(members[0]), root(name)))
            parent[b] = a
    return {identity: root(members[0]) for identity, members in first.items()}


def held_back_groups(clips: Sequence[Clip], share: float = HELD_BACK, most: float = MOST_HELD_BACK) -> frozenset[str]:
    """Whole groups to hold back.

    In each family the groups come in the order of crc32(group) and are taken until `share` of the family's seconds is
    reached. A group is skipped if it would take any of its families above `most`, or a label's last training group.
    """
    of = groups(clips)
    seconds: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))  # group -> family -> seconds
    labels: dict[str, set[str]] = defaultdict(set)
    left: Counter[str] = Counter()  # label -> groups not held back
    total: dict[str, float] = defaultdict(float)
    for clip in clips:
        name = of[clip.id]
        seconds[name][clip.family] += clip.seconds
        total[clip.family] += clip.seconds
        left[clip.label] += clip.label not in labels[name]
        labels[name].add(clip.label)
    order = sorted(seconds, key=lambda name: (zlib.crc32(name.encode()), name))
    taken: dict[str, float] = defaultdict(float)
    held: set[str] = set()
    for family in sorted(total):
        for name in order:
            if taken[family] >= share * total[family]:
                break
            if name in held or family not in seconds[name]:
                continue
            fits = all(taken[f] + s <= most * total[f] for f, s in seconds[name].items())
            if fits and all(left[label] > 1 for label in labels[name]):
                held.add(name)
                for f, s in seconds[name].items():
                    taken[f] += s
                left.subtract(labels[name])
    return frozenset(held)


def zero_labels(
    clips: Sequence[Clip], count: int = ZERO_LABELS, least: int = ZERO_CLIPS, table: LabelTable | None = None
) -> tuple[str, ...]:
    """Event labels held out of all training, in the order of crc32("zero-shot:" + label).

    A label qualifies with `least` clips of the family event. It is skipped if the clips that it would take along (see
    `zero_clips`) are of an ESC-10 class, of another family than `ZERO_FAMILIES` or more than its own clips, or if it
    implies a name that a label already chosen implies (one kind of flowing water is enough).
    """
    table = table or label_table()
    of = groups(clips)
    counts = Counter(clip.label for clip in clips if clip.family == "event")
    chosen: list[str] = []
    covered: set[str] = set()
    for label in sorted(counts, key=lambda name: (zlib.crc32(f"zero-shot:{name}".encode()), name)):
        if counts[label] < least or len(chosen) == count or table.implied(label) & covered:
            continue
        out = zero_clips(clips, (label,), table, of)
        taken = [clip for clip in clips if clip.id in out]
        allowed = all(clip.family in ZERO_FAMILIES and clip.label not in everyday_labels() for clip in taken)
        if allowed and len(taken) <= 2 * counts[label]:
            chosen.append(label)
            covered |= table.implied(label)
    return tuple(chosen)


def zero_clips(
    clips: Sequence[Clip],
    labels: Collection[str],
    table: LabelTable | None = None,
    of: Mapping[str, str] | None = None,
) -> frozenset[str]:
    """Ids of the clips that zero-shot labels keep out of training.

    All clips of the labels and of every label that implies one or is implied by one; clips of other labels whose
    captions name one; and whatever shares a group with such a clip (the rest of its recording, a whole song).

    Args:
        of: groups of the clips, when known already.
    """
    table = table or label_table()
    present = {clip.label for clip in clips}
    related = frozenset().union(*(table.related(label, present) for label in labels))

    def tells(clip: Clip) -> bool:
        return clip.label in related or any(mentions(text, label) for text in clip.texts for label in labels)

    of = of or groups(clips)
    out = {of[clip.id] for clip in clips if tells(clip)}
    return frozenset(clip.id for clip in clips if of[clip.id] in out)
