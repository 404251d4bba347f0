"""What clips the recordings of the table become: which are cut, which are sequenced, which become phrases.

Half of the events last less than 1.5 s, and three seconds of a training mixture should not hold one tick: takes of one
origin are sequenced. Single notes of one instrument become phrases. Long recordings are cut into pieces.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from research.corpus.sources import Source

SHORT = 1.5  # seconds; shorter recordings are sequenced
TAKES = 6  # of one clip, at most
PIECE = 12.0  # seconds of a piece of a long recording; recordings up to 1.5 of it stay whole
MOST = 120.0  # seconds that are used of one recording of events, ambience and instruments
PHRASE_NOTES = 6  # notes of a phrase, at least
PHRASES = 40  # of one instrument, at most
SHARD_SECONDS = 1800.0

How = Literal["piece", "takes", "phrase", "stem"]


@dataclass(frozen=True)
class ClipPlan:
    """One clip of the corpus.

    Args:
        id: unique: label, and digits of a hash of what it is made of.
        how: "piece" is a part of one recording, "takes" a sequence of short ones, "phrase" is made of single notes,
            "stem" is a whole stem of a song.
        sources: the recordings.
        start: where a piece starts in its recording, seconds.
        seconds: length of a piece; an estimate for the others.
    """

    id: str
    how: How
    sources: tuple[Source, ...]
    start: float
    seconds: float


@dataclass(frozen=True)
class ShardPlan:
    """The clips of one shard.

    Args:
        name: of the tar file.
        clips: in their order.
        digest: of everything that decides about its bytes.
    """

    name: str
    clips: tuple[ClipPlan, ...]
    digest: str


def plan_clips(sources: Iterable[Source]) -> list[ClipPlan]:
    """Plan the clips.

    Args:
        sources: the table.

    Returns:
        In an order that does not depend on that of the sources, families together.
    """
    short: dict[tuple[str, str, str], list[Source]] = defaultdict(list)
    notes: dict[tuple[str, str, str], list[Source]] = defaultdict(list)
    found: list[ClipPlan] = []
    for source in sorted(sources, key=lambda s: (s.repo, s.path, s.start, s.end)):
        of = source.family, source.label, source.speaker or source.known_as
        if source.song:
            found.append(_clip("stem", (source,), source.start, source.seconds))
        elif source.note >= 0 and source.family == "instrument":
            notes[of].append(source)
        elif source.seconds < SHORT:
            short[of].append(source)
        else:
            found += _pieces(source)
    for takes in short.values():
        count = math.ceil(len(takes) / TAKES)
        found += [_clip("takes", takes[k::count], 0.0, 6.0) for k in range(count)]
    for scale in notes.values():
        scale.sort(key=lambda s: (s.note, s.path, s.start))
        count = min(PHRASES, math.ceil(len(scale) / PHRASE_NOTES))
        found += [_clip("phrase", scale[k::count], 0.0, 9.0) for k in range(count)]
    return sorted(found, key=lambda clip: (*_place(clip), clip.sources[0].song, clip.id))


def plan_shards(clips: Sequence[ClipPlan], recipe: int) -> list[ShardPlan]:
    """Fill shards of at most about half an hour, each of one family and repository; a song stays whole.

    A repository that is added to the table later adds shards, and the others stay as they are.

    Args:
        clips: from `plan_clips`.
        recipe: version of the code that makes clips, part of the digests.
    """
    filled: list[list[ClipPlan]] = []
    seconds = 0.0
    for clip in clips:
        last = filled[-1][-1] if filled else None
        same = last is not None and _place(last) == _place(clip)
        together = same and last is not None and clip.sources[0].song and clip.sources[0].song == last.sources[0].song
        if not same or (seconds + clip.seconds > SHARD_SECONDS and not together):
            filled.append([])
            seconds = 0.0
        filled[-1].append(clip)
        seconds += clip.seconds
    numbers: dict[tuple[str, str], int] = defaultdict(int)
    shards = []
    for members in filled:
        text = repr([recipe, [(clip.id, clip.how, clip.start, clip.seconds, _facts(clip)) for clip in members]])
        family, repo = place = _place(members[0])
        name = f"{family}-{repo.replace('/', '+')}-{numbers[place]:03d}.tar"
        shards.append(ShardPlan(name, tuple(members), hashlib.sha256(text.encode()).hexdigest()))
        numbers[place] += 1
    return shards


def _place(clip: ClipPlan) -> tuple[str, str]:
    return clip.sources[0].family, clip.sources[0].repo


def _facts(clip: ClipPlan) -> list[tuple[str, object]]:
    return [item for source in clip.sources for item in asdict(source).items()]


def _pieces(source: Source) -> list[ClipPlan]:
    most = math.inf if source.end or source.family in ("speech", "singing", "music") else MOST
    length = min(source.seconds, most)
    count = math.ceil(length / PIECE) if length > 1.5 * PIECE else 1
    each = length / count
    return [_clip("piece", (source,), source.start + k * each, each) for k in range(count)]


def _clip(how: How, sources: Sequence[Source], start: float, seconds: float) -> ClipPlan:
    text = " ".join(f"{source.sha256}@{source.start:g}" for source in sources) + f" {how} {start:.3f}"
    label = re.sub(r"[^a-z0-9]+", "-", sources[0].label).strip("-")[:40]
    return ClipPlan(f"{label}-{hashlib.sha256(text.encode()).hexdigest()[:12]}", how, tuple(sources), start, seconds)
