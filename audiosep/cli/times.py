"""Times on the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence

from audiosep.errors import InputError


def seconds(text: str | float) -> float:
    """Seconds of a time such as 83.4, 1:23.4 or 1:02:03.

    Args:
        text: the time; a number stays as it is.

    >>> seconds("1:02:03.5")
    3723.5

    Raises:
        ValueError: it is no time.
    """
    if not isinstance(text, str):
        return float(text)
    if not re.fullmatch(r"(\d+:){0,2}(\d+(\.\d*)?|\.\d+)", text.strip()):
        raise ValueError(f"{text!r} is no time: write seconds, 1:23.4 or 1:02:03")
    total = 0.0
    for part in text.strip().split(":"):
        total = 60 * total + float(part)
    return total


def spans(texts: Sequence[str] | None, option: str) -> list[tuple[float, float]]:
    """Parts of a recording, each written as START-END.

    Args:
        texts: what was given.
        option: for messages.

    Raises:
        InputError: one that is no part, or ends before it begins.
    """
    return [_span(text, option) for text in texts or ()]


def _span(text: str, option: str) -> tuple[float, float]:
    parts = re.fullmatch(r"([^-–]+)[-–]([^-–]+)", text)
    try:
        if parts is None:
            raise ValueError(text)
        start, end = seconds(parts[1]), seconds(parts[2])
    except ValueError as error:
        raise InputError(f"{option}: {text!r} is no part: write START-END, as 3.2-4.1 or 1:02-1:04") from error
    if start >= end:
        raise InputError(f"{option}: {text!r} ends before it begins: write START-END, as 3.2-4.1 or 1:02-1:04")
    return start, end
