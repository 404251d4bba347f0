"""What a case separates: a recording, and the true sounds in it where they are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audiosep import metrics
from audiosep.audio import is_recording, read_audio
from audiosep.errors import InputError, counted

_MIXTURES = ("mix", "mixture")


@dataclass(frozen=True)
class BenchRecording:
    """A file, and the true sounds in it.

    Attributes:
        path: of the mixture.
        references: name of a target -> the file with that sound alone; empty where none is known.
    """

    path: Path
    references: dict[str, Path] = field(default_factory=dict)


def find_recording(place: Path) -> BenchRecording:
    """The recording that a path of the command line names.

    Args:
        place: a file, or a folder with `mix.wav` or `mixture.wav` and the true sounds beside it, each in a file that
            has the name of the target (`vocals.wav`, `dog barking.flac`).

    Raises:
        InputError: a folder without exactly one mixture, or without anything beside it.
    """
    if not place.is_dir():
        return BenchRecording(place)
    files = sorted(path for path in place.iterdir() if is_recording(path))
    mixtures = [path for path in files if path.stem in _MIXTURES]
    if len(mixtures) != 1 or len(files) < 2:
        raise InputError(
            f"{place}: a folder must hold one mix.wav or mixture.wav and the true sounds beside it, such as vocals.wav "
            f"(any format); there are {counted(len(mixtures), 'mixture')} and "
            f"{counted(len(files) - len(mixtures), 'other recording')}"
        )
    return BenchRecording(mixtures[0], {path.stem: path for path in files if path not in mixtures})


def scores(
    targets: Mapping[str, Any], sample_rate: int, references: Mapping[str, Path], system: str = "the model"
) -> dict[str, float]:
    """SI-SDR of targets, one scale for all channels, as in `audiosep evaluate`.

    Args:
        targets: name -> (channels, samples).
        sample_rate: of them, Hz.
        references: name -> file of the true sound.
        system: that separated them, for messages.

    Returns:
        Name -> dB, for the targets that have a reference which is not silent.

    Raises:
        InputError: a reference has another length, rate or number of channels than the targets, or a target is not
            finite.
    """
    found = {}
    for name in targets.keys() & references.keys():
        estimate = np.asarray(targets[name], np.float32)
        true, rate = read_audio(references[name])
        if (rate, true.shape) != (sample_rate, estimate.shape):
            raise InputError(
                f"{references[name]} has {_shape(true, rate)}, and the separated {name!r} has "
                f"{_shape(estimate, sample_rate)}: give the true sound in the mixture's length, rate and channels"
            )
        if not np.isfinite(estimate).all():
            raise InputError(f"{system} gives NaN or infinity for {name!r}: mend it, or leave it out")
        ratio = float(metrics.si_sdr(torch.from_numpy(estimate.ravel()), torch.from_numpy(true.ravel())))
        if not np.isnan(ratio):
            found[name] = ratio
    return dict(sorted(found.items()))


def _shape(samples: np.ndarray[Any, Any], rate: int) -> str:
    return f"{' x '.join(map(str, samples.shape))} samples at {rate} Hz"
