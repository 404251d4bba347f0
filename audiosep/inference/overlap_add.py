"""Long signals through a model that sees windows: context that is thrown away, cross-fades on what is trusted.

    window i      |  left  |            trusted            |  right  |
    window i + 1                                  |  left  |            trusted            |  right  |
    output        ......... window i .............|  fade  |........... window i + 1 ........

Near its edges a model hears too little to be right, so the first `left` and the last `right` samples of a window are
computed and dropped; neighbours overlap by `fade` trusted samples, over which the output goes from one to the other.
The first window is trusted from its first sample on and the last one to its last, as if the file were one window.

Windows start on a grid (multiples of the STFT hop and of the network's pooling), so that their frames are the frames of
the whole file. Where they start depends on the length alone: the size of the pushed blocks changes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from audiosep.errors import InputError

OVERLAP = 0.02  # of the trusted stretch; what neighbours share is computed twice


@dataclass(frozen=True)
class Windows:
    """How a signal is cut; all in samples.

    Attributes:
        size: of a window. left, right: context at each side. fade: trusted samples that neighbours share.
        grid: windows start at its multiples.
        lead: how far before the signal the first window starts, so that a live stream need not wait for a whole window
            to fill. Where there is no signal yet, it goes on mirrored.
        mirror: samples by which the newest end of a live window goes on mirrored: a frame that is cut off there would
            hold a click.
    """

    size: int
    left: int
    right: int
    fade: int
    grid: int = 1
    lead: int = 0
    mirror: int = 0

    def __post_init__(self) -> None:
        if min(self.size, self.grid, self.stride) < 1 or min(self.left, self.right, self.fade) < 0:
            raise InputError(f"windows must advance: {self} leaves a stride of {self.stride} samples")
        if self.stride % self.grid:
            raise InputError(f"windows must start on the grid: {self} has a stride of {self.stride} samples")

    @property
    def stride(self) -> int:
        """Samples from the start of a window to the start of the next."""
        return self.size - self.left - self.right - self.fade

    @property
    def latency(self) -> int:
        """Once n samples are in, n - latency are ready (batch of one)."""
        return self.size - 1 - min(self.left, self.lead)

    def span(self, index: int) -> tuple[int, int]:
        """First sample, and the one after the last, of the window `index`."""
        start = index * self.stride - self.lead
        return max(0, start), start + self.size

    @classmethod
    def plan(
        cls, size: int, context: int, *, hop: int, grid: int | None = None, overlap: float | None = None
    ) -> Windows:
        """Windows for whole recordings.

        Args:
            size, context: what the model asks for. hop: of its STFT. grid: of its pooling, a multiple of `hop`.
            overlap: part of the trusted stretch that neighbours share, 0 <= overlap < 1; None for the default. It is
                rounded up to the grid.
        """
        overlap = OVERLAP if overlap is None else overlap
        if not 0 <= overlap < 1:
            raise InputError(f"overlap must be at least 0 and below 1, got {overlap}")
        trusted = size - 2 * context
        stride, grid = _stride(round(trusted * (1 - overlap)), hop, grid or hop)
        return cls(size, context, context, trusted - stride, grid)

    @classmethod
    def live(cls, latency: int, past: int, *, size: int, context: int, hop: int, grid: int | None = None) -> Windows:
        """Windows for a live stream: some past, what is new, a short look ahead.

        A window costs the same however little of it is new, so three quarters of the latency are the stride. The rest
        is the look ahead and a short fade. Windows are as long from the start of the signal on.

        Args:
            latency: samples after which a sample must be ready; longer ones than a window allows are cut.
            past: samples of the past that each window hears again. Frames that the pooling would have to make up are
                filled with more of it.
            size, context, hop, grid: as in `plan`; no window is longer than `size`, none looks further than `context`.
        """
        past, mirror = max(past, hop), 4 * hop
        latency = min(latency, size - mirror - past)
        if latency < 3 * hop:
            raise InputError(f"this model needs a latency of at least {3 * hop} samples for its windows, got {latency}")
        stride = (latency - min(context, latency // 4)) // hop * hop
        fade = min(hop, latency // 12)
        part = latency % hop  # so that windows start on a hop and end with the newest sample
        whole = _ceil(past + latency - part + mirror + hop, grid or hop) - hop  # one frame more than hops
        left = min(whole, (size - part) // hop * hop) - mirror + part - latency
        return cls(left + latency, left, latency - stride - fade, fade, hop, lead=left, mirror=mirror)


Run = Callable[[Tensor], Tensor | Callable[[], Tensor]]


class OverlapAdd:
    """A stream through windows: push (channels, any) samples, get (rows, n) of what the model makes of them.

    Args:
        run: (windows, channels, samples) -> (windows, rows, samples), row by row aligned with its input. `samples` is
            `windows.size`, but for the last window, which ends with the signal and may be shorter. Where the
            computation goes on elsewhere, `run` gives a function that waits for the rows.
        windows: how the signal is cut.
        batch: windows that `run` gets at a time.
        ahead: batches that are under way while the next one is cut; their rows come that much later.
    """

    def __init__(self, run: Run, windows: Windows, *, batch: int = 1, ahead: int = 0) -> None:
        if batch < 1 or (windows.lead and batch > 1):
            raise InputError(f"batch must be at least 1, and 1 for live windows, got {batch}")
        self._run = run
        self._windows = windows
        self._batch = batch
        self._ahead = ahead
        self._under_way: deque[tuple[list[tuple[int, int]], Tensor | Callable[[], Tensor]]] = deque()
        self._blocks: list[Tensor] = []  # the input from sample `_start` on
        self._start = 0
        self._received = 0
        self._next = 0  # index of the next window
        self._done = 0  # samples given back
        self._last: Tensor | None = None  # rows of the last window from sample `_done` on

    def push(self, block: Tensor) -> Tensor | None:
        """Take (channels, any) samples; (rows, n) that became ready, None when there are none."""
        self._blocks.append(block)
        self._received += block.shape[-1]
        ready: list[Tensor] = []
        while self._received >= self._windows.span(self._next + self._batch - 1)[1]:
            ready += self._advance(self._next + self._batch)
        return torch.cat(ready, -1) if ready else None

    def finish(self) -> Tensor | None:
        """The rows that are left: with those of `push`, as many samples as went in."""
        w, n, ready = self._windows, self._received, list[Tensor]()
        upto = max(self._next, (n - w.size + w.lead) // w.stride + 1)
        if upto > self._next:
            ready += self._advance(upto)
        if n > (w.span(upto - 1)[1] if upto else 0):
            # The last window ends with the signal: padding would put silence where the model expects sound. It starts
            # where it would anyway, or earlier if that left it less than a third of a window to hear.
            least = w.size if w.lead else w.size // 3
            ready += self._begin([(min(w.span(upto)[0], max(0, _ceil(n - least, w.grid))), n)])
        ready += self._collect(0)
        if self._last is not None:
            ready.append(self._last)
            self._last = None
        return torch.cat(ready, -1) if ready else None

    def _advance(self, upto: int) -> list[Tensor]:
        """Run the windows before index `upto`."""
        spans = [self._windows.span(i) for i in range(self._next, upto)]
        self._next = upto
        return self._begin(spans)

    def _begin(self, spans: list[tuple[int, int]]) -> list[Tensor]:
        """Begin a batch; the rows that are ready."""
        w, signal = self._windows, torch.cat(self._blocks, -1)
        cut = torch.stack([signal[..., a - self._start : b - self._start] for a, b in spans])
        if w.lead:
            cut = mirrored(cut, w.size - cut.shape[-1], w.mirror)
        self._under_way.append((spans, self._run(cut)))
        # When the signal ends, its last window moves back, but never to before the window that ran last.
        keep = spans[-1][0]
        self._blocks, self._start = [signal[..., keep - self._start :].clone()], keep
        return self._collect(self._ahead)

    def _collect(self, leave: int) -> list[Tensor]:
        """The rows of all batches but the last `leave`, up to where the fade to the window after them begins."""
        ready = []
        while len(self._under_way) > leave:
            spans, rows = self._under_way.popleft()
            rows = rows() if callable(rows) else rows
            rows = rows[..., : rows.shape[-1] - self._windows.mirror]
            ready += [self._join(end, one) for (_, end), one in zip(spans, rows, strict=True)]
        return ready

    def _join(self, end: int, rows: Tensor) -> Tensor:
        """Fade from the last window to this one, which ends at `end`; give back what is final, keep the rest."""
        w = self._windows
        rows = rows[..., self._done - end :]
        if self._last is not None and w.fade:
            before = self._last[..., : w.fade]
            weight = (torch.arange(w.fade, dtype=rows.dtype, device=rows.device) + 0.5) / w.fade
            faded = before + weight * (rows[..., : w.fade] - before)
            rows = torch.cat([faded, rows[..., w.fade :]], -1)
        final = max(0, end - w.right - w.fade - self._done)
        ready, self._last = rows[..., :final], rows[..., final:].clone()
        self._done += ready.shape[-1]
        return ready


def mirrored(x: Tensor, before: int, after: int) -> Tensor:
    """`x` (..., samples) with this many samples at its ends in which it goes to and fro."""
    turn = max(1, 2 * (x.shape[-1] - 1))
    position = torch.arange(-before, x.shape[-1] + after) % turn
    return x[..., torch.minimum(position, turn - position)]


class Shifts:
    """The mean over passes that see the signal at different offsets, which evens out what depends on the window.

    Args:
        make: makes the `OverlapAdd` of one pass.
        shifts: passes besides the unshifted one.
        windows: as in `OverlapAdd`. hop: of the model's STFT.
    """

    def __init__(self, make: Callable[[], OverlapAdd], shifts: int, windows: Windows, hop: int) -> None:
        if shifts < 0:
            raise InputError(f"shifts must be at least 0, got {shifts}")
        passes = shifts + 1
        # Even parts of a stride, and of a hop: an offset of whole hops would give the same frames again.
        self._offsets = [i * (windows.stride // passes) + i * hop // passes for i in range(passes)]
        self._passes = [make() for _ in range(passes)]
        self._drop = list(self._offsets)
        self._ready: list[list[Tensor]] = [[] for _ in range(passes)]
        self._started = False

    def push(self, block: Tensor) -> Tensor | None:
        """As `OverlapAdd.push`."""
        for i, one in enumerate(self._passes):
            shifted = block if self._started or not self._offsets[i] else F.pad(block, (self._offsets[i], 0))
            self._collect(i, one.push(shifted))
        self._started = True
        return self._mean()

    def finish(self) -> Tensor | None:
        """As `OverlapAdd.finish`."""
        for i, one in enumerate(self._passes):
            self._collect(i, one.finish())
        return self._mean()

    def _collect(self, index: int, rows: Tensor | None) -> None:
        if rows is not None:
            kept = rows[..., self._drop[index] :]
            self._drop[index] -= rows.shape[-1] - kept.shape[-1]
            self._ready[index].append(kept)

    def _mean(self) -> Tensor | None:
        """The running mean `m + (x - m) / k`, which is exact where all passes agree."""
        count = min(sum(rows.shape[-1] for rows in ready) for ready in self._ready)
        if not count:
            return None
        whole = [torch.cat(ready, -1) for ready in self._ready]
        self._ready = [[rows[..., count:]] for rows in whole]
        mean = whole[0][..., :count]
        for k, rows in enumerate(whole[1:], start=2):
            mean = mean + (rows[..., :count] - mean) / k
        return mean


def _stride(at_most: int, hop: int, grid: int) -> tuple[int, int]:
    """The longest stride on the grid, and that grid; on the hop's grid when the windows are short."""
    grid = grid if at_most >= grid else hop
    return max(at_most // grid * grid, grid), grid


def _ceil(value: int, step: int) -> int:
    return -(-value // step) * step
