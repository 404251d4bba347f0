"""Functions of the user's own as systems of an evaluation."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiosep.cli import main
from audiosep.errors import InputError
from audiosep.evaluation.functions import FunctionSystem, callable_digest, find_callable
from audiosep.evaluation.systems import check_system, identity, load_system
from audiosep.query.query import Query

RATE = 8000

MINE = """
calls = []


def half(mix, queries, sample_rate):
    calls.append((mix.shape, mix.dtype.name, queries, sample_rate))
    return {text: 0.5 * mix for text in queries}


def one_channel(mix, queries, sample_rate):
    return {text: mix[0] for text in queries}


def none(mix, queries, sample_rate):
    mix *= 0


number = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The name of a module with functions, in the current folder, another one for each test."""
    name = f"mine_{abs(hash(request.node.nodeid)) % 10**9}"
    (tmp_path / f"{name}.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    return name


def test_a_function_is_asked_with_words(module: str) -> None:
    system = load_system(f"{module}:half")
    assert isinstance(system, FunctionSystem)
    mix = np.random.default_rng(0).standard_normal((2, 100)).astype(np.float32)
    out = system.separate(mix, [Query("piano", name="a"), Query("a dog")], sample_rate=RATE)
    assert list(out) == ["a", "a dog"]
    assert all(np.array_equal(estimate, 0.5 * mix) for estimate in out.values())
    assert find_callable(f"{module}:calls.append")
    (call,) = system._call.__globals__["calls"]
    assert call == ((2, 100), "float32", ["piano", "a dog"], RATE)
    with pytest.raises(InputError, match="asked with words, and 'x' has none"):
        system.separate(mix, Query(embedding=np.ones(4, np.float32), name="x"), sample_rate=RATE)


def test_what_a_function_must_return(module: str) -> None:
    mix = np.ones((2, 100), np.float32)
    with pytest.raises(InputError, match=r"gave \(100,\) for 'piano', the mix is \(2, 100\)"):
        load_system(f"{module}:one_channel").separate(mix, "piano", sample_rate=RATE)
    with pytest.raises(InputError, match="must return a mapping of each text to an array, and gave none for 'piano'"):
        load_system(f"{module}:none").separate(mix, "piano", sample_rate=RATE)
    assert mix.all()  # it has a copy


@pytest.mark.parametrize("name", ["nonsense", "nonsense:f", "os:nothing", "os:sep", ":f", "os:"])
def test_what_is_no_function_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=name):
        find_callable(name)
    if ":" in name:
        with pytest.raises(InputError, match=name):
            check_system(name)


@pytest.mark.parametrize("name", ["mini:stem", "mini:live", "mini:live=", "mini+own.safetensors:stem"])
def test_a_misspelt_use_of_a_model_is_told_as_such(name: str) -> None:
    with pytest.raises(InputError, match=f"{re.escape(name.partition(':')[0])}:stems or .*:live=SECONDS, not as"):
        check_system(name)


def test_results_of_a_function_count_until_its_file_changes(module: str, tmp_path: Path) -> None:
    before = identity(f"{module}:half")
    assert before == identity(f"{module}:half")
    assert before != identity(f"{module}:none")
    (tmp_path / f"{module}.py").write_text(MINE + "\n# another\n")
    assert identity(f"{module}:half") != before
    assert callable_digest("math:hypot") == callable_digest("math:hypot")  # there is no file


def test_a_function_is_evaluated(module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "songs" / "1"
    folder.mkdir(parents=True)
    parts = {name: 0.1 * rng.standard_normal((RATE, 2)) for name in ("vocals", "drums")}
    for name, samples in (parts | {"mix": sum(parts.values())}).items():
        soundfile.write(folder / f"{name}.wav", samples, RATE, subtype="FLOAT")
    options = ["--set", f"folder={tmp_path / 'songs'}", "--results", str(tmp_path / "results"), "--json", "--quiet"]
    assert main(["evaluate", "-m", f"{module}:half", *options]) == 0
    text = capsys.readouterr().out
    assert not json.loads(text)["failures"]
    assert f"{module}:half" in text
    (tmp_path / "broken.py").write_text("def separate(:\n")
    for wrong, reason in ((f"{module}:nothing", "has no attribute 'nothing'"), ("broken:separate", "SyntaxError")):
        assert main(["evaluate", "-m", wrong, *options]) != 0
        assert reason in (said := capsys.readouterr().err)
        assert "name a function that can be imported" in said
        assert "Traceback" not in said


def test_a_system_that_ends_its_process_does_not_end_the_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    name = f"killed_{os.getpid()}"
    (tmp_path / f"{name}.py").write_text("import os\n\n\ndef ends(mix, queries, sample_rate):\n    os._exit(1)\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    rng = np.random.default_rng(0)
    (folder := tmp_path / "songs" / "1").mkdir(parents=True)
    parts = {part: 0.1 * rng.standard_normal(RATE) for part in ("vocals", "drums")}
    for part, samples in (parts | {"mix": sum(parts.values())}).items():
        soundfile.write(folder / f"{part}.wav", samples, RATE)
    options = ["--set", f"folder={tmp_path / 'songs'}", "--results", str(tmp_path / "results"), "--workers", "1"]
    assert main(["evaluate", "-m", f"{name}:ends", "-m", "mixture", *options, "--json", "--quiet"]) != 0
    report = json.loads(capsys.readouterr().out)
    assert "ended by the system" in json.dumps(report["failures"])
    assert "mixture" in json.dumps(report)
