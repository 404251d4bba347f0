"""What docs/versions.md promises of threads: one separator, several threads, the bytes of each call alone."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

import audiosep
from audiosep.separator import Separation, Separator
from audiosep.weights import catalogue

AUDIO = Path(__file__).parents[1] / "examples" / "audio"


@pytest.fixture(params=["separator", pytest.param("mini", marks=pytest.mark.slow)])
def shared(request: pytest.FixtureRequest) -> Separator:
    """A small model with random weights, and the embedded one."""
    if request.param == "separator":
        return request.getfixturevalue("separator")
    if not catalogue.installed("mini"):
        pytest.skip("this checkout has no weights")
    return audiosep.load("mini", device="cpu")


def test_calls_from_several_threads_give_the_bytes_of_each_alone(shared: Separator) -> None:
    mix, rate = soundfile.read(AUDIO / "song.flac", dtype="float32", always_2d=True, frames=2 * 44100)
    jobs = [
        lambda: shared.separate(mix.T, ["singing", "guitar"], sample_rate=rate),
        lambda: shared.separate(mix[::-1].T, audiosep.Query("guitar", negative="singing"), sample_rate=rate),
        lambda: shared.separate(mix[:, :1].T, audiosep.Query(audio=(mix[:rate].T, rate)), sample_rate=rate),
        lambda: shared.stems(mix.T, sample_rate=rate),
    ]
    alone = [job() for job in jobs]
    with ThreadPoolExecutor(len(jobs)) as pool:
        together = list(pool.map(lambda job: job(), jobs))
    for expected, found in zip(alone, together, strict=True):
        assert same(expected, found)


def same(expected: Separation, found: Separation) -> bool:
    return expected.presence == found.presence and all(np.array_equal(expected[name], found[name]) for name in expected)


def test_a_stream_may_be_fed_by_changing_threads(separator: Separator) -> None:
    mix = np.random.default_rng(0).standard_normal((2, 12000)).astype(np.float32) / 4
    whole = separator.separate(mix, "piano", sample_rate=16000)["piano"]
    stream = separator.stream("piano", sample_rate=16000, channels=2)
    parts = []
    for start in range(0, 12000, 3000):
        with ThreadPoolExecutor(1) as pool:  # a new thread for each block
            parts.append(pool.submit(stream.push, mix[:, start : start + 3000]).result())
    parts.append(stream.finish())
    assert np.array_equal(np.concatenate(parts, axis=2)[0], whole)


@pytest.mark.slow
@pytest.mark.skipif(not catalogue.installed("mini"), reason="this checkout has no weights")
def test_a_query_gives_the_same_bytes_alone_beside_others_and_in_any_order() -> None:
    mini = audiosep.load("mini", device="cpu")
    mix, rate = soundfile.read(AUDIO / "song.flac", dtype="float32", always_2d=True, frames=2 * 44100)
    queries: dict[str, str | audiosep.Query] = {
        "guitar": "guitar",
        "a singing voice": audiosep.Query("a singing voice", negative="guitar"),
        "like this": audiosep.Query(audio=(mix[:rate].T, rate), name="like this"),
    }
    alone = {name: mini.separate(mix.T, query, sample_rate=rate)[name] for name, query in queries.items()}
    for order in (list(queries), list(queries)[::-1]):
        together = mini.separate(mix.T, [queries[name] for name in order], sample_rate=rate)
        assert all(np.array_equal(together[name], alone[name]) for name in order)


@pytest.mark.slow
@pytest.mark.skipif(not catalogue.installed("mini"), reason="this checkout has no weights")
def test_many_requests_of_sixteen_threads_are_right_and_leave_nothing() -> None:
    # As the studio shares its heaps, in a process of its own, and in fp32: in bf16 the heaps still grow after so few
    # requests, of memory that is free within them (docs/bench.md).
    words = ["--threads", "16", "--requests", "96", "--heaps", "2", "--precision", "fp32"]
    command = [sys.executable, "-m", "research.stress", *words]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    assert "96 requests of 16 threads: 0 wrong" in done.stdout
    listed = re.search(r"then \[(.*)\]", done.stdout)
    assert listed is not None
    resident = [int(size) for size in listed[1].split(", ")]
    assert resident[-1] < 1.1 * resident[len(resident) // 2]
