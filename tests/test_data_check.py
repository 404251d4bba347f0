"""`audiosep data`: what it finds in a manifest, and building one from the command line."""

from __future__ import annotations

import json
from dataclasses import replace

import corpora
import numpy as np
import pytest
import soundfile

from audiosep.cli import main
from audiosep.data.check import check_manifest, is_clipped, is_silent
from audiosep.data.manifest import Clip, read_manifest, write_manifest


@pytest.fixture
def clips(tmp_path) -> list[Clip]:
    x = corpora.wave(0, 1.0, 16000)
    hot = np.clip(3 * x / np.abs(x).max(), -1, 1)
    made = {
        "good.flac": (x, "train", "kettle", "a"),
        "same.wav": (x, "val", "kettle", "b"),
        "other.wav": (corpora.wave(1, 1.0, 16000), "val", "my cat", "a"),
        "silent.wav": (1e-5 * x, "train", "my cat", "c"),
        "silent2.wav": (1e-5 * x, "val", "my cat", "d"),
        "hot.wav": (hot, "train", "my cat", "e"),
    }
    clips = []
    for name, (wave, split, label, group) in made.items():
        path = corpora.write(tmp_path / "audio" / name, np.round(32767 * np.clip(wave, -1, 1)).astype(np.int16))
        clips.append(Clip(name, str(path), label, split=split, group=group, seconds=1.0))
    clips.append(Clip("long", clips[0].path, "kettle", start=0.5, seconds=1.0, group="a"))
    (tmp_path / "audio/bad.wav").write_bytes(b"RIFF")
    return [*clips, Clip("bad", str(tmp_path / "audio/bad.wav"), "kettle", seconds=1.0)]


def test_findings(clips):
    fractions: list[float] = []
    report = check_manifest(clips, progress=fractions.append)
    assert fractions[-1] == 1.0
    assert list(report.broken) == ["bad"]
    assert "bad.wav" in report.broken["bad"]
    assert report.silent == ["silent.wav", "silent2.wav"]
    assert report.clipped == ["hot.wav"]
    assert report.duplicates == [["good.flac", "same.wav"]]
    assert report.wrong_lengths == {"long": (1.0, 0.5)}
    assert report.leaks["a"] == {"train": ["good.flac", "long"], "val": ["other.wav"]}
    assert report.leaks["same audio as good.flac"] == {"train": ["good.flac"], "val": ["same.wav"]}
    assert report.labels["kettle"] == (4, 2.5)
    assert report.hours["val"]["event"] == pytest.approx(3 / 3600)
    assert not report.usable
    assert check_manifest([clips[0], clips[5]]).usable


def test_without_audio_only_rows_are_examined(clips):
    report = check_manifest(clips, audio=False)
    assert report.seconds == len(clips)
    assert not report.broken
    assert list(report.leaks) == ["a"]


def test_clipping_and_silence():
    x = corpora.wave(0, 1.0, 16000)[None]
    x = x / np.abs(x).max()
    assert not is_clipped(x)
    assert is_clipped(np.clip(3 * x, -1, 1))
    assert not is_clipped(0.2 * np.sign(x))
    assert is_silent(np.zeros((1, 100), np.float32))
    assert not is_silent(0.01 * x)


def test_the_command_line_builds_and_checks(tmp_path, capsys):
    for label in ("kettle", "my_cat", "drill"):
        for take in range(12):
            corpora.write(tmp_path / f"sounds/{label}/{take}.flac", corpora.wave(take, 0.2 + 0.01 * take, 16000))
    manifest = tmp_path / "m.jsonl"
    assert main(["data", "build", str(tmp_path / "sounds"), "-o", str(manifest), "--family", "mine", "--json"]) == 0
    built = json.loads(capsys.readouterr().out)
    assert built["clips"] == 36
    clips = read_manifest(manifest)
    assert {clip.family for clip in clips} == {"mine"}
    assert 2 <= sum(clip.split == "val" for clip in clips) <= 7
    assert main(["data", "check", str(manifest), "--json"]) == 0  # the same twelve sounds under three labels, together
    report = json.loads(capsys.readouterr().out)
    assert len(report["duplicates"]) == 12
    assert main(["data", "check", str(manifest), "--no-audio"]) == 0
    assert "36 clips" in capsys.readouterr().out


def test_a_recording_under_two_labels_stays_in_one_split(tmp_path, capsys):
    for number in range(40):
        corpora.write(tmp_path / f"sounds/{'abcd'[number % 4]}/{number}.wav", corpora.wave(number, 1.0, 8000))
    for copy in ("e/first", "f/second", "a/third"):
        for number in range(8):
            (target := tmp_path / f"sounds/{copy}-{number}.wav").parent.mkdir(exist_ok=True)
            target.write_bytes((tmp_path / f"sounds/{'abcd'[number % 4]}/{number}.wav").read_bytes())
    manifest = tmp_path / "manifest.jsonl"
    assert main(["data", "build", str(tmp_path / "sounds"), "-o", str(manifest), "--quiet"]) == 0
    clips = {clip.id: clip for clip in read_manifest(manifest)}
    groups = {clips[name].group.partition("+")[2] for name in ("a/0.wav", "e/first-0.wav", "f/second-0.wav")}
    assert len(groups) == 1
    assert groups != {""}
    assert "+" not in clips["b/9.wav"].group
    assert {clip.split for clip in clips.values()} == {"train", "val"}
    assert main(["data", "check", str(manifest), "--quiet"]) == 0


def test_the_command_line_names_broken_files(tmp_path, capsys):
    corpora.write(tmp_path / "s/kettle/good.wav", corpora.wave(0, 0.2, 16000))
    (tmp_path / "s/kettle/bad.wav").write_bytes(b"RIFF")
    out = tmp_path / "m.jsonl"
    assert main(["data", "build", str(tmp_path / "s"), "-o", str(out)]) == 1
    assert "bad.wav" in capsys.readouterr().err
    assert not out.exists()
    assert main(["data", "build", str(tmp_path / "s"), "-o", str(out), "--skip-broken", "--quiet"]) == 0
    assert [clip.id for clip in read_manifest(out)] == ["kettle/good.wav"]


def test_outputs_replace_neither_recordings_nor_inputs(tmp_path, capsys):
    song, index, manifest = tmp_path / "s/kettle/0.wav", tmp_path / "t/a.jsonl", tmp_path / "m.jsonl"
    corpora.write(song, corpora.wave(0, 0.2, 16000))
    index.parent.mkdir()
    corpora.write_shard(tmp_path / "t/a.tar", {"a.wav": song.read_bytes()})
    index.write_text('{"id": "a", "shard": "a.tar", "label": "rain"}')
    assert main(["data", "build", str(tmp_path / "s"), "-o", str(manifest), "--quiet"]) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    verbs = {
        "build": [str(tmp_path / "s")], "extend": [str(manifest), str(tmp_path / "s")], "captions": [str(manifest)],
        "recipe": [str(manifest), "--cache", "c"], "draw": [str(manifest), "--cache", "c"],
    }  # fmt: skip
    for verb, arguments in verbs.items():
        assert main(["data", verb, *arguments, "-o", str(song)]) == 2
        assert f"{song} is" in capsys.readouterr().err
    assert main(["data", "captions", str(manifest), "-o", str(manifest)]) == 2
    assert main(["data", "build", str(tmp_path / "t"), "-o", str(index)]) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert main(["evaluate", "-m", "mini", "-s", "folder=s", "--markdown", str(song)]) == 2
    assert main(["evaluate", "-m", "mini", "-s", "folder=s", "--html", str(song)]) == 2
    assert main(["export", str(song), "--overwrite"]) == 2
    assert main(["finetune", str(tmp_path / "s"), "-o", str(song)]) == 2
    assert main(["finetune", str(tmp_path / "s"), "--run", str(tmp_path / "s")]) == 2
    assert main(["finetune", str(tmp_path / "s"), "--full", "-o", str(tmp_path / "s")]) == 2
    assert f"--out {tmp_path / 's'} holds recordings" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_test_half_of_a_song_collection_stays_the_test_half(tmp_path):
    for song in ("train/a", "train/b", "test/c"):
        for number, stem in enumerate(("vocals", "drums")):
            corpora.write(tmp_path / f"m/{song}/{stem}.wav", corpora.wave(number, 0.2, 16000))
    assert main(["data", "build", str(tmp_path / "m"), "-o", str(tmp_path / "m.jsonl"), "--quiet"]) == 0
    splits = {clip.song: clip.split for clip in read_manifest(tmp_path / "m.jsonl")}
    assert splits["test/c"] == "test"


def test_copies_of_the_test_half_of_another_source_are_not_trained_on(tmp_path, capsys):
    for number, name in enumerate(("songs/train/a/vocals", "songs/test/s1/vocals", "songs/test/s1/drums")):
        corpora.write(tmp_path / f"{name}.wav", corpora.wave(number, 0.3, 16000))
    for number in range(20):
        corpora.write(tmp_path / f"mine/kettle/{number}.wav", corpora.wave(number + 10, 0.2 + 0.01 * number, 16000))
    (tmp_path / "mine/a song").mkdir()
    (tmp_path / "mine/a song/copy.wav").write_bytes((tmp_path / "songs/test/s1/vocals.wav").read_bytes())
    manifest = tmp_path / "m.jsonl"
    assert main(["data", "build", str(tmp_path / "songs"), str(tmp_path / "mine"), "-o", str(manifest)]) == 0
    assert "not trained on: 1 clip in one group" in (said := capsys.readouterr()).err
    assert "a song/copy.wav" in said.err
    splits = {clip.id: clip.split for clip in read_manifest(manifest)}
    assert splits["a song/copy.wav"] == splits["test/s1/vocals"] == "test"
    assert splits["train/a/vocals"] == "train"
    assert main(["data", "check", str(manifest), "--quiet"]) == 0


def test_songs_that_lack_a_stem_share_no_group_by_its_silence(tmp_path):
    for number, song in enumerate(("train/a", "train/b", "test/c")):
        corpora.write(tmp_path / f"m/{song}/vocals.wav", corpora.wave(number, 0.2, 16000))
        corpora.write(tmp_path / f"m/{song}/drums.wav", np.zeros(3200, np.float32))
    assert main(["data", "build", str(tmp_path / "m"), "-o", str(tmp_path / "m.jsonl"), "--quiet"]) == 0
    splits = {clip.song: clip.split for clip in read_manifest(tmp_path / "m.jsonl")}
    assert [song for song, split in splits.items() if split == "test"] == ["test/c"]


def test_sources_with_equal_file_names_get_different_ids(tmp_path):
    for folder in ("one", "two"):
        corpora.write(tmp_path / folder / "kettle/1.wav", corpora.wave(0, 0.2, 16000))
    arguments = [str(tmp_path / "one"), str(tmp_path / "two"), "-o", str(tmp_path / "m.jsonl"), "--quiet"]
    assert main(["data", "build", *arguments]) == 0
    assert [clip.id for clip in read_manifest(tmp_path / "m.jsonl")] == ["kettle/1.wav", "two/kettle/1.wav"]
    for year in ("2021", "2022", "2023"):  # the same name for the folder, too
        corpora.write(tmp_path / year / "train/kettle/1.wav", corpora.wave(0, 0.2, 16000))
    arguments[:2] = [str(tmp_path / year / "train") for year in ("2021", "2022", "2023")]
    assert main(["data", "build", *arguments]) == 0
    ids = [clip.id for clip in read_manifest(tmp_path / "m.jsonl")]
    assert ids == ["kettle/1.wav", "train/kettle/1.wav", "train (2)/kettle/1.wav"]
    write_manifest(tmp_path / "empty.jsonl", [])
    assert main(["data", "check", str(tmp_path / "empty.jsonl")]) == 2


def test_a_batch_is_written_as_audio_files(tmp_path, capsys):
    write_manifest(tmp_path / "m.jsonl", corpora.make_clips(tmp_path / "a", takes=2))
    (tmp_path / "config.json").write_text('{"task": "separation", "sampling": {"mixtures": 3, "seconds": 0.5}}')
    arguments = ["--cache", str(tmp_path / "c"), "-o", str(tmp_path / "out"), "--config", str(tmp_path / "config.json")]
    assert main(["data", "draw", str(tmp_path / "m.jsonl"), *arguments, "--sample-rate", "16000", "--json"]) == 0
    listing = json.loads(capsys.readouterr().out)
    for row in listing["queries"]:
        target, rate = soundfile.read(tmp_path / "out" / row["file"])
        assert (len(target), rate) == (8000, 16000)
        assert (np.abs(target).max() == 0) == row["absent"]
    assert {p.name for p in (tmp_path / "out").iterdir()} > {"00.wav", "01.wav", "02.wav"}
    again = ["--sample-rate", "16000", "--json", "--seed", "1"]
    assert main(["data", "draw", str(tmp_path / "m.jsonl"), *arguments, *again]) == 0
    listed = {row["file"] for row in json.loads(capsys.readouterr().out)["queries"]}
    left = {p.name for p in (tmp_path / "out").iterdir() if "-" in p.name and "(example)" not in p.name}
    assert left == listed  # nothing of the batch before
    (tmp_path / "out/notes.txt").write_text("mine")
    assert main(["data", "draw", str(tmp_path / "m.jsonl"), *arguments, *again]) == 2
    assert "holds other files (notes.txt)" in capsys.readouterr().err
    assert (tmp_path / "out/00.wav").is_file()


def test_a_list_is_no_configuration_to_draw_by(tmp_path, capsys):
    write_manifest(tmp_path / "m.jsonl", corpora.make_clips(tmp_path / "a", takes=1))
    (tmp_path / "list.json").write_text("[1]")
    arguments = ["--cache", str(tmp_path / "c"), "-o", str(tmp_path / "out"), "--config", str(tmp_path / "list.json")]
    assert main(["data", "draw", str(tmp_path / "m.jsonl"), *arguments]) == 2
    assert "list.json: expected an object with task" in capsys.readouterr().err


def test_files_of_a_batch_have_names_in_any_script(tmp_path, capsys):
    labels = ("été", "日本 語", "a/b: " + "long " * 70)
    clips = [replace(clip, label=label, captions=()) for clip, label in zip(
        corpora.make_clips(tmp_path / "a", takes=1)[:3], labels, strict=True
    )]  # fmt: skip
    write_manifest(tmp_path / "m.jsonl", [replace(clip, family="event", stem=None, song=None) for clip in clips])
    arguments = ["--cache", str(tmp_path / "c"), "-o", str(tmp_path / "out"), "--sample-rate", "16000", "--json"]
    assert main(["data", "draw", str(tmp_path / "m.jsonl"), *arguments]) == 0
    shown = {row["query"]: row["file"] for row in json.loads(capsys.readouterr().out)["queries"]}
    for query, part in (("été", "(été)"), ("日本 語", "(日本 語)"), (labels[2].strip(), "(a_b_ long")):
        assert part in shown[query]
        assert (tmp_path / "out" / shown[query]).is_file()
