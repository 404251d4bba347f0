"""The manifest file: what is written is read, and mistakes are named with their line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from audiosep.audio import write_audio
from audiosep.cli.manifests import read_inputs
from audiosep.data.manifest import Clip, read_manifest, write_manifest
from audiosep.data.readers import read_audiosep, read_csv
from audiosep.errors import DataError


def test_round_trip_with_paths_relative_to_the_manifest(tmp_path):
    inside = Clip(
        "a", str(tmp_path / "audio/ä.wav"), "dog barking", captions=("a dog", "Dog "), split="val", gain_db=-3.5
    )
    outside = Clip("b", "/elsewhere/shard.tar", "rain", member="b.opus", song="s", stem="other", group="song:s")
    write_manifest(tmp_path / "m.jsonl", [inside, outside])
    rows = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["path"] for row in rows] == ["audio/ä.wav", "/elsewhere/shard.tar"]
    assert read_manifest(tmp_path / "m.jsonl") == [inside, outside]
    (tmp_path / "m.jsonl").rename(tmp_path.with_name("moved.jsonl"))
    assert read_manifest(tmp_path.with_name("moved.jsonl"))[0].path == str(tmp_path.parent / "audio/ä.wav")


def test_captions_may_hold_any_character(tmp_path):
    clip = Clip("a", str(tmp_path / "a.wav"), "dog barking", captions=("a\u2028dog\x85barks",))
    write_manifest(tmp_path / "m.jsonl", [clip])
    assert read_manifest(tmp_path / "m.jsonl") == [clip]


def test_texts_are_the_label_and_the_captions_once_each():
    assert Clip("a", "a.wav", "Dog barking", captions=("a dog ", "dog barking", "")).texts == ("dog barking", "a dog")
    accents = ("un chien l'e\u0301te\u0301", "Un chien l'\u00e9t\u00e9")  # once as letters with combining accents
    assert Clip("a", "a.wav", "chien", captions=accents).texts == ("chien", "un chien l'\u00e9t\u00e9")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"id": "a", "path": "a.wav", "label": "x", "colour": 1}', "line 2.*colour"),
        ('{"id": "a", "path": "a.wav"}', "line 2.*label"),
        ('{"id": "ok", "path": "a.wav", "label": "x"}', "already used in line 1"),
        ('{"id": "a", "path": "a.wav", "label": "x", "stem": "lute"}', "lute.*vocals"),
        ('{"id": "a", "path": "a.wav", "label": "x", "split": "mine"}', "'mine'"),
        ("{", "line 2"),
        ('{"id": "a", "path": "", "label": "x"}', "line 2: path is empty: name the recording"),
        ('{"id": "a", "path": "a.wav", "label": " "}', "line 2: label is empty"),
        ('{"id": "a", "path": "a.wav", "label": "x", "family": ""}', "line 2: family is empty"),
        ('{"id": "a", "path": "a.wav", "label": "x", "seconds": -3}', "line 2: seconds"),
        ('{"id": "a", "path": "a.wav", "label": "x", "start": NaN}', "line 2: start"),
        ('{"id": "a", "path": "a.wav", "label": "x", "channel": -1}', "line 2: channel"),
        ('{"id": "a", "path": "a.wav", "label": "x", "gain_db": Infinity}', "line 2: gain_db"),
        ('{"id": "a", "path": "a.wav", "label": "k\xe4se"}', "not text in UTF-8"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, problem):
    path = tmp_path / "m.jsonl"
    path.write_text('{"id": "ok", "path": "a.wav", "label": "x"}\n' + line + "\n", encoding="latin-1")
    with pytest.raises(DataError, match=problem):
        read_manifest(path)


def test_no_manifest_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match="audiosep data build"):
        read_manifest(tmp_path / "none.jsonl")


def test_nothing_is_written_when_two_clips_share_an_id(tmp_path):
    with pytest.raises(DataError, match="'a'"):
        write_manifest(tmp_path / "m.jsonl", [Clip("a", "x.wav", "x"), Clip("a", "y.wav", "y")])
    assert list(tmp_path.iterdir()) == []


def test_paths_in_manifests_and_tables_may_start_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    folder = tmp_path / "lists"
    folder.mkdir()
    audio = tmp_path / "a.wav"
    write_audio(audio, np.full((1, 8000), 0.1, np.float32), 16000)
    (folder / "m.jsonl").write_text(json.dumps({"id": "a", "path": "~/a.wav", "label": "dog"}))
    (folder / "t.csv").write_text("path,label\n~/a.wav,dog\n")
    (folder / "t.json").write_text(json.dumps({"data": [{"wav": "~/a.wav", "caption": "dog"}]}))
    (folder / "list.txt").write_text("~/a.wav\n")
    (folder / "m.m3u").write_text("#EXTM3U\n~/a.wav\n")
    for clips in (read_manifest(folder / "m.jsonl"), read_csv(folder / "t.csv"), read_audiosep(folder / "t.json")):
        assert [clip.path for clip in clips] == [str(audio)]
    for name in ("list.txt", "m.m3u"):
        assert read_inputs(folder / name) == [str(audio)]
    (folder / "~x.wav").touch()
    (folder / "list.txt").write_text("~x.wav\n")
    assert read_inputs(folder / "list.txt") == [str(folder / "~x.wav")]
