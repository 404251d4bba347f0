"""The separator: a model with its query encoder on a device, kept in memory for many recordings."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiosep.audio import check_rate
from audiosep.audio.inputs import AudioFile
from audiosep.audio.limits import check_channels
from audiosep.audio.mixture import Mixture, load_mixture
from audiosep.audio.samples import Array
from audiosep.errors import Cancelled, InputError, ModelError, QueryError
from audiosep.hearing.activity import ActivityMeter
from audiosep.hearing.describing import Candidates, describe_recording
from audiosep.hearing.description import Description
from audiosep.hearing.replayable_recording import recording_of
from audiosep.hearing.vocabulary import Vocabulary, vocabulary
from audiosep.inference.backend import Backend
from audiosep.inference.devices import check_torch_defaults, device_of_engine, free_cache, without_autocast
from audiosep.inference.model_windows import live_windows
from audiosep.inference.options import Engine, Options
from audiosep.inference.parallel import check_jobs
from audiosep.inference.routed_stream import AnyStream, Part, RoutedStream
from audiosep.inference.stream import Stream
from audiosep.inference.windows import Windows
from audiosep.models.refinement import Heard
from audiosep.models.separation_model import SeparationModel
from audiosep.output.batch import run_batch
from audiosep.output.batch_report import BatchReport, Watch
from audiosep.output.output_options import OutputOptions
from audiosep.output.plan import Plan, plan_batch
from audiosep.output.separation import Separation
from audiosep.progress import Progress, says_stop
from audiosep.query.anchors import ReadPart, find_anchors, parts_of_mixture, parts_of_plan
from audiosep.query.encoder import QueryEncoder, Releasable, canary
from audiosep.query.own_sound import OwnSound
from audiosep.query.prototypes import Prototypes
from audiosep.query.query import Query, as_queries, check_capable, unique_names
from audiosep.query.request import QueryGroup, Request
from audiosep.query.resolve import Resolved, resolve
from audiosep.query.sounds import Sounds
from audiosep.query.stem_words import same_stem, stems_holding, stems_named
from audiosep.query.tagging import activity_meter, candidates_of
from audiosep.query.work_digest import works_of
from audiosep.weights.digest import beside, model_digest
from audiosep.weights.loaded_files import LoadedFiles

__all__ = ["Queries", "Separator"]

logger = logging.getLogger(__name__)

Queries = str | Query | Sequence[str | Query]

# Latency in seconds from which two CPU cores have time for all the computation that a recording gets (docs/live.md).
_THOROUGH = 0.3
_BLOCK = 65_536  # samples


class Separator:
    """A model with its query encoder on a device, kept in memory for many recordings.

    As a context manager it is closed at the end of the block.

    Args:
        model: the network; moved to the device.
        encoder: of its queries; None for a model that has only stems.
        device: auto (cuda, else mps, else cpu), or a torch device.
        precision: of the network's layers: auto, fp32, bf16 or fp16. Spectra are always computed in fp32.
        engine: what computes the network's layers: torch, or openvino on the CPU (extra [openvino]).
        name: for messages and reports.
        prototypes: of the encoder, which text queries are answered with; None for the text alone.
        sounds: of the user's own, which queries of their names are answered with; None for none.
        specialist: another separator, whose stems are given instead of the model's, and which answers queries that name
            one of them; live streams do without it. `to` and `close` are for both: one that another separator uses as
            well is moved and closed for that, too. None for none.
        source: the folder that the model was loaded from, and the file of its adapter or None; None for others.
        files: those of `source`, as they were before the model was loaded; None where there are none.

    Attributes:
        name: as above.
        prototypes: as above.
        sounds: as above.
        specialist: as above.
        capabilities: what can be asked for, from {"text", "audio", "negative", "stems", "presence"}.
        sample_rate: of the model, Hz; recordings may have any.
        stem_names: of the targets of `stems`; empty where there are none.

    Raises:
        InputError: no such device, precision or engine here, or as `check_torch_defaults`.
        QueryError: the encoder gives different texts the same embedding, or damaged ones.
        DependencyError: OpenVINO is not installed.
        ModelError: the specialist has no stems.
    """

    def __init__(
        self,
        model: SeparationModel,
        encoder: QueryEncoder | None = None,
        device: str | torch.device = "auto",
        precision: str = "auto",
        *,
        engine: Engine = "torch",
        name: str = "model",
        prototypes: Prototypes | None = None,
        sounds: Sounds | None = None,
        specialist: Separator | None = None,
        source: tuple[Path, Path | None] | None = None,
        files: LoadedFiles | None = None,
    ) -> None:
        if specialist is not None:
            specialist._check_stems()
        self.name = name
        self.specialist = specialist
        self._source, self._files = source, files
        self.prototypes = prototypes
        self.sounds = sounds
        self._wanted = (device, precision)
        self._backend: Backend | None = Backend(model, device, precision, engine)
        self._encoder = encoder
        if encoder is not None:
            encoder.to(self.device)
            canary(encoder)
        self.capabilities = model.capabilities if encoder is not None else model.capabilities & {"stems"}
        self.sample_rate = model.sample_rate
        self.stem_names = model.stem_names
        if specialist is not None:
            self.capabilities, self.stem_names = self.capabilities | {"stems"}, specialist.stem_names
        free_cache(self.device)  # what loading has needed beside the weights
        self._log_place()

    @property
    def model(self) -> SeparationModel:
        """The network that computes, in the form of the engine."""
        return self._open().model

    @property
    def encoder(self) -> QueryEncoder | None:
        """The query encoder; None for a model that has only stems."""
        encoder = self._encoder  # before the check, as another thread may close the separator
        self._open()
        return encoder

    @property
    def device(self) -> torch.device:
        """The device that was chosen."""
        return self._open().device

    @property
    def precision(self) -> str:
        """The precision that was chosen: fp32, bf16 or fp16."""
        return self._open().precision

    @property
    def engine(self) -> Engine:
        """What computes the network's layers: torch or openvino."""
        return self._open().engine

    def to(self, device: str | torch.device | None = None, precision: str | None = None) -> Separator:
        """Move to another device or precision; not while another thread separates.

        If that fails, the separator goes on with the device and precision that it had.

        Args:
            device: as for the class; None for the device it was made for.
            precision: as for the class; None for the precision it was made for, where "auto" is chosen anew.

        Returns:
            The separator itself.

        Raises:
            InputError: no such device or precision here.
            ModelError: the separator is closed.
            torch.OutOfMemoryError: the weights do not fit on the device.
        """
        before = self._open()
        wanted = (self._wanted[0] if device is None else device, self._wanted[1] if precision is None else precision)
        try:
            after = Backend(before.network, *wanted, before.engine)
            if self._encoder is not None:
                self._encoder.to(after.device)
            if self.specialist is not None:
                # In the precision that it was made for; it goes back by itself.
                self.specialist.to(None if device is None else device_of_engine(device, before.engine))
        except BaseException:
            before.network.to(before.device)  # some of the weights may have been moved
            if self._encoder is not None:
                self._encoder.to(before.device)
            raise
        self._backend, self._wanted = after, wanted
        free_cache(before.device)
        self._log_place()
        return self

    def close(self) -> None:
        """Give the memory of the model, its encoder and its specialist back.

        Using the separator afterwards raises ModelError; streams that are open keep the memory until they end.
        """
        backend, self._backend, self._encoder = self._backend, None, None
        if self.specialist is not None:
            self.specialist.close()
        if backend is not None:
            device = backend.device
            del backend
            free_cache(device)

    def __del__(self) -> None:
        """As `close`, but for the specialist, which another separator may use."""
        backend = self.__dict__.pop("_backend", None)
        self.__dict__.pop("_encoder", None)
        if backend is not None and sys is not None and not sys.is_finalizing():  # a module that has ended has no sys
            device = backend.device
            del backend
            free_cache(device)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Separator cannot be copied or pickled: load the model where it is needed (audiosep.load)")

    def __enter__(self) -> Separator:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @overload
    def separate(
        self, mix: AudioFile | NDArray[Any], queries: Queries, *,
        sample_rate: int | None = None, track: int | str | None = None, options: Options = Options(),
        progress: Progress | None = None,
    ) -> Separation[Array]: ...  # fmt: skip

    @overload
    def separate(
        self, mix: Tensor, queries: Queries, *,
        sample_rate: int | None = None, track: int | str | None = None, options: Options = Options(),
        progress: Progress | None = None,
    ) -> Separation[Tensor]: ...  # fmt: skip

    def separate(
        self,
        mix: AudioFile | NDArray[Any] | Tensor,
        queries: Queries,
        *,
        sample_rate: int | None = None,
        track: int | str | None = None,
        options: Options = Options(),
        progress: Progress | None = None,
    ) -> Separation[Array] | Separation[Tensor]:
        """Separate the sounds that `queries` name from one recording.

        Args:
            mix: a path, an opened file, the bytes of a file, or a numpy array or torch tensor (samples,) or (channels,
                samples).
            queries: words or `Query`, one or several; each is an estimate of its own. A sound that is named twice
                (also in other case or spacing, or by two words for the stem that answers them) is separated once, under
                the first name.
            sample_rate: Hz; needed for arrays, taken from the file otherwise.
            track: number (from 1 on), language or name of the audio track of a file with several; None: the default
                one.
            options: how to separate.
            progress: called with the fraction that is done, 0 to 1; returning False cancels.

        Returns:
            Name -> target, with the length, channels and kind of array of `mix`.

        Raises:
            InputError: a recording that cannot be separated (no samples, NaN, ...).
            AudioError: a file that cannot be read.
            QueryError: a query that this model cannot take.
            ModelError: the separator is closed, or the model gives no finite output.
            Cancelled: by `progress`.
        """
        queries = as_queries(queries)
        mixture = load_mixture(mix, sample_rate, track)
        request = self._request(queries, mixture.sample_rate, options, read=parts_of_mixture(mixture))
        return self._run(mixture, request, options, progress)

    @overload
    def stems(
        self, mix: AudioFile | NDArray[Any], *,
        sample_rate: int | None = None, track: int | str | None = None, options: Options = Options(),
        progress: Progress | None = None,
    ) -> Separation[Array]: ...  # fmt: skip

    @overload
    def stems(
        self, mix: Tensor, *,
        sample_rate: int | None = None, track: int | str | None = None, options: Options = Options(),
        progress: Progress | None = None,
    ) -> Separation[Tensor]: ...  # fmt: skip

    def stems(
        self,
        mix: AudioFile | NDArray[Any] | Tensor,
        *,
        sample_rate: int | None = None,
        track: int | str | None = None,
        options: Options = Options(),
        progress: Progress | None = None,
    ) -> Separation[Array] | Separation[Tensor]:
        """Separate one song into the model's fixed stems, in one pass; they sum to the song.

        Args:
            mix: as in `separate`.
            sample_rate: as in `separate`, Hz.
            track: as in `separate`.
            options: how to separate.
            progress: as in `separate`.

        Returns:
            Stem name -> stem, with the length, channels and kind of array of `mix`.

        Raises:
            ModelError: the model has no stems, or the separator is closed.
            InputError: as in `separate`.
            AudioError: as in `separate`.
            Cancelled: by `progress`.
        """
        request = self._request(None, None, options)
        return self._run(load_mixture(mix, sample_rate, track), request, options, progress)

    @without_autocast()
    def describe(
        self,
        mix: AudioFile | NDArray[Any] | Tensor,
        candidates: Queries | None = None,
        *,
        sample_rate: int | None = None,
        track: int | str | None = None,
        start: float = 0.0,
        end: float | None = None,
        most: int = 8,
        quick: bool = False,
        progress: Progress | None = None,
    ) -> Description:
        """Say what is heard in a recording, how sure that is, and when; files in memory that does not grow with them.

        Args:
            mix: as in `separate`; standard input is kept in memory.
            candidates: words for what may be heard, all of which are listed, however low their scores; None for the
                vocabulary, which is AudioSet's in readable words.
            sample_rate: as in `separate`, Hz.
            track: as in `separate`.
            start: seconds of the recording to leave out at its start; the times of spans are those of the recording.
            end: where to end, in seconds of the recording; None: at its end.
            most: how many sounds of the vocabulary are listed.
            quick: whether spans may be half a second wrong. Otherwise what is heard is also separated, which takes
                most of the time.
            progress: as in `separate`.

        Returns:
            The sounds, those with the highest scores first.

        Raises:
            ModelError: the model has no tagger, or the separator is closed.
            InputError: as in `separate`, or `most` is no number of sounds, or no part is from `start` to `end`.
            QueryError: a candidate without words.
            AudioError: as in `separate`.
            Cancelled: by `progress`.
        """
        if not isinstance(most, int) or isinstance(most, bool) or most < 1:
            raise InputError(f"most is a number of sounds of at least 1, got {most!r}")
        known = vocabulary() if candidates is None else None
        queries = _words(vocabulary().names if candidates is None else candidates)
        recording = recording_of(mix, sample_rate, track, start=start, end=end)
        chosen = self._candidates(queries, known, recording.sample_rate)
        named = dict(zip(chosen.names, queries, strict=True))

        def separate(names: Sequence[str]) -> Stream:
            # By what was asked for, with its negatives: a name says nothing of the sound.
            wanted = [replace(named[name], name=name) for name in names]
            resolved = self._resolve(wanted, recording.sample_rate)
            return self._open_stream(resolved, recording.sample_rate, recording.channels, Options(quality="fast"))

        found = describe_recording(
            recording,
            chosen,
            self.hear,
            self.sample_rate,
            most=most,
            separate=None if quick else separate,
            progress=progress,
        )
        return found.of_part(start)

    def check_candidates(self, candidates: Queries | None) -> None:
        """Refuse what no recording could be described with.

        Args:
            candidates: as in `describe`.

        Raises:
            ModelError: the model has no tagger, or the separator is closed.
            QueryError: a candidate without words, or one that the model cannot take.
        """
        # Of the vocabulary one name says as much as all.
        self._candidates(_words(vocabulary().names[:1] if candidates is None else candidates), None, self.sample_rate)

    @without_autocast()
    def _candidates(self, queries: Sequence[Query], known: Vocabulary | None, sample_rate: int) -> Candidates:
        """Queries as the tagger scores them; `known` where they are the names of the vocabulary.

        Raises:
            ModelError: the model has no tagger.
        """
        found = None
        if self.prototypes is not None:
            found = candidates_of(self._resolve(queries, sample_rate), self.prototypes, known)
        if found is None:
            raise ModelError(f"{self.name} has no tagger, which describing needs; use a model with one, such as 'mini'")
        return found

    def separate_files(
        self,
        inputs: str | Path | Sequence[str | Path],
        queries: Queries | None,
        out_dir: str | Path,
        *,
        output: OutputOptions = OutputOptions(),
        options: Options = Options(),
        jobs: int = 1,
        progress: Progress | None = None,
        watch: Watch | None = None,
    ) -> BatchReport:
        """Separate files and folders to files, in memory that does not grow with their length.

        The outputs of one input appear together or not at all; where they would clip, one gain holds for all of them.

        Args:
            inputs: files, folders (with their subfolders, which the outputs mirror), or "-" for standard input.
            queries: as in `separate`; None for the stems.
            out_dir: folder for the outputs; "-" writes a single target to standard output.
            output: what to write, and in which format.
            options: how to separate.
            jobs: recordings that are separated at once, each in a thread of its own that computes with torch's number
                of threads: set that to the CPUs divided by `jobs`. Results are in the order of the inputs. On a GPU
                only 1.
            progress: called with the fraction of the whole batch, 0 to 1; returning False cancels.
            watch: called when a recording begins and when it is finished, with a `BatchEvent`.

        Returns:
            What became of each file: a bad file does not keep the others from being separated.

        Raises:
            InputError: something that no file could be separated with.
            QueryError: a query that this model cannot take.
            ModelError: no stems where they are wanted, or the separator is closed.
            Cancelled: by `progress`.
        """
        plan = self.plan_files(inputs, queries, out_dir, output, options)
        return self.separate_planned(
            plan, queries, output=output, options=options, jobs=jobs, progress=progress, watch=watch
        )

    def plan_files(
        self,
        inputs: str | Path | Sequence[str | Path],
        queries: Queries | None,
        out_dir: str | Path,
        output: OutputOptions,
        options: Options,
    ) -> Plan:
        """Which files `separate_files` reads and writes.

        Args:
            inputs: as in `separate_files`.
            queries: as in `separate_files`.
            out_dir: as in `separate_files`.
            output: as in `separate_files`.
            options: as in `separate_files`.

        Raises:
            ModelError: no stems where they are wanted.
            InputError: something that no file could be separated with.
        """
        return plan_batch(self.works(queries, output, options), inputs, out_dir, output, stems=queries is None)

    def works(self, queries: Queries | None, output: OutputOptions, options: Options) -> dict[str, str]:
        """What is asked of each target: its name -> a digest, which the files of outputs carry.

        Args:
            queries: as in `separate_files`.
            output: as in `separate_files`.
            options: as in `separate_files`.

        Raises:
            ModelError: no stems where they are wanted.
        """
        asked = None if queries is None else self.asked(queries, options)
        return self._works(asked, options)(output)

    def _works(self, queries: Sequence[Query] | None, options: Options) -> Callable[[OutputOptions], dict[str, str]]:
        """As `works`, for outputs that are chosen later, when the separator may be gone; of each sound once."""
        if queries is None:
            self._check_stems()
            return partial(works_of, self.stem_names, (self.specialist or self).digest, options=options)
        return partial(works_of, queries, self.digest, options=options)

    @cached_property
    def digest(self) -> str:
        """A digest of the weights, 64 hexadecimal digits; of the name where they were not loaded from files.

        Raises:
            ModelError: the files have changed since they were loaded.
        """
        if self._source is None:
            own = hashlib.sha256(self.name.encode()).hexdigest()
        else:
            own = model_digest(*self._source)
            if self._files is not None:  # not earlier, so that no digest is of other weights than those that compute
                self._files.check(self.name)
        return beside(own, None if self.specialist is None else self.specialist.digest)

    def separate_planned(
        self,
        plan: Plan,
        queries: Queries | None,
        *,
        output: OutputOptions = OutputOptions(),
        options: Options = Options(),
        jobs: int = 1,
        progress: Progress | None = None,
        watch: Watch | None = None,
    ) -> BatchReport:
        """Separate the recordings of a plan, which was made before the model was loaded.

        Args:
            plan: of these queries, from `output.plan.plan_batch`.
            queries: as in `separate_files`.
            output: as in `separate_files`, and as for the plan.
            options: as in `separate_files`.
            jobs: as in `separate_files`.
            progress: as in `separate_files`.
            watch: as in `separate_files`.

        Returns:
            As `separate_files`.

        Raises:
            InputError: several recordings at once on a GPU.
            QueryError: as `separate_files`.
            ModelError: as `separate_files`.
            Cancelled: as `separate_files`.
        """
        check_jobs(jobs, self.device.type)
        read = None
        if queries is not None:
            items = as_queries(queries)
            if not plan.tasks and any(query.anchored for query in items):  # no recording has the spans
                plan.remove_leftovers()
                return plan.report()
            read = parts_of_plan(plan, items, output.track)
        request = self._request(queries, None, options, files=True, read=read)
        if isinstance(encoder := self.encoder, Releasable):
            encoder.release()  # its queries are embedded, and some are larger than the model

        def open_stream(rate: int, channels: int) -> AnyStream:
            return self._open_request(request, rate, channels, options)

        with self._giving_back():
            return run_batch(open_stream, plan, output, request.sounds, jobs=jobs, progress=progress, watch=watch)

    def asked(self, queries: Queries, options: Options, *, files: bool = True) -> list[Query]:
        """The queries that are answered: each sound once, and two words for a stem that answers them are one sound.

        Args:
            queries: as in `separate`.
            options: as in `separate`.
            files: whether they are for `separate_files`, and the model's own stems may answer.

        Raises:
            QueryError: no query, or something that is no query.
        """
        items = as_queries(queries)
        repeated, names = self._repeated(items, options, files), unique_names([query.label for query in items])
        return [query for name, query in zip(names, items, strict=True) if name not in repeated]

    def stems_for(self, queries: Queries) -> dict[str, str]:
        """The stems that answer queries which name them, as "vocals" or "bass guitar" do.

        Args:
            queries: as in `separate`.

        Returns:
            Name of each such target -> the stem. Without a specialist these are all targets or none: where a query is
            something else, has a negative or names a sound of the user's own, the model answers all by words.

        Raises:
            QueryError: no query, or something that is no query.
        """
        items = as_queries(queries)
        found = stems_named(items, self.stem_names, self.sounds or ()) if "stems" in self.capabilities else {}
        return found if self.specialist is not None or len(found) == len(items) else {}

    def stems_holding(self, queries: Queries) -> dict[str, str]:
        """The specialist's stems that hold what queries name, and are separated further: "other" for a violin.

        Args:
            queries: as in `separate`.

        Returns:
            Name of each such target -> the stem; {} without a specialist.

        Raises:
            QueryError: no query, or something that is no query.
        """
        if self.specialist is None:
            return {}
        return stems_holding(as_queries(queries), self.stem_names, self.sounds or ())

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
        """Open a stream that takes a mixture block by block.

        A text query is answered by words and recordings as one; the estimates that `separate` makes and mixes beyond it
        at "balanced" and "best" are not made.

        Args:
            queries: as in `separate`; None for the stems.
            sample_rate: of the mixture, Hz.
            channels: of the mixture.
            latency: after which a sample must be ready, seconds; a shorter one costs more and separates less well.
                None for the model's own windows. `Stream.latency` says what is reached, in samples.
            past: how far each window of a stream with a latency reaches into the past, seconds; None for as far as
                there is time for, and without a latency. More costs more.
            thorough: whether the model refines its estimate, as for recordings, or gives its quickest one; None for
                refined unless the latency is below 0.3 s.

        Raises:
            InputError: an impossible rate or number of channels, a latency or past that the model cannot keep, or a
                past without a latency.
            QueryError: a query that this model cannot take.
            ModelError: no stems where they are wanted, or the separator is closed.
        """
        sample_rate = check_rate(sample_rate)
        check_channels(channels)
        if queries is None and not self.model.stem_names:
            raise ModelError(f"{self.name} has no stems of its own; load a model that has them, such as 'mini'")
        resolved = None if queries is None else self._resolve(queries, sample_rate)
        windows = None if latency is None else live_windows(self.model, sample_rate, latency, past)
        if latency is None and past is not None:
            raise InputError(
                f"past={past} is for streams with a latency: give one, such as latency=0.5, or leave it out"
            )
        if thorough is None:
            thorough = latency is None or latency >= _THOROUGH
        return self._open_stream(
            resolved, sample_rate, channels, Options(batch=1), windows=windows, quick=not thorough, live=True
        )

    # ---- one path for all ------------------------------------------------------------------------------------------

    def _open(self) -> Backend:
        """What computes.

        Raises:
            ModelError: the separator is closed, or does not work in this forked process.
        """
        backend = self._backend  # once: another thread may close the separator
        if backend is None:
            raise ModelError(f"this separator ({self.name}) is closed: load the model again with audiosep.load")
        backend.check_process()
        return backend

    def _log_place(self) -> None:
        engine = "" if self.engine == "torch" else f" by {self.engine}"
        logger.info("%s on %s in %s%s", self.name, self.device, self.precision, engine)

    @without_autocast()
    def _open_stream(
        self,
        resolved: Resolved | None,
        sample_rate: int,
        channels: int,
        options: Options,
        *,
        windows: Windows | None = None,
        quick: bool = False,
        live: bool = False,
    ) -> Stream:
        """A stream of the queries' targets, or of the stems; see `Backend.open_stream`."""
        backend = self._open()
        stems = () if options.stem_head is False else backend.model.stem_names
        if live:
            meter = None
        elif resolved is None:
            meter = ActivityMeter(len(backend.model.stem_names), sample_rate)
        else:
            meter = activity_meter(resolved, self.prototypes, backend.hear, self.sample_rate, sample_rate)
        return backend.open_stream(
            backend.model.stem_names if resolved is None else resolved.names,
            None if resolved is None else resolved.embeddings,
            None if resolved is None else resolved.negatives,
            () if resolved is None or live else resolved.ways(options.quality, stems),
            sample_rate=sample_rate,
            channels=channels,
            options=options,
            windows=windows,
            quick=quick,
            live=live,
            explanations=None if resolved is None else resolved.explanations,
            meter=meter,
        )

    def _open_request(self, request: Request, sample_rate: int, channels: int, options: Options) -> AnyStream:
        """A stream of all targets of a request."""
        parts: list[Part] = []
        if request.stems or any(group.stem for group in request.groups):
            stems = (self.specialist or self)._open_stream(None, sample_rate, channels, options)
            parts.append(Part(stems, request.stems))
        for group in request.groups:
            stream = self._open_stream(group.resolved, sample_rate, channels, options)
            parts.append(Part(stream, group.names, None if group.stem is None else (parts[0], group.stem)))
        whole = parts[0].stream
        return whole if len(parts) == 1 and whole.names == request.names else RoutedStream(parts, request.names)

    def _run(
        self, mixture: Mixture, request: Request, options: Options, progress: Progress | None
    ) -> Separation[Array] | Separation[Tensor]:
        """A recording in memory through a stream."""
        with self._giving_back():
            return self._separated(mixture, request, options, progress)

    @contextlib.contextmanager
    def _giving_back(self) -> Iterator[None]:
        """Give the model's memory back at the end, where the separator was closed meanwhile: no one else will."""
        device = self.device
        try:
            yield
        finally:
            if self._backend is None:
                free_cache(device)

    def _separated(
        self, mixture: Mixture, request: Request, options: Options, progress: Progress | None
    ) -> Separation[Array] | Separation[Tensor]:
        mix = mixture.samples
        channels, samples = mix.shape
        stream = self._open_request(request, mixture.sample_rate, channels, options)
        targets = np.empty((len(stream.names), channels, samples), np.float32)
        done = 0

        def tell() -> None:
            if progress is not None and done < samples and says_stop(progress(done / samples)):
                raise Cancelled("cancelled by the progress callback")

        for start in (*range(0, samples, _BLOCK), None):
            tell()
            for piece in stream.pieces(None if start is None else mix[:, start : start + _BLOCK]):
                targets[..., done : done + piece.shape[-1]] = piece
                done += piece.shape[-1]
                tell()
        if progress is not None:
            progress(1.0)
        return Separation(
            dict(zip(stream.names, map(mixture.restore, targets), strict=True)),
            mixture.restore(mix),
            mixture.sample_rate,
            presence=stream.presence,
            explanation=stream.explanation,
            activity=stream.activity,
            complete=request.all_stems,
            file=mixture.file,
            info=mixture.info,
            fingerprint=mixture.fingerprint,
            works=None if mixture.info is None else self._works(request.queries, options),
            sounds=request.sounds,
        )

    # ---- queries ---------------------------------------------------------------------------------------------------

    def _check_stems(self) -> None:
        if "stems" not in self.capabilities:
            raise ModelError(f"{self.name} has no fixed stems; load a model that has them, such as 'mini'")

    def _request(
        self,
        queries: Queries | None,
        sample_rate: int | None,
        options: Options,
        *,
        files: bool = False,
        read: ReadPart | None = None,
    ) -> Request:
        """What is to be separated: all stems, or queries of which stems answer some.

        Args:
            queries: None for all stems.
            sample_rate: of the mixture, Hz, where it is known.
            options: of which `stem_head` is used.
            files: whether the model's own stems may answer, too.
            read: reads the recording that spans belong to.

        Raises:
            InputError: options of another type.
            ModelError: no stems where they are wanted.
            QueryError: a query that this model cannot take.
        """
        if not isinstance(options, Options):
            raise InputError(f"options are audiosep.Options, such as Options(quality='best'), got {options!r}")
        if queries is None:
            self._check_stems()
            return Request(self.stem_names, {name: name for name in self.stem_names})
        for name, first in self._repeated(as_queries(queries), options, files).items():
            logger.warning("%s is the same stem as %s: it is separated once, under that name", name, first)
        items = self.asked(queries, options, files=files)
        names = unique_names([query.label for query in items])
        by_stems = self._by_stems(options, files)
        stems = self.stems_for(items) if by_stems else {}
        held = self.stems_holding(items) if by_stems else {}
        groups = []
        for stem in dict.fromkeys([None, *held.values()]):
            words = {n: q for n, q in zip(names, items, strict=True) if n not in stems and held.get(n) == stem}
            if words:
                resolved = self._resolve(list(words.values()), sample_rate, read)
                groups.append(QueryGroup(resolved, dict(zip(words, resolved.names, strict=True)), stem))
        return Request(names, stems, tuple(groups), items)

    def _by_stems(self, options: Options, files: bool) -> bool:
        """Whether stems answer queries that name them."""
        own = self.encoder is None or (files and bool(options.stem_head))
        return options.stem_head is not False and (own or self.specialist is not None)

    def _repeated(self, items: Sequence[Query], options: Options, files: bool) -> dict[str, str]:
        """Name of a target that the stem of an earlier one answers -> the name of that one."""
        return same_stem(items, self.stems_for(items)) if self._by_stems(options, files) else {}

    def _resolve(self, queries: Queries, sample_rate: int | None, read: ReadPart | None = None) -> Resolved:
        """Queries for the model; `read` reads the recording that their spans belong to."""
        check_torch_defaults()
        encoder, items = self.encoder, as_queries(queries)
        if encoder is None:
            raise QueryError(f"{self.name} takes no queries, it has only stems ({', '.join(self.stem_names)})")
        for query in items:
            check_capable(query, self.capabilities, self.name)
        anchors = {} if read is None else find_anchors(items, read, self)
        return resolve(items, encoder, sample_rate, self.prototypes, self.own_names(items), anchors)

    def hear(self, windows: Tensor) -> Heard | None:
        """What the model's listener hears in recordings, whatever the engine.

        Args:
            windows: (windows, channels, samples) at the model's rate.

        Returns:
            What is heard in each, on the CPU; None for a model without a listener.

        Raises:
            ModelError: the separator is closed.
        """
        return self._open().hear(windows)

    def own_names(self, queries: Queries) -> dict[str, OwnSound]:
        """The user's own sounds that queries and their negatives name.

        Args:
            queries: as in `separate`.

        Returns:
            Text -> the sound, as this model hears it.

        Raises:
            ModelError: the file of sounds is damaged, or another model has heard the examples and they were not kept.
        """
        if self.sounds is None:
            return {}
        items = as_queries(queries)
        texts = [query.text for item in items for query in (item, *item.negatives) if query.text is not None]
        return self.sounds.heard_by(self, texts)


def _words(candidates: Queries) -> list[Query]:
    """Candidates as queries.

    Raises:
        QueryError: one without words.
    """
    queries = as_queries(candidates)
    if wordless := [query.label for query in queries if query.text is None or query.anchored]:
        raise QueryError(f"candidates are words, and {wordless[0]!r} has none: name the sound")
    return queries
