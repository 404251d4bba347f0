"""Time of a separation beside busy programs, with the threads and the waiting of our defaults and of other settings.

python -m research.threads --busy 0,1,2 --runs 3
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator

from audiosep.api import load
from audiosep.audio.synthetic import tone_and_noise
from audiosep.inference.options import Engine
from audiosep.inference.threads import use_threads

RATE = 44100
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")
SETTINGS: dict[str, tuple[int | None, dict[str, str]]] = {  # threads, None for the free ones; variables of OpenMP
    "defaults": (None, {}),
    "1 thread": (1, {}),
    "2 threads": (2, {}),
    "2 threads, sleep at once": (2, {"OMP_WAIT_POLICY": "PASSIVE"}),
    "2 threads, torch's own waiting": (2, {"GOMP_SPINCOUNT": "300000"}),  # libgomp's without a policy
}


def measure(model: str, engine: Engine, threads: int | None, seconds: float) -> dict[str, float]:
    """Seconds in this process for the stems, where there are any, and for one query; each is separated once before.

    Args:
        model: its name or folder.
        engine: as in `audiosep.load`.
        threads: None for the default.
        seconds: length of the stereo test sound.
    """
    use_threads(threads)
    separator = load(model, "cpu", engine=engine)
    sound = tone_and_noise(round(seconds * RATE), RATE)
    found = {}
    for name in ("stems", "query") if separator.stem_names else ("query",):
        for _ in range(2):
            began = time.perf_counter()
            if name == "stems":
                separator.stems(sound, sample_rate=RATE)
            else:
                separator.separate(sound, "speech", sample_rate=RATE)
            found[name] = time.perf_counter() - began
    return found


@contextlib.contextmanager
def busy_programs(count: int) -> Iterator[None]:
    """Other processes that compute without end."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def main() -> None:
    """Measure every setting in processes of their own, in turns, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", "-m", default="mini")
    parser.add_argument("--engine", choices=["torch", "openvino"], default="torch")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--busy", default="0,1,2", help="numbers of busy programs")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--limit", type=float, default=120, help="seconds after which a process is ended: no result")
    parser.add_argument("--one", type=int, nargs="?", const=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        print(json.dumps(measure(given.model, given.engine, given.one or None, given.seconds)))
        return
    print(f"{given.model}, {given.engine}, {given.seconds:g} s stereo: median seconds of {given.runs} processes\n")
    print("| busy programs | setting | stems | one query |\n|---:|---|---:|---:|")
    for busy in map(int, given.busy.split(",")):
        found: dict[str, list[dict[str, float]]] = defaultdict(list)
        with busy_programs(busy):
            for _ in range(given.runs):
                for name, (threads, variables) in SETTINGS.items():
                    command = [sys.executable, "-m", "research.threads", "-m", given.model, "--engine", given.engine]
                    command += ["--seconds", str(given.seconds), "--one", str(threads or 0)]
                    outer = {key: value for key, value in os.environ.items() if key not in WAITING}
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        done = subprocess.run(
                            command, env=outer | variables, stdout=subprocess.PIPE, check=True, timeout=given.limit
                        )
                        found[name].append(json.loads(done.stdout))
        for name in SETTINGS:
            cells = []
            for work in ("stems", "query"):
                times = [run[work] for run in found[name] if work in run]
                cells.append(f"{statistics.median(times):.2f}" if times else "none")
            print(f"| {busy} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
