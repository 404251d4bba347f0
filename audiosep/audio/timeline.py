"""Where the sound of a container belongs: silence in front of a late start and in gaps, by the time stamps.

A player starts sound at the time stamp that it has in the container, and leaves out nothing between frames. Without
that silence the outputs would be early under the picture.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from audiosep.errors import counted

logger = logging.getLogger(__name__)

_ROUNDING = 0.0015  # seconds, of the two time stamps of a difference: Matroska has milliseconds
_TOLD = 0.01  # seconds, a quarter of a picture
GAP = 0.04
"""Seconds by which sound may be late before that counts as a gap: EBU R 37 allows as much."""
# Beyond this, ffmpeg takes a leap of the time stamps for a new start, as in joined broadcasts (dts_delta_threshold).
_LEAP = 10.0


class Timeline:
    """The silence that is missing in front of each frame, in samples.

    Args:
        name: what messages call the file.
        rate: Hz.
        zero: time stamp in seconds at which the picture starts, else other tracks; None: there are no others.
        stated: duration that the container states, in seconds; None: none.
    """

    def __init__(self, name: str, rate: int, zero: float | None, stated: float | None) -> None:
        self._name, self._rate, self._zero, self._stated = name, rate, zero, stated
        self._started = self._leapt = False
        self._gaps: list[tuple[float, float]] = []

    def silence(self, time: float | None, position: int) -> int:
        """How many samples of silence bring a frame to its place.

        Args:
            time: stamp of the frame in seconds; None: it has none, and follows the frame before it.
            position: samples of the file so far, silence included.
        """
        if time is None:
            return 0
        if not self._started:
            return self._start(time - position / self._rate, first=position == 0)
        assert self._zero is not None
        late = time - self._zero - position / self._rate
        if abs(late) <= GAP:
            return 0
        end = position / self._rate + late
        if (late > _LEAP and (self._stated is None or end > self._stated)) or late < -1:
            if not self._leapt:
                where = end - late
                logger.warning(
                    "%s: its time stamps leap by %.2f s at %.2f s: its parts are joined", self._name, late, where
                )
            self._leapt = True
            self._zero += late
            return 0
        if late > 0:
            self._gaps.append((end - late, late))
        return max(0, round(late * self._rate))

    def _start(self, time: float, *, first: bool) -> int:
        self._started = True
        late = 0.0 if self._zero is None or not first else lateness(time - self._zero, self._stated)
        self._zero = time - late
        report_start(self._name, late)
        return round(late * self._rate)

    def close(self) -> None:
        """Say which gaps there were."""
        report_gaps(self._name, self._gaps)
        self._gaps = []


def lateness(seconds: float, stated: float | None) -> float:
    """How much silence a start needs that is so many seconds after that of the picture.

    Args:
        seconds: may be negative.
        stated: as in `Timeline`.
    """
    believed = seconds <= _LEAP or (stated is not None and seconds <= stated)
    return seconds if seconds > _ROUNDING and believed else 0.0


def report_start(name: str, late: float) -> None:
    """Say that silence of so many seconds is put in front of the sound, if anybody could hear that."""
    if late > _TOLD:
        logger.warning("%s: its sound starts %.2f s after the picture: silence fills that", name, late)


def report_gaps(name: str, gaps: Sequence[tuple[float, float]]) -> None:
    """Say that gaps are filled.

    Args:
        name: what messages call the file.
        gaps: where each of them starts, and its duration, in seconds.
    """
    if gaps:
        logger.warning(
            "%s: its sound has %s of %.2f s in all, the first at %.2f s, filled with silence",
            name,
            counted(len(gaps), "gap"),
            sum(duration for _, duration in gaps),
            gaps[0][0],
        )


def find_gaps(
    packets: Iterable[tuple[float, float]], start: float, stated: float | None
) -> tuple[list[tuple[float, float]], float]:
    """The gaps between packets, where a decoder cannot be asked for its frames.

    Args:
        packets: time stamp and duration of each, in seconds.
        start: time stamp of the sound, in seconds.
        stated: duration that the container states, in seconds; None: none.

    Returns:
        gaps: where each starts, and its duration, in seconds from the start; none where packets overlap, because what
            would fill the gaps would also cut there.
        end: of the last packet, in seconds from the start.
    """
    gaps: list[tuple[float, float]] = []
    overlap, end = False, None
    for time, duration in packets:
        late = 0.0 if end is None else time - end
        overlap |= late < -GAP
        if late > GAP and (late <= _LEAP or (stated is not None and time - start <= stated)):
            gaps.append((time - late - start, late))
        end = time + duration
    return ([] if overlap else gaps), (0.0 if end is None else end - start)
