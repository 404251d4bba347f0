"""Texts that ask for what is left without a sound, which a text encoder takes for the sound itself."""

from __future__ import annotations

import re

from audiosep.errors import QueryError

_LEADING = re.compile(
    r"(?:please\s+)?"
    r"(?:no|not|non|without|minus|except(?: for)?|excluding|remov(?:e|ing)|delet(?:e|ing)|suppress(?:ing)?|eliminate"
    r"|get rid of|take out|filter out|cut out|leave out|drop(?= the )"
    r"|(?:every ?thing|all|any ?thing)(?: else)? (?:but|except(?: for)?|without|minus|other than|apart from)"
    r"|(?:the )?(?:rest|mix|song|track|recording|background|music)(?: \w+)? (?:without|minus))"
    r"\s+(?:any |all |the |a |an )*(?P<sound>\S.*)",
    re.IGNORECASE,
)
_TRAILING = re.compile(
    r"(?P<sound>.*\S)\s+(?:(?:is |are )?(?:removed|taken out|deleted|excluded)|(?:is|are) muted)", re.IGNORECASE
)


def sound_taken_out(text: str) -> str | None:
    """The sound that a text wants to be without.

    Args:
        text: of a query.

    Returns:
        The sound in words; None for a text that names a sound.

    >>> sound_taken_out("everything but the guitar")
    'guitar'
    >>> sound_taken_out("vocals removed")
    'vocals'
    """
    words = " ".join(text.split()).strip(" .!")
    found = _LEADING.fullmatch(words) or _TRAILING.fullmatch(words)
    return None if found is None else found["sound"]


def check(text: str) -> None:
    """Refuse a text that asks for what is left without a sound.

    Args:
        text: of a query.

    Raises:
        QueryError: it is one; the message has the call that does it.
    """
    sound = sound_taken_out(text)
    if sound is not None:
        raise QueryError(
            f"{text!r} asks for a recording without a sound, and would be answered with that sound: use "
            f'`audiosep remove FILE "{sound}"` or `separate(mix, "{sound}").residual`. To keep a sound out of another '
            f'one, use `--not "{sound}"` or `Query(..., negative="{sound}")`'
        )
