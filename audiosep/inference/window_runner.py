"""Batches of windows through a model: on its device, at its precision, some queries at a time, within memory."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from audiosep.errors import ModelError
from audiosep.inference.devices import (
    FreedMemory,
    enqueued,
    free_cache,
    host_buffer,
    is_out_of_memory,
    running,
    to_device,
)
from audiosep.inference.overlap_add import Rows
from audiosep.inference.window_threads import WindowThreads
from audiosep.models.mask_model import MaskedMixture, MaskModel
from audiosep.models.query_ways import Ways
from audiosep.models.separation_model import SeparationModel

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Seconds of targets that a CPU computes before freed memory is given back. Small blocks that stay between large ones
# keep the C library's heap from shrinking: without this, the stems of five minutes need 840 to 1,220 MB by chance, with
# it 850 to 860 MB, for 5% of their time.
_FREED = FreedMemory(every=60.0)


class MaskedRows:
    """The rows of a window of which the masks are known: waveforms are computed a stretch at a time.

    Args:
        masked: the window, in a batch of one or more.
        window: its place in the batch.
        top: whether the rows of gains are wanted.
        check: refuses what is not finite.
        first: the sample of the window that the rows begin with.

    Attributes:
        count: number of rows.
    """

    def __init__(
        self, masked: MaskedMixture, window: int, *, top: bool, check: Callable[[Tensor], None], first: int = 0
    ) -> None:
        self._masked, self._window, self._top = masked, slice(window, window + 1), top
        self._check, self._first = check, first
        self.count = masked.top.shape[1] * (masked.mix.shape[1] + top)

    @torch.inference_mode()
    def stretch(self, start: int, stop: int) -> Tensor:
        """See `overlap_add.Rows`."""
        start, stop = self._first + start, self._first + stop
        rows = self._masked.waveforms(start, stop, self._window)[0].flatten(0, 1)
        if self._top:
            rows = torch.cat([rows, gains_of(self._masked.top[self._window][0], self._masked.hop, start, stop)])
        self._check(rows)
        return rows

    @torch.inference_mode()
    def tail(self, start: int) -> MaskedRows:
        """See `overlap_add.Rows`."""
        start += self._first
        rest, at = self._masked.tail(start, self._window)
        return MaskedRows(rest, 0, top=self._top, check=self._check, first=start - at)


class WindowRunner:
    """A model and its queries (or its stems), as the `run` of an `OverlapAdd`.

    Its rows are the targets, channel by channel, and then, if `top` is set, one row of gains a target: by how much the
    target keeps of what is above the model's band.

    Args:
        model: in eval mode on `device`.
        embeddings: (queries, dimension); None for the model's stems.
        negatives: (queries, dimension); None for none.
        ways: of each query, see `SeparationModel.forward`.
        device: of the model.
        precision: of the network's layers, a key of `devices.PRECISIONS`.
        top: whether the rows of gains are wanted.
        beside: threads that compute what was begun, beside the caller's; None to compute it there.

    Attributes:
        count: number of targets.
        top: as above.
        presence: (targets,) highest score of any window so far, or None when the model has none.
    """

    def __init__(
        self,
        model: SeparationModel,
        embeddings: Tensor | None,
        negatives: Tensor | None,
        ways: Sequence[Ways | None] = (),
        *,
        device: torch.device,
        precision: str,
        top: bool,
        beside: WindowThreads[Callable[[], list[Tensor | Rows]]] | None = None,
    ) -> None:
        self._model, self._beside = model, beside
        self._embeddings = None if embeddings is None else embeddings.to(device)
        self._negatives = None if negatives is None or not negatives.any() else negatives.to(device)
        self._ways: list[Ways | None] = [None if way is None else way.to(device) for way in ways]
        self._device = device
        self._precision = precision
        self.top = top
        self.count = len(model.stem_names) if embeddings is None else len(embeddings)
        scored = embeddings is not None and "presence" in model.capabilities
        self.presence = torch.zeros(self.count) if scored else None
        self._weights = [
            None if way is None else torch.zeros(len(way.names)) for way in self._ways or [None] * self.count
        ]
        self._most: int | None = None  # windows at once, after more did not fit into memory

    def threads(self) -> contextlib.AbstractContextManager[None]:
        """Context for what the caller's thread computes while windows are under way."""
        return contextlib.nullcontext() if self._beside is None else self._beside.left()

    @property
    def way_counts(self) -> tuple[int, ...]:
        """Of each target the number of its ways; 0 for one way."""
        return tuple(0 if sums is None else len(sums) for sums in self._weights)

    @property
    def way_weights(self) -> list[dict[str, float]]:
        """Of each target the names and weights of its ways, the mean over the windows so far.

        {} for one way, and where all windows were silent.
        """
        pairs = zip(self._ways, self._weights, strict=False)
        return [
            {}
            if way is None or sums is None or not sums.any()
            else dict(zip(way.names, (sums / sums.sum()).tolist(), strict=True))
            for way, sums in pairs
        ]

    def __call__(self, windows: Tensor) -> list[Tensor | Rows]:
        """Compute a batch.

        Args:
            windows: (windows, channels, samples), on the CPU.

        Returns:
            Of each window (rows, samples), on the CPU. Windows that are all zeros give zeros without computation.

        Raises:
            ModelError: a single window does not fit into memory, or the model's output is not finite.
        """
        return self.begin(windows)()

    def begin(self, windows: Tensor) -> Callable[[], list[Tensor | Rows]]:
        """Begin to compute a batch, as a GPU and threads beside this one do it.

        Args:
            windows: as for a call.

        Returns:
            A function that waits for the rows and returns them; it raises ModelError as a call does.

        Raises:
            ModelError: a single window does not fit into memory.
        """
        sounding = windows.any(2).any(1)
        if sounding.all():
            return self._begin_beside(windows)
        _, channels, samples = windows.shape
        wait = self._begin_beside(windows[sounding]) if sounding.any() else None

        def rows() -> list[Tensor | Rows]:
            computed = iter([] if wait is None else wait())
            silence = torch.zeros(self.count * (channels + self.top), samples)
            return [next(computed) if sounds else silence for sounds in sounding.tolist()]

        return rows

    def _begin_beside(self, windows: Tensor) -> Callable[[], list[Tensor | Rows]]:
        if self._beside is None:
            return self._begin(windows)
        wait = self._beside.begin(partial(self._begin, windows))
        return lambda: wait()()

    def _begin(self, windows: Tensor) -> Callable[[], list[Tensor | Rows]]:
        """Begin with as many windows at once as fit into memory: half of them each time that it runs out."""
        count = len(windows)
        if self._most is not None and count > self._most:
            parts = [self._begin(part) for part in windows.split(self._most)]
            return lambda: [one for wait in parts for one in wait()]
        try:
            return self._enqueue(windows)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if count == 1:
                raise ModelError(
                    f"one window of {windows.shape[-1]} samples does not fit into the memory of {self._device}: close "
                    "other programs that use it, separate fewer queries at once, or use device='cpu'"
                ) from error
            self._most = count // 2
            logger.warning("%d windows at once do not fit into memory, going on with %d", count, self._most)
        free_cache(self._device)  # only here: the error held the tensors of the pass that failed
        return self._begin(windows)

    def _enqueue(self, windows: Tensor) -> Callable[[], list[Tensor | Rows]]:
        if self._device.type == "cpu" and isinstance(self._model, MaskModel):
            return self._masked_rows(windows, self._model)
        batch, channels, samples = windows.shape
        # The windows are the second axis, so that the rows of a kind are contiguous: only such copies from a GPU run
        # while it goes on computing.
        whole = host_buffer((self.count * (channels + self.top), batch, samples), self._device)
        with running(self._device, self._precision):
            estimate = self._estimate(self._model, self._model.stems, to_device(windows, self._device))
            waveforms = estimate.waveforms.flatten(1, 2).transpose(0, 1)
            whole[: self.count * channels].copy_(waveforms, non_blocking=True)
            if self.top:
                gains = gains_of(estimate.top, self._model.hop, 0, samples).transpose(0, 1)
                whole[self.count * channels :].copy_(gains, non_blocking=True)
            scores = None
            if self.presence is not None and estimate.presence is not None:
                scores = host_buffer((self.count, batch), self._device)
                scores.copy_(estimate.presence.float().T, non_blocking=True)
            weights = [None if weight is None else weight.float().cpu() for weight in estimate.weights]
            wait = enqueued(self._device)

        def rows() -> list[Tensor | Rows]:
            wait()
            self._check(whole)
            self._note(scores, weights)
            return list(whole.unbind(1))

        return rows

    def _masked_rows(self, windows: Tensor, model: MaskModel) -> Callable[[], list[Tensor | Rows]]:
        _FREED.after(self.count * len(windows) * windows.shape[-1] / model.sample_rate, self._device)
        with running(self._device, self._precision):
            masked = self._estimate(model.masked, model.masked_stems, windows)

        def rows() -> list[Tensor | Rows]:
            self._note(None if masked.presence is None else masked.presence.float().T, masked.weights)
            return [MaskedRows(masked, k, top=self.top, check=self._check) for k in range(len(windows))]

        return rows

    def _estimate(self, queries: Callable[..., T], stems: Callable[[Tensor], T], mix: Tensor) -> T:
        """What the model gives for its queries or its stems."""
        if self._embeddings is None:
            return stems(mix)
        ways = [self._ways] if any(self._ways) else []  # only models that mix ways take them
        return queries(mix, self._embeddings, self._negatives, *ways)

    def _note(self, scores: Tensor | None, weights: Sequence[Tensor | None]) -> None:
        """Keep what the model says of its targets: (targets, windows) presence, and (windows, ways) weights of each."""
        if self.presence is not None and scores is not None:
            self._check(scores)
            self.presence = torch.maximum(self.presence, scores.amax(1))
        for k, weight in enumerate(weights):
            total = self._weights[k]
            self._weights[k] = None if total is None or weight is None else total + weight.float().sum(0)

    def _check(self, output: Tensor) -> None:
        if not torch.isfinite(output.sum()):  # a sum has what is not finite, without a copy of all values
            raise ModelError(
                f"the model's output is not finite in {self._precision}; use precision='fp32', turn down a recording "
                "that is far beyond full scale (1.0), or install the model again if that does not help"
            )


def gains_of(top: Tensor, hop: int, start: int, stop: int) -> Tensor:
    """Gains of targets, linear between the centres of the frames, that of the last frame behind it.

    Args:
        top: (..., targets, frames).
        hop: samples between frames.
        start: first sample.
        stop: the one after the last.

    Returns:
        (..., targets, stop - start); no sample depends on `start` and `stop`.
    """
    first = start // hop
    frames = torch.arange(first, (stop - 1) // hop + 2, device=top.device).clamp_max(top.shape[-1] - 1)
    weight = torch.arange(hop, device=top.device) / hop
    gains = top.float()[..., frames, None]
    between = torch.lerp(gains[..., :-1, :], gains[..., 1:, :], weight).flatten(-2)
    return between[..., start - first * hop : stop - first * hop]
