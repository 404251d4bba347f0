"""Several streams of one mixture as one: each target comes from the stream that answers it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from audiosep.audio.arrays import AnyArray, as_array
from audiosep.hearing.activity import Activity
from audiosep.inference.explanation import Explanation
from audiosep.inference.stream import Queue, Samples, Stream


class RoutedStream:
    """Targets of a mixture that arrives in blocks, from several models.

    Args:
        parts: streams of the same mixture, each with the targets that are wanted of it: name here -> name there.
        names: of the targets, in the order in which they are given back.

    Attributes:
        names: as above.
        sample_rate: of the mixture, Hz.
        channels: of the mixture.
        latency: once n samples are in, at least n - latency are out.
        received: samples that are in.
        returned: samples that are out.
        mix: (channels, n), the stretch of the mixture that the last returned targets belong to, of their kind of array.
    """

    def __init__(self, parts: Sequence[tuple[Stream, Mapping[str, str]]], names: Sequence[str]) -> None:
        self._parts = [(stream, dict(wanted), Queue()) for stream, wanted in parts]
        first = parts[0][0]
        self.names = tuple(names)
        self.sample_rate, self.channels = first.sample_rate, first.channels
        self.latency = max(stream.latency for stream, _ in parts)
        self.received = self.returned = 0
        self._waiting = Queue()
        nothing = np.zeros((self.channels, 1), np.float32)
        self.mix: Any = nothing[:, :0]
        self._restore = as_array(nothing)[1]

    @property
    def presence(self) -> dict[str, float] | None:
        """As of `Stream`, of the targets whose models say it; None when none does."""
        found = {here: part.presence[there] for part, wanted, _ in self._parts if part.presence
                 for here, there in wanted.items()}  # fmt: skip
        return {name: found[name] for name in self.names if name in found} or None

    @property
    def explanation(self) -> dict[str, Explanation]:
        """As of `Stream`."""
        found = {here: part.explanation.get(there) for part, wanted, _ in self._parts for here, there in wanted.items()}
        return {name: answer for name in self.names if (answer := found[name]) is not None}

    @property
    def activity(self) -> dict[str, Activity]:
        """As of `Stream`."""
        found = {here: part.activity.get(there) for part, wanted, _ in self._parts for here, there in wanted.items()}
        return {name: activity for name in self.names if (activity := found[name]) is not None}

    def push(self, block: AnyArray) -> AnyArray:
        """Take a block, give back what is ready, as `Stream.push`."""
        mix, self._restore = as_array(block, empty=True)
        rows = [part.push(mix) for part, _, _ in self._parts]  # refuses what is no block of this mixture
        self.received += mix.shape[1]
        self._waiting.append(mix.copy())
        targets: AnyArray = self._take(rows)
        return targets

    def finish(self) -> Any:
        """End the mixture and give back all that is left, as `Stream.finish`."""
        return self._take([part.finish() for part, _, _ in self._parts])

    def _take(self, rows: Sequence[Any]) -> Any:
        """Samples of all targets as far as every part has come."""
        for (part, wanted, ready), block in zip(self._parts, rows, strict=True):
            chosen = np.asarray(block)[[part.names.index(name) for name in wanted.values()]]
            ready.append(chosen.reshape(len(wanted) * self.channels, chosen.shape[-1]))
        count = min(len(ready) for _, _, ready in self._parts)
        self.returned += count
        found: dict[str, Samples] = {}
        for _, wanted, ready in self._parts:
            found |= zip(wanted, ready.take(count).reshape(len(wanted), self.channels, count), strict=True)
        self.mix = self._restore(self._waiting.take(count))
        return self._restore(np.stack([found[name] for name in self.names]))


AnyStream = Stream | RoutedStream
"""What a recording is pushed through."""
