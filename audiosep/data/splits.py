"""Splits by a fixed rule, the order of the crc32 of names: held-back groups, and labels held out of training."""

from __future__ import annotations

import dataclasses
import logging
import zlib
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence

from audiosep.data.labels import LabelTable, everyday_labels, label_table, mentions
from audiosep.data.manifest import SPLITS, Clip, Split
from audiosep.errors import counted

log = logging.getLogger(__name__)

HELD_BACK = 0.10  # share of the seconds of a family
MOST_HELD_BACK = 0.20
_UNKNOWN_SECONDS = 5.0  # of a clip of tar shards whose index does not say how long it is
ZERO_LABELS = 20
ZERO_CLIPS = 8  # least number of clips of a zero-shot label
# Zero-shot labels that would hold out clips of other families (speech, instruments, songs) are not chosen.
ZERO_FAMILIES = frozenset({"event", "ambience", "vocal-effect"})


def assign_splits(
    clips: Sequence[Clip], zero: Collection[str] | None = None, whole: Collection[str] = ()
) -> list[Clip]:
    """Give every clip its split.

    Args:
        clips: clips with label, family, group and seconds.
        zero: zero-shot labels; None: those of `zero_labels`.
        whole: ids of clips that are not held back for validation, nor is what is in a group with one of them.

    Returns:
        The clips in the same order: those of `zero_clips` in the split "zero", about 10% of the seconds of each family
        (whole groups, see `held_back_groups`) in "val", the others in "train".
    """
    chosen = zero_labels(clips) if zero is None else tuple(zero)
    out = zero_clips(clips, chosen)
    rest = [clip for clip in clips if clip.id not in out]
    of = groups(rest)
    stay = {of[clip.id] for clip in rest if clip.id in whole}
    held = held_back_groups([clip for clip in rest if of[clip.id] not in stay])

    def split(clip: Clip) -> Split:
        if clip.id in out:
            return "zero"
        return "val" if of[clip.id] in held else "train"

    return [dataclasses.replace(clip, split=split(clip)) for clip in clips]


def split_sources(sources: Sequence[Sequence[Clip]], zero: int) -> tuple[list[Clip], tuple[str, ...]]:
    """Give the clips of several sources their splits.

    Clips that their source assigns to validation or a test keep that, and the clips of their groups go there with them,
    of whatever source they are. A source with clips for validation has been divided already: nothing more of it is held
    back for that.

    Args:
        sources: the clips of each.
        zero: number of labels to hold out of training.

    Returns:
        All clips in their order, and the labels that are held out of training.
    """
    clips = [clip for source in sources for clip in source]
    bound = _bound_clips(clips)
    free = [clip for clip in clips if clip.split == "train" and clip.id not in bound]
    divided = {clip.id for source in sources if any(clip.split == "val" for clip in source) for clip in source}
    held_out = zero_labels(free, zero) if zero else ()
    assigned = bound | {clip.id: clip for clip in assign_splits(free, held_out, divided)}
    return [assigned.get(clip.id, clip) for clip in clips], held_out


def _bound_clips(clips: Sequence[Clip]) -> dict[str, Clip]:
    """By id, the clips for training in a group with clips of another split, in that split."""
    of = groups(clips)
    reserved: dict[str, Split] = {}
    for clip in sorted(clips, key=lambda clip: SPLITS.index(clip.split)):  # of several, the last is the strictest
        if clip.split != "train":
            reserved[of[clip.id]] = clip.split
    bound = {
        clip.id: dataclasses.replace(clip, split=reserved[of[clip.id]])
        for clip in clips
        if clip.split == "train" and of[clip.id] in reserved
    }
    if bound:
        log.warning(
            "not trained on: %s in one group with clips that their source keeps for validation or a test: %s",
            counted(len(bound), "clip"),
            ", ".join(list(bound)[:10]),
        )
    return bound


def groups(clips: Sequence[Clip]) -> dict[str, str]:
    """Group of each clip; clips of one group must be in one split.

    `Clip.group` may join several names with "+" (a clip of several speakers): clips with a common name are in one
    group, directly or over other clips. A clip without a group is a group of its own.

    Args:
        clips: the clips.

    Returns:
        id -> name of the group.
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


def held_back_groups(clips: Sequence[Clip]) -> frozenset[str]:
    """Choose groups to hold back.

    In each family, groups are taken in the order of crc32(group) until `HELD_BACK` of the family's seconds is reached.
    A group is skipped if it would bring one of its families above `MOST_HELD_BACK`, or if it is the last of a label.

    Args:
        clips: the clips to choose from.
    """
    of = groups(clips)
    seconds: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))  # group -> family -> seconds
    labels: dict[str, set[str]] = defaultdict(set)
    left: Counter[str] = Counter()  # label -> groups not held back
    total: dict[str, float] = defaultdict(float)
    for clip in clips:
        name = of[clip.id]
        length = clip.seconds or _UNKNOWN_SECONDS
        seconds[name][clip.family] += length
        total[clip.family] += length
        left[clip.label] += clip.label not in labels[name]
        labels[name].add(clip.label)
    order = sorted(seconds, key=lambda name: (zlib.crc32(name.encode()), name))
    taken: dict[str, float] = defaultdict(float)
    held: set[str] = set()
    for family in sorted(total):
        for name in order:
            if taken[family] >= HELD_BACK * total[family]:
                break
            if name in held or family not in seconds[name]:
                continue
            fits = all(taken[f] + s <= MOST_HELD_BACK * total[f] for f, s in seconds[name].items())
            if fits and all(left[label] > 1 for label in labels[name]):
                held.add(name)
                for f, s in seconds[name].items():
                    taken[f] += s
                left.subtract(labels[name])
    return frozenset(held)


def zero_labels(clips: Sequence[Clip], count: int = ZERO_LABELS, least: int = ZERO_CLIPS) -> tuple[str, ...]:
    """Choose event labels to hold out of training, in the order of crc32("zero-shot:" + label).

    A label needs `least` clips of the family event. It is skipped if the other clips that have to be held out with it
    (see `zero_clips`) are of an ESC-10 class, of a family not in `ZERO_FAMILIES` or more than its own clips, or if it
    implies a name that a chosen label implies (one kind of flowing water is enough).

    Args:
        clips: the clips to choose from.
        count: most labels.
        least: clips of a label.
    """
    table = label_table()
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
    """Ids of the clips that must not be trained on when labels are zero-shot.

    These are the clips of the labels and of all labels that imply one or are implied by one, clips whose captions
    mention one, and all clips of a group with such a clip (the rest of its recording, a whole song).

    Args:
        clips: the clips.
        labels: the zero-shot labels.
        table: label implications; None: those of the package.
        of: groups of the clips; None: those of `groups`.
    """
    table = table or label_table()
    present = {clip.label for clip in clips}
    related = frozenset().union(*(table.related(label, present) for label in labels))

    def matches(clip: Clip) -> bool:
        return clip.label in related or any(mentions(text, label) for text in clip.texts for label in labels)

    of = of or groups(clips)
    out = {of[clip.id] for clip in clips if matches(clip)}
    return frozenset(clip.id for clip in clips if of[clip.id] in out)
