"""From the start of `audiosep separate` in a fresh process to the first samples of a target on the disk, and its end.

python -m research.coldstart --seconds 180 --runs 5
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from audiosep.audio.synthetic import write_test_sound
from audiosep.errors import InputError, ModelError

HEADER = 4096  # bytes: more than any header that a writer puts before the first samples
POLL = 0.005  # seconds


@dataclass(frozen=True)
class ColdStart:
    """Seconds since the process was asked for: until every output has samples on the disk, and until it has ended."""

    first_written: float
    finished: float


def cold_start(model: str, query: str, seconds: float) -> ColdStart:
    """One separation of a test sound by the command line, in a process that has loaded nothing yet.

    Args:
        model: name or folder. query: what is separated. seconds: length of the stereo sound, 44.1 kHz.

    Raises:
        ModelError: the command failed; its message is in the error's.
    """
    with tempfile.TemporaryDirectory(prefix="audiosep-coldstart-") as name:
        folder = Path(name)
        song = write_test_sound(folder / "song.wav", seconds)
        out = folder / "out"
        # As it is usual, samples wait in nameless files for the one gain of all outputs: just as early, but unseen.
        policy = ["--on-clip", "clip", "--json"]
        command = [sys.executable, "-m", "audiosep", "separate", str(song), query, "-m", model, "-o", str(out), *policy]
        first = None
        with (folder / "log").open("w+b") as log:
            began = time.perf_counter()
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
            try:
                while process.poll() is None:
                    if first is None and _written(out):
                        first = time.perf_counter() - began
                    time.sleep(POLL)
            finally:
                process.kill()  # when this process is interrupted; else it has ended
                process.wait()
            finished = time.perf_counter() - began
            log.seek(0)
            message = log.read().decode(errors="replace").strip()
    if process.returncode != 0:
        raise ModelError(f"the separation that was to be timed failed: {message[-500:] or 'no message'}")
    return ColdStart(finished if first is None else first, finished)


def main(arguments: list[str] | None = None) -> None:
    """See the module's description."""
    parser = argparse.ArgumentParser(prog="python -m research.coldstart", description=__doc__)
    parser.add_argument("-m", "--model", default="mini")
    parser.add_argument("--query", default="speech")
    parser.add_argument("--seconds", type=float, default=180.0, help="length of the sound")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="all runs, for machines")
    options = parser.parse_args(arguments)
    if options.runs < 1 or options.seconds <= 0:
        raise InputError("--runs and --seconds must be greater than 0")
    runs = [cold_start(options.model, options.query, options.seconds) for _ in range(options.runs)]
    if options.json:
        sys.stdout.write(json.dumps([asdict(run) for run in runs]) + "\n")
        return
    for label, values in (
        ("first samples written", [run.first_written for run in runs]),
        ("finished", [run.finished for run in runs]),
    ):
        sys.stdout.write(f"{label:22} {statistics.median(values):6.2f} s ({min(values):.2f} to {max(values):.2f})\n")


def _written(folder: Path) -> bool:
    """Whether all files that are being written there have more than their header."""
    try:
        sizes = [path.stat().st_size for path in folder.iterdir()]
    except OSError:  # not there yet, or a file was just renamed
        return False
    return bool(sizes) and min(sizes) > HEADER


if __name__ == "__main__":
    main()
