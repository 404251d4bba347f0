"""The windows of a long signal through a model, with the outputs of neighbours cross-faded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from audiosep.errors import InputError
from audiosep.inference.windows import Windows

_STRETCH = 32_768  # samples that are given back at a time, fewer
_VALUES = 2**19  # if they would be more values than this


class Rows(Protocol):
    """The rows of a window, computed when they are needed.

    Attributes:
        count: number of rows.
    """

    count: int

    def stretch(self, start: int, stop: int) -> Tensor:
        """(rows, stop - start), samples from `start` to before `stop`."""
        ...

    def tail(self, start: int) -> Rows:
        """The rows from sample `start` on, in memory of their own, so that what is before them can be freed."""
        ...


class ComputedRows:
    """The rows of a window as they are.

    Args:
        rows: (rows, samples).

    Attributes:
        count: number of rows.
    """

    def __init__(self, rows: Tensor) -> None:
        self._rows = rows
        self.count = len(rows)

    def stretch(self, start: int, stop: int) -> Tensor:
        """See `Rows`."""
        return self._rows[..., start:stop]

    def tail(self, start: int) -> ComputedRows:
        """See `Rows`."""
        return ComputedRows(self._rows[..., start:].clone())


Windowed = Tensor | Sequence[Tensor | Rows]
"""(windows, rows, samples), or the rows of each window."""

Run = Callable[[Tensor], Windowed | Callable[[], Windowed]]


class OverlapAdd:
    """A signal that arrives in blocks, through a model in windows: (channels, n) in, (rows, n) out.

    Args:
        run: (windows, channels, samples) -> rows of each window; sample i of a row belongs to sample i of the window.
            `samples` is `windows.size`, but the last window ends with the signal and may be shorter. `run` may also
            return a function that waits for the rows, where another device computes them.
        windows: how the signal is cut.
        batch: windows that `run` gets at a time; 1 for live windows.
        ahead: batches that `run` computes while the next one is cut. Their rows come that many batches later; those
            of the first one come with the second, so that nobody waits for the first output until all are under way.

    Raises:
        InputError: an impossible batch.
    """

    def __init__(self, run: Run, windows: Windows, *, batch: int = 1, ahead: int = 0) -> None:
        if batch < 1 or (windows.lead and batch > 1):
            raise InputError(f"batch must be at least 1, and 1 for live windows, got {batch}")
        self._run = run
        self._windows = windows
        self._batch = batch
        self._ahead = ahead
        self._under_way: deque[tuple[list[tuple[int, int]], int, Windowed | Callable[[], Windowed]]] = deque()
        self._blocks: list[Tensor] = []  # the input from sample `_start` on
        self._start = 0
        self._received = 0
        self._next = 0  # index of the next window
        self._begun = 0  # batches
        self._done = 0  # samples given back
        self._last: Rows | None = None  # of the last window, from sample `_done` on

    def push(self, block: Tensor) -> Iterator[Tensor]:
        """Append a block to the signal.

        Args:
            block: (channels, any).

        Yields:
            (rows, n) that are final now, in pieces; take all of them before the next block.
        """
        self._blocks.append(block)
        self._received += block.shape[-1]
        while self._received >= self._windows.span(self._next + self._batch - 1)[1]:
            yield from self._advance(self._next + self._batch)

    def finish(self) -> Iterator[Tensor]:
        """End the signal.

        Yields:
            (rows, n) that are left, in pieces; with those of `push` they are as long as the signal.
        """
        w, n = self._windows, self._received
        upto = max(self._next, (n - w.size + w.lead) // w.stride + 1)
        if upto > self._next:
            yield from self._advance(upto)
        if n > (w.span(upto - 1)[1] if upto else 0):
            yield from self._begin([w.last_span(upto, n)])
        yield from self._collect(0)
        if self._last is not None:
            for start, stop in _stretches(0, n - self._done, self._last.count):
                yield self._last.stretch(start, stop)
            self._last = None

    def _advance(self, upto: int) -> Iterator[Tensor]:
        """Run the windows before index `upto`."""
        spans = [self._windows.span(i) for i in range(self._next, upto)]
        self._next = upto
        return self._begin(spans)

    def _begin(self, spans: list[tuple[int, int]]) -> Iterator[Tensor]:
        """Pass a batch of windows to `run` and return the rows that are final now."""
        w = self._windows
        # When the signal ends, its last window moves back, but never to before the window that ran last.
        keep = spans[-1][0]
        kept = self._signal(keep, self._received)
        windows = [self._signal(a, b) for a, b in spans[:-1]]
        windows.append(kept[..., : spans[-1][1] - keep])
        cut = torch.stack(windows) if len(windows) > 1 else windows[0][None]  # one window is not copied again
        self._blocks, self._start = [kept], keep
        del windows  # while the windows are computed memory is short
        if w.lead:
            cut = mirrored(cut, w.size - cut.shape[-1], w.mirror)
        self._under_way.append((spans, cut.shape[-1] - w.mirror, self._run(cut)))
        del cut
        self._begun += 1
        return self._collect(min(self._ahead, max(1, self._begun - 1)))

    def _signal(self, start: int, stop: int) -> Tensor:
        """A copy of the input from sample `start` to before `stop`, without one of all that waits."""
        parts, first = [], self._start
        for block in self._blocks:
            parts.append(block[..., max(0, start - first) : max(0, stop - first)])
            first += block.shape[-1]
        return torch.cat(parts, -1)

    def _collect(self, leave: int) -> Iterator[Tensor]:
        """Wait for all batches but the last `leave`; return their rows up to where the fade to the next one begins."""
        while len(self._under_way) > leave:
            spans, length, rows = self._under_way.popleft()
            for (_, end), one in zip(spans, rows() if callable(rows) else rows, strict=True):
                yield from self._join(end, length, ComputedRows(one) if isinstance(one, Tensor) else one)

    def _join(self, end: int, length: int, rows: Rows) -> Iterator[Tensor]:
        """Cross-fade the last window and one of `length` samples that ends at `end`; keep what is not final."""
        w = self._windows
        first = length - (end - self._done)  # the sample of the window after those that were given back

        def faded(start: int, stop: int) -> Tensor:
            piece = rows.stretch(first + start, first + stop)
            if self._last is None or start >= w.fade:
                return piece
            before = self._last.stretch(start, min(stop, w.fade))
            count = before.shape[-1]
            weight = (torch.arange(start, start + count, dtype=piece.dtype, device=piece.device) + 0.5) / w.fade
            return torch.cat([before + weight * (piece[..., :count] - before), piece[..., count:]], -1)

        upto = end - self._done
        final = max(0, upto - w.right - w.fade)
        for start, stop in _stretches(0, final, rows.count):
            yield faded(start, stop)
        if final >= w.fade:  # all of the last window was faded out
            self._last = rows.tail(first + final)
        else:
            rest = [faded(start, stop) for start, stop in _stretches(final, upto, rows.count)]
            self._last = ComputedRows(torch.cat(rest, -1))
        self._done += final


def _stretches(start: int, stop: int, count: int) -> Iterator[tuple[int, int]]:
    """Samples from `start` to before `stop` of `count` rows, as pairs of the same of each stretch."""
    size = min(_STRETCH, max(1, _VALUES // count))
    for at in range(start, stop, size):
        yield at, min(at + size, stop)


def mirrored(x: Tensor, before: int, after: int) -> Tensor:
    """Extend a signal at both ends by its mirror image, several times if it is short.

    Args:
        x: (..., samples).
        before: samples in front of it.
        after: samples behind it.

    Returns:
        (..., before + samples + after).
    """
    turn = max(1, 2 * (x.shape[-1] - 1))
    position = torch.arange(-before, x.shape[-1] + after) % turn
    return x[..., torch.minimum(position, turn - position)]


class Shifts:
    """The mean of several passes whose windows start at different offsets, which reduces errors that depend on that.

    Args:
        make: makes the `OverlapAdd` of one pass.
        shifts: passes besides the unshifted one.
        windows: as in `OverlapAdd`.
        hop: of the model's STFT, samples.

    Raises:
        InputError: `shifts` is negative.
    """

    def __init__(self, make: Callable[[], OverlapAdd], shifts: int, windows: Windows, hop: int) -> None:
        if shifts < 0:
            raise InputError(f"shifts must be at least 0, got {shifts}")
        passes = shifts + 1
        # Spread evenly over a stride and over a hop: an offset of whole hops would give the same frames again.
        self._offsets = [i * (windows.stride // passes) + i * hop // passes for i in range(passes)]
        self._passes = [make() for _ in range(passes)]
        self._drop = list(self._offsets)
        self._ready: list[list[Tensor]] = [[] for _ in range(passes)]
        self._started = False

    def push(self, block: Tensor) -> Iterator[Tensor]:
        """As `OverlapAdd.push`."""
        if len(self._passes) == 1:
            yield from self._passes[0].push(block)
            return
        for i, one in enumerate(self._passes):
            shifted = block if self._started or not self._offsets[i] else F.pad(block, (self._offsets[i], 0))
            self._collect(i, one.push(shifted))
        self._started = True
        yield from self._mean()

    def finish(self) -> Iterator[Tensor]:
        """As `OverlapAdd.finish`."""
        if len(self._passes) == 1:
            yield from self._passes[0].finish()
            return
        for i, one in enumerate(self._passes):
            self._collect(i, one.finish())
        yield from self._mean()

    def _collect(self, index: int, pieces: Iterator[Tensor]) -> None:
        for rows in pieces:
            kept = rows[..., self._drop[index] :]
            self._drop[index] -= rows.shape[-1] - kept.shape[-1]
            self._ready[index].append(kept)

    def _mean(self) -> Iterator[Tensor]:
        """The running mean `m + (x - m) / k`, which is exact where all passes agree."""
        count = min(sum(rows.shape[-1] for rows in ready) for ready in self._ready)
        if not count:
            return
        whole = [torch.cat(ready, -1) for ready in self._ready]
        self._ready = [[rows[..., count:]] for rows in whole]
        mean = whole[0][..., :count]
        for k, rows in enumerate(whole[1:], start=2):
            mean = mean + (rows[..., :count] - mean) / k
        yield mean
