"""Every layout that a user may have, with real audio bytes."""

from __future__ import annotations

import json

import corpora
import numpy as np
import pytest
import soundfile
import sounds

from audiosep.data import layouts, readers
from audiosep.data.clip_audio import decode_many
from audiosep.data.manifest import Clip
from audiosep.data.shards import group_of
from audiosep.data.splits import groups
from audiosep.errors import AudioError, DataError

X = sounds.voice(0.6, corpora.RATE)


def lengths(clips: list[Clip]) -> list[int]:
    """Samples of each clip at 16 kHz."""
    return [len(x) for x in decode_many(clips, 16000) if not isinstance(x, AudioError)]


def test_folders(tmp_path, caplog):
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
    assert "left out: 1 recording directly in" in caplog.text
    assert "no recordings in" not in caplog.text
    (tmp_path / "a bell/notes").mkdir(parents=True)
    (tmp_path / "a bell/notes/list.txt").write_text("to record")
    (tmp_path / ".cache").mkdir()
    layouts.read_clips(tmp_path)
    assert f"no recordings in 1 folder of {tmp_path}: a bell\n" in caplog.text


def test_a_plus_in_a_name_joins_no_groups(tmp_path):
    for number in range(12):
        corpora.write(tmp_path / f"drum+bass/{number}.wav", X)
    clips = layouts.read_clips(tmp_path)
    assert len(set(groups(clips).values())) == 12


def test_sources_with_equal_names_share_neither_songs_nor_groups(tmp_path):
    for folder in ("one/01", "two/01", "two/02"):
        for stem in ("vocals", "drums"):
            corpora.write(tmp_path / folder / f"{stem}.wav", X)
    one, two = layouts.read_sources([tmp_path / "one", tmp_path / "two"])
    assert {(c.song, c.group) for c in one} == {("01", "song:01")}
    assert {(c.song, c.group) for c in two} == {("two/01", "song:two/01"), ("two/02", "song:two/02")}
    corpora.write(tmp_path / "two/01/bass.wav", X)
    (grown,) = layouts.read_sources([tmp_path / "two"], taken=[*one, *two])
    assert {(c.id, c.song) for c in grown if c.stem == "bass"} == {("two (2)/01/bass", "two/01")}
    (again,) = layouts.read_sources([tmp_path / "one"], taken=[*one, *two])
    assert {(c.id, c.song) for c in again} == {("one/01/vocals", "01"), ("one/01/drums", "01")}
    row = "path,label,group\n1.wav,wind,speaker:a+file:1.wav\n"
    for folder in ("a", "b+c"):
        corpora.write(tmp_path / folder / "1.wav", X)
        (tmp_path / folder / "t.csv").write_text(row)
    first, second = layouts.read_sources([tmp_path / "a/t.csv", tmp_path / "b+c/t.csv"])
    assert [c.group for c in (*first, *second)] == ["speaker:a+file:1.wav", "speaker:a+file:t.csv/1.wav"]


def test_folders_with_the_name_of_nothing_are_refused(tmp_path):
    corpora.write(tmp_path / " _/1.wav", X)
    with pytest.raises(DataError, match=r"1\.wav: label is empty"):
        layouts.read_clips(tmp_path)


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


def test_stems_outside_of_song_folders_are_refused(tmp_path):
    corpora.write(tmp_path / "my_song/vocals.wav", X)
    with pytest.raises(DataError, match="my_song: there are stems directly in it: give the folder that it lies in"):
        layouts.read_clips(tmp_path / "my_song", "songs")
    assert [clip.song for clip in layouts.read_clips(tmp_path, "songs")] == ["my_song"]


def test_audiosep_json(tmp_path):
    corpora.write(tmp_path / "audio/1.wav", X)
    rows = {"data": [{"wav": "audio/1.wav", "caption": "A dog barks"}, {"wav": "audio/1.wav", "caption": ["b", "c"]}]}
    (tmp_path / "d.json").write_text(json.dumps(rows))
    clips = layouts.read_clips(tmp_path / "d.json")
    assert [(c.label, c.captions) for c in clips] == [("a dog barks", ("A dog barks",)), ("b", ("b", "c"))]
    assert {clip.group for clip in clips} == {"file:audio/1.wav"}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('[{"wav": "x"}]', '"caption": ...'),
        ('{"data": [{"wav": "x"}]}', "there is no 'caption'"),
        ('{"data": [{"wav": "x", "caption": 4}]}', "item 0: caption must be a text or a list of texts, got 4"),
        ('{"data": [{"wav": "audio/1.wav", "caption": " "}]}', r"item 0: caption must be .* got ' '"),
        ("{", r"d\.json is not JSON"),
        ('{"data": []}', "no clips"),
    ],
)
def test_another_json_file_is_refused(tmp_path, content, problem):
    corpora.write(tmp_path / "audio/1.wav", X)
    (tmp_path / "d.json").write_text(content)
    with pytest.raises(DataError, match=problem):
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
    assert first.group == second.group
    corpora.write(tmp_path / "b/1.flac", X)
    table.write_bytes("path,label\r\na/1.flac,e\u0301clair\r\nb/1.flac,\u00e9clair\r\n".encode())
    assert [(clip.label, clip.group) for clip in layouts.read_clips(table)] == [
        ("\u00e9clair", "file:a/1.flac"), ("\u00e9clair", "file:b/1.flac")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ("path,label,colour\na/1.flac,x,red", "unknown column 'colour'"),
        ("path;label\na/1.flac;x", "no column 'label' in its first line 'path;label'"),
        ("path,label,seconds\na/1.flac,x,long", "line 2: column 'seconds' must hold a number, got 'long'"),
        ("path,label\na/1.flac,x,y", "line 2: more cells than columns, 'y'"),
        ("path,label\na/1.flac", "line 2: label is empty"),
        ("path,label\n,x", "line 2: path is empty: name the recording, or take the row out"),
        ("path,label\na/1.flac,x\n\n ,x", "line 4: path is empty"),
        ("path,label\na/1.flac,  ", "line 2: label is empty"),
        ("path,label,start\na/1.flac,x,-1", "line 2: start must be"),
        ("path,label,start\na/1.flac,x,nan", "line 2: start must be"),
        ("path,label,start\na/1.flac,x,10", r"line 2: .*1\.flac lasts 0\.60 s: there is no clip from 10 s to its end"),
        ("path,label,seconds\na/1.flac,x,99", "line 2: .* no clip from 0 s to 99 s"),
        ("path,label,channel\na/1.flac,x,1", "line 2: .* no channel 1"),
        ("path,label\nb.flac,x", r"line 2: .*b\.flac"),
        ("path,label", "no clips"),
        ("path,label\na/1.flac,k\xe4se", "UTF-8"),
    ],
)
def test_wrong_rows_of_a_table_are_named(tmp_path, rows, problem):
    corpora.write(tmp_path / "a/1.flac", X)
    (tmp_path / "t.csv").write_text(rows, encoding="latin-1")
    for on_error in ("raise", "skip") if "empty" in problem else ("raise",):
        with pytest.raises(DataError, match=problem):
            layouts.read_clips(tmp_path / "t.csv", on_error=on_error)


def test_empty_rows_of_a_table_are_none(tmp_path):
    corpora.write(tmp_path / "a/1.flac", X)
    (tmp_path / "t.csv").write_text("path,label,family\na/1.flac,x,\n,,\n\n,,\n")
    assert len(layouts.read_clips(tmp_path / "t.csv")) == 1


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("wav", ["", " ", None, 3])
def test_items_without_a_path_are_named(tmp_path, wav, on_error):
    corpora.write(tmp_path / "a.flac", X)
    rows = [{"wav": "a.flac", "caption": "rain"}, {"wav": wav, "caption": "a dog"}]
    (tmp_path / "d.json").write_text(json.dumps({"data": rows}))
    with pytest.raises(DataError, match=rf"item 1: wav must be the path of a recording, got {wav!r}"):
        layouts.read_clips(tmp_path / "d.json", on_error=on_error)


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
    assert group_of({"speaker": "李 明,Ana Gómez-Ruiz "}) == "speaker:李-明+speaker:ana-gómez-ruiz"
    assert lengths(clips) == [len(X)] * 2
    (tmp_path / "index.jsonl").write_text(json.dumps({"id": "e2", "shard": "s-0.tar", "label": "x"}))
    with pytest.raises(DataError, match=r"s-0.tar has no member for 'e2'"):
        layouts.read_clips(tmp_path)
    (tmp_path / "index.jsonl").write_text(json.dumps({"id": "e2", "shard": "s-0.tar"}))
    with pytest.raises(DataError, match="line 1: no 'label'"):
        layouts.read_clips(tmp_path)
    (tmp_path / "index.jsonl").write_text(json.dumps(rows[0] | {"seconds": -1}))
    with pytest.raises(DataError, match="line 1: seconds must be"):
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
    stored["bytes"] = corpora.encode(X[::-1].copy(), 16000, "y.opus")
    unnamed = {**values, "label": [1, -1]} if caption else values
    again = datasets.Dataset.from_dict(unnamed, features=datasets.Features(features))
    again = again.cast_column("audio", datasets.Audio(decode=False))
    datasets.DatasetDict({"train": again, "test": again}).save_to_disk(str(tmp_path / "set"))
    before = [x.copy() for x in decode_many(clips, 16000)]
    renewed = layouts.read_clips(tmp_path / "set")  # another sound in a row takes the place of the old one
    after = list(decode_many(renewed, 16000))
    assert [np.allclose(a, b, atol=0.05) for a, b in zip(before, after, strict=True)] == [True, False, True, False]
    assert renewed[1].label == ("a cat" if caption else "my cat")  # a missing label is not the last one's
    rows.rename_column("audio", "sound").save_to_disk(str(tmp_path / "other"))
    with pytest.raises(DataError, match=r"the columns sound, label.*expected 'audio'"):
        layouts.read_clips(tmp_path / "other")


def test_broken_files_are_named_and_skipped_only_on_request(tmp_path):
    corpora.write(tmp_path / "kettle/good.wav", X)
    (tmp_path / "kettle/empty.wav").write_bytes(b"")
    (tmp_path / "kettle/noise.flac").write_bytes(b"fLaC" + bytes(100))
    soundfile.write(tmp_path / "kettle/nine.wav", np.zeros((100, 9)), 16000)
    soundfile.write(tmp_path / "kettle/slow.wav", np.zeros(100), 2000)
    soundfile.write(tmp_path / "kettle/void.wav", np.zeros(0), 16000)
    names = ("empty", "nine", "noise", "slow", "void")
    with pytest.raises(DataError, match=r"5 broken files(.|\n)*" + r"(.|\n)*".join(names)):
        layouts.read_clips(tmp_path)
    assert [c.id for c in layouts.read_clips(tmp_path, on_error="skip")] == ["kettle/good.wav"]


def test_an_unknown_layout_says_what_is_expected(tmp_path):
    with pytest.raises(DataError, match="<label>"):
        layouts.read_clips(tmp_path)
    with pytest.raises(DataError, match=r"AudioSep's \.json"):
        layouts.read_clips(tmp_path / "nothing")
    with pytest.raises(DataError, match="shards"):
        layouts.read_clips(tmp_path, kind="parquet")
