"""Stem files: a song and its stems as tracks of one MP4 file, with the metadata that DJ programs read."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run
from mutagen.mp4 import MP4, Atoms
from odd_files import tones

import audiosep
from audiosep.audio import AudioWriter, encode, probe, read_audio, write_audio
from audiosep.audio.covers import Cover
from audiosep.audio.stem_file import STEMS, TRACKS, add_metadata, metadata
from audiosep.errors import AudioError, InputError
from audiosep.separator import Separator

av = pytest.importorskip("av")

RATE = 44_100
PICTURE = b"\x89PNG\r\n" + bytes(200)


@pytest.fixture
def song(tmp_path: Path) -> Path:
    path = tmp_path / "song.flac"
    write_audio(path, tones(2, 1.5), RATE, tags={"title": "My song"}, cover=Cover(PICTURE))
    return path


def atom(path: Path) -> dict[str, Any]:
    """The JSON of `moov.udta.stem`, found by mutagen."""
    with path.open("rb") as file:
        found = Atoms(file)[b"moov.udta.stem"]
        whole, data = found.read(file)
        assert whole
        return dict(json.loads(data))


def tracks(path: Path) -> list[np.ndarray]:
    """(channels, samples) of every track, by ffmpeg's libraries."""
    found = []
    for number in range(len(TRACKS)):
        with av.open(str(path)) as file:
            found.append(np.concatenate([frame.to_ndarray() for frame in file.decode(audio=number)], 1))
    return found


def test_a_song_and_its_stems_are_tracks_of_one_file(run: Run, song: Path, mini_folder: Path, tmp_path: Path) -> None:
    model = ("-m", mini_folder, "-o", tmp_path / "out")
    code, out, err = run("stems", song, "-f", "Stem.MP4", *model)
    made = tmp_path / "out" / "song.stem.mp4"
    assert (code, out) == (0, f"{made}\n"), err
    assert run("stems", song, "-f", "flac", *model)[0] == 0
    with av.open(str(made)) as file:
        assert [stream.codec_context.name for stream in file.streams.audio] == 5 * ["aac"]
        assert [bool(stream.disposition & 1) for stream in file.streams.audio] == [True, False, False, False, False]
        assert [stream.metadata["handler_name"] for stream in file.streams.audio] == list(TRACKS)
    read = tracks(made)
    wanted = [read_audio(song)[0], *(read_audio(tmp_path / "out" / f"song ({name}).flac")[0] for name in STEMS)]
    for have, want in zip(read, wanted, strict=True):
        have = have[:, : want.shape[1]]
        assert np.square(have - want).sum() < 0.02 * np.square(want).sum()
    assert np.square(sum(read[1:]) - read[0]).sum() < 0.02 * np.square(read[0]).sum()
    played, _ = read_audio(made)  # what other programs play
    assert played.shape == wanted[0].shape
    assert probe(made).tags["title"] == "My song"
    assert MP4(made)["covr"][0] == PICTURE
    about = atom(made)
    assert about["version"] == 1
    assert {stem["name"]: stem["color"] for stem in about["stems"]} == {n.capitalize(): c for n, c in STEMS.items()}
    assert [about["mastering_dsp"][part]["enabled"] for part in ("compressor", "limiter")] == [False, False]


def test_from_python(mini: Separator, song: Path, tmp_path: Path) -> None:
    separated = mini.stems(song)
    (path,) = separated.save(tmp_path / "out", format="stem.mp4", bitrate=64)
    assert path.name == "song.stem.mp4"
    assert len(tracks(path)) == 5
    (named,) = separated.save(tmp_path, format="stem.mp4", template="{stem}/{file}")
    assert named == tmp_path / "stems" / "song.stem.mp4"
    assert path.stat().st_size < 0.6 * named.stat().st_size
    parts = {name: 20 * part for name, part in separated.items()}
    loud = audiosep.Separation(parts, separated.mix, RATE, complete=True)
    (path,) = loud.save(tmp_path, format="stem.mp4")
    gain = 1 / max(np.abs(part).max() for part in loud.values())
    assert gain < 0.8
    assert np.abs(tracks(path)[0]).max() == pytest.approx(gain * np.abs(loud.mix).max(), rel=0.1)  # one gain for all
    with pytest.raises(InputError, match=r"stem\.mp4 file holds a song and its stems"):
        audiosep.Separation({"piano": separated.mix}, separated.mix, RATE).save(tmp_path, format="stem.mp4")


def test_labels_of_all_stems_are_in_one_file(run: Run, song: Path, mini_folder: Path, tmp_path: Path) -> None:
    code, _, err = run("stems", song, "-f", "stem.mp4", "--labels", "-o", tmp_path / "out", "-m", mini_folder, "--json")
    assert code == 0, err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["song.stem.mp4", "song.stem.txt"]
    labels = [line.split("\t")[2] for line in (tmp_path / "out" / "song.stem.txt").read_text().splitlines()]
    assert set(labels) <= set(STEMS)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["separate", "SONG", "piano"], 2, "use `audiosep stems`"),
        (["stems", "SONG", "--only", "vocals"], 2, "without --only"),
        (["stems", "SONG", "--video"], 2, "videos keep the format"),
        (["stems", "SONG", "--on-clip", "float"], 2, "no floating-point samples"),
        (["stems", "SURROUND"], 1, "at most 2 channels"),
        (["stems", "SONG", "--bitrate", "2000"], 2, "kbit/s"),
    ],
)
def test_what_a_stem_file_cannot_hold(
    run: Run, song: Path, mini_folder: Path, tmp_path: Path, words: list[str], code: int, says: str
) -> None:
    write_audio(tmp_path / "surround.wav", np.zeros((6, 1000), np.float32), RATE)
    places = {"SONG": song, "SURROUND": tmp_path / "surround.wav"}
    command = [places.get(word, word) for word in words]
    found, _, err = run(*command, "-f", "stem.mp4", "-m", mini_folder, "-o", tmp_path / "out")
    assert (found, says in err) == (code, True), err
    assert not (tmp_path / "out").exists()


def test_a_stem_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: object) -> None:
        raise OSError("no space left")

    path, x = tmp_path / "a.stem.mp4", np.zeros((10, 5000), np.float32)
    monkeypatch.setattr(encode, "add_metadata", fail)
    writer = AudioWriter(path, RATE, 2, format="m4a", tracks=TRACKS)
    writer.write(x)
    with pytest.raises(AudioError, match="no space left"):
        writer.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match=r"\(10, samples\)"):
        AudioWriter(path, RATE, 2, format="m4a", tracks=TRACKS).write(x[:2])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("user_data", [b"", struct.pack(">I4s", 16, b"udta") + struct.pack(">I4s", 8, b"name")])
@pytest.mark.parametrize("large", [False, True])
def test_the_atom_goes_where_it_belongs(user_data: bytes, large: bool) -> None:
    media = struct.pack(">I4sQ", 1, b"mdat", 20) + b"abcd" if large else struct.pack(">I4s", 12, b"mdat") + b"abcd"
    header, last = struct.pack(">I4s", 12, b"mvhd") + b"efgh", struct.pack(">I4s", 8, b"free")
    content = header + user_data + (last if user_data else b"")
    file = io.BytesIO(media + struct.pack(">I4s", 8 + len(content), b"moov") + content)
    add_metadata(file)
    atoms = Atoms(file)
    assert [child.name for child in atoms.atoms] == [b"mdat", b"moov"]
    assert atoms[b"moov.udta.stem"].read(file) == (True, metadata())
    if user_data:
        assert [child.name for child in atoms[b"moov"].children] == [b"mvhd", b"udta", b"free"]
        assert [child.name for child in atoms[b"moov.udta"].children] == [b"name", b"stem"]
