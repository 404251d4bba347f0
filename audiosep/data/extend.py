"""Adding training clips to a manifest whose splits stay as they are, so that scores stay comparable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from audiosep.atomic import write_text, writing
from audiosep.audio.samples import Array
from audiosep.data.check import sample_hash
from audiosep.data.clip_audio import ClipKeys, decode_many
from audiosep.data.fingerprint import RATE, Fingerprints
from audiosep.data.manifest import Clip
from audiosep.data.reading import OnError
from audiosep.data.splits import groups, zero_clips
from audiosep.errors import AudioError, DataError


@dataclass
class Extension:
    """The result of `extend_manifest`.

    Args:
        clips: those of the manifest, unchanged, then the new ones.
        left_out: id of a new clip -> why it was left out.
    """

    clips: list[Clip]
    left_out: dict[str, str] = field(default_factory=dict)


def extend_manifest(
    clips: Sequence[Clip],
    more: Sequence[Clip],
    *,
    sound: bool = True,
    on_error: OnError = "raise",
    progress: Callable[[float], object] | None = None,
    finished: Path | None = None,
) -> Extension:
    """Add training clips, except those that would leak held-back material into training.

    Left out are clips that their source assigns to another split (the test half of a collection), clips of a held-back
    group, clips that match a zero-shot label (see `zero_clips`), clips that share two seconds of audio with a held-back
    clip or are a copy of one, and clips that the manifest has already.

    Args:
        clips: of a manifest with splits.
        more: new clips.
        sound: decode the new and the held-back clips and compare their audio.
        on_error: what to do about new clips with broken audio: leave them out ("skip") or "raise".
        progress: called with the fraction done, 0 to 1.
        finished: file that keeps what has been compared, so that the same call goes on after it was stopped.

    Raises:
        DataError: no clip of the manifest is held back, or two clips have one id.
        AudioError: broken audio; the message names the files.
    """
    held = [clip for clip in clips if clip.split != "train"]
    if not held:
        raise DataError("the manifest has no held-back clips; make one with `audiosep data build --split`")
    taken: set[str] = set()
    for clip in [*clips, *more]:
        if clip.id in taken:
            raise DataError(f"two clips have the id {clip.id!r}; give one of them another id")
        taken.add(clip.id)
    left_out = _leaks_by_name(clips, more, held)
    if sound:
        new = [clip for clip in more if clip.id not in left_out]
        left_out |= _leaks_by_audio(new, held, on_error, progress or (lambda fraction: None), finished)
    return Extension([*clips, *(clip for clip in more if clip.id not in left_out)], left_out)


def _leaks_by_name(clips: Sequence[Clip], more: Sequence[Clip], held: Sequence[Clip]) -> dict[str, str]:
    everything = [*clips, *more]
    of = groups(everything)
    # The split "zero" also has clips of other labels, such as rain with thunder in it; these labels are trained on.
    labels = {clip.label for clip in held if clip.split == "zero"} - {c.label for c in clips if c.split == "train"}
    never = zero_clips(everything, sorted(labels), of=of)
    back = {of[clip.id]: clip.id for clip in [*(c for c in more if c.split != "train"), *held]}
    known = {_place(clip): clip.id for clip in clips}
    left_out = {}
    for clip in more:
        if clip.split != "train":
            left_out[clip.id] = f"its source assigns it to the split {clip.split}"
        elif _place(clip) in known:
            left_out[clip.id] = f"already in the manifest, as {known[_place(clip)]}"
        elif of[clip.id] in back:
            left_out[clip.id] = f"in the same group as {back[of[clip.id]]}, which is held back"
        elif clip.id in never:
            left_out[clip.id] = "label or captions match a label held out of training"
    return left_out


def _place(clip: Clip) -> tuple[Path, str | None, float, int | None]:
    return Path(clip.path).resolve(), clip.member, clip.start, clip.channel


def _leaks_by_audio(
    new: Sequence[Clip],
    held: Sequence[Clip],
    on_error: OnError,
    progress: Callable[[float], object],
    finished: Path | None,
) -> dict[str, str]:
    """New clips that share audio with a held-back clip, and those that cannot be decoded, with the reason."""
    record = _Record(finished, held)
    missing = [clip for clip in new if clip not in record]
    known, copies = Fingerprints(), dict[str, str]()
    broken: list[str] = []
    for number, x in enumerate(_decoded_ahead([*held, *missing] if missing else [])):
        clip = missing[number - len(held)] if number >= len(held) else held[number]
        if isinstance(x, AudioError):
            if number >= len(held) and on_error == "skip":
                record.add(clip, str(x))
            else:
                broken.append(str(x))
        elif number < len(held):
            known.add(x)
            copies[sample_hash(x, RATE)] = clip.id
        elif (copy := copies.get(sample_hash(x, RATE))) is not None:
            record.add(clip, f"a copy of {copy}, which is held back")
        elif (match := known.match(x)) is not None:
            shared = f"shares audio with {held[match[0]].id}, which is held back (correlation {match[1]:.2f})"
            record.add(clip, shared)
        else:
            record.add(clip, None)
        progress((number + 1) / (len(held) + len(missing)))
    if broken:
        raise AudioError(
            f"{'; '.join(broken[:5])}{f'; and {len(broken) - 5} more' if len(broken) > 5 else ''}: repair the files, "
            "leave new ones out with --skip-broken, or do not compare audio (--no-sound)"
        )
    return {clip.id: reason for clip in new if (reason := record[clip]) is not None}


def _decoded_ahead(clips: Sequence[Clip]) -> Iterator[Array | AudioError]:
    """The samples of clips, each decoded while the one before is compared."""
    decoded = decode_many(clips, RATE)
    with ThreadPoolExecutor(1, thread_name_prefix="audiosep-decode") as pool:
        ahead = pool.submit(next, decoded, None)
        while (x := ahead.result()) is not None:
            ahead = pool.submit(next, decoded, None)
            yield x


class _Record:
    """What has been compared with held-back clips, in a file that is appended to.

    Args:
        path: the file, a line of JSON for each clip; None: nothing is kept.
        held: the held-back clips; a file that was written for others is begun anew.
    """

    def __init__(self, path: Path | None, held: Sequence[Clip]) -> None:
        self._path, self._key = path, ClipKeys()
        self._reasons: dict[str, str | None] = {}
        names = "\n".join(f"{clip.id} {self._key(clip)}" for clip in held)
        head = json.dumps({"held back": hashlib.sha256(names.encode()).hexdigest()})
        if path is None:
            return
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        lines = text[: text.rfind("\n") + 1].split("\n")[:-1]  # without half a line of a process that was killed
        if lines[:1] != [head]:
            lines = [head]
        write_text(path, "".join(f"{line}\n" for line in lines))
        for line in lines[1:]:
            self._reasons |= json.loads(line)

    def __contains__(self, clip: Clip) -> bool:
        return self._key(clip) in self._reasons

    def __getitem__(self, clip: Clip) -> str | None:
        return self._reasons[self._key(clip)]

    def add(self, clip: Clip, reason: str | None) -> None:
        """Keep why a clip is left out; None: it is not."""
        found = {self._key(clip): reason}
        self._reasons |= found
        if self._path is not None:
            with writing(self._path), self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
