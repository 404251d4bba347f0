"""What callers are told while something is computed, and how they cancel it."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[float], object]
"""Called with the fraction that is done, 0 to 1; returning False cancels."""


def says_stop(answer: object) -> bool:
    """Whether what a `Progress` returned cancels: False, also that of numpy, which comparisons of its numbers give.

    Args:
        answer: what it returned.
    """
    return type(answer).__name__ in ("bool", "bool_") and not answer
