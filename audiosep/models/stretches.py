"""A level of a U-Net computed in stretches of time, so that its full-resolution activations fit into the caches.

Layout: (batch, channels, frames, bins). A stretch comes with the frames of its neighbours that it depends on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

REACH = 2  # frames at each side that an output of two 3 x 3 convolutions depends on


@dataclass(frozen=True)
class Stretch:
    """Some frames of a level, with the neighbouring frames that their outputs depend on.

    Attributes:
        frames: (batch, channels, frames, bins), neighbouring frames included.
        start: index in the level of the first of them.
        before: neighbouring frames at the start; 0 where the level begins.
        after: neighbouring frames at the end; 0 where the level ends.
    """

    frames: Tensor
    start: int = 0
    before: int = 0
    after: int = 0

    @property
    def own(self) -> Tensor:
        """The frames without the neighbouring ones."""
        return self.frames[:, :, self.before : self.frames.shape[2] - self.after] if self.cut else self.frames

    @property
    def cut(self) -> bool:
        """Whether this is only a part of the level."""
        return self.before > 0 or self.after > 0

    def under(self, channels: Tensor) -> Stretch:
        """The stretch with further channels (batch, more, frames, bins) in front of its own."""
        if not self.cut:
            return replace(self, frames=torch.cat((channels, self.frames), 1))
        # Several times as fast as `torch.cat`, which joins runs of as many numbers as there are channels.
        batch, first, frames, bins = channels.shape
        size = (batch, first + self.frames.shape[1], frames, bins)
        both = torch.empty(size, dtype=channels.dtype, device=channels.device, memory_format=torch.channels_last)
        both[:, :first], both[:, first:] = channels, self.frames
        return replace(self, frames=both)

    def below(self, level: Tensor, pool: int) -> Tensor:
        """The frames of the next deeper level that these are upsampled from, `pool` of these from one of those."""
        return level[:, :, self.start // pool : (self.start + self.frames.shape[2]) // pool] if self.cut else level


def in_stretches(run: Callable[[Stretch, Tensor | None], Tensor], x: Tensor, length: int) -> Tensor:
    """Compute a level stretch by stretch.

    Args:
        run: computes the outputs of a stretch's own frames; its second argument is a view that they may be written to
            at once, or None.
        x: the level, (batch, channels, frames, bins).
        length: frames of a stretch, an even number, as levels below have one for two; 0 for all at once.
            The last one is a little longer or shorter.
    """
    frames = x.shape[2]
    cuts = [0, *range(length, max(length, frames - REACH), length)] if length else [0]
    if len(cuts) == 1:
        return run(Stretch(x), None)
    whole: Tensor | None = None
    for start, stop in zip(cuts, [*cuts[1:], frames], strict=True):
        first, last = max(0, start - REACH), min(frames, stop + REACH)
        stretch = Stretch(x[:, :, first:last], first, start - first, last - stop)
        out = None if whole is None else whole[:, :, start:stop]
        part = run(stretch, out)
        if whole is None:
            size = (*part.shape[:2], frames, part.shape[3])
            whole = torch.empty(size, dtype=part.dtype, device=part.device, memory_format=torch.channels_last)
        if part is not out:
            whole[:, :, start:stop] = part
    assert whole is not None
    return whole
