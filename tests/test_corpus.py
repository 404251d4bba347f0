"""The public corpus of research/corpus: its table, and shards out of clones that the tests make."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiosep.data.clip_audio import ShardReader, mono_clip
from audiosep.data.manifest import Clip, read_manifest
from audiosep.data.shards import read_shards
from audiosep.errors import DataError
from research import real_songs
from research.corpus import __main__ as command
from research.corpus.build import build_manifest, build_shards
from research.corpus.clones import Clones
from research.corpus.coverage import coverage, coverage_table, hours_table
from research.corpus.planning import plan_clips
from research.corpus.sources import FAMILIES, TABLE, Source, read_rows, read_table, write_table

RATE = 16_000
# Nothing of the user's git configuration, and a fixed identity and time: equal trees have equal commits.
GIT = {
    **os.environ,
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    **{f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    **{f"GIT_{who}_DATE": "2026-01-01T00:00:00Z" for who in ("AUTHOR", "COMMITTER")},
}


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, env=GIT, check=True, capture_output=True, text=True).stdout.strip()


def clone(folder: Path, sounds: dict[str, np.ndarray]) -> str:
    """A repository with recordings; returns its commit."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q")
    for name, x in sounds.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, x, RATE, subtype="PCM_16")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "sounds")
    return git(folder, "rev-parse", "HEAD")


def noise(seconds: float, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal(int(seconds * RATE)) * 0.2
    return x * np.linspace(1, 0.2, len(x))


def tone(seconds: float, hertz: float) -> np.ndarray:
    return 0.4 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)


def source(folder: Path, repo: str, commit: str, path: str, **values: object) -> Source:
    content = (folder / path).read_bytes()
    known = {
        "label": "knocking",
        "family": "event",
        "licence": "CC0-1.0",
        "credit": f"somebody: {path}",
        "evidence": "LICENSE",
        "seconds": round(soundfile.info(folder / path).duration, 2),
        "rate": RATE,
        "channels": 1,
        "sha256": hashlib.sha256(content).hexdigest()[:16],
    }
    return Source(repo=repo, commit=commit, path=path, **{**known, **values})  # type: ignore[arg-type]


@pytest.fixture
def tree(tmp_path: Path) -> tuple[Path, list[Source]]:
    """Two clones: knocks, a long recording, notes of an instrument; and two stems of a song, bare."""
    clones = tmp_path / "clones"
    first = clones / "ann" / "sounds"
    sounds = {f"knock {k}.wav": noise(0.2, k) for k in range(3)} | {"rain.wav": noise(20, 9)}
    sounds |= {f"note{k}.wav": tone(1, 220 * 2 ** (k / 12)) for k in range(4)}
    commit = clone(first, sounds)
    rows = [source(first, "ann/sounds", commit, f"knock {k}.wav", origin="door") for k in range(3)]
    rows.append(source(first, "ann/sounds", commit, "rain.wav", label="rain", family="ambience", sound="rain"))
    rows += [
        source(first, "ann/sounds", commit, f"note{k}.wav", label="flute", family="instrument", note=57 + k, origin="f")
        for k in range(4)
    ]
    work = tmp_path / "work"
    commit = clone(work, {"drums.wav": tone(3, 310), "vox.wav": 0.5 * tone(2.9, 523)})
    git(tmp_path, "clone", "-q", "--bare", str(work), str(clones / "bob+song"))
    for path, stem in (("drums.wav", "drums"), ("vox.wav", "vocals")):
        rows.append(source(work, "bob/song", commit, path, label=stem, family="music", song="Tune", stem=stem))
    return clones, rows


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "shards").iterdir())}


def build(rows: list[Source], clones: Path, out: Path, **options: bool) -> list[str]:
    with Clones([clones]) as found:
        return build_shards(rows, found, out, **options)


def test_the_table_reads_and_counts() -> None:
    rows = read_table()
    assert {row.family for row in rows} == set(FAMILIES)
    assert sum(path.stat().st_size for path in TABLE.iterdir()) < 4_500_000
    covered = coverage(rows)
    assert sum(c.recordings >= 8 for c in covered) > 150
    assert coverage_table(covered).startswith(f"Of {len(covered)} sounds ")
    assert hours_table(rows).count("\n") == 3 + len(FAMILIES)


def test_coverage_counts_recordings_and_origins(tree: tuple[Path, list[Source]]) -> None:
    knocks = [dataclasses.replace(row, sound="knocking") for row in tree[1][:3]]
    more = [dataclasses.replace(knocks[0], path=f"{k}.wav", origin=f"door {k % 3}") for k in range(20)]
    more += [dataclasses.replace(more[0], start=1.0, end=2.0)]  # a part of a file that counts already
    rain, knocking = coverage([tree[1][3], *knocks], ["rain", "knocking"])
    assert (rain.recordings, rain.origins, rain.well) == (1, 1, False)
    assert (knocking.recordings, knocking.origins) == (3, 1)
    assert coverage(more, ["knocking"])[0].well
    table = coverage_table(coverage(more, ["knocking", "rain"]))
    assert "| 20 or more, of 3 origins or more | 1 | knocking 20/3 |" in table
    assert "| none | 1 | rain |" in table


def test_the_table_is_the_same_in_any_order(tree: tuple[Path, list[Source]], tmp_path: Path) -> None:
    _, rows = tree
    rows = [dataclasses.replace(row, captions=("a text",)) if row.label == "rain" else row for row in rows]
    for name, order in (("a", rows), ("b", rows[::-1])):
        (tmp_path / name).mkdir()
        write_table(order, tmp_path / name)
    assert {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "b").iterdir()
    }
    assert sorted(read_table(tmp_path / "a"), key=lambda s: s.place) == sorted(rows, key=lambda s: s.place)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"licence": "CC-BY-NC-4.0"}, "licence 'CC-BY-NC-4.0' is none of"),
        ({"family": "noise"}, "family 'noise'"),
        ({"label": "Rain "}, "label"),
        ({"sha256": "0"}, "sha256"),
        ({"stem": "vocals"}, "stem"),
        ({"credit": ""}, "credit"),
        ({"seconds": "long"}, "long"),
    ],
)
def test_rows_that_are_refused(
    tree: tuple[Path, list[Source]], tmp_path: Path, change: dict[str, str], message: str
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(dataclasses.asdict(tree[1][3]) | change) + "\n")
    with pytest.raises(DataError, match=rf"rows.jsonl, line 1: .*{message}"):
        read_rows(rows)


def test_commands(tree: tuple[Path, list[Source]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clones, rows = tree
    table = tmp_path / "table"
    table.mkdir()
    write_table(rows[:3], table)
    for name, call in (("read_table", read_table), ("write_table", write_table)):
        monkeypatch.setattr(command, name, functools.partial(call, folder=table))

    def run(*arguments: str) -> None:
        monkeypatch.setattr("sys.argv", ["corpus", *arguments])
        command.main()

    lines = tmp_path / "rows.jsonl"
    lines.write_text("".join(json.dumps(dataclasses.asdict(row)) + "\n" for row in rows[2:8]))
    run("add", str(lines))
    assert len(read_table(table)) == 8
    run("build", str(clones), str(tmp_path / "out"), "--only", "ann/sounds")
    assert len(read_manifest(tmp_path / "out" / "manifest.jsonl")) == 4
    run("credits", str(tmp_path / "out" / "manifest.jsonl"))
    lines.write_text("no json")
    with pytest.raises(SystemExit, match=r"error: .*rows.jsonl, line 1"):
        run("add", str(lines))


def test_plan_sequences_cuts_and_keeps(tree: tuple[Path, list[Source]]) -> None:
    plans = plan_clips(tree[1])
    assert sorted(plan.how for plan in plans) == ["phrase", "piece", "piece", "stem", "stem", "takes"]
    takes = next(plan for plan in plans if plan.how == "takes")
    assert [s.path for s in takes.sources] == ["knock 0.wav", "knock 1.wav", "knock 2.wav"]
    pieces = [plan for plan in plans if plan.how == "piece"]
    assert sorted(plan.start for plan in pieces) == [0, 10]
    assert len({plan.id for plan in plans}) == len(plans)


def test_built_twice_same_bytes_and_readable(tree: tuple[Path, list[Source]], tmp_path: Path) -> None:
    clones, rows = tree
    for name in ("a", "b"):
        assert build(rows if name == "a" else rows[::-1], clones, tmp_path / name) == []
    assert files(tmp_path / "a") == files(tmp_path / "b")
    clips = {clip.id: clip for clip in read_shards(tmp_path / "a" / "shards")}
    assert len(clips) == 6
    knocking = next(clip for clip in clips.values() if clip.label == "knocking")
    assert knocking.licence == "CC0-1.0"
    assert "somebody: knock 2.wav" in knocking.credit
    assert knocking.group == "origin:door"
    stems = sorted((clip for clip in clips.values() if clip.song), key=lambda clip: clip.label)
    assert [clip.stem for clip in stems] == ["drums", "vocals"]
    reader = ShardReader()
    x = mono_clip(knocking, RATE, reader)
    assert len(x) > 4 * RATE
    quiet = np.abs(x).reshape(-1)[: len(x) // 160 * 160].reshape(-1, 160).max(1) < 1e-3
    assert 0.2 < quiet.mean() < 0.95  # takes and gaps
    # The stems, with their gains, are the song: the original mix up to one gain.
    parts = [mono_clip(clip, RATE, reader) * 10 ** (clip.gain_db / 20) for clip in stems]
    assert len(parts[0]) == len(parts[1])
    mix = tone(3, 310) + np.pad(0.5 * tone(2.9, 523), (0, RATE // 10))
    both = sum(parts)[: len(mix)]
    assert np.corrcoef(both, mix[: len(both)])[0, 1] > 0.999
    reader.close()


def test_real_songs_are_the_sum_of_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {"audio/a.wav": noise(1.0, 1), "audio/b.wav": noise(0.5, 2), "audio/c.wav": noise(1.5, 3)}
    clone(tmp_path / "ann" / "song", parts)
    monkeypatch.setattr(real_songs, "SONGS", {"ann/song": {"drums": ("a.wav", "b.wav"), "bass": ("c.wav",)}})
    with Clones([tmp_path]) as clones:
        stems, rate = real_songs.read_song(clones, "ann/song")
        with pytest.raises(DataError, match="no clone of ann/other: clone it"):
            clones.newest("ann/other", "x")
        with pytest.raises(DataError, match="the clone of ann/song has no x"):
            clones.newest("ann/song", "x")
    assert {name: stem.shape for name, stem in stems.items()} == dict.fromkeys(("drums", "bass"), (2, 3 * rate // 2))
    assert np.abs(stems["drums"] + stems["bass"]).max() == pytest.approx(1.0)
    drums = np.zeros(3 * rate // 2)
    drums[:rate] += parts["audio/a.wav"]
    drums[: rate // 2] += parts["audio/b.wav"]
    assert np.corrcoef(stems["drums"][0], drums)[0, 1] > 0.9999


def test_means_of_real_songs_are_of_the_same_stems() -> None:
    rows = [("ann/song", ("drums", -8.0, 4.0, 5.0)), ("ann/song", ("bass", -6.0, 2.0, 4.0))]
    text = real_songs.table([*rows, ("ann/song", ("other", 3.0, -3.0, None))])
    assert text.splitlines()[-3:] == [
        "| ann/song | other | 3.0 | -3.0 |  |",
        "| mean of all | | | 1.0 | |",
        "| mean of those with a name | | | 3.0 | 4.5 |",
    ]


def test_missing_and_changed_files_are_named(tree: tuple[Path, list[Source]], tmp_path: Path) -> None:
    clones, rows = tree
    knock, rain, note, drums = rows[0], rows[3], rows[4], rows[8]
    wrong = [
        dataclasses.replace(knock, repo="eve/gone"),
        dataclasses.replace(rain, sha256="0123456789abcdef"),
        dataclasses.replace(note, path="flute.wav"),
        drums,
    ]
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"3 recordings cannot be had.*--skip-missing"):
        build(wrong, clones, out)
    assert not list((out / "shards").iterdir())
    named = (out / "missing.txt").read_text()
    for text in ("no clone of eve/gone", "rain.wav: the file has changed", "flute.wav: the clone has no such file"):
        assert text in named
    assert len(build(wrong, clones, out, skip_missing=True)) == 3
    assert [clip.label for clip in read_shards(out / "shards")] == ["drums"]


def test_a_broken_recording_is_named(tree: tuple[Path, list[Source]], tmp_path: Path) -> None:
    clones, rows = tree
    folder = clones / "carl" / "broken"
    folder.mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / "text.ogg").write_bytes(b"no sound")
    soundfile.write(folder / "silent.wav", np.zeros(2 * RATE), RATE)
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "sounds")
    commit = git(folder, "rev-parse", "HEAD")
    silent = source(folder, "carl/broken", commit, "silent.wav")
    digest = hashlib.sha256(b"no sound").hexdigest()[:16]
    text = dataclasses.replace(silent, path="text.ogg", sha256=digest, seconds=3.0)
    with pytest.raises(DataError, match=r"carl/broken:(text.ogg|silent.wav)"):
        build([rows[0], silent, text], clones, tmp_path / "out")
    problems = build([rows[0], silent, text], clones, tmp_path / "out", skip_missing=True)
    assert any("silent.wav: silent" in problem for problem in problems)
    assert any("text.ogg" in problem for problem in problems)


def test_an_interrupted_build_goes_on(tree: tuple[Path, list[Source]], tmp_path: Path) -> None:
    clones, rows = tree[0], tree[1][:8]
    whole, out = tmp_path / "whole", tmp_path / "out"
    build(rows, clones, whole)

    class Stop(Exception):
        pass

    def stop(done: float) -> None:
        raise Stop

    with Clones([clones]) as found, pytest.raises(Stop):
        build_shards(rows, found, out, progress=stop)
    done = files(out)
    assert 0 < len(done) < len(files(whole))
    first = next(iter((out / "shards").glob("*.tar")))
    before = first.stat().st_mtime_ns
    build(rows, clones, out)
    assert files(out) == files(whole)
    assert first.stat().st_mtime_ns == before
    # A smaller table leaves no shard of the larger one behind.
    build(rows[:4], clones, out)
    assert {path.stem for path in (out / "shards").iterdir()} == {
        "ambience-ann+sounds-000",
        "event-ann+sounds-000",
    }


def test_unpacked_files_serve_as_clones(tree: tuple[Path, list[Source]], tmp_path: Path) -> None:
    clones, rows = tree[0], tree[1][:3]
    folder = tmp_path / "unpacked" / "audio"
    folder.mkdir(parents=True)
    with Clones([clones]) as found:
        for row in rows:
            (folder / f"{row.sha256}.wav").write_bytes(found.read(row))
    build(rows, clones, tmp_path / "a")
    build(rows, tmp_path / "unpacked", tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")
    (folder / f"{rows[0].sha256}.wav").write_bytes(b"other bytes")
    with pytest.raises(DataError, match="has other bytes than the table says"):
        build(rows, tmp_path / "unpacked", tmp_path / "b")


def test_manifest_leaves_out_test_material(tree: tuple[Path, list[Source]], tmp_path: Path) -> None:
    clones, rows = tree
    out = tmp_path / "out"
    build(rows, clones, out)
    assert build_manifest(out) == {}
    assert {clip.split for clip in read_manifest(out / "manifest.jsonl")} <= {"train", "val", "zero"}
    test = tmp_path / "test" / "shower"
    test.mkdir(parents=True)
    soundfile.write(test / "a.wav", 0.3 * noise(20, 9)[12 * RATE : 18 * RATE], RATE)
    left_out = build_manifest(out, test=[test.parent])
    clips: list[Clip] = read_manifest(out / "manifest.jsonl")
    assert len(left_out) == 1
    assert next(iter(left_out.values())).startswith("shares audio with")
    assert len(clips) == 5
    assert not any(clip.split == "test" for clip in clips)
