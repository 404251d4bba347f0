"""A network on a device in a precision, computed by an engine: opens the streams that mixtures go through."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import get_args

import torch
from torch import Tensor

from audiosep.errors import InputError, ModelError
from audiosep.hearing.activity import ActivityMeter
from audiosep.inference.devices import (
    check_torch_defaults,
    device_of_engine,
    pick_device,
    pick_precision,
    windows_at_once,
    without_autocast,
)
from audiosep.inference.explanation import Explanation
from audiosep.inference.forks import allow_forks
from audiosep.inference.low_precision import bf16_problem
from audiosep.inference.model_windows import recording_windows
from audiosep.inference.openmp import has_threads_here
from audiosep.inference.options import Engine, Options
from audiosep.inference.stream import Stream
from audiosep.inference.window_runner import WindowRunner
from audiosep.inference.window_threads import MOST, WindowThreads
from audiosep.inference.windows import Windows
from audiosep.models.query_ways import Ways
from audiosep.models.refinement import Heard
from audiosep.models.separation_model import SeparationModel

logger = logging.getLogger(__name__)

_MOST_WINDOWS = 8  # at once; more do not make a GPU faster
_FEW_CHANNELS = 2  # of which windows of a recording may wait


class Backend:
    """A network on a device, ready to compute.

    Args:
        network: in torch, whatever the engine; moved to the device.
        device: auto (cuda, else mps, else cpu), or a torch device.
        precision: of the network's layers: auto, fp32, bf16 or fp16.
        engine: what computes the network's layers: torch, or openvino on the CPU.

    Attributes:
        network: as above.
        device: that was chosen.
        precision: that was chosen.
        engine: as above.
        model: that computes: the network itself, or its form in another engine.

    Raises:
        InputError: no such device, precision or engine here.
        DependencyError: OpenVINO is not installed.
        ModelError: a network that the engine cannot compute.
    """

    def __init__(self, network: SeparationModel, device: str | torch.device, precision: str, engine: Engine) -> None:
        if engine not in get_args(Engine):
            raise InputError(f"engine must be {' or '.join(get_args(Engine))}, got {engine!r}")
        self.network, self.engine = network.eval(), engine
        self.device = pick_device(device_of_engine(device, engine))
        self.precision = pick_precision(precision, self.device, needs_fp32=network.needs_fp32)
        if self.precision == "bf16" and engine == "torch" and (problem := bf16_problem(self.device.type)):
            logger.warning("%s, so fp32 is used: precision='fp32' avoids the question", problem)
            self.precision = "fp32"
        self.model = network
        self._windows_that_fit: dict[tuple[int, ...], int] = {}
        self._process = os.getpid()
        allow_forks()
        if engine == "openvino":
            from audiosep.inference.openvino import OpenVinoModel

            if self.device.type != "cpu":
                raise InputError(f"the engine openvino computes on the CPU, not on {self.device}: use engine='torch'")
            self.model = OpenVinoModel(network, self.precision)
        else:
            network.to(self.device)
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # of 4-d weights

    def check_process(self) -> None:
        """Refuse to compute in a child process that cannot.

        Raises:
            ModelError: the child was forked after the model was loaded, which only torch on the CPU survives.
        """
        if os.getpid() != self._process and (self.engine != "torch" or self.device.type != "cpu"):
            place = self.device.type if self.engine == "torch" else self.engine
            raise ModelError(
                f"this model was loaded on {place} before this process was forked, and {place} does not work in forked "
                "processes: load the model in each process, or start them with multiprocessing.get_context('spawn')"
            )

    def open_stream(
        self,
        names: Sequence[str],
        embeddings: Tensor | None,
        negatives: Tensor | None,
        ways: Sequence[Ways | None] = (),
        *,
        sample_rate: int,
        channels: int,
        options: Options,
        windows: Windows | None = None,
        quick: bool = False,
        live: bool = False,
        explanations: Mapping[str, Explanation] | None = None,
        meter: ActivityMeter | None = None,
    ) -> Stream:
        """Open a stream of the queries' targets, or of the stems.

        Args:
            names: of the targets.
            embeddings: (queries, dimension); None for the model's stems.
            negatives: (queries, dimension), what to keep out; None for the model's stems.
            ways: of each query, for models with `mixes_ways`; () for one way.
            sample_rate: of the mixture, Hz.
            channels: of the mixture.
            options: how to separate.
            windows: that the mixture is cut into; None for those of recordings.
            quick: whether the model makes its quickest estimate.
            explanations: as of `Stream`.
            meter: as of `Stream`.
            live: whether each block is computed at once; else a GPU may compute while further blocks are decoded and
                written.

        Raises:
            InputError: as `check_torch_defaults`.
        """
        check_torch_defaults()
        model = self.model.quick() if quick else self.model
        windows = windows or recording_windows(model, options.overlap)
        make_runner = partial(
            WindowRunner,
            model,
            embeddings,
            negatives,
            ways if model.mixes_ways else (),
            device=self.device,
            precision=self.precision,
            top=model.sample_rate < sample_rate,
        )
        # Further passes and more channels have windows of their own that wait, and memory is short.
        few = channels <= _FEW_CHANNELS and not options.shifts
        side_by_side = few and not live and self._side_by_side(model)
        batch = options.batch
        return Stream(
            make_runner(beside=WindowThreads(torch.get_num_threads()) if side_by_side else None),
            names,
            sample_rate=sample_rate,
            channels=channels,
            model_rate=model.sample_rate,
            hop=model.hop,
            windows=windows,
            batch=self._windows_at_once(make_runner, channels, windows.size) if batch is None else batch,
            ahead=MOST if side_by_side else int(not live and self.device.type == "cuda"),
            shifts=options.shifts,
            closed=embeddings is None,
            explanations=explanations,
            meter=meter,
        )

    def _side_by_side(self, model: SeparationModel) -> bool:
        """Whether windows of recordings are computed side by side, in threads."""
        own_threads = self.device.type == "cpu" and self.engine == "torch"
        return own_threads and model.small_windows and torch.get_num_threads() > 1 and has_threads_here()

    @without_autocast()
    @torch.inference_mode()
    def hear(self, windows: Tensor) -> Heard | None:
        """What the listener of the network hears in recordings, whatever the engine.

        Args:
            windows: (windows, channels, samples) at the model's rate.

        Returns:
            What is heard in each, on the CPU; None for a network without a listener.
        """
        heard = self.network.heard(windows.to(self.device))
        return None if heard is None else Heard(heard.embedding.float().cpu(), heard.tags.float().cpu())

    def _windows_at_once(self, make_runner: Callable[[], WindowRunner], channels: int, size: int) -> int:
        """Windows that the device computes at once; measured for each new number of targets, ways and channels."""
        runner = make_runner()
        key = (runner.count, *runner.way_counts, runner.top, channels, size)
        if key not in self._windows_that_fit:
            window = torch.ones(1, channels, size)
            self._windows_that_fit[key] = windows_at_once(self.device, lambda: runner(window), _MOST_WINDOWS)
        return self._windows_that_fit[key]
