"""Kill a batch with --skip-existing at random moments until it has been killed often enough, then let it finish.

    python -m research.kills FOLDER --kills 100

After the last run every output must have the bytes of a run that nobody has killed, and no part file may be left.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_QUERIES = ("-q", "speech", "-q", "piano")


@dataclass(frozen=True)
class Kills:
    """What the kills have left.

    Attributes:
        kills: processes that were killed before they ended.
        moments: when, in seconds after the start.
        wrong: outputs that are missing, that differ, or that should not be there.
    """

    kills: int
    moments: list[float]
    wrong: list[str]


def kill_batches(
    command: Sequence[str], songs: Path, out: Path, *, kills: int, options: Sequence[str] = (), seed: int = 0
) -> Kills:
    """Run a batch and kill it, again and again.

    Args:
        command: that starts audiosep.
        songs: a folder with recordings.
        out: folder of the outputs; must not exist.
        kills: how many processes are killed.
        options: further ones of `audiosep separate`.
        seed: of the moments.

    Returns:
        What was found after the last run, which is not killed.
    """
    # Other numbers of threads round differently, and by default they are those of the CPUs that are free.
    base = [*command, "separate", str(songs), *_QUERIES, "--threads", "1", *options, "--quiet"]
    whole = out.with_name(f"{out.name} in peace")
    began = time.monotonic()
    subprocess.run([*base, "-o", str(whole)], check=True, stdout=subprocess.DEVNULL)
    longest = 1.1 * (time.monotonic() - began)
    draw = random.Random(seed)
    moments: list[float] = []
    while len(moments) < kills:
        # A batch that was finished is begun anew, so that every moment of it is hit.
        if out.exists() and not _differences(whole, out):
            shutil.rmtree(out)
        wait = draw.uniform(0, longest)
        with subprocess.Popen(
            [*base, "-o", str(out), "--skip-existing"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as running:
            try:
                running.wait(wait)
            except subprocess.TimeoutExpired:
                os.kill(running.pid, signal.SIGKILL)
                moments.append(wait)
    subprocess.run([*base, "-o", str(out), "--skip-existing"], check=True, stdout=subprocess.DEVNULL)
    return Kills(len(moments), moments, _differences(whole, out))


def _differences(whole: Path, out: Path) -> list[str]:
    """Files that one folder lacks or whose bytes differ; hidden ones count."""
    expected = {path.relative_to(whole): path for path in whole.rglob("*") if path.is_file()}
    found = {path.relative_to(out): path for path in out.rglob("*") if path.is_file()}
    return sorted(
        str(name)
        for name in expected.keys() | found.keys()
        if name not in expected or name not in found or expected[name].read_bytes() != found[name].read_bytes()
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with recordings")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="audiosep-kills-") as place:
        done = kill_batches(
            [sys.executable, "-m", "audiosep"], chosen.folder, Path(place) / "out", kills=chosen.kills, seed=chosen.seed
        )
    print(f"{done.kills} kills, {min(done.moments):.2f} to {max(done.moments):.2f} s after the start")
    print("\n".join(done.wrong) or "every output is whole and right, and nothing else is left")
    return 1 if done.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
