"""How close a network comes to the peaks of this machine (Williams et al., "Roofline", CACM 2009).

A window needs operations and memory traffic, and the machine has a measured peak rate of each. The longer of the two
times is a lower bound for any implementation of the same layers that reads and writes memory in each layer.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from audiosep.inference.devices import PRECISIONS, running
from audiosep.inference.options import Quality
from audiosep.models.separation_model import SeparationModel
from audiosep.query.resolve import Resolved

CHANNELS = (64, 128, 256)
SIDE = 96
COPIED = 1 << 26  # bytes
MEASURED_SECONDS = 0.2


@dataclass(frozen=True)
class Roofline:
    """One window of a network compared with the machine.

    Attributes:
        window_seconds: length of the window, seconds of sound.
        operations: additions and multiplications of convolutions and matrix products (transforms are not counted).
        bytes: that the layers read and write, summed over the layers.
        seconds: median computation time of the window.
        peak_operations: operations per second of the fastest of some 3x3 convolutions, in this precision and with
            these threads.
        peak_bytes: bytes per second that a large copy reads and writes.
    """

    window_seconds: float
    operations: int
    bytes: int
    seconds: float
    peak_operations: float
    peak_bytes: float

    @property
    def share(self) -> float:
        """Operations per second as a fraction of the peak."""
        return self.operations / self.seconds / self.peak_operations

    @property
    def bound_seconds(self) -> float:
        """The lower bound of the time."""
        return max(self.operations / self.peak_operations, self.bytes / self.peak_bytes)

    @property
    def limit(self) -> str:
        """Which of the two peaks sets the bound: "arithmetic" or "memory"."""
        arithmetic = self.operations / self.peak_operations >= self.bytes / self.peak_bytes
        return "arithmetic" if arithmetic else "memory"


class Traffic(TorchDispatchMode):
    """Counts the bytes of the input and output tensors of every operation, except views.

    Attributes:
        bytes: counted so far.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no annotation there
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation and count its bytes."""
        out = func(*args, **(kwargs or {}))
        read, written = _tensors((args, kwargs)), _tensors(out)
        places = {tensor.untyped_storage().data_ptr() for tensor in read}
        view = all(tensor.untyped_storage().data_ptr() in places for tensor in written)
        if not view or func._schema.is_mutable:
            self.bytes += sum(tensor.nbytes for tensor in (*read, *written))
        return out


def count(run: Callable[[], object]) -> tuple[int, int]:
    """Count the operations and bytes of what `run` computes, as in `Roofline`."""
    with (
        torch.no_grad(),
        FlopCounterMode(display=False) as operations,
        Traffic() as traffic,
    ):
        run()
    return int(operations.get_total_flops()), traffic.bytes


def roofline(
    model: SeparationModel,
    queries: Resolved | None,
    quality: Quality = "balanced",
    *,
    device: torch.device,
    precision: str,
    runs: int = 3,
) -> Roofline:
    """Measure one stereo window.

    Args:
        model: the model, on `device`.
        queries: of the window; None for the stems.
        quality: how much is computed for each query.
        device: of the layers.
        precision: of the layers.
        runs: times that the window is computed; the median counts.
    """
    mix = 0.1 * torch.randn(1, 2, model.window, generator=torch.Generator().manual_seed(0)).to(device)
    asked: list[Any] = []
    if queries is not None:
        asked = [queries.embeddings.to(device), queries.negatives.to(device)]
        if model.mixes_ways:
            asked.append([None if way is None else way.to(device) for way in queries.ways(quality, model.stem_names)])

    def window() -> object:
        return model(mix, *asked) if asked else model.stems(mix)

    def once() -> None:
        with running(device, precision):
            window()

    def counted() -> None:
        with _precision(device, precision):
            window()

    operations, traffic = count(counted)
    once()
    return Roofline(
        window_seconds=model.window / model.sample_rate,
        operations=operations,
        bytes=traffic,
        seconds=median(timed(once, device) for _ in range(runs)),
        peak_operations=convolution_peak(device, precision),
        peak_bytes=copy_peak(device),
    )


def convolution_peak(device: torch.device, precision: str) -> float:
    """Operations per second of the fastest of some 3x3 convolutions."""
    best = 0.0
    for channels in CHANNELS:
        x, weight = (
            torch.ones(shape, dtype=PRECISIONS[precision], device=device).contiguous(memory_format=torch.channels_last)
            for shape in ((1, channels, SIDE, SIDE), (channels, channels, 3, 3))
        )

        def convolve(x: Tensor = x, weight: Tensor = weight) -> None:
            with running(device, "fp32"):
                F.conv2d(x, weight, padding=1)

        best = max(best, 2 * 9 * channels**2 * SIDE**2 / fastest(convolve, device))
    return best


def copy_peak(device: torch.device) -> float:
    """Bytes per second that a large copy reads and writes."""
    source = torch.zeros(COPIED // 4, device=device)
    target = torch.empty_like(source)
    return 2 * COPIED / fastest(lambda: target.copy_(source), device)


def fastest(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of several runs; disturbances only make a run longer."""
    run()
    times: list[float] = []
    while sum(times) < MEASURED_SECONDS or len(times) < 3:
        times.append(timed(run, device))
    return min(times)


def timed(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of one run, including the work that it left on the device."""
    _synchronise(device)
    began = time.perf_counter()
    run()
    _synchronise(device)
    return time.perf_counter() - began


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _precision(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, PRECISIONS[precision])


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
