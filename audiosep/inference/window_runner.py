"""Batches of windows through a model: on its device, at its precision, some queries at a time, within memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from audiosep.errors import ModelError
from audiosep.inference.devices import enqueued, free_cache, host_buffer, is_out_of_memory, running, to_device
from audiosep.models.query_ways import Ways
from audiosep.models.separation_model import Estimate, SeparationModel

logger = logging.getLogger(__name__)

# The most queries of one call of the model; more queries take several calls. Each call computes what queries share
# (transform, encoder) again, but memory stays bounded: below 900 MB in all for the embedded model. Within a call the
# model may decode fewer queries at a time (`models.mask_model.QUERIES_TOGETHER`) and computes what they share once.
QUERIES_PER_PASS = 4


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
    ) -> None:
        self._model = model
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

    @property
    def way_weights(self) -> list[dict[str, float]]:
        """Of each target the names and weights of its ways, the mean over the windows so far; {} for one way."""
        pairs = zip(self._ways, self._weights, strict=False)
        return [
            {} if way is None or sums is None else dict(zip(way.names, (sums / sums.sum()).tolist(), strict=True))
            for way, sums in pairs
        ]

    def __call__(self, windows: Tensor) -> Tensor:
        """Compute a batch.

        Args:
            windows: (windows, channels, samples), on the CPU.

        Returns:
            (windows, rows, samples), on the CPU. Windows that are all zeros give zeros without computation.

        Raises:
            ModelError: a single window does not fit into memory, or the model's output is not finite.
        """
        return self.begin(windows)()

    def begin(self, windows: Tensor) -> Callable[[], Tensor]:
        """Begin to compute a batch, as a GPU does it beside the CPU.

        Args:
            windows: as for a call.

        Returns:
            A function that waits for the rows and returns them; it raises ModelError as a call does.

        Raises:
            ModelError: a single window does not fit into memory.
        """
        sounding = windows.flatten(1).any(1)
        if sounding.all():
            return self._begin(windows)
        batch, channels, samples = windows.shape
        wait = self._begin(windows[sounding]) if sounding.any() else None

        def rows() -> Tensor:
            rows = torch.zeros(batch, self.count * (channels + self.top), samples)
            if wait is not None:
                rows[sounding] = wait()
            return rows

        return rows

    def _begin(self, windows: Tensor) -> Callable[[], Tensor]:
        """Begin with as many windows at once as fit into memory: half of them each time that it runs out."""
        count = len(windows)
        if self._most is not None and count > self._most:
            parts = [self._begin(part) for part in windows.split(self._most)]
            return lambda: torch.cat([wait() for wait in parts])
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

    def _enqueue(self, windows: Tensor) -> Callable[[], Tensor]:
        batch, channels, samples = windows.shape
        # Each pass is copied into the buffer of all rows at once; passes kept and joined later would need the memory
        # twice. The windows are the second axis, so that the rows of a pass are contiguous: only such copies from a GPU
        # run while it goes on computing.
        whole = host_buffer((self.count * (channels + self.top), batch, samples), self._device)
        scores = None if self.presence is None else host_buffer((self.count, batch), self._device).zero_()
        weights: list[Tensor | None] = []
        done = 0
        with running(self._device, self._precision):
            for estimate in self._passes(to_device(windows, self._device)):
                upto = done + estimate.waveforms.shape[1]
                waveforms = estimate.waveforms.flatten(1, 2).transpose(0, 1)
                whole[done * channels : upto * channels].copy_(waveforms, non_blocking=True)
                if self.top:
                    first = self.count * channels
                    gains = self._gains(estimate, samples).transpose(0, 1)
                    whole[first + done : first + upto].copy_(gains, non_blocking=True)
                weights += [None if weight is None else weight.float().sum(0).cpu() for weight in estimate.weights]
                if scores is not None and estimate.presence is not None:
                    scores[done:upto].copy_(estimate.presence.float().T, non_blocking=True)
                done = upto
            wait = enqueued(self._device)

        def rows() -> Tensor:
            wait()
            self._check(whole)
            if self.presence is not None and scores is not None:
                self._check(scores)
                self.presence = torch.maximum(self.presence, scores.amax(1))
            for k, weight in enumerate(weights):
                total = self._weights[k]
                self._weights[k] = None if total is None or weight is None else total + weight
            return whole.transpose(0, 1)

        return rows

    def _passes(self, mix: Tensor) -> Iterator[Estimate]:
        """The model's estimates of `QUERIES_PER_PASS` queries at a time."""
        if self._embeddings is None:
            yield self._model.stems(mix)
            return
        for i in range(0, self.count, QUERIES_PER_PASS):
            some = slice(i, i + QUERIES_PER_PASS)
            negatives = None if self._negatives is None else self._negatives[some]
            ways = [self._ways[some]] if any(self._ways) else []  # only models that mix ways take them
            yield self._model(mix, self._embeddings[some], negatives, *ways)

    def _check(self, output: Tensor) -> None:
        if not torch.isfinite(output).all():
            raise ModelError(
                f"the model's output is not finite in {self._precision}; use precision='fp32', "
                "or install the model again if that does not help"
            )

    def _gains(self, estimate: Estimate, samples: int) -> Tensor:
        """(windows, targets, samples) gains, linear between the centres of the frames."""
        size = (estimate.top.shape[-1] - 1) * self._model.hop + 1
        gains = F.interpolate(estimate.top.float(), size=size, mode="linear", align_corners=True)
        return F.pad(gains, (0, max(0, samples - size)), mode="replicate")[..., :samples]
