"""Windows side by side: the same targets, the caller's threads as they were, errors and forks."""

from __future__ import annotations

import gc
import itertools
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audiosep.api import load
from audiosep.audio.decode import read_audio
from audiosep.audio.encode import write_audio
from audiosep.errors import Cancelled, ModelError
from audiosep.inference import openmp, window_threads
from audiosep.inference.openmp import has_threads_here, threads_here
from audiosep.inference.options import Options
from audiosep.inference.window_runner import WindowRunner
from audiosep.inference.window_threads import MOST, WindowThreads
from audiosep.models.mask_model import MaskedMixture
from audiosep.separator import Separator

Mixture = Callable[..., np.ndarray]

pytestmark = pytest.mark.skipif(not has_threads_here(), reason="torch computes with another kind of threads here")


@pytest.fixture(scope="module")
def mini() -> Separator:
    return load("mini", device="cpu", precision="fp32")


def test_threads_are_those_of_one_python_thread(two_threads: None) -> None:
    with threads_here(1):
        assert torch.get_num_threads() == 1
        with threads_here(3):
            assert torch.get_num_threads() == 3
        assert torch.get_num_threads() == 1
        with ThreadPoolExecutor(1) as pool:  # a new thread has the number of the process
            assert pool.submit(torch.get_num_threads).result() == 2
    assert torch.get_num_threads() == 2
    with pytest.raises(ValueError, match="inner"), threads_here(1):
        raise ValueError("inner")
    assert torch.get_num_threads() == 2


def test_where_openmp_is_not_found_the_context_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(path: str) -> None:
        raise OSError(path)

    before = torch.get_num_threads()
    openmp._setters.cache_clear()
    has_threads_here.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(openmp.ctypes, "CDLL", no_library)
        assert not has_threads_here()
        with threads_here(before + 1):
            assert torch.get_num_threads() == before
    openmp._setters.cache_clear()
    has_threads_here.cache_clear()
    assert has_threads_here()


def test_a_single_job_is_done_by_who_wants_its_result() -> None:
    one: WindowThreads[int] = WindowThreads(2)
    wait = one.begin(threading.get_ident)
    assert wait() == threading.get_ident()
    assert not one.beside


def test_from_the_second_job_on_threads_beside_do_them() -> None:
    several: WindowThreads[tuple[int, int]] = WindowThreads(6)
    waits = [several.begin(lambda: (threading.get_ident(), torch.get_num_threads())) for _ in range(7)]
    found = [wait() for wait in waits]
    assert several.beside
    assert threading.get_ident() not in {thread for thread, _ in found}
    assert {count for _, count in found} == {3}


def test_a_process_computes_no_more_at_once_than_its_processors_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_threads, "available_cpus", lambda: MOST)
    together, most, lock, both = 0, 0, threading.Lock(), threading.Barrier(MOST, timeout=60)

    def job() -> None:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        both.wait()  # a job alone would wait here for ever
        with lock:
            together -= 1

    requests: list[WindowThreads[None]] = [WindowThreads(2) for _ in range(4)]
    waits = [request.begin(job) for _ in range(3) for request in requests]
    for wait in waits:
        wait()
    assert most == MOST


def test_several_recordings_at_once_use_all_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_threads, "available_cpus", lambda: 8)
    all_four = threading.Barrier(4, timeout=60)
    recordings: list[WindowThreads[int]] = [WindowThreads(4) for _ in range(2)]  # half of the processors each
    waits = [recording.begin(all_four.wait) for _ in range(2) for recording in recordings]
    assert sorted(wait() for wait in waits) == [0, 1, 2, 3]


def test_the_error_of_a_job_is_raised_where_its_result_is_wanted() -> None:
    def broken() -> int:
        raise ModelError("this window is broken")

    several: WindowThreads[int] = WindowThreads(2)
    waits = [several.begin(job) for job in (lambda: 1, broken, lambda: 3)]
    assert waits[0]() == 1
    with pytest.raises(ModelError, match="this window is broken"):
        waits[1]()
    assert waits[2]() == 3


def test_a_job_whose_result_was_taken_is_not_done_again() -> None:
    done: list[int] = []
    late: WindowThreads[None] = WindowThreads(2)
    for number in range(4):
        late.begin(lambda number=number: done.append(number))()  # type: ignore[misc]
    assert done == [0, 1, 2, 3]


_SCRIPT = """
import os, sys, threading
import numpy as np, torch
torch.set_num_threads(2)
import audiosep
separator = audiosep.load("mini", device="cpu", precision="fp32")
mix = np.random.default_rng(0).standard_normal((1, 40 * 32000)).astype(np.float32) / 10

def last():
    found = separator.stems(mix, sample_rate=32000)
    print(round(float(found["bass"].sum()), 3), flush=True)
"""


def run(script: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT + script], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_thread_may_separate_after_the_main_one_has_ended() -> None:
    first, second = run("last()\nthreading.Thread(target=last).start()\n")
    assert first == second


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_recording_under_way_goes_on_in_a_forked_process() -> None:
    child, parent = run("""
stream = separator._open_stream(None, 32000, 1, audiosep.Options())
parts = [stream.push(mix[:, : 28 * 32000])]
child = os.fork()
if child:
    assert os.waitpid(child, 0)[1] == 0
parts += [stream.push(mix[:, 28 * 32000 :]), stream.finish()]
print(round(float(np.abs(np.concatenate(parts, -1)).mean()), 6), flush=True)
""")
    assert child == parent


def test_an_error_in_a_window_keeps_nothing_alive(
    mini: Separator, mixture: Mixture, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    runners: list[weakref.ref[WindowRunner]] = []

    def fails(runner: WindowRunner, windows: torch.Tensor) -> None:
        runners.append(weakref.ref(runner))
        raise ModelError("this window is broken")

    monkeypatch.setattr(WindowRunner, "_enqueue", fails)
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(ModelError, match="this window is broken"):
            mini.separate(mixture(40.0, 32000, 1), "piano", sample_rate=32000)
        assert runners
        for _ in range(200):  # a window that was under way ends
            if not any(runner() for runner in runners):
                break
            threading.Event().wait(0.05)
        assert not any(runner() for runner in runners)
    finally:
        gc.enable()


@pytest.mark.parametrize("seconds", [3.0, 13.0, 40.0])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_targets_are_those_of_one_window_after_the_other(
    mini: Separator, mixture: Mixture, two_threads: None, monkeypatch: pytest.MonkeyPatch, seconds: float, channels: int
) -> None:
    mix = mixture(seconds, 44100, channels)
    beside = mini.separate(mix, ["piano", "dog barking"], sample_rate=44100)
    assert torch.get_num_threads() == 2
    stems = mini.stems(mix, sample_rate=44100)
    monkeypatch.setattr(type(mini.model), "small_windows", False)
    after = mini.separate(mix, ["piano", "dog barking"], sample_rate=44100)
    for name, target in after.items():
        np.testing.assert_allclose(beside[name], target, rtol=0, atol=1e-5)
    assert beside.presence == pytest.approx(after.presence, abs=1e-5)
    assert beside.activity.keys() == after.activity.keys()
    for name, target in mini.stems(mix, sample_rate=44100).items():
        np.testing.assert_allclose(stems[name], target, rtol=0, atol=1e-5)


def test_the_same_bytes_each_time_whatever_else_is_asked(mini: Separator, mixture: Mixture, two_threads: None) -> None:
    mixes = [mixture(seconds, 32000, 1) for seconds in (5.0, 12.0, 21.0, 25.0)]

    def work(number: int) -> np.ndarray:
        return np.asarray(mini.separate(mixes[number % 4], "piano", sample_rate=32000)["piano"])

    alone = [work(number) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for number, found in enumerate(pool.map(work, range(12))):
            assert found.tobytes() == alone[number % 4].tobytes()


def test_a_broken_window_ends_a_recording_with_its_error(
    mini: Separator, mixture: Mixture, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    masked, numbers = mini.model.masked, itertools.count()

    def third_fails(*given: Any) -> MaskedMixture:
        found: MaskedMixture = masked(*given)
        if next(numbers) == 2:
            found.masks.magnitude.fill_(float("nan"))
        return found

    monkeypatch.setattr(mini.model, "masked", third_fails)
    with pytest.raises(ModelError, match="not finite"):
        mini.separate(mixture(40.0, 32000, 1), "piano", sample_rate=32000)
    assert torch.get_num_threads() == 2
    monkeypatch.undo()
    assert np.isfinite(mini.separate(mixture(12.0, 32000, 1), "piano", sample_rate=32000)["piano"]).all()


def test_one_thread_and_large_windows_compute_one_window_after_the_other(
    mini: Separator, mixture: Mixture, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: object) -> None:
        raise AssertionError("nothing to compute beside")

    monkeypatch.setattr(window_threads, "_pool", refuse)
    mix = mixture(25.0, 32000, 1)
    torch.set_num_threads(1)
    mini.stems(mix, sample_rate=32000)
    torch.set_num_threads(2)
    monkeypatch.setattr(type(mini.model), "small_windows", False)
    mini.stems(mix, sample_rate=32000)


def test_further_passes_compute_one_window_after_the_other(
    mini: Separator, mixture: Mixture, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_threads, "_pool", lambda *given: pytest.fail("memory is short"))
    mini.stems(mixture(25.0, 32000, 1), sample_rate=32000, options=Options(shifts=1))


def test_cancelling_leaves_the_threads_as_they_were(mini: Separator, mixture: Mixture, two_threads: None) -> None:
    with pytest.raises(Cancelled):
        mini.separate(mixture(40.0, 32000, 1), "piano", sample_rate=32000, progress=lambda share: share < 0.5)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("seconds", [3.0, 25.0])
def test_a_request_may_be_cancelled_before_anything_is_computed(
    mini: Separator, mixture: Mixture, two_threads: None, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(WindowRunner, "_enqueue", lambda *given: pytest.fail("it was cancelled"))
    with pytest.raises(Cancelled):
        mini.separate(mixture(seconds, 32000, 1), "piano", sample_rate=32000, progress=lambda share: False)


def test_files_are_written_as_from_arrays(tmp_path: Path, mini: Separator, two_threads: None, mixture: Mixture) -> None:
    mix = mixture(25.0, 32000, 2)
    write_audio(tmp_path / "mix.wav", mix, 32000)
    heard, _ = read_audio(tmp_path / "mix.wav")
    expected = mini.separate(heard, "piano", sample_rate=32000, options=Options(quality="fast"))["piano"]
    out = mini.separate(tmp_path / "mix.wav", "piano", options=Options(quality="fast"))["piano"]
    np.testing.assert_array_equal(out, expected)
