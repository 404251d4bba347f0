"""From a mixture at its own sample rate to targets at that rate, block by block: the one path of every separation.

    mixture --+--> model's rate --+--> windows --> model --> overlap-add -->(-)--> mixture's rate -->(+)--> targets
              |                   |                    |                     ^                        ^
              |                   `--------------------|------------------->(x)                       |
              |                                        `--> gain of its highest 1 kHz --+             |
              `------------------------------------------------------------------------(x)------------'

Above the model's band a target is the mixture times a gain, which is taken out again within the band: so what the
model's rate cannot hold is kept, and the mixture itself is not resampled back. At the model's own rate nothing is
resampled, and a mixture with a lower rate has nothing above the model's band. What the filters take from the highest
tenth of such a mixture stays in its residual, or in the last of stems that sum to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from audiosep.audio.arrays import AnyArray, as_array
from audiosep.audio.limits import check_channels, check_rate
from audiosep.audio.polyphase import live_resampler
from audiosep.audio.resampling import StreamResampler
from audiosep.audio.samples import Array
from audiosep.errors import InputError, counted
from audiosep.hearing.activity import Activity, ActivityMeter
from audiosep.inference.devices import without_autocast
from audiosep.inference.explanation import Explanation
from audiosep.inference.overlap_add import OverlapAdd, Shifts
from audiosep.inference.window_runner import WindowRunner
from audiosep.inference.windows import Windows

_BLOCK = 32_768  # samples of the model that are resampled at a time, and
_VALUES = 2**18  # at most about so many values of all targets: several copies of them are needed


class Stream:
    """Targets of a mixture that arrives in blocks.

    Open one with `Separator.stream`.

    Args:
        runner: the model and its queries.
        names: of the targets.
        sample_rate: of the mixture, Hz.
        channels: of the mixture.
        model_rate: sample rate of the model, Hz.
        hop: samples between the model's STFT frames.
        windows: that the mixture is cut into, at the model's rate.
        batch: windows computed at once.
        ahead: batches that are computed while further blocks are pushed, as in `OverlapAdd`.
        shifts: further passes over time-shifted windows, as in `Options`.
        closed: whether the targets sum to the mixture: the last one is then what the others leave of it.
        explanations: target name -> the prototypes of its query, without the weights of ways.
        meter: measures when the targets sound; None where that is not wanted.

    Attributes:
        names: as above.
        sample_rate: as above.
        channels: as above.
        model_rate: as above.
        windows: as above.
        latency: once n samples are in, at least n - latency are out.
        received: samples that are in.
        returned: samples that are out.
        mix: (channels, n), the stretch of the mixture that the last returned targets belong to, of their kind of array.
    """

    def __init__(
        self,
        runner: WindowRunner,
        names: Sequence[str],
        *,
        sample_rate: int,
        channels: int,
        model_rate: int,
        hop: int,
        windows: Windows,
        batch: int = 1,
        ahead: int = 0,
        shifts: int = 0,
        closed: bool = False,
        explanations: Mapping[str, Explanation] | None = None,
        meter: ActivityMeter | None = None,
    ) -> None:
        self.names = tuple(names)
        self._meter = meter
        self._explanations = dict(explanations or {})
        self.sample_rate = sample_rate = check_rate(sample_rate)
        self.channels = check_channels(channels)
        self.model_rate, self.windows = model_rate, windows
        self.received = self.returned = 0
        self._finished = False
        self._failed = False  # also while a step is under way
        nothing = np.zeros((channels, 1), np.float32)
        self.mix: Any = nothing[:, :0]
        self._restore = as_array(nothing)[1]
        self._runner = runner
        self._closed = closed and len(self.names) > 1  # a single one is the mixture anyway
        self._high = model_rate < self.sample_rate
        self._rows = (len(self.names) - self._closed) * channels  # of the model's that are needed
        resampler = live_resampler if windows.lead else StreamResampler
        self._down = resampler(sample_rate, model_rate, channels)
        run = runner.begin if ahead else runner
        self._passes = Shifts(lambda: OverlapAdd(run, windows, batch=batch, ahead=ahead), shifts, windows, hop)
        self._up = resampler(model_rate, sample_rate, self._rows)
        self._gains = Gains(model_rate, sample_rate)
        self._waiting, self._waiting_low, self._ready = Queue(), Queue(), Queue()
        behind = windows.latency + ((1 + ahead) * batch - 1) * windows.stride + self._up.latency
        if model_rate != sample_rate:
            behind = -(-(behind + 2) * sample_rate // model_rate) + 1
        self.latency = self._down.latency + behind

    @property
    def presence(self) -> dict[str, float] | None:
        """Target name -> highest score of any window so far, 0..1; None when the model does not say."""
        scores = self._runner.presence
        return None if scores is None else dict(zip(self.names, scores.tolist(), strict=True))

    @property
    def explanation(self) -> dict[str, Explanation]:
        """Target name -> the prototypes and queries so far, for text queries of a model with prototypes."""
        weights = dict(zip(self.names, self._runner.way_weights, strict=False))
        return {name: replace(known, ways=weights.get(name, {})) for name, known in self._explanations.items()}

    @property
    @without_autocast()
    def activity(self) -> dict[str, Activity]:
        """Target name -> when it sounds, once the stream has ended; empty for live streams."""
        if self._meter is None or not self._finished:
            return {}
        scores = self._runner.presence
        return dict(zip(self.names, self._meter.finish(None if scores is None else scores.tolist()), strict=True))

    def push(self, block: AnyArray) -> AnyArray:
        """Take a block, give back what is ready.

        Args:
            block: numpy or torch, (channels, samples), or (samples,) for one channel; any number of samples.

        Returns:
            (targets, channels, n) of the kind of `block`, without the channel axis where `block` has none; n may be 0.

        Raises:
            InputError: another number of channels, NaN or infinity, or the stream was ended. These leave the stream as
                it was; after any other error, such as a lack of memory, it refuses whatever follows.
        """
        targets: AnyArray = self._whole(self._stepwise(self._taken(block)))
        return targets

    def finish(self) -> Any:
        """End the mixture.

        Returns:
            (targets, channels, n), all that is left, of the kind of the last block.

        Raises:
            InputError: nothing was pushed, or the stream was ended or has failed before.
        """
        return self._whole(self._stepwise(self._ended()))

    def pieces(self, block: AnyArray | None) -> Iterator[Any]:
        """As `push`, or `finish` for None, in pieces: memory does not grow with the number of targets and channels.

        Args:
            block: as in `push`; None for the end of the mixture.

        Yields:
            (targets, channels, n), of the stretch of the mixture that is `mix` until the next one. Take all of them
            before the next block, which is refused otherwise.

        Raises:
            InputError: as `push` and `finish`.
        """
        for mix, targets in self._stepwise(self._ended() if block is None else self._taken(block)):
            self.mix = self._restore(mix)
            yield self._restore(targets)

    def _stepwise(self, pieces: Iterator[tuple[Array, Array]]) -> Iterator[tuple[Array, Array]]:
        """Pieces, each computed with the threads that windows under way leave; between them the caller has its own.

        Where they end early, samples are lost within the stream: what it gave behind them would be wrong.
        """
        self._failed = True
        while True:
            with self._runner.threads(), without_autocast():
                piece = next(pieces, None)
            if piece is None:
                break
            yield piece
        self._failed = False

    def _check_whole(self) -> None:
        """Refuse to go on where an earlier step has not ended."""
        if self._failed:
            raise InputError("this stream has failed: open a new one")

    def _taken(self, block: AnyArray) -> Iterator[tuple[Array, Array]]:
        """A block of the mixture; the pieces that are ready then."""
        self._check_whole()
        if self._finished:
            raise InputError("this stream is finished: open a new one for the next recording")
        mix, self._restore = as_array(block, empty=True)
        if mix.shape[0] != self.channels:
            raise InputError(f"this stream has {counted(self.channels, 'channel')}, got a block of shape {mix.shape}")
        return self._heard(mix.copy())  # the caller may write its next block into the same memory

    def _heard(self, mix: Array) -> Iterator[tuple[Array, Array]]:
        """A block that was checked."""
        self.received += mix.shape[1]
        self._waiting.append(mix)
        yield from self._separate(self._down.push(mix))

    def _ended(self) -> Iterator[tuple[Array, Array]]:
        """The end of the mixture; the pieces that are left."""
        self._check_whole()
        if self._finished:
            raise InputError("this stream was ended before: open a new one for the next recording")
        if not self.received:
            raise InputError("the recording holds no samples")
        return self._rest()

    def _rest(self) -> Iterator[tuple[Array, Array]]:
        """What is left in the filters and in the windows."""
        self._finished = True
        yield from self._separate(self._down.finish())
        for rows in self._passes.finish():
            yield from self._resample(rows)
        self._ready.append(self._up.finish(self.received))
        size = max(1, _VALUES // self._up.channels)
        while left := len(self._ready):
            yield from self._take(min(size, left))

    def _whole(self, pieces: Iterator[tuple[Array, Array]]) -> Any:
        """All pieces as one."""
        nothing = np.zeros((len(self.names), self.channels, 0), np.float32)
        mixes, targets = [nothing[0]], [nothing]
        for mix, some in pieces:
            mixes.append(mix)
            targets.append(some)
        self.mix = self._restore(np.concatenate(mixes, -1))
        return self._restore(np.concatenate(targets, -1))

    def _separate(self, low: Array) -> Iterator[tuple[Array, Array]]:
        """A block of the mixture, at the model's rate, through the model."""
        if low.shape[1]:
            if self._meter is not None:
                self._meter.hear(low)
            if self._high:
                self._waiting_low.append(low)
            for rows in self._passes.push(torch.from_numpy(low if low.flags.writeable else low.copy())):
                yield from self._resample(rows)

    def _resample(self, rows: torch.Tensor) -> Iterator[tuple[Array, Array]]:
        """Rows of the model to the mixture's rate."""
        low = rows.numpy()
        targets = low[: self._rows]
        if self._high:
            first, count = self._runner.count * self.channels, targets.shape[1]
            gains = low[first : first + self._rows // self.channels]
            self._gains.append(gains)
            within = gains[:, None] * self._waiting_low.take(count)
            targets = (targets.reshape(within.shape) - within).reshape(-1, count)
        size = max(1, min(_BLOCK, _VALUES * self.model_rate // (len(targets) * self.sample_rate)))
        for start in range(0, targets.shape[1], size):
            self._ready.append(self._up.push(targets[:, start : start + size]))
            ready = len(self._ready)
            yield from self._take(min(ready, self._gains.ready) if self._high else ready)

    def _take(self, count: int) -> Iterator[tuple[Array, Array]]:
        """The next `count` samples of the mixture and of all targets, complete."""
        if not count:
            return
        self.returned += count
        mix, ready = self._waiting.take(count), self._ready.take(count)
        targets = ready.reshape(-1, self.channels, count)
        if self._high:
            targets = targets + self._gains.take(count)[:, None] * mix
        if self._closed:
            targets = np.concatenate([targets, (mix - targets.sum(0))[None]])
        if self._meter is not None:
            self._meter.measure(mix, targets)
        yield mix, targets


class Queue:
    """Samples in the order they came: append (rows, any), take the first n."""

    def __init__(self) -> None:
        self._blocks: deque[Array] = deque()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, block: Array) -> None:
        """Put `block` at the end."""
        self._blocks.append(block)
        self._length += block.shape[1]

    def take(self, count: int) -> Array:
        """The first `count` samples, which leave the queue."""
        self._length -= count
        parts = []
        while True:
            block = self._blocks.popleft()
            parts.append(block[:, :count])
            count -= parts[-1].shape[1]
            if not count:
                break
        left = block[:, parts[-1].shape[1] :]
        if left.shape[1] or not self._blocks:  # the last one is kept for its number of rows
            self._blocks.appendleft(left)
        return np.concatenate(parts, axis=1)


class Gains:
    """Slowly changing gains from one sample rate to another, by linear interpolation.

    Args:
        in_rate: Hz.
        out_rate: Hz.
    """

    def __init__(self, in_rate: int, out_rate: int) -> None:
        self._in_rate, self._out_rate = in_rate, out_rate
        self._waiting = Queue()
        self._dropped = 0
        self._taken = 0

    @property
    def ready(self) -> int:
        """Samples that lie between two known gains."""
        received = self._dropped + len(self._waiting)
        return (received - 1) * self._out_rate // self._in_rate + 1 - self._taken if received else 0

    def append(self, gains: Array) -> None:
        """Gains (rows, any) at `in_rate`."""
        self._waiting.append(gains)

    def take(self, count: int) -> Array:
        """The next (rows, count) gains at `out_rate`; beyond the last known one it is repeated."""
        position = np.arange(self._taken, self._taken + count, dtype=np.float64) * self._in_rate / self._out_rate
        known = self._waiting.take(len(self._waiting))
        at = np.arange(self._dropped, self._dropped + known.shape[1], dtype=np.float64)
        out = np.stack([np.interp(position, at, row) for row in known]).astype(np.float32)
        self._taken += count
        drop = min(self._taken * self._in_rate // self._out_rate - self._dropped, known.shape[1])
        self._waiting.append(known[:, drop:].copy())
        self._dropped += drop
        return out
