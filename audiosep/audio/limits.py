"""Limits of recordings: channels, sample rates, durations."""

from __future__ import annotations

import math
from numbers import Integral, Real

from audiosep.errors import InputError

MAX_CHANNELS = 8
MIN_RATE = 4_000
MAX_RATE = 192_000
# Longer than most recordings that are separated at once, shorter than what a damaged header states or an endless pipe
# brings; for longer ones there is `max_seconds`.
MAX_SECONDS = 12 * 3600.0


def check_rate(sample_rate: float) -> int:
    """Check a sample rate.

    Args:
        sample_rate: Hz.

    Returns:
        It, as an int.

    Raises:
        InputError: not a whole number of Hz from 4,000 to 192,000.
    """
    # The range first: NaN is in none, and has no int.
    if not isinstance(sample_rate, Real) or not MIN_RATE <= sample_rate <= MAX_RATE or sample_rate != int(sample_rate):
        raise InputError(
            f"the sample rate must be a whole number from {MIN_RATE} to {MAX_RATE} Hz, got {sample_rate!r}: "
            "choose another one, or resample the recording first, for example with `ffmpeg -i in -ar 48000 out.wav`"
        )
    return int(sample_rate)


def check_channels(channels: int) -> int:
    """Check a number of channels.

    Args:
        channels: the number.

    Returns:
        It.

    Raises:
        InputError: not from 1 to 8.
    """
    if not isinstance(channels, Integral) or not 1 <= channels <= MAX_CHANNELS:
        raise InputError(
            f"a recording must have 1 to {MAX_CHANNELS} channels, got {channels!r}: pick or mix channels first, "
            "for example with `ffmpeg -i in -ac 2 out.wav`"
        )
    return channels


def check_duration(seconds: float, max_seconds: float | None) -> None:
    """Refuse a recording that is longer than the caller allows.

    Args:
        seconds: duration.
        max_seconds: limit in seconds; None: no limit.

    Raises:
        InputError: too long.
    """
    if max_seconds is not None and seconds > max_seconds:
        raise InputError(
            f"the recording lasts at least {seconds:.0f} s, more than the limit of {max_seconds:g} s: "
            "raise max_seconds if that is right, or cut the recording"
        )


def check_part(start: float, end: float | None) -> None:
    """Refuse a part of a recording that cannot be.

    Args:
        start: seconds of the recording to leave out at its start.
        end: where the part ends, in seconds of the recording; None: at its end.

    Raises:
        InputError: no number of seconds, or the end does not lie behind the start.
    """
    for name, value in (("start", start), ("end", end)):
        if value is not None and (not isinstance(value, Real) or not 0 <= value < math.inf):
            raise InputError(f"{name} must be a number of seconds of at least 0, got {value!r}")
    if end is not None and end <= start:
        raise InputError(f"end must lie behind the start ({start:g} s), got {end:g} s")
