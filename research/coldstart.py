"""Time from the start of `audiosep separate` to the first samples on the disk, and to its end.

python -m research.coldstart --seconds 180 --runs 5

Modules are compiled before, as an installation does it; the import of torch alone is timed beside.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from audiosep.audio.synthetic import write_test_sound
from audiosep.errors import InputError, ModelError

HEADER = 4096  # bytes: more than the header of any audio file that is written
POLL = 0.005  # seconds


@dataclass(frozen=True)
class ColdStart:
    """Seconds from the start of the process.

    Attributes:
        first_written: until every output has samples on the disk.
        finished: until the process has ended.
    """

    first_written: float
    finished: float


def cold_start(model: str, query: str, seconds: float) -> ColdStart:
    """Separate a test sound once with the command line.

    Args:
        model: name or folder.
        query: what is separated.
        seconds: length of the test sound (stereo, 44.1 kHz).

    Raises:
        ModelError: the command failed; the message contains the command's.
    """
    with tempfile.TemporaryDirectory(prefix="audiosep-coldstart-") as name:
        folder = Path(name)
        song = write_test_sound(folder / "song.wav", seconds)
        out = folder / "out"
        # By default samples are written to temporary files without names, until the common gain is known.
        policy = ["--on-clip", "clip", "--json"]
        command = [sys.executable, "-m", "audiosep", "separate", str(song), query, "-m", model, "-o", str(out), *policy]
        first = None
        with (folder / "log").open("w+b") as log:
            began = time.perf_counter()
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, env=_compiled())
            try:
                while process.poll() is None:
                    if first is None and _written(out):
                        first = time.perf_counter() - began
                    time.sleep(POLL)
            finally:
                process.kill()  # if this process was interrupted; otherwise it has ended
                process.wait()
            finished = time.perf_counter() - began
            log.seek(0)
            message = log.read().decode(errors="replace").strip()
    if process.returncode != 0:
        raise ModelError(f"the timed separation failed: {message[-500:] or 'no message'}")
    return ColdStart(finished if first is None else first, finished)


def import_of_torch() -> float:
    """Seconds that a process needs for nothing but the import of torch."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True, env=_compiled())
    return time.perf_counter() - began


def main(arguments: list[str] | None = None) -> None:
    """Command line, see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m research.coldstart", description=__doc__)
    parser.add_argument("-m", "--model", default="mini")
    parser.add_argument("--query", default="speech")
    parser.add_argument("--seconds", type=float, default=180.0, help="length of the sound")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print all runs as JSON")
    options = parser.parse_args(arguments)
    if options.runs < 1 or options.seconds <= 0:
        raise InputError("--runs and --seconds must be greater than 0")
    cold_start(options.model, options.query, 1.0)  # compiles all modules
    runs, imports = [], []
    for _ in range(options.runs):
        imports.append(import_of_torch())
        runs.append(cold_start(options.model, options.query, options.seconds))
    if options.json:
        rows = [asdict(run) | {"import_of_torch": alone} for run, alone in zip(runs, imports, strict=True)]
        sys.stdout.write(json.dumps(rows) + "\n")
        return
    for label, values in (
        ("import of torch alone", imports),
        ("first samples written", [run.first_written for run in runs]),
        ("finished", [run.finished for run in runs]),
    ):
        sys.stdout.write(f"{label:22} {statistics.median(values):6.2f} s ({min(values):.2f} to {max(values):.2f})\n")


def _compiled() -> dict[str, str]:
    """An environment in which Python keeps compiled modules, whatever the one of this process says."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _written(folder: Path) -> bool:
    """Whether all files in a folder are longer than a header."""
    try:
        sizes = [path.stat().st_size for path in folder.iterdir()]
    except OSError:  # the folder does not exist yet, or a file was just renamed
        return False
    return bool(sizes) and min(sizes) > HEADER


if __name__ == "__main__":
    main()
