"""What several recordings at once gain: a batch one after the other, and the same batch with `--jobs`.

    python -m research.jobs --songs 12 --jobs 2

Both are whole commands with all CPUs, the loading of the model counted. They take turns, so that a machine that slows
down slows both; run it on an idle one.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiosep.audio import read_audio, write_audio

_SONG = Path(__file__).parents[1] / "examples" / "audio" / "song.flac"


@dataclass(frozen=True)
class Times:
    """Times of one command, in seconds.

    Attributes:
        wall: from its start to its end.
        cpu: of all its threads.
    """

    wall: float
    cpu: float


def make_songs(folder: Path, count: int, seconds: float) -> None:
    """Write songs that begin at different places of the example song.

    Args:
        folder: where they go.
        count: how many.
        seconds: length of each.
    """
    x, rate = read_audio(_SONG)
    length = round(seconds * rate)
    for number in range(count):
        repeated = np.roll(np.tile(x, (1, -(-length // x.shape[1]))), 7919 * number, axis=1)
        write_audio(folder / f"{number:02d}.flac", repeated[:, :length], rate)


def time_command(command: Sequence[str]) -> Times:
    """Run a command and measure it.

    Args:
        command: the program and its arguments.

    Raises:
        subprocess.CalledProcessError: it fails.
    """
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Times(time.monotonic() - began, cpu)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=30.0, help="length of a song")
    parser.add_argument("--jobs", type=int, nargs="+", default=[2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--verb", choices=("separate", "stems"), default="separate")
    parser.add_argument("--model", default="mini")
    chosen = parser.parse_args(arguments)
    words = [chosen.verb, "-m", chosen.model, "--quiet", *(["-q", "speech"] if chosen.verb == "separate" else [])]
    found: dict[int, list[Times]] = {jobs: [] for jobs in (1, *chosen.jobs)}
    with tempfile.TemporaryDirectory(prefix="audiosep-jobs-") as place:
        songs = Path(place) / "songs"
        songs.mkdir()
        make_songs(songs, chosen.songs, chosen.seconds)
        for repeat in range(chosen.repeats):
            for jobs, times in found.items():
                out = Path(place) / f"{repeat} {jobs}"
                command = [sys.executable, "-m", "audiosep", *words, str(songs), "-o", str(out), "--jobs", str(jobs)]
                times.append(time_command(command))
    alone = statistics.median(times.wall for times in found[1])
    print(f"{chosen.songs} songs of {chosen.seconds:g} s, {chosen.verb}, {chosen.model}, median of {chosen.repeats}")
    for jobs, times in found.items():
        wall, cpu = (statistics.median(getattr(one, kind) for one in times) for kind in ("wall", "cpu"))
        print(f"--jobs {jobs}: {wall:6.1f} s, {cpu:6.1f} s of CPU, {alone / wall:.2f} times as fast as one by one")
    return 0


if __name__ == "__main__":
    sys.exit(main())
