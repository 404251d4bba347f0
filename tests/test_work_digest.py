"""Digests of what was asked: the same for the same sound, another for another, however an example is given."""

from __future__ import annotations

import json

import numpy as np
import pytest

from audiosep.inference.options import Options
from audiosep.output.output_options import OutputOptions
from audiosep.query.query import Query
from audiosep.query.work_digest import described, works_of

RATE = 44100
ONES, ZEROS = np.ones(8, np.float32), np.zeros(8, np.float32)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([ONES, RATE], [ZEROS, RATE]),
        ([ONES, RATE], [ONES, 48000]),
        ([[1.0, 1.0], [1.0, 1.0]], [[1.0, 1.0], [0.0, 0.0]]),  # two channels
        ((object, RATE), (type, RATE)),
    ],
)
def test_other_examples_are_described_otherwise(one: object, other: object) -> None:
    first, second = (json.dumps(described(Query(audio=audio, name="d"))) for audio in (one, other))
    assert first != second


def test_an_example_is_described_alike_as_a_tuple_and_a_list_and_with_any_number() -> None:
    examples = ((ONES, RATE), [ONES, RATE], (ONES, np.int64(RATE)), [ONES.tolist(), float(RATE)])
    found = [described(Query(audio=audio, name="d")) for audio in examples]
    assert found == [found[0]] * 4
    assert json.dumps(found)


def test_the_quality_of_queries_changes_no_stem() -> None:
    options = [Options(), Options(quality="best"), Options(shifts=1)]
    stems, words = (
        [works_of(targets, "m", OutputOptions(), one) for one in options] for targets in (["drums"], [Query("drums")])
    )
    assert [one == stems[0] for one in stems] == [True, True, False]
    assert [one == words[0] for one in words] == [True, False, False]
