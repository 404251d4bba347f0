"""Largest resident set of a separation, each case in a process of its own.

python -m research.memory --into docs/bench.md
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from audiosep.audio import AudioWriter
from audiosep.errors import ModelError
from audiosep.inference.options import Options
from research.pages import put

SECTION = "memory"
LAYOUTS = ((1, 8000), (2, 44100), (8, 44100), (2, 192000), (8, 96000), (8, 192000))  # channels, Hz
STEMS = "stems"
WORK = (*map(str, (1, 2, 4, 8, 16)), STEMS)  # queries
SOUNDS = (
    *("speech", "piano", "drums", "dog barking", "guitar", "rain", "violin", "engine", "bird", "applause", "flute"),
    *("bell", "cat", "trumpet", "wind", "laughter"),
)

# Linux starts VmHWM at a new program, and ru_maxrss, on some kernels, at the peak of the parent.
CHILD = """
import sys
from audiosep.cli import command
from audiosep.inference.memory import peak_memory
try:
    command()
finally:
    print(peak_memory())
"""


def write_sound(path: Path, channels: int, rate: int, seconds: float) -> Path:
    """Write noise whose level changes, in blocks: channels that are all different, and no window of silence."""
    rng = np.random.default_rng(0)
    with AudioWriter(path, rate, channels) as writer:
        left = round(seconds * rate)
        while left > 0:
            count = min(left, rate)
            level = 0.02 + 0.1 * rng.random((channels, 1), dtype=np.float32)
            writer.write(level * rng.standard_normal((channels, count), dtype=np.float32))
            left -= count
    return path


def peak(work: str, sound: Path, *options: str) -> int:
    """The largest resident set of one command of the command line, bytes.

    Args:
        work: how many queries, or "stems".
        sound: that is separated.
        options: further ones of the command.

    Raises:
        ModelError: the command failed; the message contains the command's.
    """
    verb = ["stems"] if work == STEMS else ["separate", *(part for q in SOUNDS[: int(work)] for part in ("-q", q))]
    with tempfile.TemporaryDirectory(prefix="audiosep-memory-") as out:
        command = [sys.executable, "-c", CHILD, *verb, str(sound), "-o", out, "--quiet", "--device", "cpu", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ModelError(f"{' '.join(verb)} of {sound} failed: {done.stderr.strip()[-500:]}")
    return int(done.stdout.split()[-1])


def table(found: dict[tuple[str, tuple[int, int]], int], layouts: list[tuple[int, int]], works: list[str]) -> str:
    """Peaks in MB, a row for each number of queries and a column for each number of channels and rate."""
    heads = [f"{channels} ch, {rate / 1000:g} kHz" for channels, rate in layouts]
    lines = [f"| queries | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    for work in works:
        cells = [f"{found[work, layout] / 1e6:.0f}" if (work, layout) in found else "" for layout in layouts]
        lines.append(f"| {work} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure every case and print the table; with `--into` also write it into a page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=25, help="length of the sounds")
    parser.add_argument("--threads", type=int, default=2, help="each has memory of its own")
    parser.add_argument("--work", default=",".join(WORK), help="numbers of queries, and stems")
    parser.add_argument("--layouts", default=",".join(f"{c}x{r}" for c, r in LAYOUTS), help="channels x rate")
    parser.add_argument("--into", type=Path, help="a page with a section 'memory'")
    parser.add_argument("--quality", default=Options.quality, help="of the queries")
    given = parser.parse_args()
    layouts = [(int(c), int(r)) for c, r in (one.split("x") for one in given.layouts.split(","))]
    works = given.work.split(",")
    found: dict[tuple[str, tuple[int, int]], int] = {}
    with tempfile.TemporaryDirectory(prefix="audiosep-memory-") as folder:
        for channels, rate in layouts:
            sound = write_sound(Path(folder) / f"{channels}x{rate}.wav", channels, rate, given.seconds)
            for work in works:
                options = ["--threads", str(given.threads)]
                options += [] if work == STEMS else ["--quality", given.quality]
                found[work, (channels, rate)] = peak(work, sound, *options)
                print(json.dumps([work, channels, rate, round(found[work, (channels, rate)] / 1e6)]), flush=True)
            sound.unlink()
    text = table(found, layouts, works)
    print(text)
    if given.into is not None:
        put(text + "\n", given.into, SECTION)


if __name__ == "__main__":
    main()
