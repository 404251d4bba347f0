"""Options that take one of several words, in any case."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from audiosep.errors import did_you_mean
from audiosep.inference.options import Engine

DEVICES = ("auto", "cpu", "cuda", "mps")


def choice(*known: str) -> Callable[[str], str]:
    """A parser of such an option.

    Args:
        known: the words, in lower case.

    Returns:
        Gives the word; ValueError for another one, with the word that it resembles.

    >>> choice("fast", "best")("Best")
    'best'
    """

    def parse(text: str) -> str:
        if text.lower() not in known:
            raise ValueError(f"{text!r} is none of {', '.join(known)}{did_you_mean(text, known)}")
        return text.lower()

    return parse


def device(text: str) -> str:
    """A device, in any case, perhaps with a number, as in cuda:1.

    Args:
        text: what was given; the names of engines go on to the message that explains them.

    Raises:
        ValueError: another word.
    """
    name, colon, number = text.partition(":")
    return text if text in get_args(Engine) else choice(*DEVICES)(name) + colon + number
