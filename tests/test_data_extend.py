"""Extending a manifest: nothing that is held back gets into training, by label, group or audio."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

import corpora
import numpy as np
import pytest
import soundfile
import sounds

from audiosep.cli import main
from audiosep.cli.standard_error import Bar
from audiosep.data import fingerprint
from audiosep.data.extend import extend_manifest
from audiosep.data.fingerprint import RATE, Fingerprints
from audiosep.data.manifest import Clip, read_manifest, write_manifest
from audiosep.errors import AudioError, DataError


def recording(seed: int, seconds: float = 8.0) -> np.ndarray:
    """Sung syllables over a loop, other ones for every seed."""
    return 0.5 * sounds.voice(seconds, RATE, seed) + 0.3 * sounds.loop(seconds, RATE, 0.8, seed)


def known(recordings: Iterable[np.ndarray]) -> Fingerprints:
    prints = Fingerprints()
    for x in recordings:
        prints.add(x)
    return prints


@pytest.mark.parametrize(("start", "seconds"), [(0, 2.0), (9_001, 2.5), (9_001, 4.0), (8 * RATE - 16_500, 2.0)])
def test_a_part_is_found_despite_gain_noise_and_coding(tmp_path: Path, start: int, seconds: float) -> None:
    recordings = [recording(seed) for seed in range(4)]
    prints = known(recordings)
    random = np.random.default_rng(0)
    for number, x in enumerate(recordings):
        piece = 0.3 * x[start : start + round(seconds * RATE)]
        piece = piece + 0.1 * piece.std() * random.standard_normal(len(piece))
        path = tmp_path / f"{number}.ogg"
        soundfile.write(path, piece, RATE, format="OGG", subtype="VORBIS")
        match = prints.match(soundfile.read(path, dtype="float32")[0])
        assert match is not None
        assert match[0] == number


def note(seed: int, seconds: float = 3.0) -> np.ndarray:
    """A decaying note of one pitch, with partials and phases of its own."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    partials = [
        random.uniform(0.2, 1) / k * np.sin(2 * np.pi * 220 * k * time + random.uniform(0, 6.28)) for k in range(1, 15)
    ]
    return (np.sum(partials, 0) * np.exp(-time) + 1e-3 * random.standard_normal(len(time))).astype(np.float32)


def test_other_recordings_are_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    prints = known([*(recording(seed) for seed in range(6)), *(note(seed) for seed in range(6))])
    others = [*(recording(seed) for seed in range(10, 16)), *(note(seed) for seed in range(10, 16))]
    others += [np.zeros(3 * RATE, np.float32), sounds.noise(4, RATE, seed=99)]
    assert all(prints.match(x) is None for x in others)
    assert Fingerprints().match(recording(0)) is None
    whole = prints.match(recording(5))
    monkeypatch.setattr(fingerprint, "_ROWS", 16)  # in many small blocks
    assert prints.match(recording(5)) == whole
    monkeypatch.setattr(fingerprint, "_CANDIDATES", 1)  # the nearest by its coarse signs is the one
    assert prints.match(recording(5)) == whole
    assert whole is not None
    assert whole[0] == 5


def test_short_and_silent_recordings_have_fingerprints() -> None:
    short = recording(0, 0.1)
    assert fingerprint.fingerprint(short).shape[0] == fingerprint.fingerprint(recording(0)).shape[0]
    assert known([short, np.zeros(RATE, np.float32)]).match(np.zeros(RATE, np.float32)) is None


def test_frames_far_below_the_loudest_have_no_signs() -> None:
    hiss = 1e-5 * sounds.noise(2, RATE, seed=1)
    signs = fingerprint.fingerprint(np.concatenate([recording(0, 2.0), hiss]))
    half = signs.shape[1] // 2
    assert signs[:, : half - 8].abs().mean() > 0.5
    assert not signs[:, half + 8 :].any()


@pytest.fixture
def corpus(tmp_path: Path) -> tuple[list[Clip], list[Clip]]:
    """A manifest with one clip in each split, and new clips: one of them fine, the others not."""

    def clip(name: str, label: str, seed: int, split: str = "train", group: str = "") -> Clip:
        path = corpora.write(tmp_path / f"{name}.flac", recording(seed), RATE)
        return Clip(name, str(path), label, seconds=8.0, group=group or f"file:{name}", split=split)  # type: ignore[arg-type]

    clips = [clip("a", "rain", 0), clip("b", "wind", 1, "val", "origin:b"), clip("c", "thunder", 2, "zero")]
    more = [
        clip("fine", "rain", 3),
        clip("aside", "rain", 7, "test", "song"),
        clip("beside", "rain", 8, group="song"),
        clip("group", "wind", 4, group="origin:b"),
        clip("kind", "thunderstorm", 5),
        dataclasses.replace(clip("named", "weather", 6), captions=("distant thunder",)),
        clip("copy", "kettle", 1),
        dataclasses.replace(clips[0], id="again"),
    ]
    return clips, more


def test_clips_that_leak_held_back_material_are_left_out(corpus: tuple[list[Clip], list[Clip]]) -> None:
    clips, more = corpus
    done: list[float] = []
    found = extend_manifest(clips, more, progress=done.append)
    assert found.clips[:3] == clips
    assert found.clips[3:] == more[:1]
    reasons = {
        "aside": "its source assigns it to the split test",
        "beside": "in the same group as aside, which is held back",
        "group": "in the same group as b, which is held back",
        "kind": "label or captions match a label held out of training",
        "named": "label or captions match a label held out of training",
        "copy": "a copy of b, which is held back",
        "again": "already in the manifest, as a",
    }
    assert found.left_out == reasons
    assert done[-1] == 1.0
    assert done == sorted(done)
    without = extend_manifest(clips, more, sound=False)
    assert [clip.id for clip in without.clips[3:]] == ["fine", "copy"]


def test_a_part_of_a_held_back_recording_is_left_out(corpus: tuple[list[Clip], list[Clip]], tmp_path: Path) -> None:
    clips, more = corpus
    path = corpora.write(tmp_path / "piece.flac", 0.5 * recording(1)[2 * RATE :], RATE)
    found = extend_manifest(clips, [dataclasses.replace(more[0], path=str(path))])
    assert found.left_out["fine"].startswith("shares audio with b, which is held back")


def test_a_comparison_that_was_stopped_goes_on(corpus: tuple[list[Clip], list[Clip]], tmp_path: Path) -> None:
    clips, more = corpus
    new = [
        more[0],
        more[6],
        *(dataclasses.replace(clip, group=clip.id, split="train", label="rain") for clip in more[1:4]),
    ]
    finished = tmp_path / "out.compared"

    def stop(fraction: float) -> None:
        if fraction >= 0.7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extend_manifest(clips, new, progress=stop, finished=finished)
    with finished.open("a") as file:
        file.write('{"half of a li')
    done: list[float] = []
    found = extend_manifest(clips, new, progress=done.append, finished=finished)
    assert found == extend_manifest(clips, new)
    assert found.left_out == {"copy": "a copy of b, which is held back"}
    assert len(done) == 2 + 2  # the held-back clips, and the new ones that were missing
    extend_manifest(clips, new, progress=done.append, finished=finished)
    assert len(done) == 4
    corpora.write(Path(new[0].path), recording(1), RATE)  # another recording
    assert "fine" in extend_manifest(clips, new, finished=finished).left_out
    extend_manifest(
        [*clips[:2], dataclasses.replace(clips[2], start=1.0)], new, progress=done.append, finished=finished
    )
    assert len(done) == 4 + 2 + len(new)  # others are held back


def test_labels_of_the_zero_split_that_are_trained_on_may_be_added(corpus: tuple[list[Clip], list[Clip]]) -> None:
    """Rain with thunder in it is in the zero split; other rain is trained on, and may be added."""
    clips, more = corpus
    along = dataclasses.replace(more[2], id="along", split="zero", captions=("rain and thunder",), group="along")
    assert "fine" not in extend_manifest([*clips, along], more[:1], sound=False).left_out
    alone = [clip for clip in clips if clip.label != "rain"]
    assert "fine" in extend_manifest([*alone, along], more[:1], sound=False).left_out


def test_wrong_clips_are_refused(corpus: tuple[list[Clip], list[Clip]], tmp_path: Path) -> None:
    clips, more = corpus
    with pytest.raises(DataError, match="two clips have the id 'a'"):
        extend_manifest(clips, [dataclasses.replace(more[0], id="a")])
    with pytest.raises(DataError, match="two clips have the id 'fine'"):
        extend_manifest(clips, [more[0], more[0]])
    with pytest.raises(DataError, match="no held-back clips"):
        extend_manifest(clips[:1], more)
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    broken = dataclasses.replace(more[0], id="broken", path=str(tmp_path / "broken.wav"))
    with pytest.raises(AudioError, match=r"broken\.wav.*--skip-broken"):
        extend_manifest(clips, [broken])
    found = extend_manifest(clips, [more[0], broken], on_error="skip")
    assert [clip.id for clip in found.clips[3:]] == ["fine"]
    assert "broken.wav" in found.left_out["broken"]
    assert extend_manifest(clips, [], progress=print).clips == clips


def test_a_folder_of_equal_names_is_another_source_and_a_grown_one_is_not(tmp_path: Path) -> None:
    seeds = iter(range(20))
    for name in ("mine/wind/1", "mine/wind/2", "mine/rain/day/1", "other/rain/day/1"):
        corpora.write(tmp_path / f"{name}.wav", recording(next(seeds)), RATE)
    manifest, out = tmp_path / "m.jsonl", tmp_path / "more.jsonl"
    assert main(["data", "build", str(tmp_path / "mine"), "-o", str(manifest), "--no-split", "--quiet"]) == 0
    clips = [dataclasses.replace(c, split="val" if c.label == "rain" else "train") for c in read_manifest(manifest)]
    write_manifest(manifest, clips)
    corpora.write(tmp_path / "mine/rain/day/2.wav", recording(next(seeds)), RATE)
    folders = [str(tmp_path / "mine"), str(tmp_path / "other")]
    assert main(["data", "extend", str(manifest), *folders, "-o", str(out), "--no-sound", "--quiet"]) == 0
    added = {clip.id: clip.group for clip in read_manifest(out)[len(clips) :]}
    assert added == {"other/rain/day/1.wav": "file:other/rain/day"}


def test_the_command_extends_a_manifest(
    corpus: tuple[list[Clip], list[Clip]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(bar: Bar, fraction: float) -> None:
        raise KeyboardInterrupt

    clips, _ = corpus
    manifest, out = tmp_path / "m.jsonl", tmp_path / "more.jsonl"
    write_manifest(manifest, clips)
    for name, label, seed in (("1", "kettle", 7), ("2", "kettle", 1), ("3", "thunder", 8)):
        corpora.write(tmp_path / "sounds" / label / f"{name}.wav", recording(seed), RATE)
    command = ["data", "extend", str(manifest), str(tmp_path / "sounds"), "-o", str(out)]
    assert main([*command, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["added"] == 1
    assert sorted(said["left_out"]) == ["kettle/2.wav", "thunder/3.wav"]
    assert [clip.id for clip in read_manifest(out)] == ["a", "b", "c", "kettle/1.wav"]
    assert main([*command, "--no-sound"]) == 0
    text = capsys.readouterr().out
    assert "2 clips added" in text
    assert "thunder/3.wav: label or captions match a label held out of training" in text
    before = out.read_bytes()
    assert main(["data", "extend", str(out), str(tmp_path / "sounds"), "-o", str(out), "--no-sound"]) == 0
    assert "sounds/kettle/1.wav: already in the manifest, as kettle/1.wav" in capsys.readouterr().out
    assert out.read_bytes() == before
    with monkeypatch.context() as patch:
        patch.setattr(Bar, "__call__", interrupt)
        assert main(command) == 130
    assert f"goes on, with {out}.compared" in capsys.readouterr().err
    (tmp_path / "sounds/kettle/4.wav").write_bytes(b"RIFF")
    assert main(command) == 1
    assert "4.wav" in capsys.readouterr().err
    assert main([*command, "--skip-broken", "--quiet"]) == 0
    assert not out.with_name(f"{out.name}.compared").exists()
