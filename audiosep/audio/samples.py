"""Samples of recordings: their type, and the check that they are finite."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from audiosep.errors import InputError

Array = npt.NDArray[np.float32]


def check_finite(block: Array, *, offset: int = 0, sample_rate: int | None = None) -> None:
    """Refuse NaN and infinity, which would spread over a window of the model and become full-scale clicks in PCM.

    Args:
        block: (channels, samples).
        offset: position in the recording of the first sample of `block`.
        sample_rate: Hz; with it the message has the position in seconds too.

    Raises:
        InputError: the message names the first bad sample.
    """
    finite = np.isfinite(block)
    if finite.all():
        return
    sample = int(np.argmin(finite.all(axis=0)))
    channel = int(np.argmin(finite[:, sample]))
    where = f"sample {offset + sample}" + (f" ({(offset + sample) / sample_rate:.3f} s)" if sample_rate else "")
    raise InputError(
        f"the audio holds {block[channel, sample]} at {where}, channel {channel + 1}: export it again, "
        "or replace such samples first, for example with numpy.nan_to_num"
    )
