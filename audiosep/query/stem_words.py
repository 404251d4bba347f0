"""Words for the stems of songs: queries that a model's stems answer better than its words do."""

from __future__ import annotations

import re

# "voice" and "speech" are not among them: they are wanted out of recordings that are no songs, too.
_WORDS = {
    "vocals": ("vocals", "vocal", "lead vocals", "singing", "singing voice", "singer", "acapella", "a cappella"),
    "drums": ("drums", "drum", "drum kit", "drum set", "drumkit"),
    "bass": ("bass", "bass guitar", "electric bass", "bassline", "bass line"),
}
_STEM = {word: stem for stem, words in _WORDS.items() for word in words}


def stem_of(text: str) -> str | None:
    """The stem that a query names.

    Args:
        text: the query; case, spaces, and articles before it do not matter.

    Returns:
        vocals, drums or bass; None for another sound.

    >>> stem_of("The singing voice")
    'vocals'
    """
    words = re.sub(r"\s+", " ", text.strip().casefold())
    return _STEM.get(re.sub(r"^(the|a|an) ", "", words), _STEM.get(words))
