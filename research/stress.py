"""Many requests of mixed kinds from many threads on one separator: wrong bytes, and the resident set over time.

python -m research.stress --threads 16 --requests 1000 --heaps 2
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from audiosep.api import load
from audiosep.audio.encode import write_audio
from audiosep.audio.synthetic import tone_and_noise
from audiosep.inference.heap import share_heaps
from audiosep.output.separation import Separation
from audiosep.query.query import Query
from audiosep.separator import Separator

RATE = 44100
Sound = NDArray[np.float32]


@dataclass(frozen=True)
class Stress:
    """What many requests have given.

    Attributes:
        wrong: requests whose bytes were not those of the same request alone.
        seconds: that all of them took.
        resident: resident set in bytes, after every fiftieth of the requests.
    """

    wrong: int
    seconds: float
    resident: list[int]


def kinds(separator: Separator, folder: Path) -> list[Callable[[], list[bytes]]]:
    """Requests of all kinds, on sounds of different lengths, rates and channels, and their results as bytes.

    Args:
        separator: of a model with queries and stems.
        folder: for files.
    """
    sound = tone_and_noise(2 * RATE, RATE)
    short, mono = sound[:, : RATE // 2], sound[:1]
    like = Query(audio=(sound[:, :RATE], RATE), name="like")
    write_audio(folder / "sound.wav", sound, RATE)
    names = itertools.count()

    def of_file() -> list[bytes]:
        out = folder / str(next(names))
        separator.separate_files(folder / "sound.wav", ["speech"], out)
        found = [path.read_bytes() for path in sorted(out.iterdir())]
        shutil.rmtree(out)
        return found

    def live() -> list[bytes]:
        stream = separator.stream("speech", sample_rate=RATE, channels=2, latency=0.3)
        blocks = (short[:, start : start + 2000] for start in range(0, short.shape[1], 2000))
        return [np.concatenate([*map(stream.push, blocks), stream.finish()], axis=-1).tobytes()]

    kinds = [
        lambda: _bytes(separator.stems(sound, sample_rate=RATE)),
        lambda: _bytes(separator.separate(short, "speech", sample_rate=RATE)),
        lambda: _bytes(separator.separate(mono, ["guitar", "dog barking"], sample_rate=32000)),
        lambda: _bytes(separator.separate(short, Query("rain", negative="speech"), sample_rate=96000)),
        lambda: _bytes(separator.separate(mono, like, sample_rate=RATE)),
        lambda: _bytes(separator.stems(mono, sample_rate=16000)),
        of_file,
        live,
    ]
    if separator.model.tag_names is not None:
        kinds.append(lambda: [repr(separator.describe(short, sample_rate=RATE)).encode()])
    return kinds


def stress(separator: Separator, threads: int, requests: int) -> Stress:
    """Run requests of all kinds in turns from many threads.

    Args:
        separator: that all of them share.
        threads: that ask at once.
        requests: in all.
    """
    with tempfile.TemporaryDirectory(prefix="audiosep-stress-") as folder:
        return _stress(kinds(separator, Path(folder)), threads, requests)


def _stress(asked: list[Callable[[], list[bytes]]], threads: int, requests: int) -> Stress:
    expected = [one() for one in asked]
    resident: list[int] = []
    done, lock = itertools.count(1), threading.Lock()

    def run(number: int) -> bool:
        kind = number % len(asked)
        right = asked[kind]() == expected[kind]
        with lock:
            if next(done) % max(1, requests // 50) == 0:
                resident.append(resident_set())
        return right

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        wrong = list(pool.map(run, range(requests))).count(False)
    return Stress(wrong, time.perf_counter() - began, resident)


def resident_set() -> int:
    """Of this process, bytes (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def _bytes(out: Separation[Sound]) -> list[bytes]:
    return [out[name].tobytes() for name in out]


def main() -> None:
    """Print the counts and the resident set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", "-m", default="mini")
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--heaps", type=int, help="that all threads share, as those of the studio and the service do")
    parser.add_argument("--precision", default="auto", help="of the layers [%(default)s]")
    given = parser.parse_args()
    if given.heaps is not None:
        share_heaps(given.heaps)
    torch.set_num_threads(1)
    separator = load(given.model, "cpu", given.precision)
    before = resident_set()
    found = stress(separator, given.threads, given.requests)
    separator.close()
    print(f"{given.requests} requests of {given.threads} threads: {found.wrong} wrong, {found.seconds:.0f} s")
    megabytes = [round(size / 1e6) for size in found.resident]
    print(f"resident set: {before / 1e6:.0f} MB loaded, then {megabytes}, closed {resident_set() / 1e6:.0f}")


if __name__ == "__main__":
    main()
