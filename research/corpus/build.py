"""From a folder of clones to shards and a manifest. An interrupted build goes on with the shards that it lacks."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audiosep.atomic import remove_leftovers, write_text
from audiosep.data.extend import extend_manifest
from audiosep.data.layouts import read_sources
from audiosep.data.manifest import Clip, read_manifest, write_manifest
from audiosep.data.shards import read_shards
from audiosep.data.splits import assign_splits, zero_labels
from audiosep.errors import DataError
from research.corpus.clones import Clones
from research.corpus.making import PEAK, RECIPE, Samples, make_clip
from research.corpus.planning import ClipPlan, ShardPlan, plan_clips, plan_shards
from research.corpus.shards import flac, write_shard
from research.corpus.sources import Source

SHARDS, BUILT, MISSING = "shards", "built.json", "missing.txt"
_SHOWN = 10  # problems that a message names


def build_shards(
    sources: Sequence[Source],
    clones: Clones,
    out: Path,
    *,
    skip_missing: bool = False,
    progress: Callable[[float], object] | None = None,
) -> list[str]:
    """Make the shards of the corpus; those that are there from the same plan stay.

    Args:
        sources: the table.
        clones: where their files are.
        out: shards go to its folder `shards`, `missing.txt` names recordings that are not to be had.
        skip_missing: leave out missing and changed recordings; otherwise nothing is made if there are any.
        progress: called with the fraction done, 0 to 1.

    Returns:
        What is missing, has changed, or cannot be decoded: a message each.

    Raises:
        DataError: recordings are missing and `skip_missing` is not given, or none is left.
    """
    folder = out / SHARDS
    folder.mkdir(parents=True, exist_ok=True)
    for place in (out, folder):
        remove_leftovers(place)
    present, problems = _present(sources, clones)
    _write_missing(out, problems)
    if problems and not skip_missing:
        raise DataError(_summary(problems, out / MISSING))
    if not present:
        raise DataError(f"{out}: none of {len(sources)} recordings can be had; see {out / MISSING}")
    shards = plan_shards(plan_clips(present), RECIPE)
    built = _built(out)
    for number, shard in enumerate(shards):
        kept = built.get(shard.name)
        if kept is None or kept["digest"] != shard.digest or not _there(folder / shard.name):
            broken = _make_shard(shard, clones, folder)
            if broken and not skip_missing:
                _write_missing(out, [*problems, *broken])
                raise DataError(_summary(broken, out / MISSING))
            built[shard.name] = {"digest": shard.digest, "problems": broken}
            write_text(out / BUILT, json.dumps(built, indent=1, sort_keys=True) + "\n")
        problems += built[shard.name]["problems"]
        if progress is not None:
            progress((number + 1) / len(shards))
    _remove_stale(folder, out, {shard.name for shard in shards}, built)
    _write_missing(out, problems)
    return problems


def build_manifest(
    out: Path,
    *,
    base: Path | None = None,
    test: Sequence[Path] = (),
    progress: Callable[[float], object] | None = None,
) -> dict[str, str]:
    """Write the manifest of the shards, `manifest.jsonl`, and what it leaves out, `left-out.json`.

    Args:
        out: folder of the build.
        base: a manifest with splits that is extended, so that its splits stay; without one, splits are assigned as by
            `audiosep data build --zero 20`.
        test: test material in any layout of `audiosep data build`: clips with the same audio are left out.
        progress: called with the fraction done, 0 to 1.

    Returns:
        id of a clip -> why it was left out.
    """
    clips = read_shards(out / SHARDS)
    known = read_manifest(base) if base else []
    held = [
        dataclasses.replace(clip, split="test", group="")
        for part in read_sources(test, taken=[*known, *clips])
        for clip in part
    ]
    left_out: dict[str, str] = {}
    if base or held:
        extension = extend_manifest([*known, *held], clips, on_error="skip", progress=progress)
        left_out, test_ids = extension.left_out, _ids(held)
        clips = [clip for clip in extension.clips if clip.id not in test_ids]
    if not base:
        clips = assign_splits(clips, zero_labels(clips))
    write_manifest(out / "manifest.jsonl", clips)
    write_text(out / "left-out.json", json.dumps(left_out, indent=1, ensure_ascii=False) + "\n")
    return left_out


def _write_missing(out: Path, problems: Sequence[str]) -> None:
    write_text(out / MISSING, "".join(f"{problem}\n" for problem in problems))


def _present(sources: Sequence[Source], clones: Clones) -> tuple[list[Source], list[str]]:
    present, problems = [], []
    for source in sources:
        try:
            clones.read(source)
        except DataError as error:
            problems.append(str(error))
        else:
            present.append(source)
    return present, problems


def _make_shard(shard: ShardPlan, clones: Clones, folder: Path) -> list[str]:
    members, problems = [], []
    songs: dict[str, list[ClipPlan]] = {}
    for plan in shard.clips:
        if plan.how == "stem":
            songs.setdefault(plan.sources[0].song, []).append(plan)
            continue
        try:
            x, rate = make_clip(plan, clones.read)
        except DataError as error:
            problems.append(str(error))
        else:
            members.append(_member(plan, x, rate, {}))
    for song, stems in songs.items():
        found, broken = _song(song, stems, clones)
        members += found
        problems += broken
    write_shard(folder / shard.name, members)
    return problems


def _song(song: str, stems: Sequence[ClipPlan], clones: Clones) -> tuple[list[tuple[dict[str, Any], bytes]], list[str]]:
    """Stems of one length, each at PEAK; with `gain_db` their sum is the song, at PEAK.

    They are decoded twice, because all stems of a song do not fit into memory.
    """
    mix, peaks, problems = np.zeros(0, np.float32), dict[str, float](), []
    for plan in stems:
        try:
            x, _ = make_clip(plan, clones.read)
        except DataError as error:
            problems.append(str(error))
            continue
        peaks[plan.id] = float(np.abs(x).max())
        mix = np.pad(mix, (0, max(0, len(x) - len(mix))))
        mix[: len(x)] += x
    shared = PEAK / max(float(np.abs(mix).max(initial=0)), 1e-9)
    members = []
    for plan in stems:
        if plan.id in peaks:
            x, rate = make_clip(plan, clones.read)
            x = np.pad(x, (0, len(mix) - len(x))) * np.float32(PEAK / peaks[plan.id])
            gain = round(20 * math.log10(shared * peaks[plan.id] / PEAK), 2)
            members.append(_member(plan, x, rate, {"song": song, "stem": plan.sources[0].stem, "gain_db": gain}))
    return members, problems


def _member(plan: ClipPlan, x: Samples, rate: int, more: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    first = plan.sources[0]
    row = {
        "id": plan.id,
        "member": f"{plan.id}.flac",
        "label": first.label,
        "captions": list(dict.fromkeys(text for source in plan.sources for text in source.texts))[:8],
        "family": first.family,
        "seconds": round(len(x) / rate, 3),
        "origin": first.known_as,
        "source": first.repo,
        "licence": " / ".join(sorted({source.licence for source in plan.sources})),
        "credit": "; ".join(sorted({source.credit for source in plan.sources})),
        "source_rate": max(source.rate for source in plan.sources),
    }
    if first.speaker:
        row["speaker"] = first.speaker.replace(",", " ")
    return row | more, flac(x, rate)


def _built(out: Path) -> dict[str, Any]:
    path = out / BUILT
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: {error}; delete it, and all shards are made anew") from error
    return found


def _there(shard: Path) -> bool:
    return shard.is_file() and shard.with_suffix(".jsonl").is_file()


def _remove_stale(folder: Path, out: Path, names: set[str], built: dict[str, Any]) -> None:
    """Shards of an earlier table would be read along with the others."""
    for path in [*folder.glob("*.tar"), *folder.glob("*.jsonl")]:
        if path.with_suffix(".tar").name not in names:
            path.unlink()
    kept = {name: built[name] for name in built if name in names}
    write_text(out / BUILT, json.dumps(kept, indent=1, sort_keys=True) + "\n")


def _ids(clips: Sequence[Clip]) -> set[str]:
    return {clip.id for clip in clips}


def _summary(problems: Sequence[str], path: Path) -> str:
    repositories = Counter(problem.partition(":")[0] for problem in problems)
    listed = ", ".join(f"{repo} ({count})" for repo, count in repositories.most_common(_SHOWN))
    more = f" and {len(repositories) - _SHOWN} more" if len(repositories) > _SHOWN else ""
    return (
        f"{len(problems)} recordings cannot be had, of {listed}{more}; the first: {problems[0]}. Clone what is "
        f"missing, or leave it out with --skip-missing; all of them: {path}"
    )
