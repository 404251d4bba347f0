"""One case of a benchmark: a loaded model and a recording, and the times of separating it."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from audiosep.audio.samples import Array
from audiosep.audio.synthetic import tone_and_noise, write_test_sound
from audiosep.inference.options import Engine
from audiosep.inference.threads import use_threads
from audiosep.output.output_options import OutputOptions

if TYPE_CHECKING:
    from audiosep.bench.roofline import Roofline
    from audiosep.separator import Separator


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        model: name, folder or hub id.
        device: as for `audiosep.load`.
        precision: as for `audiosep.load`.
        threads: CPU threads; None for the default of `use_threads`.
        queries: what is separated; None for the stems.
        recording: a file; None for a test sound.
        seconds: length of the test sound.
        engine: as for `audiosep.load`.
    """

    model: str
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    queries: tuple[str, ...] | None = ("speech",)
    recording: str | None = None
    seconds: float = 60.0
    engine: Engine = "torch"


@dataclass(frozen=True)
class CaseFacts:
    """What was loaded and how long it took to start.

    Attributes:
        model: name of the loaded model.
        device: that it is on.
        precision: that it computes in.
        threads: CPU threads in use.
        audio_seconds: length of the recording.
        sample_rate: of the recording, Hz.
        channels: of the recording.
        start_seconds: from the start of the process to the loaded model.
        first_sample_seconds: from opening a stream to its first output.
        latency_seconds: how far that output lies behind the input, seconds of sound.
        engine: that computes the layers.
    """

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
    engine: Engine = "torch"


@dataclass(frozen=True)
class Times:
    """Wall-clock seconds of one run.

    Attributes:
        total: from the input file to the output files.
        decode: decoding in a second, block-by-block pass.
        separate: separating in that pass.
        write: writing in that pass.
    """

    total: float
    decode: float
    separate: float
    write: float


class CaseRunner:
    """A loaded case, ready to be measured.

    Args:
        case: what to measure.
        began: `time.time()` at which its process was started.
    """

    def __init__(self, case: Case, began: float) -> None:
        from audiosep.api import load

        self.case = case
        self.threads = use_threads(case.threads)
        self.separator: Separator = load(case.model, case.device, case.precision, engine=case.engine, sounds=False)
        self.start_seconds = time.time() - began
        self.queries = None if case.queries is None else list(case.queries)
        self._folder = tempfile.TemporaryDirectory(prefix="audiosep-bench-")
        self.folder = Path(self._folder.name)
        self.path = recording(case, self.folder)

    def facts(self) -> CaseFacts:
        """Describe the case. This also warms the model up: the first pass of a network is slower than the others."""
        from audiosep.audio import probe

        first, latency = self._first_sample()
        info, separator = probe(self.path), self.separator
        samples = info.samples if info.samples is not None else self._decoded_samples()
        return CaseFacts(
            model=separator.name,
            device=str(separator.device),
            precision=separator.precision,
            threads=self.threads,
            audio_seconds=samples / info.sample_rate,
            sample_rate=info.sample_rate,
            channels=info.channels,
            start_seconds=self.start_seconds,
            first_sample_seconds=first,
            latency_seconds=latency,
            engine=separator.engine,
        )

    def run(self) -> Times:
        """Separate the recording once, and once more with a clock for each part."""
        began = time.perf_counter()
        output = OutputOptions(overwrite=True)
        report = self.separator.separate_files([self.path], self.queries, self.folder / "out", output=output)
        total = time.perf_counter() - began
        report.raise_for_failures()
        return Times(total, *self._parts())

    def roofline(self) -> Roofline | None:
        """Roofline of one window; None for engines other than torch, whose operations cannot be counted."""
        from audiosep.bench.roofline import roofline

        separator = self.separator
        if separator.engine != "torch":
            return None
        count = None if self.queries is None else len(self.queries)
        return roofline(separator.model, count, device=separator.device, precision=separator.precision)

    def _parts(self) -> tuple[float, float, float]:
        """Seconds of decoding, separating and writing, measured block by block."""
        from audiosep.audio import AudioReader, AudioWriter

        clock, spent = time.perf_counter, [0.0, 0.0, 0.0]
        with ExitStack() as stack:
            reader = stack.enter_context(AudioReader(self.path))
            rate, channels = reader.info.sample_rate, reader.info.channels
            stream = self.separator.stream(self.queries, sample_rate=rate, channels=channels)
            writers = [
                stack.enter_context(AudioWriter(self.folder / f"part {i}.wav", rate, channels, overwrite=True))
                for i in range(len(stream.names) + 1)
            ]
            blocks = iter(reader)
            block: Array | None = np.zeros((channels, 0), np.float32)
            while block is not None:
                times = [clock()]
                block = next(blocks, None)
                times.append(clock())
                targets: Array = stream.finish() if block is None else stream.push(block)
                times.append(clock())
                for writer, samples in zip(writers, (*targets, stream.mix - targets.sum(0)), strict=True):
                    writer.write(samples)
                times.append(clock())
                spent = [s + b - a for s, a, b in zip(spent, times, times[1:], strict=False)]
        return spent[0], spent[1], spent[2]

    def _first_sample(self) -> tuple[float, float]:
        """Seconds from opening a stream to its first output, without waiting for input; and its latency in seconds."""
        rate = self.separator.sample_rate
        block = tone_and_noise(rate // 10, rate)
        began = time.perf_counter()
        stream = self.separator.stream(self.queries, sample_rate=rate, channels=2)
        while not stream.push(block).shape[-1]:
            pass
        return time.perf_counter() - began, stream.latency / rate

    def _decoded_samples(self) -> int:
        from audiosep.audio import AudioReader

        with AudioReader(self.path) as reader:
            return sum(block.shape[1] for block in reader)


def recording(case: Case, folder: Path) -> Path:
    """The file that a case separates; a test sound is written to `folder`."""
    return Path(case.recording) if case.recording else write_test_sound(folder / "test.wav", case.seconds)
