"""The separator: a model kept warm, and everything one can ask of it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audiosep.audio import AudioInfo, AudioReader, as_array, check_rate
from audiosep.audio.polyphase import live_resampler
from audiosep.errors import Cancelled, InputError, ModelError, QueryError
from audiosep.inference.devices import pick_device, pick_precision, windows_at_once
from audiosep.inference.stream import Stream
from audiosep.inference.window_runner import WindowRunner
from audiosep.inference.windows import Windows
from audiosep.models.base import SeparationModel
from audiosep.output.batch import BatchReport, FileResult, Writing, separate_files
from audiosep.output.files import OnClip
from audiosep.output.names import TEMPLATE
from audiosep.output.separation import Separation
from audiosep.query.encoder import QueryEncoder, Releasable, canary
from audiosep.query.query import Query
from audiosep.query.resolve import Resolved, as_queries, resolve

__all__ = ["BatchReport", "FileResult", "Progress", "Queries", "Separation", "Separator", "Stream"]

logger = logging.getLogger(__name__)

Progress = Callable[[float], Any]
Queries = str | Query | Sequence[str | Query]

# Latencies in seconds from which two CPU cores have the time to hear more of the past again, and to ask as thoroughly
# as for recordings: docs/live.md has what both cost and bring.
_LONG_PAST, _THOROUGH = 0.2, 0.3
_MOST_WINDOWS = 8  # at once; a GPU is busy with fewer
_BLOCK = 65_536


class Separator:
    """A model with its query encoder on a device.

    Args:
        model: the network; moved to the device.
        encoder: of its queries; None for a model that has only stems.
        device: auto (cuda, else mps, else cpu), or a torch device.
        precision: of the network's layers: auto, fp32, bf16 or fp16. Spectra are always computed in fp32.
        name: for messages and reports.

    Attributes:
        model, encoder, name: as above.
        device, precision: what was chosen.
        capabilities: what can be asked, from {"text", "audio", "negative", "stems", "presence"}.
        sample_rate: the model's, Hz; recordings may have any.
        stem_names: what `stems` gives.

    Raises:
        InputError: no such device or precision here.
        QueryError: the encoder understands nothing (promise of `query.encoder.canary`).
    """

    def __init__(
        self,
        model: SeparationModel,
        encoder: QueryEncoder | None = None,
        device: str | torch.device = "auto",
        precision: str = "auto",
        *,
        name: str = "model",
    ) -> None:
        self.name = name
        self.device = pick_device(device)
        self.precision = pick_precision(precision, self.device)
        self.model = model.eval().to(self.device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # of 4-d weights
        self.encoder = encoder
        if encoder is not None:
            encoder.to(self.device)
            canary(encoder)
        self.capabilities = model.capabilities if encoder is not None else model.capabilities & {"stems"}
        self.sample_rate = model.sample_rate
        self.stem_names = model.stem_names
        self._at_once: dict[tuple[int, ...], int] = {}
        logger.info("%s on %s in %s", name, self.where, self.precision)

    @property
    def where(self) -> str:
        """What computes the network's layers: "cpu", "cuda:0" and the like, or "openvino"."""
        return str(self.device) if self.model.engine == "torch" else self.model.engine

    def separate(
        self,
        mix: Any,
        queries: Queries,
        *,
        sample_rate: int | None = None,
        overlap: float | None = None,
        shifts: int = 0,
        batch: int | None = None,
        progress: Progress | None = None,
    ) -> Separation:
        """Separate the sounds that `queries` name from one recording.

        Args:
            mix: a path, or a numpy array or torch tensor (samples,) or (channels, samples).
            queries: words or `Query`, one or several; each is answered on its own.
            sample_rate: Hz; needed for arrays, taken from the file otherwise.
            overlap: part of each window's trusted stretch that cross-fades with the next, 0 <= overlap < 1.
            shifts: further passes over time-shifted windows, averaged: slower, a little better.
            batch: windows computed at once; None for one on a CPU, and on a GPU for as many as fit into its memory.
            progress: called with the fraction that is done; returning False cancels.

        Raises:
            InputError: a recording that cannot be separated (no samples, NaN, ...), or an impossible option.
            AudioError: a file that cannot be read.
            QueryError: a query that this model cannot answer.
            Cancelled: by `progress`.
        """
        recording = _Recording.of(mix, sample_rate)
        resolved = self._resolve(queries, recording.sample_rate)
        return self._run(recording, resolved, overlap, shifts, batch, progress)

    def stems(
        self,
        mix: Any,
        *,
        sample_rate: int | None = None,
        overlap: float | None = None,
        shifts: int = 0,
        batch: int | None = None,
        progress: Progress | None = None,
    ) -> Separation:
        """The model's fixed stems in one pass; they sum to the mixture.

        Args:
            mix, sample_rate, overlap, shifts, batch, progress: as in `separate`.

        Raises:
            ModelError: the model has no stems.
            InputError, AudioError, Cancelled: as in `separate`.
        """
        self._check_stems()
        return self._run(_Recording.of(mix, sample_rate), None, overlap, shifts, batch, progress)

    def separate_files(
        self,
        inputs: str | Path | Sequence[str | Path],
        queries: Queries | None,
        out_dir: str | Path,
        *,
        format: str | None = None,
        template: str = TEMPLATE,
        residual: bool = True,
        only: str | Sequence[str] | None = None,
        on_clip: OnClip = "gain",
        overwrite: bool = False,
        overlap: float | None = None,
        shifts: int = 0,
        batch: int | None = None,
        progress: Progress | None = None,
        max_seconds: float | None = None,
    ) -> BatchReport:
        """Separate files and folders to files, in memory that does not grow with their length.

        The outputs of one input appear together or not at all; where they would clip, one gain holds for all of them.

        Args:
            inputs: files, folders (with their subfolders, which the outputs mirror), or "-" for standard input.
            queries: as in `separate`; None for the stems.
            out_dir: folder for the outputs; "-" writes a single target to standard output.
            format: wav (the default), flac, ogg, opus or mp3; sample depth and tags follow the input.
            template: of the file names, with {file}, {stem} and {ext}.
            residual: also write what is left of the mixture.
            only: write only this target, or these; what is left then holds the others.
            on_clip: where an output would clip: "gain", "float" (wav) or "clip".
            overwrite: whether existing files may be replaced.
            overlap, shifts, batch: as in `separate`.
            progress: called with the fraction of the whole job; returning False cancels.
            max_seconds: refuse longer recordings; None for the usual limit of 12 hours.

        Returns:
            What became of each file: a bad file does not keep the others from being separated.

        Raises:
            InputError, QueryError, ModelError: what no file could be separated with.
            Cancelled: by `progress`.
        """
        if queries is None:
            self._check_stems()
        resolved = None if queries is None else self._resolve(queries, None)
        if isinstance(self.encoder, Releasable):
            self.encoder.release()  # its queries are embedded, and its weights may be larger than the model
        windows = self._windows(overlap)

        def open_stream(rate: int, channels: int) -> Stream:
            return self._open(resolved, rate, channels, windows, batch=batch, shifts=shifts)

        return separate_files(
            open_stream,
            self.stem_names if resolved is None else resolved.names,
            inputs,
            Writing(
                folder=out_dir,
                format=format or "wav",
                template=template,
                residual=residual,
                only=None if only is None else (only,) if isinstance(only, str) else tuple(only),
                on_clip=on_clip,
                overwrite=overwrite,
                max_seconds=max_seconds,
            ),
            stems=queries is None,
            progress=progress,
        )

    def stream(
        self,
        queries: Queries | None,
        *,
        sample_rate: int,
        channels: int,
        latency: float | None = None,
        past: float | None = None,
        thorough: bool | None = None,
    ) -> Stream:
        """A stream to push blocks of a mixture into.

        Args:
            queries: as in `separate`; None for the stems.
            sample_rate: Hz. channels: of the mixture.
            latency: seconds after which a sample must be there; a shorter one costs more and separates less well.
                None for the model's own windows. What is reached stands in `Stream.latency`, in samples.
            past: seconds of the past that each window of a stream with a latency hears again; None for what there is
                time for. More costs more.
            thorough: whether the model takes as much computation as for recordings or answers in its quickest way;
                None for thorough unless there is a latency below 0.3 s.

        Raises:
            InputError: an impossible rate or number of channels, or a latency or past that the model cannot keep.
            QueryError, ModelError: as in `separate` and `stems`.
        """
        if queries is None:
            self._check_stems()
        resolved = None if queries is None else self._resolve(queries, sample_rate)
        check_rate(sample_rate)
        windows = self._windows(None) if latency is None else self._live_windows(latency, past, sample_rate)
        if thorough is None:
            thorough = latency is None or latency >= _THOROUGH
        model = self.model if thorough else self.model.quick()
        return self._open(resolved, sample_rate, channels, windows, model=model, batch=1, ahead=False)

    # ---- one path for all ------------------------------------------------------------------------------------------

    def _run(
        self,
        recording: _Recording,
        resolved: Resolved | None,
        overlap: float | None,
        shifts: int,
        batch: int | None,
        progress: Progress | None,
    ) -> Separation:
        """A recording in memory through a stream."""
        mix = recording.samples
        channels, samples = mix.shape
        stream = self._open(
            resolved, recording.sample_rate, channels, self._windows(overlap), batch=batch, shifts=shifts
        )
        targets = np.empty((len(stream.names), channels, samples), np.float32)
        done = 0
        for start in range(0, samples, _BLOCK):
            block = stream.push(mix[:, start : start + _BLOCK])
            targets[..., done : done + block.shape[-1]] = block
            done = stream.returned
            if progress is not None and progress(done / samples) is False:
                raise Cancelled("cancelled by the progress callback")
        targets[..., done:] = stream.finish()
        if progress is not None:
            progress(1.0)
        return Separation(
            dict(zip(stream.names, map(recording.restore, targets), strict=True)),
            recording.restore(mix),
            recording.sample_rate,
            presence=stream.presence,
            complete=resolved is None,
            file=recording.file,
            info=recording.info,
        )

    def _open(
        self,
        resolved: Resolved | None,
        sample_rate: int,
        channels: int,
        windows: Windows,
        *,
        model: SeparationModel | None = None,
        batch: int | None = None,
        shifts: int = 0,
        ahead: bool = True,
    ) -> Stream:
        """A fresh stream of the queries' targets, or of the stems.

        Args:
            model: what answers, if not the separator's model as it is.
            ahead: a GPU may compute while the blocks before and after are decoded and written.
        """
        infer = partial(
            WindowRunner,
            model or self.model,
            None if resolved is None else resolved.embeddings,
            None if resolved is None else resolved.negatives,
            device=self.device,
            precision=self.precision,
            top=self.sample_rate < sample_rate,
        )
        return Stream(
            infer(),
            self.stem_names if resolved is None else resolved.names,
            sample_rate=sample_rate,
            channels=channels,
            model_rate=self.sample_rate,
            hop=self.model.hop,
            windows=windows,
            batch=self._windows_at_once(infer, channels, windows.size) if batch is None else batch,
            ahead=int(ahead and self.device.type == "cuda"),
            shifts=shifts,
            closed=resolved is None,
        )

    def _windows_at_once(self, infer: Callable[[], WindowRunner], channels: int, size: int) -> int:
        """Windows that the device computes at once; tried out when so many targets and channels come first."""
        inference = infer()
        key = (inference.count, inference.top, channels, size)
        if key not in self._at_once:
            window = torch.ones(1, channels, size)
            self._at_once[key] = windows_at_once(self.device, lambda: inference(window), _MOST_WINDOWS)
        return self._at_once[key]

    def _windows(self, overlap: float | None) -> Windows:
        model = self.model
        return Windows.plan(model.window, model.context, hop=model.hop, grid=_grid(model), overlap=overlap)

    def _live_windows(self, latency: float, past: float | None, sample_rate: int) -> Windows:
        """Windows for a latency in seconds that the resamplers take their part of."""
        model = self.model
        there = live_resampler(sample_rate, model.sample_rate, 1).latency / sample_rate
        back = live_resampler(model.sample_rate, sample_rate, 1).latency / model.sample_rate
        spare = there + back + (5 / min(sample_rate, model.sample_rate) if sample_rate != model.sample_rate else 0)
        least = spare + 3 * model.hop / model.sample_rate
        if not least <= latency < math.inf:
            raise InputError(f"{self.name} at {sample_rate} Hz needs a latency of {least:.3f} s or more, got {latency}")
        most = (model.window - 3 * model.hop) / model.sample_rate
        if past is None:
            past = (model.past if latency >= _LONG_PAST else model.context // 2) / model.sample_rate
        if not 0 <= past <= most:
            raise InputError(f"{self.name} hears 0 to {most:.1f} s of the past again, got {past}")
        return Windows.live(
            int((latency - spare) * model.sample_rate),
            round(past * model.sample_rate),
            size=model.window,
            context=model.context,
            hop=model.hop,
            grid=_grid(model),
        )

    # ---- what can be asked -----------------------------------------------------------------------------------------

    def _check_stems(self) -> None:
        if "stems" not in self.capabilities:
            raise ModelError(f"{self.name} has no fixed stems; load a model that has them, such as 'mini'")

    def _resolve(self, queries: Queries, sample_rate: int | None) -> Resolved:
        if self.encoder is None:
            raise QueryError(f"{self.name} answers no queries, only stems ({', '.join(self.stem_names)})")
        for query in as_queries(queries):
            self._check_query(query)
        return resolve(queries, self.encoder, sample_rate)

    def _check_query(self, query: Query) -> None:
        asked = {"text": query.text is not None, "audio": query.audio is not None, "negative": bool(query.negatives)}
        for kind, wanted in asked.items():
            if wanted and kind not in self.capabilities:
                able = ", ".join(sorted(self.capabilities))
                raise QueryError(f"{self.name} takes no {kind} queries (it can do {able}); use a model that does")
        for negative in query.negatives:
            self._check_query(negative)


@dataclass(frozen=True)
class _Recording:
    """A mixture in memory, however it was given."""

    samples: NDArray[np.float32]
    sample_rate: int
    restore: Callable[[Any], Any]
    file: str
    info: AudioInfo | None

    @classmethod
    def of(cls, mix: Any, sample_rate: int | None) -> _Recording:
        """A path is read, an array checked."""
        if isinstance(mix, str | Path):
            with AudioReader(mix) as reader:
                samples = np.concatenate(list(reader), axis=1)
            file = "stdin" if str(mix) == "-" else Path(mix).stem
            return cls(samples, reader.info.sample_rate, lambda array: array, file, reader.info)
        if sample_rate is None:
            raise InputError("an array does not say its sample rate: pass sample_rate=44100, or whatever it is")
        samples, restore = as_array(mix)
        return cls(samples, check_rate(sample_rate), restore, "audio", None)


def _grid(model: SeparationModel) -> int:
    """Windows that start at multiples of this many samples see the frames and the pooling of the whole file."""
    return math.lcm(model.hop, model.alignment)
