"""Completion of the command line, by its words and through bash."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from audiosep.cli import VERBS, main
from audiosep.cli.completion import candidates

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sep"], ["separate"]),
        ([""], [*VERBS, "--help", "--version"]),
        (["separate", "song.wav", "--skip"], ["--skip-existing"]),
        (["stems", "-f", "fl"], ["flac"]),
        (["separate", "--engine", ""], ["torch", "openvino"]),
        (["data", "bu"], ["build"]),
        (["data", "build", "--spl"], ["--split"]),
        (["separate", "son"], []),
        (["nonsense", ""], []),
    ],
)
def test_words_that_fit(words: list[str], expected: list[str]) -> None:
    assert candidates(words) == expected


def test_models_are_completed() -> None:
    assert "mini" in candidates(["separate", "-m", ""])


def test_an_unknown_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "tcsh"]) == 2
    assert "bash, zsh, fish" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes(tmp_path: Path) -> None:
    program = tmp_path / "audiosep"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m audiosep "$@"\n')
    program.chmod(0o755)
    script = """
    eval "$(audiosep completion bash)"
    COMP_WORDS=(audiosep separate song.wav --json); COMP_CWORD=3; _audiosep; echo "${COMPREPLY[@]}"
    COMP_WORDS=(audiosep ste); COMP_CWORD=1; _audiosep; echo "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "-c", script], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "--json --json-lines\nstems\n", done.stderr
