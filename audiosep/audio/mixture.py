"""A recording to separate, in memory: read from a file, or given as an array."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from audiosep.audio.arrays import as_array
from audiosep.audio.decode import AudioReader
from audiosep.audio.info import AudioInfo
from audiosep.audio.inputs import is_file, is_opened
from audiosep.audio.limits import check_rate
from audiosep.audio.samples import Array
from audiosep.audio.spool import name_of, needs_spool
from audiosep.errors import InputError


@dataclass(frozen=True)
class Mixture:
    """A recording in memory, whether it came from a file or was given as an array.

    Attributes:
        samples: (channels, samples) float32.
        sample_rate: Hz.
        restore: turns (..., channels, samples) into the kind and shape of array that was given.
        file: stem of the file's name; "audio" for arrays, and opened files without a name.
        info: what is known about the file; None for arrays.
        fingerprint: of what was read (`audio.marker`), where it can be read only once: at the path that a pipe or an
            opened file states another file may lie. None for others.
    """

    samples: Array
    sample_rate: int
    restore: Callable[[Array], Any]
    file: str = "audio"
    info: AudioInfo | None = None
    fingerprint: str | None = None


def load_mixture(mix: Any, sample_rate: int | None, track: int | str | None = None) -> Mixture:
    """Read a file, or check an array.

    Args:
        mix: a path ("-" for standard input), an opened file, the bytes of a file, or a numpy array or torch tensor
            (samples,) or (channels, samples).
        sample_rate: Hz, of an array; a file has its own.
        track: number, language or name of an audio track of a file; None: the default one.

    Raises:
        InputError: several recordings, a file with a sample rate, an array without one, of an impossible shape, without
            samples, or with NaN or infinity.
        AudioError: a file that cannot be read.
    """
    if isinstance(mix, list | tuple) and mix and isinstance(mix[0], str | Path):
        raise InputError(
            f"one recording at a time, got {len(mix)} paths: call it for each of them, or write files with "
            "Separator.separate_files([...], queries, folder)"
        )
    if is_file(mix):
        if sample_rate is not None:
            raise InputError(f"sample_rate is for arrays, and {name_of(mix)} says its own: leave it out")
        with AudioReader(mix, track=track) as reader:
            samples = np.concatenate(list(reader), axis=1)
            fingerprint = reader.fingerprint if needs_spool(mix) else None
            info = replace(reader.info, cover=reader.cover, chapters=reader.chapters, broadcast=reader.broadcast)
        nameless = "audio" if is_opened(mix) else "stdin"
        file = nameless if str(info.path) == "-" else info.path.stem
        return Mixture(samples, info.sample_rate, lambda array: array, file, info, fingerprint)
    if track is not None:
        raise InputError("track is for files with several audio tracks, and this is an array: leave it out")
    if sample_rate is None:
        raise InputError("an array does not say its sample rate: pass sample_rate=44100, or whatever it is")
    samples, restore = as_array(mix, copy=True)
    return Mixture(samples, check_rate(sample_rate), restore)
