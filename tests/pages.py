"""The pages of the documentation as tests see them: their text, the code in it, and a place to run that in."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from audiosep.cli import main

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "research/*.md", "checkpoints/**/*.md", "examples/*.md")
    for path in ROOT.glob(pattern)
)
# Their Python and bash blocks are run with what lies in the checkout.
RUN = [ROOT / "README.md", ROOT / "docs" / "index.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path, language: str = r"[\w-]*") -> list[str]:
    """The fenced blocks of a page, of a language or of all (also of none)."""
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(encoding="utf-8"), re.M | re.S)


def make_place(folder: Path) -> Path:
    """A folder with the examples in it and an `audiosep` command that knows a model called mini."""
    place = folder / "place"
    (place / "bin").mkdir(parents=True)
    (place / "out").mkdir()
    (place / "examples").symlink_to(ROOT / "examples")
    command = place / "bin" / "audiosep"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {ROOT}/tests/command.py "$@"\n')
    command.chmod(0o755)
    return place


def execute(place: Path, stand_in: Path | None, *command: str) -> str:
    """Run a command in the place and return what it prints.

    Args:
        place: made by `make_place`.
        stand_in: folder of a model that is used instead of mini; None for mini.
        command: the program and its arguments.
    """
    model = {} if stand_in is None else {"STAND_IN_FOR_MINI": str(stand_in)}
    paths = {"PATH": f"{place / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = subprocess.run(
        command, cwd=place, env={**os.environ, **paths, **model}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def run_python(place: Path, stand_in: Path | None, code: str) -> str:
    """Run Python code as `execute` runs a command."""
    return execute(place, stand_in, sys.executable, "-c", f"import command; command.prepare()\n{code}")


def run_blocks(page: str) -> None:
    """Run the Python and bash blocks of a page, in its order and in this process, where torch is imported once."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for language, block in re.findall(r"^```(python|bash)\n(.*?)^```$", text, re.M | re.S):
        if language == "python":
            exec(compile(block, page, "exec"), {"__name__": "__main__"})
        else:
            for line in block.splitlines():
                run_line(line)


def run_line(line: str) -> None:
    """Run one command: of audiosep in this process, with pipes by bash."""
    if "|" in line:
        subprocess.run(["bash", "-euo", "pipefail", "-c", line], check=True)
        return
    words = []
    for word in shlex.split(line):
        words += sorted(map(str, Path().glob(word))) if "*" in word else [word]
    assert words[0] == "audiosep", line
    assert main(words[1:]) == 0, line
