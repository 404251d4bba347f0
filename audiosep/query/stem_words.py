"""Words for the stems of songs: queries that a model's stems answer better than its words do."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence

from audiosep.query.query import Query, unique_names

# "voice" and "speech" are not among them: they are wanted out of recordings that are no songs, too.
_WORDS = {
    "vocals": ("vocals", "vocal", "lead vocals", "singing", "singing voice", "singer", "acapella", "a cappella"),
    "drums": ("drums", "drum", "drum kit", "drum set", "drumkit"),
    "bass": ("bass", "bass guitar", "electric bass", "bassline", "bass line"),
}
_STEM = {word: stem for stem, words in _WORDS.items() for word in words}


def stem_of(text: str, stems: Sequence[str] = tuple(_WORDS)) -> str | None:
    """The stem that a query names.

    Args:
        text: the query; case, spaces, and articles before it do not matter.
        stems: that there are; those without other words, such as guitar, are named by their own name.

    Returns:
        One of `stems`; None for another sound, and for "other", which names none.

    >>> stem_of("The singing voice")
    'vocals'
    >>> stem_of("a piano"), stem_of("a piano", ["guitar", "piano"])
    (None, 'piano')
    """
    words = re.sub(r"\s+", " ", text.strip().casefold())
    spoken = (re.sub(r"^(the|a|an) ", "", words), words)
    named = {stem.casefold(): stem for stem in stems if stem != "other"}
    return next((named[stem] for word in spoken if (stem := _STEM.get(word, word)) in named), None)


def stems_named(items: Sequence[Query], stem_names: Sequence[str], own: Container[str] = ()) -> dict[str, str]:
    """The stems that queries name, as "the vocals" or "bass guitar" do.

    Args:
        items: the queries.
        stem_names: of the model whose stems are meant.
        own: names of sounds of the user's own, which mean those.

    Returns:
        Name of each target that is a stem -> the stem; queries with negatives or spans are not among them.
    """
    names = unique_names([query.label for query in items])
    found = {
        name: stem_of(query.text, stem_names)
        for name, query in zip(names, items, strict=True)
        if query.text is not None and not query.negatives and not query.anchored and query.text not in own
    }
    return {name: stem for name, stem in found.items() if stem is not None}
