"""Everything the README shows is run, and the examples too."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer.main

from audiosep.cli import VERBS
from audiosep.weights import catalogue

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.M | re.S)


@pytest.fixture
def place(tmp_path: Path, tiny_folder: Path) -> Path:
    """A folder with the examples in it and an `audiosep` command that knows a model called mini."""
    place = tmp_path / "place"
    (place / "bin").mkdir(parents=True)
    (place / "examples").symlink_to(ROOT / "examples")
    command = place / "bin" / "audiosep"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {ROOT}/tests/command.py "$@"\n')
    command.chmod(0o755)
    return place


def environment(place: Path, tiny_folder: Path) -> dict[str, str]:
    # Where the package has no weights, a tiny random model shows that all that is written runs.
    stand_in = {} if catalogue.installed("mini") else {"STAND_IN_FOR_MINI": str(tiny_folder)}
    paths = {"PATH": f"{place / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    return {**os.environ, **paths, **stand_in}


def execute(place: Path, tiny_folder: Path, *command: str) -> str:
    done = subprocess.run(
        command, cwd=place, env=environment(place, tiny_folder), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def python(place: Path, tiny_folder: Path, code: str) -> str:
    return execute(place, tiny_folder, sys.executable, "-c", f"import command; command.prepare()\n{code}")


def test_the_first_lines_say_what_this_is_and_what_it_is_not() -> None:
    head = " ".join(TEXT.split("## ")[0].split())
    assert "independent implementation" in head
    assert "not affiliated" in head
    assert "Audio-AGI/AudioSep" in head


def test_the_commands_of_the_quickstart_exist() -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    lines = [line for block in blocks("console") for line in block.splitlines()]
    assert lines[:2] == ["make demo", "make test"]
    for line in lines:
        words = shlex.split(line)
        assert (words[0] == "make" and words[1] in targets) or words[:2] == ["pip", "install"], line
    assert all(name in extras for name in re.findall(r'pip install "\.\[(\w+)\]"', TEXT))


def test_every_command_it_names_is_one() -> None:
    for verb, rest in re.findall(r"`audiosep (\w+)([^`]*)`", TEXT):
        assert verb in VERBS
        command = typer.main.get_command(importlib.import_module(f"audiosep.cli.{verb}").app)
        command = getattr(command, "commands", {}).get(rest.split()[0] if rest else "", command)
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest.split() if word[0] == "-"} <= options, rest


def test_every_linked_file_is_there() -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT):
        assert (ROOT / link).is_file(), link


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_run(place: Path, tiny_folder: Path, code: str) -> None:
    python(place, tiny_folder, code)
    for name in re.findall(r"reading \(\w+\)\.flac", code):
        assert (place / "out" / name).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("lines", blocks("bash"))
def test_shell_blocks_run(place: Path, tiny_folder: Path, lines: str) -> None:
    (place / "out").mkdir()
    execute(place, tiny_folder, "bash", "-euo", "pipefail", "-c", lines)
    for folder in re.findall(r"--out (out/\w+)\b", lines):
        assert (
            any((place / folder).iterdir()) if (place / folder).is_dir() else (place / f"{folder}.wav").stat().st_size
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["demo.py", "separate.py"])
def test_the_examples_run(place: Path, tiny_folder: Path, name: str) -> None:
    run = f"import runpy, sys; sys.argv = ['{name}', '--out', 'results']; "
    out = python(place, tiny_folder, f"{run} runpy.run_path('examples/{name}', run_name='__main__')")
    assert "reading (speech).flac" in out
    assert (place / "results" / "reading (speech).flac").is_file()
    if name == "demo.py":
        assert "SI-SDR" in out
        for picture in ("reading.png", "song.png"):
            assert (place / "results" / picture).read_bytes().startswith(b"\x89PNG")


def test_the_shipped_model_separates_the_demo() -> None:
    import soundfile
    import torch

    from audiosep import load
    from audiosep.metrics import si_sdr

    folder = ROOT / "examples" / "audio"
    out = load("mini", device="cpu").separate(folder / "reading.flac", ["speech", "guitar"])
    mixture = torch.from_numpy(soundfile.read(folder / "reading.flac", dtype="float32", always_2d=True)[0].T)
    for name in ("speech", "guitar"):
        truth = torch.from_numpy(soundfile.read(folder / f"{name}.flac", dtype="float32", always_2d=True)[0].T)
        gained = si_sdr(torch.as_tensor(out[name]), truth) - si_sdr(mixture, truth)
        assert float(gained.mean()) > 0.5, name  # 3.7 and 3.3 dB with the weights that ship


def test_the_mixtures_are_the_sums_of_their_sources() -> None:
    import numpy as np
    import soundfile

    sums = {"reading": ("speech", "guitar"), "song": ("vocals", "lead_guitar", "rhythm")}
    credits = (ROOT / "examples" / "CREDITS.md").read_text()
    for mixture, sources in sums.items():
        read = {
            name: soundfile.read(ROOT / "examples" / "audio" / f"{name}.flac", dtype="int16")[0].astype(np.int32)
            for name in (mixture, *sources)
        }
        assert np.array_equal(read[mixture], sum(read[name] for name in sources))
        assert all(f"`{name}.flac`" in credits for name in read)
    files = {path.stem for path in (ROOT / "examples" / "audio").glob("*.flac")}
    assert files == {name for mixture, sources in sums.items() for name in (mixture, *sources)}
