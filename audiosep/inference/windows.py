"""How a signal is cut into windows for a model.

    window i      |  left  |            trusted            |  right  |
    window i + 1                                  |  left  |            trusted            |  right  |
    output        ......... window i .............|  fade  |........... window i + 1 ........

Near the edges of a window a model has too little context to be right, so the first `left` and the last `right` samples
are computed and dropped; neighbours overlap by `fade` trusted samples, over which the output is cross-faded. The first
window is trusted from its first sample on and the last one to its last, as if the file were one window.

Windows start on a grid (multiples of the STFT hop and of the network's pooling), so that their frames are the frames of
the whole file. Where they start depends on the length of the signal alone, not on the size of the blocks it comes in.
"""

from __future__ import annotations

from dataclasses import dataclass

from audiosep.errors import InputError
from audiosep.inference.options import Options


@dataclass(frozen=True)
class Windows:
    """How a signal is cut; all in samples.

    Attributes:
        size: length of a window.
        left: context at its start, which is dropped.
        right: context at its end, which is dropped.
        fade: trusted samples that neighbours share.
        grid: windows start at multiples of it.
        lead: how far before the signal the first window starts, so that a live stream need not wait until a whole
            window is filled. The part before the signal is the mirror image of its beginning.
        mirror: samples by which a live window is extended at its newest end, with the mirror image of that end: a frame
            that is cut off there would hold a click.
        whole: whether the last window has the full length, too, where the signal has it; it may start off the grid.

    Raises:
        InputError: windows that do not advance, or not by multiples of the grid.
    """

    size: int
    left: int
    right: int
    fade: int
    grid: int = 1
    lead: int = 0
    mirror: int = 0
    whole: bool = False

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
        """Once n samples are in, n - latency are final (batch of one)."""
        return self.size - 1 - min(self.left, self.lead)

    def span(self, index: int) -> tuple[int, int]:
        """First sample, and the one after the last, of the window `index`."""
        start = index * self.stride - self.lead
        return max(0, start), start + self.size

    def last_span(self, index: int, samples: int) -> tuple[int, int]:
        """As `span`, for a last window that ends with the signal.

        It is not padded, because that would put silence where the model expects sound. It starts where it would anyway,
        or earlier if it had less than a third of a window then, or less than a whole one where that is wanted.

        Args:
            index: of the window.
            samples: length of the signal.
        """
        start = self.span(index)[0]
        if self.whole:  # off the grid, as a window of less would be padded
            return min(start, max(0, samples - self.size)), samples
        least = self.size if self.lead else self.size // 3
        return min(start, max(0, _ceil(samples - least, self.grid))), samples

    @classmethod
    def plan(
        cls,
        size: int,
        context: int,
        *,
        hop: int,
        grid: int | None = None,
        overlap: float = Options.overlap,
        whole: bool = False,
    ) -> Windows:
        """Windows for whole recordings.

        Args:
            size: the model's `window`.
            context: the model's `context`.
            hop: of its STFT.
            grid: of its pooling, a multiple of `hop`; None: `hop`.
            overlap: part of the trusted samples that neighbours share, 0 <= overlap < 1, rounded up to the grid; what
                they share is computed twice.
            whole: as of the class.

        Raises:
            InputError: `overlap` is out of range, or `size` leaves no trusted samples.
        """
        if not 0 <= overlap < 1:
            raise InputError(f"overlap must be at least 0 and below 1, got {overlap}")
        trusted = size - 2 * context
        stride, grid = _stride(round(trusted * (1 - overlap)), hop, grid or hop)
        return cls(size, context, context, trusted - stride, grid, whole=whole)

    @classmethod
    def live(cls, latency: int, past: int, *, size: int, context: int, hop: int, grid: int | None = None) -> Windows:
        """Windows for a live stream: the latest past, the new samples, a short look ahead.

        A window costs the same however few of its samples are new, so three quarters of the latency are the stride. The
        rest is the look ahead and a short fade. All windows have the same length, from the start of the signal on.

        Args:
            latency: samples after which a sample must be final; at most what a window allows is used.
            past: samples before the new ones in each window. Frames that the pooling would pad are filled with more.
            size: no window is longer.
            context: no window looks further ahead.
            hop: of the model's STFT.
            grid: of its pooling, a multiple of `hop`; None: `hop`.

        Raises:
            InputError: the latency is too short for the model.
        """
        past, mirror = max(past, hop), 4 * hop
        latency = min(latency, size - mirror - past)
        if latency < 3 * hop:
            raise InputError(f"this model needs a latency of at least {3 * hop} samples for its windows, got {latency}")
        stride = (latency - min(context, latency // 4)) // hop * hop
        fade = min(hop, latency // 12)
        part = latency % hop  # so that windows start on a hop and end with the newest sample
        whole = _ceil(past + latency - part + mirror + hop, grid or hop) - hop  # there is one frame more than hops
        left = min(whole, (size - part) // hop * hop) - mirror + part - latency
        return cls(left + latency, left, latency - stride - fade, fade, hop, lead=left, mirror=mirror)


def _stride(at_most: int, hop: int, grid: int) -> tuple[int, int]:
    """The longest stride on the grid, and that grid; on the hop's grid when the windows are short."""
    grid = grid if at_most >= grid else hop
    return max(at_most // grid * grid, grid), grid


def _ceil(value: int, step: int) -> int:
    return -(-value // step) * step
