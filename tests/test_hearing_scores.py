"""Measures of descriptions and spans, and the scenes that they are taken on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import corpora
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiosep.evaluation.hearing import Counts, event_counts, segment_counts, top_counts
from audiosep.hearing.spans import Span
from research import hearing


def spans(*pairs: tuple[float, float]) -> list[Span]:
    return [Span(*pair) for pair in pairs]


def test_segments_count_where_spans_overlap_them() -> None:
    counts = segment_counts(spans((0.9, 2.0), (5.5, 5.6)), spans((1.0, 3.0)), seconds=6.5)
    assert counts == Counts(right=1, found=3, there=2)
    assert counts.f1 == pytest.approx(2 / 5)
    assert segment_counts([], [], 0.4) == Counts()


@pytest.mark.parametrize(
    ("found", "true", "right", "onsets"),
    [
        ([(1.0, 2.0)], [(1.15, 2.15)], 1, 1),
        ([(1.0, 2.0)], [(1.25, 2.0)], 0, 0),
        ([(1.0, 2.0)], [(1.0, 2.4)], 0, 1),
        ([(1.0, 9.0)], [(1.0, 10.5)], 1, 1),  # a fifth of its length
        ([(1.0, 2.0), (1.1, 2.1)], [(1.0, 2.0)], 1, 1),  # an event is found once
        ([(1.0, 2.0)], [(0.9, 2.0), (1.1, 2.0)], 1, 1),
    ],
)
def test_events_have_a_collar(
    found: list[tuple[float, float]], true: list[tuple[float, float]], right: int, onsets: int
) -> None:
    assert event_counts(spans(*found), spans(*true)) == Counts(right, len(found), len(true))
    assert event_counts(spans(*found), spans(*true), ends=False).right == onsets


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0.5, 3)), max_size=6))
def test_what_is_right_has_an_f1_of_one(pairs: list[tuple[float, float]]) -> None:
    true = sorted(Span(start, start + length) for start, length in pairs)
    for counts in (segment_counts(true, true, 60.0), event_counts(true, true)):
        assert counts.f1 == 1 or not true
        assert counts.right == counts.found == counts.there


def test_the_first_names_count() -> None:
    listed = ["guitar", "speech", "rain"]
    sounds = [{"speech", "man speaking"}, {"rain"}, {"dog barking"}]
    assert top_counts(listed, sounds) + top_counts(listed, sounds, top=2) == Counts(right=3, found=5, there=6)
    assert Counts(3, 5, 6).recall == 0.5


def test_scenes_are_the_same_each_time_and_have_the_spans_of_their_sources(tmp_path: Path) -> None:
    corpus = corpora.make_corpus(
        tmp_path, [replace(clip, split="val") for clip in corpora.make_clips(tmp_path / "audio", takes=3, songs=0)]
    )
    names = {label: frozenset([label]) for label in corpora.LABELS}
    drawn = hearing.scenes(corpus, names, 4, 0, [3, 4])
    again = hearing.scenes(corpus, names, 4, 0, [3, 4])
    others = hearing.scenes(corpus, names, 4, 1, [3, 4])
    assert [[source.label for source in scene] for scene in drawn] == [[s.label for s in scene] for scene in again]
    assert not np.array_equal(hearing.mixture(drawn[0]), hearing.mixture(others[0]))
    for scene in drawn:
        assert len({source.label for source in scene}) == len(scene) in (3, 4)
        for source in scene:
            start, end = source.spans[0].start, source.spans[-1].end
            outside = np.r_[source.samples[: int((start - 0.05) * 16000)], source.samples[int((end + 0.05) * 16000) :]]
            assert np.abs(outside).max(initial=0) <= 0.1 * np.abs(source.samples).max()


def test_weights_are_found_again() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20_000, 4)).astype(np.float32)
    y = rng.random(len(x)) < 1 / (1 + np.exp(-(1.5 * x[:, 0] - 0.5 * x[:, 2] + 0.7)))
    assert hearing._regression(x, y, [0, 2]) == pytest.approx([1.5, 0, -0.5, 0, 0.7], abs=0.1)
