"""A load test of examples/service.py on the loopback: requests a second, 95th percentile, what is refused or lost.

    python -m research.service_load --processes 1 --clients 8 --jobs 60 --seconds 10

Starts the service in one or several processes that share the threads, lets clients send recordings one after the other,
each a random stretch of an example with one query, and waits for every job that was taken. A client that is refused
waits and tries again; refusals are counted. Each answer is compared with what the same request gave first: a service
that mixes up its jobs is found out.
"""

from __future__ import annotations

import argparse
import io
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import soundfile

from audiosep.inference.threads import available_cpus

ROOT = Path(__file__).parents[1]
_QUERIES = ("speech", "guitar", "music", "a dog barking")
_PLACES = 4  # stretches of the recording that are sent


@dataclass
class Counts:
    """What became of the requests.

    Attributes:
        taken: seconds from sending a recording to its sound, of every job.
        refused: answers that said "try again later".
        wrong: sounds that differ from those of the same request before.
        lost: jobs that were taken and gave no sound.
    """

    taken: list[float]
    refused: int = 0
    wrong: int = 0
    lost: int = 0


def free_port() -> int:
    """A port of the loopback that nobody listens to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(processes: int) -> tuple[list[subprocess.Popen[bytes]], list[str]]:
    """Services and their addresses, ready to take requests.

    Args:
        processes: how many; they share the CPUs.
    """
    threads = max(1, available_cpus() // processes)
    ports = [free_port() for _ in range(processes)]
    command = [sys.executable, str(ROOT / "examples/service.py"), "--threads", str(threads), "--waiting", "8", "--port"]
    started = [subprocess.Popen([*command, str(port)], stderr=subprocess.DEVNULL) for port in ports]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    for url in urls:
        while True:
            try:
                httpx.get(f"{url}/health").raise_for_status()
                break
            except httpx.TransportError:
                time.sleep(0.1)
    return started, urls


def recordings(seconds: float) -> list[bytes]:
    """Stretches of a recording as wav files.

    Args:
        seconds: of each.
    """
    samples, rate = soundfile.read(ROOT / "examples/audio/reading.flac", dtype="float32", always_2d=True)
    parts = []
    for k in range(_PLACES):
        file, first = io.BytesIO(), k * rate // 2
        soundfile.write(file, np.resize(samples[first:], (int(seconds * rate), samples.shape[1])), rate, format="WAV")
        parts.append(file.getvalue())
    return parts


def load_test(urls: Sequence[str], parts: Sequence[bytes], clients: int, jobs: int) -> tuple[Counts, float]:
    """All jobs, and the seconds that they took together.

    Args:
        urls: of the services.
        parts: recordings.
        clients: that send jobs at the same time.
        jobs: in all.
    """
    counts, lock, first = Counts([]), threading.Lock(), dict[tuple[int, str], bytes]()

    def one(number: int) -> None:
        draw = random.Random(number)
        url, place, query = urls[number % len(urls)], draw.randrange(len(parts)), draw.choice(_QUERIES)
        begun = time.perf_counter()
        with httpx.Client(timeout=60) as client:
            while True:
                answer = client.post(f"{url}/jobs", files={"file": ("a.wav", parts[place])}, data={"query": query})
                if answer.status_code != 503:
                    break
                with lock:
                    counts.refused += 1
                time.sleep(draw.uniform(0.2, 1.0))
            job = f"{url}/jobs/{answer.json()['id']}"
            while (about := client.get(job).json())["state"] in ("waiting", "running"):
                time.sleep(0.05)
            sound = client.get(f"{job}/{query}").content if about["state"] == "done" else None
            client.delete(job)
        with lock:
            counts.lost += sound is None
            counts.wrong += sound is not None and first.setdefault((place, query), sound) != sound
            counts.taken.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(one, range(jobs)))
    return counts, time.perf_counter() - begun


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; exit code 1 where a job was lost or wrong."""
    parser = argparse.ArgumentParser(prog="python -m research.service_load", description=__doc__)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each recording")
    options = parser.parse_args(arguments)
    started, urls = start(options.processes)
    try:
        counts, seconds = load_test(urls, recordings(options.seconds), options.clients, options.jobs)
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()
    print(
        f"{options.jobs} recordings of {options.seconds:g} s, {options.clients} clients, {options.processes} processes:"
        f" {options.jobs / seconds:.2f} a second, median {np.median(counts.taken):.1f} s, 95% within "
        f"{np.quantile(counts.taken, 0.95):.1f} s, {counts.refused} refused for a while, {counts.wrong} wrong, "
        f"{counts.lost} lost"
    )
    return int(counts.wrong + counts.lost > 0)


if __name__ == "__main__":
    sys.exit(main())
