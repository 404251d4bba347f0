"""Every layout that a user may have, with real audio bytes."""

from __future__ import annotations

import json

import corpora
import numpy as np
import pytest
import sounds

from audiosep.data import layouts, readers
from audiosep.data.clip_audio import decode_many
from audiosep.data.manifest import Clip
from audiosep.errors import AudioError, DataError

X = sounds.voice(0.6, corpora.RATE)


def lengths(clips: list[Clip]) -> list[int]:
    """Samples of each clip at 16 kHz."""
    return [len(x) for x in decode_many(clips, 16000) if not isinstance(x, AudioError)]


def test_folders(tmp_path):
    corpora.write(tmp_path / "Tea_kettle/1.wav", X)
    corpora.write(tmp_path / "Tea_kettle/2.opus", X)
    corpora.write(tmp_path / "my-cat/monday/a.flac", np.stack([X, X], 1))
    corpora.write(tmp_path / "my-cat/monday/b.flac", X)
    corpora.write(tmp_path / "loose.wav", X)
    (tmp_path / "my-cat/notes.txt").write_text("no audio")
    clips = layouts.read_clips(tmp_path)
    assert [(c.label, c.group) for c in clips] == [
        ("tea kettle", "file:Tea_kettle/1.wav"),
        ("tea kettle", "file:Tea_kettle/2.opus"),
        ("my cat", "file:my-cat/monday"),
        ("my cat", "file:my-cat/monday"),
    ]
    assert {c.source_rate for c in clips} == {corpora.RATE}
    assert lengths(clips) == [len(X)] * 4


def test_songs(tmp_path):
    for name in ("vocals", "drums", "bass", "other", "mixture"):
        corpora.write(tmp_path / f"train/A - One/{name}.wav", X)
        corpora.write(tmp_path / f"test/B - Two/{name}.wav", X)
    clips = layouts.read_clips(tmp_path)
    assert len(clips) == 8
    assert {c.song: c.split for c in clips} == {"train/A - One": "train", "test/B - Two": "test"}
    assert {c.label: c.stem for c in clips}["accompaniment"] == "other"
    assert "singing voice" in next(c for c in clips if c.stem == "vocals").captions
    corpora.write(tmp_path / "train/A - One/guitar.wav", X)
    guitar = next(c for c in readers.read_songs(tmp_path) if c.label == "guitar")
    assert (guitar.stem, guitar.family) == ("other", "music")


def test_audiosep_json(tmp_path):
    corpora.write(tmp_path / "audio/1.wav", X)
    rows = {"data": [{"wav": "audio/1.wav", "caption": "A dog barks"}, {"wav": "audio/1.wav", "caption": ["b", "c"]}]}
    (tmp_path / "d.json").write_text(json.dumps(rows))
    clips = layouts.read_clips(tmp_path / "d.json")
    assert [(c.label, c.captions) for c in clips] == [("a dog barks", ("A dog barks",)), ("b", ("b", "c"))]
    assert clips[0].group == clips[1].group
    (tmp_path / "d.json").write_text('[{"wav": "x"}]')
    with pytest.raises(DataError, match="caption"):
        layouts.read_clips(tmp_path / "d.json")


def test_csv(tmp_path):
    corpora.write(tmp_path / "a/1.flac", X)
    table = tmp_path / "t.csv"
    table.write_text(
        "path,label,captions,start,seconds,split\na/1.flac,Kettle,boiling | steam,0.1,0.25,val\na/1.flac,pot,,,,\n"
    )
    first, second = layouts.read_clips(table)
    assert (first.label, first.captions, first.split) == ("kettle", ("boiling", "steam"), "val")
    assert lengths([first, second]) == [4000, len(X)]
    table.write_text("path,label,colour\na/1.flac,x,red\n")
    with pytest.raises(DataError, match="unknown column 'colour'"):
        layouts.read_clips(table)
    table.write_text("path,label,seconds\na/1.flac,x,long\n")
    with pytest.raises(DataError, match=r"line 2.*long"):
        layouts.read_clips(table)


def test_shards(tmp_path):
    members = {"e1.opus": corpora.encode(X, 16000, "x.opus"), "song0/bass.flac": corpora.encode(X, 16000, "x.flac")}
    corpora.write_shard(tmp_path / "s-0.tar", members)
    rows = [
        {"id": "e1", "shard": "s-0.tar", "label": "Rain", "speaker": "ann,bob", "source": "home", "seconds": 0.6},
        {"id": "song0/bass", "shard": "s-0.tar", "label": "bass", "song": "song0", "stem": "bass", "gain_db": -2.5},
    ]
    (tmp_path / "index.jsonl").write_text("\n".join(map(json.dumps, rows)))
    clips = layouts.read_clips(tmp_path)
    assert [(c.member, c.label, c.family) for c in clips] == [
        ("e1.opus", "rain", "event"),
        ("song0/bass.flac", "bass", "music"),
    ]
    assert [c.group for c in clips] == ["speaker:ann+speaker:bob", "song:song0"]
    assert lengths(clips) == [len(X)] * 2
    (tmp_path / "index.jsonl").write_text(json.dumps({"id": "e2", "shard": "s-0.tar", "label": "x"}))
    with pytest.raises(DataError, match=r"s-0.tar has no member for 'e2'"):
        layouts.read_clips(tmp_path)
    (tmp_path / "index.jsonl").write_text(json.dumps({"id": "e2", "shard": "s-0.tar"}))
    with pytest.raises(DataError, match="line 1: no 'label'"):
        layouts.read_clips(tmp_path)


@pytest.mark.parametrize("caption", [False, True])
def test_huggingface(tmp_path, caption):
    datasets = pytest.importorskip("datasets")
    path = str(corpora.write(tmp_path / "x.flac", X))
    stored = {"path": "y.opus", "bytes": corpora.encode(X, 16000, "y.opus")}
    values = {"audio": [{"path": path, "bytes": None}, stored], "label": [1, 0]}
    features = {
        "audio": {"path": datasets.Value("string"), "bytes": datasets.Value("binary")},
        "label": datasets.ClassLabel(names=["my_cat", "kettle"]),
    }
    if caption:
        values["caption"] = ["steam", "a cat"]
        features["caption"] = datasets.Value("string")
    rows = datasets.Dataset.from_dict(values, features=datasets.Features(features))
    rows = rows.cast_column("audio", datasets.Audio(decode=False))
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(str(tmp_path / "set"))
    clips = layouts.read_clips(tmp_path / "set")
    assert [(c.label, c.split) for c in clips] == [
        ("kettle", "train"), ("my cat", "train"), ("kettle", "test"), ("my cat", "test")
    ]  # fmt: skip
    assert clips[1].captions == (("a cat",) if caption else ())
    assert lengths(clips) == [len(X)] * 4
    rows.rename_column("audio", "sound").save_to_disk(str(tmp_path / "other"))
    with pytest.raises(DataError, match=r"the columns sound, label.*expected 'audio'"):
        layouts.read_clips(tmp_path / "other")


def test_broken_files_are_named_and_skipped_only_on_request(tmp_path):
    corpora.write(tmp_path / "kettle/good.wav", X)
    (tmp_path / "kettle/empty.wav").write_bytes(b"")
    (tmp_path / "kettle/noise.flac").write_bytes(b"fLaC" + bytes(100))
    with pytest.raises(DataError, match=r"2 broken files(.|\n)*empty\.wav(.|\n)*noise\.flac"):
        layouts.read_clips(tmp_path)
    assert [c.id for c in layouts.read_clips(tmp_path, on_error="skip")] == ["kettle/good.wav"]


def test_an_unknown_layout_says_what_is_expected(tmp_path):
    with pytest.raises(DataError, match="<label>"):
        layouts.read_clips(tmp_path)
    with pytest.raises(DataError, match=r"AudioSep's \.json"):
        layouts.read_clips(tmp_path / "nothing")
    with pytest.raises(DataError, match="shards"):
        layouts.read_clips(tmp_path, kind="parquet")
