"""Processes and threads of a program that uses the library: pickled errors, forks, simultaneous first calls."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import audiosep
from audiosep import api, errors
from audiosep.errors import AudioError, AudioSepError, BatchError, ModelError
from audiosep.output.batch_report import BatchReport
from audiosep.separator import Separator

WAIT = 12  # seconds after which a process counts as hanging
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AudioSepError)]
fork = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")


class Unpicklable(Exception):
    """As some libraries write them: made from two values, of which the base class gets one."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)


def in_a_pool(function: object, *arguments: object) -> object:
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply_async(function, arguments).get(WAIT)


def failures() -> dict[Path, Exception]:
    return {Path("a.wav"): AudioError("no sound"), Path("b.wav"): Unpicklable(3, "odd")}


def raise_batch_error() -> None:
    raise BatchError(failures(), [Path("c.wav")])


def make_report() -> BatchReport:
    return BatchReport(failures=failures())


@pytest.mark.parametrize("kind", KINDS)
def test_every_exception_can_be_pickled(kind: type[AudioSepError]) -> None:
    error = BatchError(failures(), [Path("c.wav")]) if kind is BatchError else kind("what to do")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again).replace("Unpicklable: ", "")) == (kind, str(error))


@fork
def test_a_batch_error_comes_back_from_a_pool() -> None:
    with pytest.raises(BatchError, match="2 of 3 files failed") as caught:
        in_a_pool(raise_batch_error)
    assert caught.value.successes == [Path("c.wav")]
    assert [type(error) for error in caught.value.failures.values()] == [AudioError, AudioSepError]
    assert "Unpicklable: odd" in str(caught.value)


@fork
def test_a_report_comes_back_from_a_pool() -> None:
    report = in_a_pool(make_report)
    assert isinstance(report, BatchReport)
    assert [str(error) for error in report.failures.values()] == ["no sound", "Unpicklable: odd"]


# ---- forks -----------------------------------------------------------------------------------------------------------


loaded: list[Separator] = []  # a forked child finds here what its parent had loaded


def separate_noise() -> tuple[np.ndarray, int]:
    mix = np.random.default_rng(0).standard_normal((2, 160_000)).astype(np.float32) / 4
    return loaded[0].separate(mix, "piano", sample_rate=16000)["piano"], torch.get_num_threads()


@fork
def test_a_model_that_computed_before_a_fork_computes_after_it(
    two_threads: None, separator: Separator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("test_processes.loaded", [separator])
    expected, threads = separate_noise()
    assert threads == 2
    found, threads = in_a_pool(separate_noise)
    assert threads == 1
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_what_does_not_work_after_a_fork_says_so(separator: Separator, monkeypatch: pytest.MonkeyPatch) -> None:
    child = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: child)
    assert separator.device.type == "cpu"
    monkeypatch.setattr(separator._backend, "device", torch.device("cuda"))
    with pytest.raises(ModelError, match=r"cuda does not work in forked.*'spawn'"):
        separator.separate(np.ones(1000, np.float32), "piano", sample_rate=16000)


# ---- simultaneous first calls ----------------------------------------------------------------------------------------


def test_simultaneous_first_calls_load_one_model(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    load = api.load

    def counted(*arguments: object, **options: object) -> Separator:
        loads.append(arguments)
        return load(*arguments, **options)

    monkeypatch.setattr(api, "load", counted)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    together = threading.Barrier(4)

    def first_call(device: str) -> np.ndarray:
        together.wait(WAIT)
        mix = np.ones(1000, np.float32)
        return audiosep.separate(mix, "piano", sample_rate=16000, model=tiny_folder, device=device)["piano"]

    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(first_call, ["auto", "cpu", "auto", "cpu"]))
    assert len(loads) == 1
    assert all(np.array_equal(outputs[0], output) for output in outputs)
