"""Several streams of one mixture as one: each target comes from the stream that answers it.

The input of a stream is the mixture, or a target of a stream before it: a query can be separated from a specialist's
stem.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from audiosep.audio.arrays import AnyArray, as_array
from audiosep.audio.samples import Array
from audiosep.hearing.activity import Activity
from audiosep.inference.explanation import Explanation
from audiosep.inference.stream import Queue, Stream

T = TypeVar("T")


@dataclass
class Part:
    """A stream of a routed stream.

    Attributes:
        stream: of the rate and channels of the mixture.
        wanted: its targets that are given back: name here -> its name of it.
        source: the stream before it and the target that it hears; None for the mixture.
    """

    stream: Stream
    wanted: Mapping[str, str]
    source: tuple[Part, str] | None = None
    _ready: Queue = field(default_factory=Queue, init=False, repr=False)
    _block: Any = field(default=None, init=False, repr=False)

    @property
    def latency(self) -> int:
        """Samples, with those of the streams before it."""
        return self.stream.latency + (self.source[0].latency if self.source else 0)

    def push(self, mix: Array) -> None:
        """Take a block of the mixture."""
        self._keep(self.stream.push(self._heard(mix)))

    def finish(self) -> None:
        """End the mixture."""
        rest = [] if self.source is None else [self.stream.push(self._heard(np.zeros((0, 0), np.float32)))]
        self._keep(np.concatenate([*rest, self.stream.finish()], -1))

    def _heard(self, mix: Array) -> Array:
        if self.source is None:
            return mix
        before, target = self.source
        block: Array = before._block[before.stream.names.index(target)]
        return block

    def _keep(self, block: Array) -> None:
        self._block = block
        rows = block[[self.stream.names.index(name) for name in self.wanted.values()]]
        self._ready.append(rows.reshape(len(rows) * self.stream.channels, block.shape[-1]))

    @property
    def ready(self) -> int:
        """Samples of its targets that are waiting."""
        return len(self._ready)

    def take(self, count: int) -> dict[str, Array]:
        """Name here -> (channels, count), the next samples of its targets."""
        rows = self._ready.take(count).reshape(len(self.wanted), self.stream.channels, count)
        return dict(zip(self.wanted, rows, strict=True))


class RoutedStream:
    """Targets of a mixture that arrives in blocks, from several models.

    Args:
        parts: their streams; one that another hears is before it.
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

    def __init__(self, parts: Sequence[Part], names: Sequence[str]) -> None:
        self._parts = list(parts)
        self.names = tuple(names)
        self.sample_rate, self.channels = parts[0].stream.sample_rate, parts[0].stream.channels
        self.latency = max(part.latency for part in parts)
        self.received = self.returned = 0
        self._waiting = Queue()
        nothing = np.zeros((self.channels, 1), np.float32)
        self.mix: Any = nothing[:, :0]
        self._restore = as_array(nothing)[1]

    @property
    def presence(self) -> dict[str, float] | None:
        """As of `Stream`, of the targets whose models say it; None when none does."""
        return self._gathered(lambda stream: stream.presence or {}) or None

    @property
    def explanation(self) -> dict[str, Explanation]:
        """As of `Stream`."""
        return self._gathered(lambda stream: stream.explanation)

    @property
    def activity(self) -> dict[str, Activity]:
        """As of `Stream`."""
        return self._gathered(lambda stream: stream.activity)

    def _gathered(self, said: Callable[[Stream], Mapping[str, T]]) -> dict[str, T]:
        """What the streams say of the targets that they answer, in the order of `names`."""
        found: dict[str, T] = {}
        for part in self._parts:
            known = said(part.stream)
            found |= {here: known[there] for here, there in part.wanted.items() if there in known}
        return {name: found[name] for name in self.names if name in found}

    def push(self, block: AnyArray) -> AnyArray:
        """Take a block, give back what is ready, as `Stream.push`."""
        mix, self._restore = as_array(block, empty=True)
        for part in self._parts:  # they refuse what is no block of this mixture
            part.push(mix)
        self.received += mix.shape[1]
        self._waiting.append(mix.copy())
        targets: AnyArray = self._take()
        return targets

    def finish(self) -> Any:
        """End the mixture and give back all that is left, as `Stream.finish`."""
        for part in self._parts:
            part.finish()
        return self._take()

    def pieces(self, block: AnyArray | None) -> Iterator[Any]:
        """As `Stream.pieces`, in a single piece."""
        yield self.finish() if block is None else self.push(block)

    def _take(self) -> Any:
        """Samples of all targets as far as every part has come."""
        count = min(part.ready for part in self._parts if part.wanted)
        self.returned += count
        found: dict[str, Array] = {}
        for part in self._parts:
            if part.wanted:
                found |= part.take(count)
        self.mix = self._restore(self._waiting.take(count))
        return self._restore(np.stack([found[name] for name in self.names]))


AnyStream = Stream | RoutedStream
"""What a recording is pushed through."""
