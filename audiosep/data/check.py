"""Checking a manifest: hours, labels, silence, clipping, broken files, duplicates and leaks between splits."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from audiosep.audio.samples import Array
from audiosep.data.clip_audio import ShardReader, decode_clip
from audiosep.data.manifest import SPLITS, Clip
from audiosep.data.splits import groups
from audiosep.errors import AudioError

SILENT_DB = -60.0  # RMS of a clip, dB of full scale
CLIPPED_SHARE = 1e-3  # of the samples, in runs of at least three samples at the peak
CLIPPED_LEVEL = 0.98  # of full scale; flat peaks below it are square waves, not clipping


@dataclass
class ManifestReport:
    """What a manifest holds, and what is wrong with it.

    Args:
        clips: number of clips.
        seconds: total length of the clips that can be decoded; as the manifest states it when no audio was decoded.
        hours: split -> family -> hours.
        labels: label -> (clips, seconds).
        broken: id -> why its file cannot be decoded.
        silent: ids.
        clipped: ids.
        duplicates: lists of ids of clips with the same samples.
        leaks: group -> split -> ids, of groups in several splits; so are duplicates in several splits.
        wrong_lengths: id -> (seconds in the manifest, seconds decoded), where they differ by more than 0.1 s.
    """

    clips: int = 0
    seconds: float = 0.0
    hours: dict[str, dict[str, float]] = field(default_factory=dict)
    labels: dict[str, tuple[int, float]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    silent: list[str] = field(default_factory=list)
    clipped: list[str] = field(default_factory=list)
    duplicates: list[list[str]] = field(default_factory=list)
    leaks: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    wrong_lengths: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Whether there are no broken files and no leaks."""
        return not self.broken and not self.leaks

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON."""
        return {**vars(self), "usable": self.usable}


def check_manifest(
    clips: Sequence[Clip], *, audio: bool = True, progress: Callable[[float], object] | None = None
) -> ManifestReport:
    """Check the clips of a manifest.

    Args:
        clips: its clips.
        audio: decode every clip; otherwise only hours, labels and groups are checked.
        progress: called with the fraction done, 0 to 1.
    """
    report = ManifestReport(clips=len(clips))
    lengths = {clip.id: clip.seconds for clip in clips}
    hashes: dict[str, list[str]] = defaultdict(list)
    if audio:
        _check_audio(clips, report, lengths, hashes, progress)
    labels: Counter[str] = Counter()
    seconds: dict[str, float] = defaultdict(float)
    hours: dict[str, dict[str, float]] = {split: defaultdict(float) for split in SPLITS}
    for clip in clips:
        labels[clip.label] += 1
        seconds[clip.label] += lengths[clip.id]
        hours[clip.split][clip.family] += lengths[clip.id] / 3600
    report.seconds = sum(lengths.values())
    report.hours = {split: dict(sorted(families.items())) for split, families in hours.items() if families}
    report.labels = {label: (labels[label], seconds[label]) for label in sorted(labels)}
    report.duplicates = [ids for ids in hashes.values() if len(ids) > 1]
    report.leaks = _leaks(clips, report.duplicates)
    return report


def _check_audio(
    clips: Sequence[Clip],
    report: ManifestReport,
    lengths: dict[str, float],
    hashes: dict[str, list[str]],
    progress: Callable[[float], object] | None,
) -> None:
    with contextlib.closing(ShardReader()) as shards:
        for number, clip in enumerate(clips, 1):
            try:
                x, rate = decode_clip(clip, shards)
            except AudioError as error:
                report.broken[clip.id] = str(error)
                lengths[clip.id] = 0.0
                continue
            finally:
                if progress is not None:
                    progress(number / len(clips))
            decoded = x.shape[1] / rate
            if clip.seconds and abs(decoded - clip.seconds) > 0.1:
                report.wrong_lengths[clip.id] = (clip.seconds, round(decoded, 3))
            lengths[clip.id] = decoded
            silent = is_silent(x)
            if silent:
                report.silent.append(clip.id)
            else:  # silent clips are no duplicates
                hashes[sample_hash(x, rate)].append(clip.id)
            if is_clipped(x):
                report.clipped.append(clip.id)


def is_silent(x: Array) -> bool:
    """Whether the RMS is below SILENT_DB.

    Args:
        x: (channels, samples).
    """
    return bool(np.sqrt(np.mean(np.square(x, dtype=np.float64))) < 10 ** (SILENT_DB / 20))


def is_clipped(x: Array) -> bool:
    """Whether more than CLIPPED_SHARE of the samples are in runs at the peak.

    Args:
        x: (channels, samples).
    """
    peak = float(np.abs(x).max())
    if peak < CLIPPED_LEVEL:
        return False
    flat = (np.abs(x) >= peak * (1 - 1e-4)) & (np.abs(x) >= CLIPPED_LEVEL)
    runs = flat[:, 2:] & flat[:, 1:-1] & flat[:, :-2]  # three in a row
    return bool(runs.mean() > CLIPPED_SHARE)


def sample_hash(x: Array, rate: int) -> str:
    """A hash of the samples, rounded to 16 bits.

    Args:
        x: (..., samples).
        rate: Hz; equal samples at another rate have another hash.
    """
    q = np.round(np.clip(x, -1, 1) * 32767).astype("<i2")
    return hashlib.sha256(f"{rate} {x.shape}".encode() + q.tobytes()).hexdigest()


def _leaks(clips: Sequence[Clip], duplicates: Sequence[Sequence[str]]) -> dict[str, dict[str, list[str]]]:
    of = groups(clips)
    split = {clip.id: clip.split for clip in clips}
    members: dict[str, list[str]] = defaultdict(list)
    for clip in clips:
        members[of[clip.id]].append(clip.id)
    members |= {f"same audio as {ids[0]}": list(ids) for ids in duplicates}
    leaks: dict[str, dict[str, list[str]]] = {}
    for name, ids in members.items():
        sides: dict[str, list[str]] = defaultdict(list)
        for identity in ids:
            sides[split[identity]].append(identity)
        if len(sides) > 1:
            leaks[name] = dict(sides)
    return leaks
