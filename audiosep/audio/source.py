"""The interface of the three decoders, and what they share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from audiosep.audio.info import AudioInfo
from audiosep.audio.samples import Array


class Unreadable(Exception):
    """This decoder cannot read this file, or not to its end; another one may be able to."""


class Source(Protocol):
    """One opened file.

    Attributes:
        info: what is known of it.
        name: what messages call the file; its path unless the caller has another name for it.
        stated: seconds of sound that the file states where `info.samples` does not say it; None: it states none. A
            decoder that gives less has lost something.
        cut: a part of the file itself is missing, so that no other decoder finds more.
    """

    info: AudioInfo
    name: str
    stated: float | None
    cut: bool

    def seek(self, sample: int) -> int:
        """Go to a sample before anything is read; returns where the decoder stands: 0 if it cannot seek.

        Args:
            sample: where to go; beyond the end: to the end.
        """

    def blocks(self) -> Iterator[Array]:
        """The samples from where the decoder stands, float32 (channels, any number of samples).

        Raises:
            Unreadable: this decoder cannot go on.
        """

    def close(self) -> None:
        """Release the file."""


def pcm_to_float(samples: np.ndarray[Any, Any]) -> Array:
    """Samples of any PCM type as float32, full scale 1.0, in C order."""
    if samples.dtype == np.uint8:
        scaled = (samples.astype(np.float32) - 128) / 128
    elif np.issubdtype(samples.dtype, np.integer):
        scaled = samples / (np.iinfo(samples.dtype).max + 1.0)
    else:
        scaled = samples
    # Finite beyond float32 becomes infinite here, and is refused as such.
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(scaled, dtype=np.float32)
