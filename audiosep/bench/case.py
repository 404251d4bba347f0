"""One case of a benchmark: a loaded model and a recording, and the times of separating it."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from audiosep.audio.synthetic import tone_and_noise, write_test_sound
from audiosep.bench.bench_recordings import BenchRecording, find_recording, scores
from audiosep.bench.object_process import memory_peaks
from audiosep.inference.heap import share_heaps
from audiosep.inference.options import Engine, Options, Quality
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
        recording: a file, or a folder with the true sounds too (see `find_recording`); None for a test sound.
        seconds: length of the test sound.
        engine: as for `audiosep.load`.
        quality: as in `Options`.
    """

    model: str
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    queries: tuple[str, ...] | None = ("speech",)
    recording: str | None = None
    seconds: float = 60.0
    engine: Engine = "torch"
    quality: Quality = Options.quality


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
        decode: decoding, in a second pass in memory.
        separate: separating, in that pass.
        write: writing, in that pass.
    """

    total: float
    decode: float
    separate: float
    write: float


@dataclass(frozen=True)
class Findings:
    """What the runs of a case have in common.

    Attributes:
        peak_memory_mb: largest resident set of the process, MB (10^6 bytes); None where it is not reported.
        peak_device_memory_mb: of tensors on a CUDA device, MB; None without one.
        si_sdr: target -> SI-SDR in dB, of those whose true sound is known.
    """

    peak_memory_mb: float | None = None
    peak_device_memory_mb: float | None = None
    si_sdr: dict[str, float] = field(default_factory=dict)


class CaseRunner:
    """A loaded case, ready to be measured.

    Args:
        case: what to measure.
        began: `time.time()` at which its process was started.
    """

    def __init__(self, case: Case, began: float) -> None:
        from audiosep.api import load

        share_heaps()  # as the command does
        self.case = case
        self.threads = use_threads(case.threads)
        self.separator: Separator = load(case.model, case.device, case.precision, engine=case.engine, sounds=False)
        self.start_seconds = time.time() - began
        self.queries = None if case.queries is None else list(case.queries)
        self.options = Options(quality=case.quality)
        self._folder = tempfile.TemporaryDirectory(prefix="audiosep-bench-")
        self.folder = Path(self._folder.name)
        self.recording = case_recording(case, self.folder)
        self._findings: Findings | None = None

    def warm_up(self) -> CaseFacts:
        """Describe the case. The first pass of a network, which is slower than the others, is made here."""
        from audiosep.audio import probe

        first, latency = self._first_sample()
        info, separator = probe(self.recording.path), self.separator
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
        """Separate the recording from file to files, and once more in memory, with a clock for each part."""
        from audiosep.audio import read_audio

        path, queries, options, clock = self.recording.path, self.queries, self.options, time.perf_counter
        times = [clock()]
        output = OutputOptions(overwrite=True)
        report = self.separator.separate_files([path], queries, self.folder / "out", output=output, options=options)
        times.append(clock())
        report.raise_for_failures()
        peaks = memory_peaks()  # of file to files: the pass in memory holds the whole recording
        times.append(clock())
        mix, rate = read_audio(path)
        times.append(clock())
        if queries is None:
            targets = self.separator.stems(mix, sample_rate=rate, options=options)
        else:
            targets = self.separator.separate(mix, queries, sample_rate=rate, options=options)
        times.append(clock())
        targets.save(self.folder / "parts", overwrite=True)
        times.append(clock())
        if self._findings is None:
            self._findings = Findings(*peaks, scores(targets, rate, self.recording.references))
        total, _, decode, separate, write = (b - a for a, b in pairwise(times))
        return Times(total, decode, separate, write)

    def findings(self) -> Findings:
        """Memory and quality of the first run."""
        return self._findings or Findings()

    def roofline(self) -> Roofline | None:
        """Roofline of one window; None for engines other than torch, whose operations cannot be counted."""
        from audiosep.bench.roofline import roofline
        from audiosep.query.resolve import resolve

        separator, asked = self.separator, None
        if separator.engine != "torch":
            return None
        if self.queries is not None and separator.encoder is not None:
            asked = resolve(self.queries, separator.encoder, prototypes=separator.prototypes)
        quality, device, precision = self.case.quality, separator.device, separator.precision
        return roofline(separator.model, asked, quality, device=device, precision=precision)

    def _first_sample(self) -> tuple[float, float]:
        """Seconds from opening a stream to its first output, without waiting for input; and its latency in seconds."""
        rate = self.separator.sample_rate
        block = tone_and_noise(rate // 10, rate)
        began = time.perf_counter()
        # A model without queries answers those that name a stem by its stems.
        queries = None if self.separator.encoder is None else self.queries
        stream = self.separator.stream(queries, sample_rate=rate, channels=2)
        while not stream.push(block).shape[-1]:
            pass
        return time.perf_counter() - began, stream.latency / rate

    def _decoded_samples(self) -> int:
        from audiosep.audio import AudioReader

        with AudioReader(self.recording.path) as reader:
            return sum(block.shape[1] for block in reader)


def case_recording(case: Case, folder: Path) -> BenchRecording:
    """What a case separates; a test sound is written to `folder`.

    Raises:
        InputError: as `find_recording`.
    """
    if case.recording is None:
        return BenchRecording(write_test_sound(folder / "test.wav", case.seconds))
    return find_recording(Path(case.recording))
