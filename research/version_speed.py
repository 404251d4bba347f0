"""Time of this version against another checkout: both in turns, each in one process that lives on.

    git worktree add ../before COMMIT
    python -m research.version_speed ../before --threads 2 --runs 3 --into docs/bench.md

A minute of a stereo recording at 44.1 kHz, from arrays, with the defaults of each version but for the quality of a
query, which versions before 0.2.0 do not know; and ten seconds of it as a live stream.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.progress import track

from audiosep.errors import InputError, ModelError
from research.pages import put

ROOT = Path(__file__).parents[1]
TASKS = {
    "stems": "stems",
    "one query, fast": "fast",
    "one query, balanced": "balanced",
    "live, 300 ms, one query": "live",
    "live, 300 ms, stems": "live stems",
}

# Runs in the other version too, so it uses what all versions have.
_WORKER = """
import sys, time
import numpy as np
import soundfile
import torch

task, threads, recording = sys.argv[1], int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(threads)
import audiosep

samples, rate = soundfile.read(recording, dtype="float32", always_2d=True)
minute = np.tile(samples.T, (1, 60 * rate // len(samples) + 1))[:, : 60 * rate]
separator = audiosep.load("mini", device="cpu")
named = hasattr(audiosep, "Options") and task in ("fast", "balanced")
quality = {"options": audiosep.Options(quality=task)} if named else {}


def once():
    if task == "stems":
        separator.stems(minute, sample_rate=rate)
    elif task.startswith("live"):
        queries = None if task.endswith("stems") else ["guitar"]
        stream, block = separator.stream(queries, sample_rate=rate, channels=2, latency=0.3), rate // 20
        for start in range(0, 10 * rate, block):
            stream.push(minute[:, start : start + block])
        stream.finish()
    else:
        separator.separate(minute, ["guitar"], sample_rate=rate, **quality)


once()
print("ready", flush=True)
for _ in sys.stdin:
    began = time.perf_counter()
    once()
    print(time.perf_counter() - began, flush=True)
"""


@dataclass
class Version:
    """A process of one version.

    Args:
        root: of its checkout.
        task: value of `TASKS`.
        threads: of torch.
        recording: that is separated.

    Raises:
        ModelError: it cannot do the task.
    """

    root: Path
    task: str
    threads: int
    recording: Path

    def __post_init__(self) -> None:
        self.times: list[float] = []
        command = [sys.executable, "-c", _WORKER, self.task, str(self.threads), str(self.recording.resolve())]
        self._process = subprocess.Popen(
            command,
            cwd=self.root,  # from where -c imports first
            env=os.environ | {"PYTHONPATH": str(self.root.resolve())},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in: IO[str] = self._process.stdin
        self._out: IO[str] = self._process.stdout
        if self._out.readline().strip() != "ready":
            self.end()
            raise ModelError(f"the version in {self.root} fails at {self.task!r}: try it there by hand")

    def run(self) -> None:
        """Do the task once more."""
        self._in.write("\n")
        self._in.flush()
        self.times.append(float(self._out.readline()))

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def compare(other: Path, task: str, threads: int, runs: int, recording: Path) -> str:
    """A row: seconds of both versions, medians, and their ratio.

    Args:
        other: checkout of the other version.
        task: key of `TASKS`.
        threads: of torch.
        runs: of each.
        recording: as of `Version`.
    """
    versions: list[Version] = []
    try:
        for root in (ROOT, other):
            versions.append(Version(root, TASKS[task], threads, recording))
        for _ in track(range(runs), task, console=Console(stderr=True)):
            for version in versions:
                version.run()
    finally:
        for version in versions:
            version.end()
    now, before = (statistics.median(version.times) for version in versions)
    return f"| {task} | {before:.2f} | {now:.2f} | {before / now:.2f} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="checkout of the other version")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--tasks", nargs="*", choices=tuple(TASKS), default=tuple(TASKS), metavar="TASK")
    parser.add_argument("--recording", type=Path, default=ROOT / "examples" / "audio" / "song.flac")
    parser.add_argument("--into", type=Path, help="page that gets the table, at <!-- versions -->")
    options = parser.parse_args(arguments)
    if not (options.other / "audiosep" / "__init__.py").is_file():
        raise InputError(f"{options.other} is no checkout of audiosep")
    lines = ["| task | before, s | now, s | times as fast |", "|---|---:|---:|---:|"]
    for task in options.tasks:
        lines.append(compare(options.other, task, options.threads, options.runs, options.recording))
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if options.into:
        put(text, options.into, "versions")


if __name__ == "__main__":
    main()
