"""What the listener of a model hears over time: windows of a second or more, heard one by one.

A tagger that was trained on whole recordings says little at single positions of its map, because its layers compare
each position with the recording. Heard by itself, a second is a short recording. On mixtures of held-back sounds that
tells where the sound is better than the map does (docs/describe.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiosep.models.refinement import Heard

Listen = Callable[[Tensor], Heard | None]
"""(windows, channels, samples) at the model's rate -> what is heard in each, on the CPU; None without a listener."""

WINDOW = 1.0  # seconds
NOTHING = -20.0  # score of a silent window
_SILENT = 1e-4  # peak
_BATCH = 8  # windows
# What the likeness to recordings counts beside the tags: chosen on held-back mixtures, of 5 to 40 (research/mini.md).
_LIKENESS = 16.0


class Scores(Protocol):
    """How clearly some sounds are heard.

    Attributes:
        count: of the sounds.
    """

    @property
    def count(self) -> int: ...

    def of(self, heard: Heard) -> Tensor:
        """(recordings, sounds) scores."""


@dataclass(frozen=True)
class TagScores:
    """How much the logits of a tagger say for some sounds.

    Attributes:
        weights: (sounds, tags).
        offsets: (sounds,), the score of a sound that is not there, before it is subtracted.
        classes: (sounds, most), tags that are the sound by their names, repeated where there are fewer; their highest
            logit counts as much as the weights do. None where no tag is meant.
    """

    weights: Tensor
    offsets: Tensor
    classes: Tensor | None = None

    @property
    def count(self) -> int:
        """See `Scores`."""
        return len(self.offsets)

    def of(self, heard: Heard) -> Tensor:
        """(recordings, sounds) scores; without `classes` about 0 for other sounds."""
        scores = heard.tags @ self.weights.T - self.offsets
        return scores if self.classes is None else 0.5 * (scores + heard.tags[..., self.classes].amax(-1))


@dataclass(frozen=True)
class SoundScores:
    """How much tags say for some sounds, and how alike recordings of them are.

    Attributes:
        tags: of the same sounds.
        recordings: (sounds, dimension), L2-normalised, what recordings of them were like.
        known: (labels, dimension), the same of all sounds that are known.
    """

    tags: TagScores
    recordings: Tensor
    known: Tensor

    @property
    def count(self) -> int:
        """See `Scores`."""
        return self.tags.count

    def of(self, heard: Heard) -> Tensor:
        """(recordings, sounds) scores: likeness counts less that of the known sound that is most alike."""
        most = (heard.embedding @ self.known.T).amax(-1, keepdim=True)
        return self.tags.of(heard) + _LIKENESS * (heard.embedding @ self.recordings.T - most)


class ScoreTrack:
    """Scores of sounds in a recording that arrives in blocks; value k is that of the window from k * hop on.

    Args:
        listen: of the model, which has a listener.
        scores: of the sounds.
        rate: of the model, Hz.
        hop: seconds between two values.
        window: seconds.
    """

    def __init__(self, listen: Listen, scores: Scores, rate: int, hop: float, window: float = WINDOW) -> None:
        self._listen, self._scores = listen, scores
        self._size, self._hop, self._least = round(window * rate), round(hop * rate), round(WINDOW * rate)
        self._waiting: list[NDArray[np.float32]] = []
        self._length = 0
        self._given = 0

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take a block.

        Args:
            samples: (channels, n) at the model's rate.

        Returns:
            (values, sounds), those that are known now.
        """
        self._waiting.append(samples)
        self._length += samples.shape[1]
        count = (self._length - self._size) // self._hop + 1
        if count < _BATCH:
            return self._empty()
        return self._take(count)

    def finish(self) -> NDArray[np.float32]:
        """End the recording.

        Returns:
            (values, sounds), the rest; the last window ends with the recording and may be shorter. A recording of less
            than a second is repeated to a second.
        """
        if not self._given and 0 < self._length < self._size:
            whole = np.concatenate(self._waiting, 1)
            self._size = max(self._length, self._least)
            self._waiting = [np.tile(whole, -(-self._size // self._length))[:, : self._size]]
            self._length = self._size
        count = (self._length - self._size) // self._hop + 1
        values = self._take(count) if count > 0 else self._empty()
        if not self._given or self._length <= self._size - self._hop:  # all is heard
            return values
        self._size = self._length
        return np.concatenate([values, self._take(1)])

    def _take(self, count: int) -> NDArray[np.float32]:
        whole = torch.from_numpy(np.concatenate(self._waiting, 1))
        windows = whole.unfold(1, self._size, self._hop)[:, :count].transpose(0, 1)
        self._waiting = [whole[:, count * self._hop :].numpy().copy()]
        self._length -= count * self._hop
        self._given += count
        values = torch.full((count, self._scores.count), NOTHING)
        loudest = torch.maximum(windows.amax((1, 2)), -windows.amin((1, 2)))  # without a copy of what windows share
        sounding = torch.nonzero(loudest > _SILENT)[:, 0]
        for some in sounding.split(_BATCH) if len(sounding) else ():
            heard = self._listen(windows[some])
            assert heard is not None  # there are scores of what it hears
            values[some] = self._scores.of(heard)
        return values.numpy()

    def _empty(self) -> NDArray[np.float32]:
        return np.zeros((0, self._scores.count), np.float32)


def at_frames(values: NDArray[np.float32], hop: float, frames: int, step: float) -> NDArray[np.float32]:
    """Values of a `ScoreTrack` at the frames of another curve, by linear interpolation.

    Args:
        values: (values,).
        hop: seconds between two of them.
        frames: their number.
        step: seconds between two frames.
    """
    centres = np.arange(len(values)) * hop + WINDOW / 2
    found: NDArray[np.float32] = np.interp((np.arange(frames) + 0.5) * step, centres, values).astype(np.float32)
    return found
