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
    assert main(["completion", "bsh"]) == 2
    assert "did you mean 'bash'" in capsys.readouterr().err
    assert main(["completion", "Bash"]) == 0


def in_shell(shell: str, script: str, folder: Path) -> str:
    """What a script of a shell writes in a folder with a song, with `audiosep` on the PATH."""
    program = folder / "bin" / "audiosep"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m audiosep "$@"\n')
    program.chmod(0o755)
    (folder / "song.wav").touch()
    command = {"bash": ["bash", "-c"], "zsh": ["zsh", "-f", "-c"], "fish": ["fish", "--no-config", "-c"]}[shell]
    done = subprocess.run(
        [*command, script],
        env={"PATH": f"{program.parent}:/usr/bin:/bin", "HOME": str(folder), "TERM": "dumb"}, cwd=folder,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes(tmp_path: Path) -> None:
    script = """
    eval "$(audiosep completion bash)"
    COMP_WORDS=(audiosep separate song.wav --json); COMP_CWORD=3; _audiosep; echo "${COMPREPLY[@]}"
    COMP_WORDS=(audiosep ste); COMP_CWORD=1; _audiosep; echo "${COMPREPLY[@]}"
    """
    assert in_shell("bash", script, tmp_path) == "--json --json-lines\nstems\n"


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh")
def test_zsh_completes(tmp_path: Path) -> None:
    """In a terminal of its own, where tabs are pressed; what is not completed is waited for in vain."""
    script = r"""
    zmodload zsh/zpty
    zpty shell zsh -f -i
    see() { zpty -r -m shell found "*$1*" && print -r -- "$1" }
    zpty -w shell 'eval "$(audiosep completion zsh)"; echo re""ady'
    see ready
    zpty -w -n shell $'audiosep ste\t'
    see 'ms'
    zpty -w -n shell $'\C-uaudiosep separate so\t'
    see 'ng.wav'
    """
    assert in_shell("zsh", script, tmp_path) == "ready\nms\nng.wav\n"


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish")
def test_fish_completes(tmp_path: Path) -> None:
    script = """
    audiosep completion fish | source
    complete -C "audiosep ste"
    complete -C "audiosep separate so"
    """
    assert in_shell("fish", script, tmp_path) == "stems\nsong.wav\n"
