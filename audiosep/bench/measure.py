"""One case of a benchmark, in a process of its own: what it loads and how much memory it takes is nobody else's."""

from __future__ import annotations

import importlib
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audiosep.audio.synthetic import tone_and_noise, write_test_sound
from audiosep.errors import AudioSepError, InputError, ModelError
from audiosep.inference.memory import peak_memory
from audiosep.inference.threads import use_threads

if TYPE_CHECKING:
    from audiosep.bench.roofline import Roofline
    from audiosep.separator import Separator


@dataclass(frozen=True)
class Case:
    """One point of the grid.

    Attributes:
        model: name, folder or hub id. device, precision: as for `audiosep.load`.
        threads: of the CPU; None for as many as are sane.
        queries: what is separated; None for the stems.
        recording: a file, or None for a test sound. seconds: its length.
    """

    model: str
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    queries: tuple[str, ...] | None = ("speech",)
    recording: str | None = None
    seconds: float = 60.0


@dataclass(frozen=True)
class Facts:
    """What a case turned out to be. Seconds of sound and of the start; latency in seconds of sound."""

    model: str
    device: str
    precision: str
    threads: int
    audio_seconds: float
    sample_rate: int
    channels: int
    start_seconds: float
    first_sample_seconds: float
    latency_seconds: float


@dataclass(frozen=True)
class Times:
    """Wall-clock seconds of one run: file to files; and decoding, separating and writing apart, on a further pass."""

    total: float
    decode: float
    separate: float
    write: float


class Runner:
    """A loaded case.

    Args:
        case: what to measure. began: when its process was asked for, by `time.time`.
    """

    def __init__(self, case: Case, began: float) -> None:
        from audiosep.api import load

        self.case = case
        self.threads = use_threads(case.threads)
        self.separator: Separator = load(case.model, case.device, case.precision)
        self.start_seconds = time.time() - began
        self.queries = None if case.queries is None else list(case.queries)
        self._folder = tempfile.TemporaryDirectory(prefix="audiosep-bench-")
        self.folder = Path(self._folder.name)
        self.path = _recording(case, self.folder)

    def facts(self) -> Facts:
        """See `Facts`; also the warm-up, as its first pass is not timed with the others."""
        from audiosep.audio import probe

        first, latency = self._first_sample()
        info, separator = probe(self.path), self.separator
        samples = info.samples if info.samples is not None else self._count()
        return Facts(
            model=separator.name,
            device=separator.where,
            precision=separator.precision,
            threads=self.threads,
            audio_seconds=samples / info.sample_rate,
            sample_rate=info.sample_rate,
            channels=info.channels,
            start_seconds=self.start_seconds,
            first_sample_seconds=first,
            latency_seconds=latency,
        )

    def run(self) -> Times:
        """One measurement."""
        began = time.perf_counter()
        report = self.separator.separate_files([self.path], self.queries, self.folder / "out", overwrite=True)
        total = time.perf_counter() - began
        report.check()
        return Times(total, *self._apart())

    def roofline(self) -> Roofline | None:
        """Of one window; None where another engine computes the layers, whose operations torch cannot count."""
        from audiosep.bench.roofline import roofline

        separator = self.separator
        if separator.model.engine != "torch":
            return None
        count = None if self.queries is None else len(self.queries)
        return roofline(separator.model, count, device=separator.device, precision=separator.precision)

    def _apart(self) -> tuple[float, float, float]:
        """Seconds of decoding, separating and writing, block by block."""
        from audiosep.audio import AudioReader, AudioWriter

        clock, spent = time.perf_counter, [0.0, 0.0, 0.0]
        with ExitStack() as stack:
            reader = stack.enter_context(AudioReader(self.path))
            rate, channels = reader.info.sample_rate, reader.info.channels
            stream = self.separator.stream(self.queries, sample_rate=rate, channels=channels)
            writers = [
                stack.enter_context(AudioWriter(self.folder / f"apart {i}.wav", rate, channels, overwrite=True))
                for i in range(len(stream.names) + 1)
            ]
            blocks, more = iter(reader), True
            while more:
                times = [clock()]
                block = next(blocks, None)
                times.append(clock())
                more = block is not None
                targets = stream.push(block) if more else stream.finish()
                times.append(clock())
                for writer, samples in zip(writers, (*targets, stream.mix - targets.sum(0)), strict=True):
                    writer.write(samples)
                times.append(clock())
                spent = [s + b - a for s, a, b in zip(spent, times, times[1:], strict=False)]
        return spent[0], spent[1], spent[2]

    def _first_sample(self) -> tuple[float, float]:
        """Seconds until a stream that is fed as fast as it takes gives a sample, and its latency in seconds."""
        rate = self.separator.sample_rate
        block = tone_and_noise(rate // 10, rate)
        began = time.perf_counter()
        stream = self.separator.stream(self.queries, sample_rate=rate, channels=2)
        while not stream.push(block).shape[-1]:
            pass
        return time.perf_counter() - began, stream.latency / rate

    def _count(self) -> int:
        from audiosep.audio import AudioReader

        with AudioReader(self.path) as reader:
            return sum(block.shape[1] for block in reader)


class Reference:
    """Somebody else's separation of the same sound in memory.

    Args:
        case: the sound, the queries and the threads. reference: "module:callable"; it is called as
            `callable(mix, queries, sample_rate)` with (channels, samples) float32 and a list of texts, None for stems.

    Raises:
        InputError: there is no such callable.
    """

    def __init__(self, case: Case, reference: str) -> None:
        from audiosep.audio import read_audio

        self.threads = use_threads(case.threads)
        self._call = find(reference)
        self._queries = None if case.queries is None else list(case.queries)
        with tempfile.TemporaryDirectory(prefix="audiosep-bench-") as folder:
            self._mix, self._rate = read_audio(_recording(case, Path(folder)))

    def run(self) -> float:
        """Seconds of one separation."""
        mix = np.array(self._mix)
        began = time.perf_counter()
        self._call(mix, self._queries, self._rate)
        return time.perf_counter() - began


def find(reference: str) -> Callable[..., Any]:
    """The object that "module:callable" names.

    Raises:
        InputError: it cannot be imported, or is not callable.
    """
    module, _, name = reference.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"--against {reference}: {error}; name it as module:callable") from error
    if not callable(found):
        raise InputError(f"--against {reference}: is a {type(found).__name__}, not callable")
    call: Callable[..., Any] = found
    return call


def _recording(case: Case, folder: Path) -> Path:
    return Path(case.recording) if case.recording else write_test_sound(folder / "test.wav", case.seconds)


# ---- processes -----------------------------------------------------------------------------------------------------


class Worker:
    """An object in a fresh process.

    Args:
        make: its class. arguments: of the class.

    Raises:
        ModelError: the process died, usually for want of memory. AudioSepError: what the class raises.
    """

    def __init__(self, make: Callable[..., Any], *arguments: Any) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        self._submit(_make, make, arguments)

    def call(self, method: str) -> Any:
        """The result of a method."""
        return self._submit(_call, method)

    def memory(self) -> tuple[float | None, float | None]:
        """Peaks of the process so far: resident set and CUDA memory, MB (10^6 bytes); None where nobody says."""
        peaks: tuple[float | None, float | None] = self._submit(_peaks)
        return peaks

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown()

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return self._pool.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            self.close()
            raise ModelError("the process that was measured died: probably there is too little memory") from error
        except AudioSepError:
            self.close()
            raise


_object: Any = None  # of this process, when it is a worker's


def _make(make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    global _object
    _object = make(*arguments)


def _call(method: str) -> Any:
    return getattr(_object, method)()


def _peaks() -> tuple[float | None, float | None]:
    import torch

    device = torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_initialized() else None
    peak = peak_memory()
    return None if peak is None else peak / 1e6, device
