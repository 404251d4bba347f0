"""Descriptions: scores over time, families, what is explained, formats, the verb; and the activity of targets."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Mixture
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import audiosep
from audiosep import Description, HeardSound, Separator, Span
from audiosep.atomic import PendingFile
from audiosep.audio import probe, read_audio, write_audio
from audiosep.cli import main
from audiosep.errors import Cancelled, InputError, ModelError, QueryError
from audiosep.hearing.activity import ActivityMeter
from audiosep.hearing.describing import Candidates, describe_recording
from audiosep.hearing.description import labels_text, strip
from audiosep.hearing.replayable_recording import recording_of
from audiosep.hearing.score_track import NOTHING, ScoreTrack, SoundScores, TagScores
from audiosep.hearing.vocabulary import vocabulary
from audiosep.models.refinement import Heard

EXAMPLES = Path(__file__).parents[1] / "examples" / "audio"
RATE = 4000


def hear_level(windows: Tensor) -> Heard:
    """Two tags: how loud a window is, and its opposite; and an embedding that turns with the level."""
    level = 10 * torch.log10(windows.square().mean((1, 2)))
    return Heard(
        torch.stack([torch.cos(level / 20), torch.sin(level / 20)], 1), torch.stack([level + 30, -30 - level], 1)
    )


def scores(names: int = 2) -> TagScores:
    return TagScores(torch.eye(2)[torch.arange(names) % 2], torch.zeros(names))


def loud_at(start: float, end: float, seconds: float = 20.0) -> np.ndarray:
    mix = 1e-2 * np.random.default_rng(0).standard_normal((1, int(seconds * RATE)))
    mix[:, int(start * RATE) : int(end * RATE)] *= 100
    return mix.astype(np.float32)


# ---- over time -------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 9 * RATE), st.lists(st.integers(100, 9000), min_size=1, max_size=8), st.sampled_from([1.0, 3.0]))
def test_scores_do_not_depend_on_the_blocks(length: int, sizes: list[int], window: float) -> None:
    mix = np.random.default_rng(0).standard_normal((2, length)).astype(np.float32)
    mix *= np.linspace(0.01, 1, length, dtype=np.float32)  # each window has a level of its own
    whole = ScoreTrack(hear_level, scores(), RATE, 0.25, window)
    expected = np.concatenate([whole.push(mix), whole.finish()])
    track = ScoreTrack(hear_level, scores(), RATE, 0.25, window)
    found, done = [], 0
    while done < length:
        size = sizes[len(found) % len(sizes)]
        found.append(track.push(mix[:, done : done + size]))
        done += size
    np.testing.assert_allclose(np.concatenate([*found, track.finish()]), expected, atol=1e-4)
    assert len(expected) == 1 + max(0, -(-(length - round(window * RATE)) // (RATE // 4)))


def test_all_of_a_recording_is_in_windows() -> None:
    heard: list[Tensor] = []

    def listen(windows: Tensor) -> Heard:
        heard.extend(windows[:, 0])
        return hear_level(windows)

    for seconds in (0.4, 1.5, 3.0, 4.0, 5.7):
        heard.clear()
        length = round(seconds * RATE)
        track = ScoreTrack(listen, scores(), RATE, 1.0, 3.0)
        track.push(np.arange(1, 1 + length, dtype=np.float32)[None])
        track.finish()
        count = 1 + max(0, -(-(length - 3 * RATE) // RATE))
        assert [int(window[0]) for window in heard] == [1 + k * RATE for k in range(count)]
        assert heard[-1].max() == length
        assert {len(window) for window in heard[:-1]} <= {3 * RATE}


def test_likeness_to_recordings_counts_less_that_of_what_is_most_alike() -> None:
    recordings = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    chosen = SoundScores(scores(), recordings, recordings)
    heard = Heard(torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), torch.zeros(3, 2))
    likeness = torch.tensor([[1.0, 0.6], [0.6, 1.0], [0.0, 0.8]])
    assert chosen.count == 2
    torch.testing.assert_close(chosen.of(heard), 16 * (likeness - likeness.amax(1, keepdim=True)))


def test_silent_windows_are_not_heard() -> None:
    track = ScoreTrack(hear_level, scores(), RATE, 0.5)
    assert (np.concatenate([track.push(np.zeros((1, 5 * RATE), np.float32)), track.finish()]) == NOTHING).all()


def test_a_sound_is_found_where_it_is() -> None:
    candidates = Candidates(("loud", "quiet"), (0, 1), scores())
    recording = recording_of(loud_at(6, 9), RATE)
    fractions: list[float] = []
    found = describe_recording(
        recording, candidates, hear_level, RATE, most=8, separate=None, progress=fractions.append
    )
    spans = {sound.name: sound.spans for sound in found}
    (loud,) = spans["loud"]
    assert loud == pytest.approx((6, 9), abs=0.8)
    assert spans["quiet"][0].start == 0
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    with pytest.raises(Cancelled):
        describe_recording(recording, candidates, hear_level, RATE, most=8, separate=None, progress=lambda _: False)


@pytest.mark.parametrize("stated", [True, False])
def test_progress_is_told_whatever_a_file_says_of_its_length(tmp_path: Path, stated: bool) -> None:
    candidates = Candidates(("loud", "quiet"), (0, 1), scores())
    pytest.importorskip("av")
    write_audio(tmp_path / "a.m4a", loud_at(6, 9), RATE)
    assert probe(tmp_path / "a.m4a").samples is None
    recording = recording_of(tmp_path / "a.m4a", None)
    fractions: list[float] = []
    describe_recording(
        recording if stated else replace(recording, seconds=None),
        candidates,
        hear_level,
        RATE,
        most=8,
        separate=None,
        progress=fractions.append,
    )
    assert fractions == sorted(fractions)
    assert len(fractions) > 3
    assert fractions[-1] == 1
    assert (0.2 < fractions[0] < 0.8) == stated


def test_one_name_of_a_family_is_told_and_what_it_explains_is_not() -> None:
    spill = np.eye(3, dtype=np.float32)
    candidates = Candidates(("animal", "dog", "wolf"), (0, 0, 1), TagScores(torch.eye(2)[[0, 0, 0]], torch.zeros(3)))
    recording = recording_of(loud_at(6, 9), RATE)

    def names(offsets: list[float], spill: np.ndarray) -> list[str]:
        chosen = Candidates(
            candidates.names, candidates.families, TagScores(candidates.scores.weights, torch.tensor(offsets)), spill
        )
        found = describe_recording(recording, chosen, hear_level, RATE, most=8, separate=None)
        return [sound.name for sound in found]

    assert names([0, 0, 5], spill) == ["dog", "wolf"]  # the special name of the two
    assert names([0, 5, 5], spill) == ["animal", "wolf"]  # unless the general one is surer
    explained = spill.copy()
    explained[2] = 1
    assert names([0, 0, 25], explained) == ["dog"]


def test_the_vocabulary_has_a_name_of_its_own_for_every_sound() -> None:
    known = vocabulary()
    assert len(known.classes) == 527
    assert len(set(known.names)) == len(known.names) == 280
    members = [number for numbers in known.members for number in numbers]
    assert len(members) == len(set(members))
    assert set(known.families) == set(range(max(known.families) + 1))
    named = {
        known.classes[number]: name
        for name, numbers in zip(known.names, known.members, strict=True)
        for number in numbers
    }
    assert named["Bark"] == named["Dog"] == "dog barking"
    assert "Silence" not in named


# ---- the activity of targets -----------------------------------------------------------------------------------------


def test_activity_is_where_the_target_is_loud_and_silence_is_none() -> None:
    target = np.zeros((1, 10 * RATE), np.float32)
    target[:, 3 * RATE : 4 * RATE] = 0.5
    mix = target + 0.01 * np.random.default_rng(0).standard_normal(target.shape).astype(np.float32)
    meter = ActivityMeter(2, RATE)
    targets = np.stack([target, np.zeros_like(target)])
    for start in range(0, 10 * RATE, 777):
        meter.measure(mix[:, start : start + 777], targets[..., start : start + 777])
    one, none = meter.finish()
    assert one.spans == (pytest.approx((3, 4), abs=0.08),)  # with margins for its edges
    assert none.spans == ()
    assert one.energy[int(3.5 / one.step)] == pytest.approx(20 * np.log10(0.5), abs=0.1)
    assert none.energy.max() == pytest.approx(-100, abs=0.01)
    assert len(one.energy) == len(one.presence) == 100
    assert none.presence.max() == 0


def test_every_result_has_the_activity_of_its_targets(separator: Separator, mixture: Mixture, tmp_path: Path) -> None:
    mix = mixture(1.0, 44100, 2)
    out = separator.separate(mix, ["dog", "cat"], sample_rate=44100)
    assert list(out.activity) == ["dog", "cat"]
    assert out.activity["dog"].step == pytest.approx(0.1)
    assert list(separator.stems(mix, sample_rate=44100).activity) == list(separator.stem_names)
    write_audio(tmp_path / "mix.wav", mix, 44100, depth="float")
    (result,) = separator.separate_files(tmp_path / "mix.wav", ["dog", "cat"], tmp_path / "out").results
    assert {name: one.spans for name, one in result.activity.items()} == {
        name: one.spans for name, one in out.activity.items()
    }
    stream = separator.stream("dog", sample_rate=44100, channels=2)
    stream.push(mix)
    stream.finish()
    assert stream.activity == {}


# ---- what comes out --------------------------------------------------------------------------------------------------

FOUND = Description(
    (
        HeardSound("dog barking", 0.9, (Span(1.25, 2.0), Span(3661.5, 3662.0))),
        HeardSound("rain, heavy", 0.5, (Span(0.0, 4000.0),)),
        HeardSound("cat", 0.1, ()),
    ),
    4000.0,
)


def test_formats_of_descriptions() -> None:
    assert FOUND.labels() == (
        "0.000\t4000.000\train, heavy\n1.250\t2.000\tdog barking\n3661.500\t3662.000\tdog barking\n"
    )
    assert FOUND.srt().startswith(
        "1\n00:00:00,000 --> 00:00:01,250\nrain, heavy\n\n"
        "2\n00:00:01,250 --> 00:00:02,000\nrain, heavy\ndog barking\n\n3\n"
    )
    assert "01:01:01,500 --> 01:01:02,000" in FOUND.srt()
    rows = list(csv.DictReader(FOUND.csv().splitlines()))
    assert [(row["name"], row["start"]) for row in rows] == [
        ("dog barking", "1.25"), ("dog barking", "3661.5"), ("rain, heavy", "0.0"), ("cat", ""),
    ]  # fmt: skip
    assert FOUND[0].name == "dog barking"
    assert [sound.name for sound in FOUND[1:]] == ["rain, heavy", "cat"]


def test_files_are_in_the_order_of_starts_then_of_ends_then_of_scores() -> None:
    spans = {"speech": [(0, 9)], "music": [(0, 9), (12, 13)], "a siren": [(0, 9)], "rain": [(0, 4)]}
    sounds = [HeardSound(name, 0.5, tuple(Span(*span) for span in each)) for name, each in spans.items()]
    found = Description(tuple(sounds), 20.0)
    assert [name for _, name in found.events] == ["rain", "speech", "music", "a siren", "music"]
    assert [line.split("\t")[2] for line in found.labels().splitlines()] == [name for _, name in found.events]
    blocks = found.srt().split("\n\n")
    assert [block.splitlines()[2:] for block in blocks] == [
        ["rain", "speech", "music", "a siren"], ["speech", "music", "a siren"], ["music"],
    ]  # fmt: skip
    assert labels_text([(Span(1, 2), "b"), (Span(0, 2), "c"), (Span(1, 2), "a")]) == (
        "0.000\t2.000\tc\n1.000\t2.000\tb\n1.000\t2.000\ta\n"
    )


NAMED_SPANS = st.tuples(st.sampled_from(["dog", "a\n\nb", "c --> d"]), st.integers(0, 30), st.integers(1, 9))


@settings(deadline=None)
@given(st.lists(NAMED_SPANS, max_size=12))
def test_subtitles_do_not_overlap_and_show_every_span(spans: list[tuple[str, int, int]]) -> None:
    sounds = [HeardSound(name, 0.5, (Span(start / 7, (start + length) / 7),)) for name, start, length in spans]
    text = Description(tuple(sounds), 10.0).srt()
    cues = [
        re.fullmatch(r"(\d+)\n00:00:(\d\d,\d{3}) --> 00:00:(\d\d,\d{3})\n([^\n]+(?:\n[^\n]+)*)\n?", block)
        for block in text.split("\n\n")
        if text
    ]
    assert [cue[1] for cue in cues if cue] == [str(number) for number in range(1, len(cues) + 1)]
    times = [(float(cue[2].replace(",", ".")), float(cue[3].replace(",", "."))) for cue in cues if cue]
    assert all(start < end for start, end in times)
    assert all(before[1] <= after[0] for before, after in pairwise(times))
    shown = sum((end - start) * len(cue[4].split("\n")) for (start, end), cue in zip(times, cues, strict=True) if cue)
    assert shown == pytest.approx(sum(length / 7 for _, _, length in spans), abs=0.05)


@given(st.floats(0, 10), st.floats(0.01, 10), st.integers(1, 60))
def test_a_strip_marks_every_span(start: float, length: float, width: int) -> None:
    line = strip([Span(start, start + length)], 20.5, width, ".#")
    assert len(line) == width
    assert "#" in line


@pytest.fixture(scope="module")
def shipped() -> Separator:
    return audiosep.load("mini", device="cpu", sounds=False)


def test_the_shipped_model_hears_speech_and_a_guitar(shipped: Separator) -> None:
    found = shipped.describe(EXAMPLES / "reading.flac", quick=True)
    assert {"acoustic guitar", "speech"} <= {sound.name for sound in found}
    words = shipped.describe(EXAMPLES / "speech.flac", ["speech", "dog barking"], quick=True)
    assert [sound.name for sound in words] == ["speech", "dog barking"]
    assert words[0].spans
    assert not words[1].spans


def test_a_part_is_described_in_times_of_the_recording(shipped: Separator, tmp_path: Path) -> None:
    mix, rate = read_audio(EXAMPLES / "reading.flac")
    write_audio(tmp_path / "part.wav", mix[:, 4 * rate : 8 * rate], rate, depth="float")
    alone = shipped.describe(tmp_path / "part.wav")
    found = shipped.describe(EXAMPLES / "reading.flac", start=4, end=8)
    assert (found.start, found.seconds) == (4, 4)
    assert [(one.name, one.score) for one in found] == [(one.name, one.score) for one in alone]
    for one, expected in zip(found, alone, strict=True):
        assert np.subtract(one.spans, 4) == pytest.approx(np.asarray(expected.spans), abs=2e-3)
    assert shipped.describe(mix, sample_rate=rate, start=4, end=8) == found
    fractions: list[float] = []
    shipped.describe(EXAMPLES / "reading.flac", start=9, quick=True, progress=fractions.append)
    assert fractions[0] == 1  # of the part
    for part in ({"start": 20.0}, {"start": 3, "end": 2}, {"start": -1}, {"end": float("nan")}):
        with pytest.raises(InputError, match=r"start|end"):
            shipped.describe(EXAMPLES / "reading.flac", quick=True, **part)
    with pytest.raises(InputError, match="start earlier"):
        shipped.describe(mix, sample_rate=rate, start=20, quick=True)


def test_candidates_are_separated_by_their_words_and_not_by_their_names(
    shipped: Separator, monkeypatch: pytest.MonkeyPatch
) -> None:
    mix, rate = read_audio(EXAMPLES / "speech.flac")
    opened: list[Any] = []
    open_stream = shipped._open_stream
    monkeypatch.setattr(shipped, "_open_stream", lambda *given: opened.append(given[0]) or open_stream(*given))
    named = [audiosep.Query("speech", name="car horn"), "speech", "Speech", audiosep.Query("speech", negative="rain")]
    found = shipped.describe(mix[:, : 2 * rate], named, sample_rate=rate)
    assert [sound.name for sound in found] == ["car horn", "speech", "speech (2)"]
    (asked,) = opened
    assert asked.names == ("car horn", "speech", "speech (2)")
    assert torch.equal(asked.embeddings, asked.embeddings[:1].expand(3, -1))
    assert asked.negatives.any(1).tolist() == [False, False, True]


def test_a_sound_without_words_is_a_wrong_command_before_anything_is_heard(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", str(EXAMPLES / "song.flac"), "-s", " ", "-m", "no such model"]) == 2
    assert "query text must be words" in capsys.readouterr().err


def test_wrong_requests_are_refused(shipped: Separator, separator: Separator, mixture: Mixture) -> None:
    mix = mixture(1.0, 16000, 1)
    with pytest.raises(ModelError, match="no tagger"):
        separator.describe(mix, sample_rate=16000)
    with pytest.raises(QueryError, match="candidates are words"):
        shipped.describe(mix, [audiosep.Query(audio=(mix, 16000))], sample_rate=16000)
    with pytest.raises(InputError, match="most"):
        shipped.describe(mix, sample_rate=16000, most=0)
    silence = shipped.describe(np.zeros((1, 16000), np.float32), sample_rate=16000)
    assert (len(silence), silence.seconds) == (0, 1.0)


def test_the_verb_writes_a_table_files_and_json(
    shipped: Separator, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audiosep.cli.common.ModelOptions.load", lambda self, **_: shipped)
    monkeypatch.setattr(shipped, "describe", lambda path, *_, **__: FOUND if probe(path) else None)
    street = tmp_path / "street.wav"
    write_audio(street, np.zeros((1, 100)), 16000)
    out = tmp_path / "out"
    assert main(["describe", str(street), "--labels", "--srt", "--csv", "--out", str(out), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "90%  dog barking" in said
    assert "nowhere for sure" in said
    assert (out / "street (sounds).txt").read_text() == FOUND.labels()
    assert (out / "street (sounds).srt").read_text() == FOUND.srt()
    assert (out / "street (sounds).csv").read_text() == FOUND.csv(str(street))
    assert {row["file"] for row in csv.DictReader((out / "street (sounds).csv").open())} == {str(street)}
    assert main(["describe", str(street), "--labels", "--out", str(out), "--quiet"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["describe", str(street), str(tmp_path / "absent.wav"), "--json", "--quiet"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["results"][0]["start"], document["results"][0]["length"]) == (0, 4000)
    assert document["results"][0]["sounds"][0] == {
        "name": "dog barking", "score": 0.9, "spans": [[1.25, 2.0], [3661.5, 3662.0]],
    }  # fmt: skip
    assert [failure["input"] for failure in document["failures"]] == [str(tmp_path / "absent.wav")]


def test_a_recording_that_the_model_cannot_take_ends_nothing(
    shipped: Separator, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audiosep.cli.common.ModelOptions.load", lambda self, **_: shipped)

    def describe(path: Path, *_: Any, **__: Any) -> Description:
        if path.name == "b.wav":
            raise ModelError("the model gives no finite output")
        return FOUND

    monkeypatch.setattr(shipped, "describe", describe)
    for name in "abc":
        write_audio(tmp_path / f"{name}.wav", np.zeros((1, 100)), 16000)
    assert main(["describe", *(str(tmp_path / f"{name}.wav") for name in "abc"), "--json", "--quiet"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [Path(one["input"]).name for one in document["results"]] == ["a.wav", "c.wav"]
    assert [one["type"] for one in document["failures"]] == ["ModelError"]


def test_files_have_names_that_every_file_system_takes(
    shipped: Separator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audiosep.cli.common.ModelOptions.load", lambda self, **_: shipped)
    monkeypatch.setattr(shipped, "describe", lambda *_, **__: FOUND)
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    for name in ("Song.wav", "song.flac", "what?.wav", f"{'x' * 247}.wav"):
        write_audio(folder / name, np.zeros((1, 100)), 16000)
    assert main(["describe", str(folder), "--csv", "-o", str(out), "--quiet"]) == 0
    written = {path.name for path in out.iterdir()}
    shortened = f"{'x' * 242} (sounds).csv"
    assert written == {"Song.wav (sounds).csv", "song.flac (sounds).csv", "what_ (sounds).csv", shortened}


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such names")
def test_a_table_names_a_file_by_its_bytes(shipped: Separator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audiosep.cli.common.ModelOptions.load", lambda self, **_: shipped)
    monkeypatch.setattr(shipped, "describe", lambda *_, **__: FOUND)
    street = tmp_path / os.fsdecode(b"caf\xe9.wav")
    write_audio(street, np.zeros((1, 100)), 16000)
    assert main(["describe", str(street), "--csv", "-o", str(tmp_path / "out"), "--quiet"]) == 0
    (table,) = (tmp_path / "out").iterdir()
    assert table.read_bytes() == os.fsencode(FOUND.csv(str(street)))


def test_the_files_of_a_recording_are_written_together_or_not_at_all(
    shipped: Separator, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audiosep.cli.common.ModelOptions.load", lambda self, **_: shipped)
    monkeypatch.setattr(shipped, "describe", lambda *_, **__: FOUND)
    write_audio(tmp_path / "street.wav", np.zeros((1, 100)), 16000)
    out = tmp_path / "out"
    (out / "street (sounds).srt").mkdir(parents=True)
    words = ["--csv", "--labels", "--srt", "--overwrite", "--out", str(out), "--quiet"]
    assert main(["describe", str(tmp_path / "street.wav"), *words]) == 1
    assert "choose another name" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["street (sounds).srt"]


def test_files_of_recordings_of_one_name_lie_in_their_folders_or_keep_the_ending(
    shipped: Separator, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audiosep.cli.common.ModelOptions.load", lambda self, **_: shipped)
    asked: list[list[str]] = []

    def describe(path: Path, queries: list[audiosep.Query] | None, **_: Any) -> Description:
        asked.append([query.label for query in queries or ()])
        return FOUND

    monkeypatch.setattr(shipped, "describe", describe)
    for name in ("x/t.wav", "y/t.wav", "y/t.flac"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        write_audio(tmp_path / "in" / name, np.zeros((1, 100)), 16000)
    out = tmp_path / "out"
    words = ["-s", "Rain", "-s", " rain ", "-s", "dog"]
    assert main(["describe", str(tmp_path / "in"), "--csv", "-o", str(out), "--quiet", *words]) == 0
    written = sorted(file.relative_to(out).as_posix() for file in out.rglob("*.csv"))
    assert written == ["x/t (sounds).csv", "y/t.flac (sounds).csv", "y/t.wav (sounds).csv"]
    assert asked == [["Rain", "dog"]] * 3
    same = [str(tmp_path / "in" / name) for name in ("x/t.wav", "y/t.wav")]
    (tmp_path / "list").write_bytes("\0".join(same).encode())  # as of find -print0
    folders = [str(tmp_path / "in" / name) for name in "xy"]
    for number, inputs in enumerate((same, ["--manifest", str(tmp_path / "list")], [same[0], folders[1]], folders)):
        out = tmp_path / str(number)
        assert main(["describe", *inputs, "--csv", "-o", str(out), "--quiet"]) == 0
        written = sorted(file.relative_to(out).as_posix() for file in out.rglob("*.csv"))
        both = [f"y/t.{ending} (sounds).csv" for ending in ("flac", "wav")]
        assert written == ["x/t (sounds).csv", *(["y/t (sounds).csv"] if number < 2 else both)]
    assert main(["describe", "--csv"]) == 2
    assert "what should be described" in capsys.readouterr().err
    assert main(["describe", same[0], "-o", str(out)]) == 2
    assert "--csv" in capsys.readouterr().err


def test_the_verb_goes_on_where_it_was_stopped_and_replaces_nothing(
    shipped: Separator, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audiosep.cli.common.ModelOptions.load", lambda self, **_: shipped)
    heard: list[str] = []

    def describe(path: Path, *_: Any, **__: Any) -> Description:
        if path.name == stop:
            raise KeyboardInterrupt
        heard.append(path.name)
        return FOUND

    monkeypatch.setattr(shipped, "describe", describe)
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in "abc":
        write_audio(folder / f"{name}.wav", np.zeros((1, 100)), 16000)
    stop = "c.wav"
    command = ["describe", str(folder), "--csv", "--srt", "-o", str(out), "--json"]
    assert main(command) == 130
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert document["error"]["type"] == "Cancelled"
    assert [Path(one["input"]).name for one in document["results"]] == ["a.wav", "b.wav"]
    assert "2 of 3 recordings finished (--skip-existing" in said.err
    (out / "a (sounds).csv").write_text("mine")
    (out / "a (sounds).srt").unlink()
    stop = ""
    assert main([*command, "--skip-existing"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [Path(one["input"]).name for one in document["skipped"]] == ["b.wav"]
    assert heard == ["a.wav", "b.wav", "a.wav", "c.wav"]
    assert (out / "a (sounds).csv").read_text() == "mine"
    assert len(list(out.iterdir())) == 6
    monkeypatch.setattr("audiosep.cli.common.ModelOptions.load", None)  # nothing is left to do
    assert main([*command, "--skip-existing"]) == 0
    assert main([*command, "--skip-existing", "--overwrite"]) == 2
    assert main(["describe", str(folder), "--skip-existing"]) == 2
    assert main(["describe", str(folder), "--overwrite"]) == 2


def test_the_verb_describes_a_part_in_a_strip_of_its_own(
    shipped: Separator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audiosep.cli.common.ModelOptions.load", lambda self, **_: shipped)
    asked: list[dict[str, Any]] = []
    part = Description((HeardSound("rain", 0.5, (Span(3620.0, 3640.0),)),), 40.0, 3600.0)
    monkeypatch.setattr(shipped, "describe", lambda *_, **given: asked.append(given) or part)
    command = ["describe", str(EXAMPLES / "song.flac"), "--quiet"]
    assert main([*command, "--start", "1:00:00", "--end", "1:00:40"]) == 0
    assert (asked[0]["start"], asked[0]["end"]) == (3600, 3640)
    said = capsys.readouterr().out
    assert "40.0 s from 3600 s on" in said
    assert f"{'·' * 24}{'█' * 24}  3620.00-3640.00" in said
    assert main([*command, "--start", "9", "--end", "3"]) == 2
    assert "--end must lie behind the start" in capsys.readouterr().err


def test_several_recordings_at_once_are_told_in_their_order(
    shipped: Separator, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int | None] = []
    monkeypatch.setattr(
        "audiosep.cli.common.ModelOptions.load", lambda self, **_: (threads.append(self.threads), shipped)[1]
    )
    monkeypatch.setattr("audiosep.inference.parallel.free_memory", lambda: None)
    both, stopped = threading.Barrier(2, timeout=60), threading.Event()

    def describe(path: Path, *_: Any, progress: Any, **__: Any) -> Description:
        if path.name in ("a.wav", "b.wav"):
            both.wait()  # one alone would wait for ever
        if path.name == "a.wav":
            while stop and not stopped.wait(0.01):
                progress(0.5)
        elif path.name == "b.wav":
            stopped.set()
        elif path.name == "c.wav" and stop:
            raise KeyboardInterrupt
        return FOUND

    monkeypatch.setattr(shipped, "describe", describe)
    for name in "abc":
        write_audio(tmp_path / f"{name}.wav", np.zeros((1, 100)), 16000)
    command = [
        "describe",
        *(str(tmp_path / f"{name}.wav") for name in "abc"),
        "--jobs",
        "2",
        "--threads",
        "4",
        "--json",
    ]
    stop = False
    assert main(command) == 0
    assert [Path(one["input"]).name for one in json.loads(capsys.readouterr().out)["results"]] == [
        "a.wav", "b.wav", "c.wav",
    ]  # fmt: skip
    assert threads == [2]
    stop = True
    assert main([*command, "--csv", "-o", str(tmp_path / "out")]) == 130
    document = json.loads(capsys.readouterr().out)
    named = [Path(one["input"]).name for one in document["results"]]
    assert {"b.wav"} <= set(named) <= {"a.wav", "b.wav"}
    assert {file.name for file in (tmp_path / "out").iterdir()} == {f"{name[0]} (sounds).csv" for name in named}


def test_recordings_that_cannot_be_described_leave_no_empty_folder(
    shipped: Separator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audiosep.cli.common.ModelOptions.load", lambda self, **_: shipped)
    monkeypatch.setattr(shipped, "describe", lambda *_, **__: FOUND)

    def full(file: PendingFile) -> None:
        raise OSError(28, "No space left on device", str(file.path))

    monkeypatch.setattr(PendingFile, "commit", full)
    assert main(["describe", str(EXAMPLES / "song.flac"), "--csv", "-o", str(tmp_path / "a" / "b"), "--quiet"]) == 1
    assert not (tmp_path / "a").exists()


def test_a_model_that_describes_nothing_is_refused_once(
    separator: Separator, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audiosep.cli.common.ModelOptions.load", lambda self, **_: separator)
    assert main(["describe", *(str(EXAMPLES / f"{name}.flac") for name in ("song", "speech"))]) == 1
    assert capsys.readouterr().err.count("no tagger") == 1


def test_a_warning_is_given_once_however_often_a_file_is_read(
    shipped: Separator, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audiosep.cli.common.ModelOptions.load", lambda self, **_: shipped)
    cut = tmp_path / "cut.wav"
    write_audio(cut, np.random.default_rng(0).uniform(-0.5, 0.5, (1, 32_000)), 16_000)
    cut.write_bytes(cut.read_bytes()[:40_000])
    shutil.copy(cut, tmp_path / "cut 2.wav")
    places = ["--manifest", str(tmp_path / "list"), "--quick", "-s", "rain"]
    (tmp_path / "list").write_text("cut.wav\ncut 2.wav\n")
    assert main(["describe", *places]) == 0
    said = capsys.readouterr().err
    assert [said.count(f"{name}.wav ends early") for name in ("cut", "cut 2")] == [1, 1]
    separate = ["separate", str(cut), "--at", "0.2-0.5", "-o", str(tmp_path / "out")]
    assert main(separate) == 0
    assert capsys.readouterr().err.count("ends early") == 1


def test_words_that_no_recording_can_be_asked_for_are_a_wrong_command(
    shipped: Separator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audiosep.cli.common.ModelOptions.load", lambda self, **_: shipped)
    assert main(["describe", str(EXAMPLES / "song.flac"), "-s", "speech", "-s", "狗叫", "--quick", "--quiet"]) == 2
    assert "狗叫" in capsys.readouterr().err
    assert len(shipped.describe(np.full((1, 10), 0.5, np.float32), sample_rate=16000)) == 0  # too short for any sound
