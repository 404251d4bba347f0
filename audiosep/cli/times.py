"""Times on the command line."""

from __future__ import annotations

import re


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
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d*)?", text.strip()):
        raise ValueError(f"{text!r} is no time: write seconds, 1:23.4 or 1:02:03")
    total = 0.0
    for part in text.strip().split(":"):
        total = 60 * total + float(part)
    return total
