"""Spans: hysteresis, blocks of any size, spans that users give, and outputs that differ within spans alone."""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import Mixture
from hypothesis import given
from hypothesis import strategies as st

from audiosep import Query, QueryError, Separator, Span
from audiosep.audio import write_audio
from audiosep.errors import InputError
from audiosep.hearing.spans import Hysteresis, SpanTracker, spans_of
from audiosep.output.output_options import OutputOptions
from audiosep.output.within_spans import WaitingTargets, remainder_within, span_gain

RULE = Hysteresis(on=0.6, off=0.3, gap=0.25, least=0.15, reach=0.3)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 0.9, 0.9, 0.9, 0, 0, 0], [(0.1, 0.4)]),
        ([0, 0.9, 0.4, 0.4, 0, 0, 0], [(0.1, 0.4)]),  # it goes on above `off`
        ([0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.9], [(0.3, 0.7)]),  # and began above `off`, but not earlier than `reach`
        ([0.9, 0, 0.9, 0.9, 0, 0, 0, 0.9, 0.9], [(0.0, 0.4), (0.7, 0.9)]),  # short pauses are within, long ones not
        ([0, 0.9, 0, 0, 0, 0.5, 0.5], []),  # short spans and those that never reach `on` are left out
    ],
)
def test_spans_have_hysteresis_and_bridge_short_pauses(
    values: list[float], expected: list[tuple[float, float]]
) -> None:
    assert spans_of(np.array(values, np.float32), 0.1, RULE) == [pytest.approx(span) for span in expected]


@given(st.lists(st.lists(st.sampled_from([0.0, 0.4, 0.8]), min_size=2, max_size=2), max_size=40), st.data())
def test_spans_do_not_depend_on_the_blocks_and_the_curves_beside(rows: list[list[float]], data: st.DataObject) -> None:
    values = np.array(rows, np.float32).reshape(-1, 2)
    tracker = SpanTracker(2, 0.1, RULE)
    done = 0
    while done < len(values):
        count = data.draw(st.integers(1, 7))
        tracker.push(values[done : done + count])
        done += count
    for curve, found in enumerate(tracker.finish()):
        assert [span for span, _ in found] == spans_of(values[:, curve], 0.1, RULE)


@pytest.mark.parametrize(
    "spans", [[(3, 2)], [(-1, 2)], [(1, 1)], [(0, float("nan"))], [(1, float("inf"))], [(1, 2, 3)], "1-2", [("a", "b")]]
)
def test_impossible_spans_are_refused(spans: object) -> None:
    with pytest.raises(QueryError, match="span"):
        Query("dog", spans=spans)  # type: ignore[arg-type]


def test_spans_go_with_words_or_alone() -> None:
    assert Query(spans=[(3.25, 4), (1, 2)]).label == "sound at 1-2 s, 3.25-4 s"
    with pytest.raises(QueryError, match="leave out embedding"):
        Query(embedding=[1.0] * 16, spans=[(1, 2)])
    with pytest.raises(QueryError, match="exactly one"):
        Query(negative_spans=[(1, 2)])
    with pytest.raises(QueryError, match="negative_spans"):
        _ = Query("dog", negative=Query(spans=[(1, 2)])).negatives


def test_what_sounds_in_spans_answers_and_what_is_around_is_kept_out(separator: Separator, mixture: Mixture) -> None:
    mix = mixture(3.0, 16000, 1)
    one = separator.separate(mix, Query(spans=[(0.5, 1.0)], name="x"), sample_rate=16000)["x"]
    again = separator.separate(mix, Query(spans=[(0.5, 1.0)], name="x"), sample_rate=16000)["x"]
    other = separator.separate(mix, Query(spans=[(2.0, 2.5)], name="x"), sample_rate=16000)["x"]
    without = separator.separate(
        mix, Query(spans=[(0.5, 1.0)], negative_spans=[(2.0, 2.5)], name="x"), sample_rate=16000
    )["x"]
    word = separator.separate(mix, "x", sample_rate=16000)["x"]
    with_word = separator.separate(mix, Query("x", spans=[(0.5, 1.0)]), sample_rate=16000)["x"]
    assert np.array_equal(one, again)
    different = [one, other, without, word, with_word]
    assert len({array.tobytes() for array in different}) == len(different)


@pytest.mark.parametrize("span", [(0.5, 1.0), (2.0, 9.0)])  # the second reaches beyond the end
def test_files_and_arrays_have_the_same_spans(
    separator: Separator, mixture: Mixture, tmp_path: Path, span: tuple[float, float]
) -> None:
    mix, query = mixture(3.0, 16000, 2), Query(spans=[span], name="x")
    write_audio(tmp_path / "mix.wav", mix, 16000, depth="float")
    separator.separate_files(tmp_path / "mix.wav", query, tmp_path / "out").raise_for_failures()
    written, _ = soundfile.read(tmp_path / "out" / "mix (x).wav", dtype="float32")
    assert np.array_equal(written.T, separator.separate(mix, query, sample_rate=16000)["x"])


def test_spans_are_no_error_where_nothing_is_left_to_do(separator: Separator, mixture: Mixture, tmp_path: Path) -> None:
    write_audio(tmp_path / "mix.wav", mixture(3.0, 16000, 2), 16000)
    query, again = Query(spans=[(0.5, 1.0)], name="x"), OutputOptions(skip_existing=True)
    for skipped in (0, 1):
        report = separator.separate_files(tmp_path / "mix.wav", query, tmp_path / "out", output=again)
        assert (len(report.skipped), len(report.failures)) == (skipped, 0)
    missing = separator.separate_files(tmp_path / "none.wav", query, tmp_path / "out")
    assert list(missing.failures) == [tmp_path / "none.wav"]


def test_queries_that_cannot_be_asked_are_refused_where_nothing_is_left_to_do(
    separator: Separator, tmp_path: Path
) -> None:
    with pytest.raises(QueryError, match="16 numbers"):
        separator.separate_files([], Query(embedding=[1.0, 2.0]), tmp_path)


def test_spans_that_cannot_be_heard_are_refused(separator: Separator, mixture: Mixture, tmp_path: Path) -> None:
    mix = mixture(2.0, 16000, 1)
    mix[:, 16000:] = 0
    with pytest.raises(QueryError, match=r"silent at 1\.2-1\.5 s"):
        separator.separate(mix, Query("x", spans=[(1.2, 1.5)]), sample_rate=16000)
    for query in (Query(spans=[(0, 0.5), (5, 6)]), Query("x", spans=[(0, 0.5)], negative_spans=[(5, 6)])):
        with pytest.raises(QueryError, match="ends before 5-6 s"):
            separator.separate(mix, query, sample_rate=16000)
    with pytest.raises(QueryError, match=r"silent at 1\.2-1\.5 s"):
        separator.separate(mix, Query("x", negative_spans=[(1.2, 1.5)]), sample_rate=16000)
    with pytest.raises(QueryError, match="too short"):
        separator.separate(mix, Query("x", spans=[(0.5, 0.51)]), sample_rate=16000)
    for name in ("a.wav", "b.wav"):
        write_audio(tmp_path / name, mix, 16000)
    with pytest.raises(QueryError, match="ends before 5-6 s"):
        separator.separate_files(tmp_path / "a.wav", Query("x", spans=[(5, 6)]), tmp_path / "out")
    for place in (0.6, 0.9):  # in the span, and in what is around it
        broken = mix.copy()
        broken[0, round(place * 16000)] = np.nan
        soundfile.write(tmp_path / "a.wav", broken.T, 16000, subtype="FLOAT")
        with pytest.raises(InputError, match=rf"holds nan at sample \d+ \({place}"):
            separator.separate_files(tmp_path / "a.wav", Query(spans=[(0.5, 0.7)]), tmp_path / "out")
    write_audio(tmp_path / "a.wav", mix, 16000, overwrite=True)
    with pytest.raises(InputError, match="one by one"):
        separator.separate_files(tmp_path, Query("x", spans=[(0.1, 0.5)]), tmp_path / "out")
    with pytest.raises(QueryError, match="times of one recording"):
        separator.stream(Query("x", spans=[(0.1, 0.5)]), sample_rate=16000, channels=1)


# ---- outputs within spans --------------------------------------------------------------------------------------------


def test_gains_are_one_within_spans_and_have_edges_inside_of_them() -> None:
    gain = span_gain([Span(0.0, 0.5), Span(1.0, 1.06)], 1000, 0, 1500, 1500)
    assert gain[:450].min() == 1
    assert 0 < gain[475] < 1
    assert not gain[500:1001].any()
    assert 0.9 < gain[1030] <= 1
    assert not gain[1060:].any()
    assert np.abs(np.diff(gain)).max() < 0.04
    blocks = [span_gain([Span(0.0, 0.5), Span(1.0, 1.06)], 1000, start, 500, 1500) for start in (0, 500, 1000)]
    assert np.array_equal(np.concatenate(blocks), gain)


def test_outside_of_spans_the_mixture_stays_bit_for_bit(mixture: Mixture) -> None:
    mix, target = mixture(1.0, 1000, 2), mixture(1.0, 1000, 2, seed=1)
    mix[:, 10] = -0.0
    left = remainder_within(mix, {"x": target}, {"x": [Span(0.3, 0.6)]}, 1000)
    assert left[:, :300].tobytes() == mix[:, :300].tobytes()
    assert left[:, 600:].tobytes() == mix[:, 600:].tobytes()
    assert np.array_equal(left[:, 350:550], mix[:, 350:550] - target[:, 350:550])
    assert remainder_within(mix, {"x": target}, {"x": []}, 1000) is mix


@pytest.mark.parametrize("end", [1.0, 0.9995, 1.0004])  # spans are rounded to milliseconds
def test_what_sounds_at_the_ends_of_a_recording_is_taken_out_there(end: float) -> None:
    mix = np.ones((1, 1000), np.float32)
    assert not remainder_within(mix, {"x": mix}, {"x": [Span(0.0, end)]}, 1000).any()
    parts = [
        remainder_within(mix[:, :500], {"x": mix[:, :500]}, {"x": [Span(0.2, end)]}, 1000, start, 1000)
        for start in (0, 500)
    ]
    left = np.concatenate(parts, 1)
    assert not left[:, 250:].any()
    assert 0 < remainder_within(mix, {"x": mix}, {"x": [Span(0.0, 0.99)]}, 1000)[0, 970] < 1


def test_what_waits_comes_back(mixture: Mixture, tmp_path: Path) -> None:
    mix, targets = mixture(5.0, 16000, 2), np.stack([mixture(5.0, 16000, 2, seed=seed) for seed in (1, 2)])
    with contextlib.closing(WaitingTargets(tmp_path, 2, 2)) as waiting:
        for start, end in ((0, 7), (7, 7), (7, 70_000), (70_000, 80_000)):
            waiting.write(mix[:, start:end], targets[..., start:end])
        parts = list(waiting.read())
    assert [start for start, _, _ in parts] == [0, 65_536]
    assert np.array_equal(np.concatenate([part for _, part, _ in parts], 1), mix)
    assert np.array_equal(np.concatenate([part for _, _, part in parts], 2), targets)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("rate", [16000, 44100])
def test_files_are_touched_where_the_target_may_sound_alone(identity: Separator, tmp_path: Path, rate: int) -> None:
    mix = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 3 * rate)).astype(np.float32)
    mix[:, rate : 2 * rate] *= 1e-3  # far below the loudest frames: no target is taken to sound here
    write_audio(tmp_path / "mix.wav", mix, rate, depth="float")
    output = OutputOptions(rest_only=True, everywhere=False, labels=True)
    report = identity.separate_files(tmp_path / "mix.wav", "dog", tmp_path / "out", output=output)
    report.raise_for_failures()
    (result,) = report.results
    left, _ = soundfile.read(result.outputs["without dog"], dtype="float32", always_2d=True)
    touched = np.flatnonzero((mix != left.T).any(0))
    spans, extent = result.activity["dog"].spans, result.activity["dog"].extent
    assert all(any(start <= a and b <= end for start, end in extent) for a, b in spans)
    assert spans
    inside = np.zeros(mix.shape[1], bool)
    for start, end in extent:
        inside[int(start * rate) : int(end * rate) + 1] = True
    assert len(touched)
    assert inside[touched].all()
    assert not inside.all()
    labels = [line.split("\t") for line in result.labels["without dog"].read_text().splitlines()]
    assert labels == [[f"{start:.3f}", f"{end:.3f}", "dog"] for start, end in spans]
    assert extent[-1].end == 3.0
    assert np.abs(left[-rate // 20 :]).max() < 1e-6
    separation = identity.separate(mix, "dog", sample_rate=rate)
    assert np.array_equal(separation.rest("dog", everywhere=False), left.T)
    assert not np.array_equal(separation.rest("dog"), left.T)


def test_labels_are_written_beside_each_target_and_never_over_files(
    separator: Separator, mixture: Mixture, tmp_path: Path
) -> None:
    write_audio(tmp_path / "mix.wav", mixture(1.0, 16000, 1), 16000)
    output = OutputOptions(labels=True)
    separator.separate_files(tmp_path / "mix.wav", ["dog", "cat"], tmp_path / "out", output=output).raise_for_failures()
    assert {path.name for path in (tmp_path / "out").glob("*.txt")} == {"mix (dog).txt", "mix (cat).txt"}
    for wav in (tmp_path / "out").glob("*.wav"):
        wav.unlink()
    report = separator.separate_files(tmp_path / "mix.wav", ["dog", "cat"], tmp_path / "out", output=output)
    assert "exists already" in str(report.failures[tmp_path / "mix.wav"])


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_recording_whose_labels_cannot_be_written_has_no_outputs_either(
    separator: Separator, mixture: Mixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    write_audio(tmp_path / "mix.wav", mixture(1.0, 16000, 1), 16000)
    output = OutputOptions(labels=True, overwrite=overwrite)
    with monkeypatch.context() as patch:

        def full(events: object) -> str:
            raise OSError(errno.ENOSPC, "no space left")

        patch.setattr("audiosep.output.batch.labels_text", full)
        report = separator.separate_files(tmp_path / "mix.wav", "dog", tmp_path / "out", output=output)
    assert [*report.failures] == [tmp_path / "mix.wav"]
    assert not (tmp_path / "out").exists()
    separator.separate_files(tmp_path / "mix.wav", "dog", tmp_path / "out", output=output).raise_for_failures()
    assert (tmp_path / "out" / "mix (dog).txt").is_file()
    if overwrite:
        (tmp_path / "out" / "mix (dog).txt").unlink()
        (tmp_path / "out" / "mix (dog).txt").mkdir()
        before = (tmp_path / "out" / "mix (dog).wav").stat()
        report = separator.separate_files(tmp_path / "mix.wav", "dog", tmp_path / "out", output=output)
        assert "choose another name" in str(report.failures[tmp_path / "mix.wav"])
        assert (tmp_path / "out" / "mix (dog).wav").stat() == before
