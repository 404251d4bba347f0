"""Words for the stems of songs: queries that a model's stems answer better than its words do."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping, Sequence

from audiosep.query.query import Query, unique_names

# "voice" and "speech" are not among them: they are wanted out of recordings that are no songs, too.
_WORDS = {
    "vocals": ("vocals", "vocal", "lead vocals", "singing", "singing voice", "singer", "acapella", "a cappella"),
    "drums": ("drums", "drum", "drum kit", "drum set", "drumkit"),
    "bass": ("bass", "bass guitar", "electric bass", "bassline", "bass line"),
}
# Instruments of songs that are neither voices, drums and percussion nor basses.
_INSTRUMENTS = frozenset(
    {
        *("piano", "grand piano", "upright piano", "electric piano", "keyboard", "keyboards", "harpsichord"),
        *("organ", "hammond organ", "church organ", "accordion", "harmonica", "synthesizer", "synth", "synth pad"),
        *("guitar", "acoustic guitar", "electric guitar", "lead guitar", "rhythm guitar", "steel guitar", "ukulele"),
        *("banjo", "mandolin", "harp", "sitar", "violin", "fiddle", "viola", "cello", "strings", "string section"),
        *("trumpet", "trombone", "french horn", "brass", "saxophone", "sax", "clarinet", "flute", "oboe", "bassoon"),
    }
)
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
    named = {stem.casefold(): stem for stem in stems if stem != "other"}
    return next((named[stem] for word in _spoken(text) if (stem := _STEM.get(word, word)) in named), None)


def holder_of(text: str, stems: Sequence[str]) -> str | None:
    """The stem that holds an instrument which is no stem itself.

    Args:
        text: the query; case, spaces, and articles before it do not matter.
        stems: that there are.

    Returns:
        "other", or a stem of the instrument's family, such as guitar; None for what may be in several stems or in none,
        such as a tambourine, a choir or a dog.

    >>> holder_of("the electric guitar", ["vocals", "drums", "bass", "other"])
    'other'
    >>> holder_of("electric guitar", ["vocals", "drums", "bass", "guitar", "piano", "other"])
    'guitar'
    """
    instrument = next((word for word in _spoken(text) if word in _INSTRUMENTS), None)
    if instrument is None:
        return None
    family = next((stem for stem in stems if stem in instrument.split()), "other")
    return family if family in stems else None


def stems_named(items: Sequence[Query], stem_names: Sequence[str], own: Container[str] = ()) -> dict[str, str]:
    """The stems that queries name, as "the vocals" or "bass guitar" do.

    Args:
        items: the queries.
        stem_names: of the model whose stems are meant.
        own: names of sounds of the user's own, which mean those.

    Returns:
        Name of each target that is a stem -> the stem; queries with negatives or spans are not among them.
    """
    return _by_text(items, own, lambda text: stem_of(text, stem_names))


def stems_holding(items: Sequence[Query], stem_names: Sequence[str], own: Container[str] = ()) -> dict[str, str]:
    """The stems that hold what queries name, as "other" holds a violin.

    Args:
        items: the queries.
        stem_names: of the model whose stems are meant.
        own: names of sounds of the user's own, which mean those.

    Returns:
        Name of each target that a stem holds and that is none -> the stem; queries with negatives are not among them.
    """
    held, named = _by_text(items, own, lambda text: holder_of(text, stem_names)), stems_named(items, stem_names, own)
    return {name: stem for name, stem in held.items() if name not in named}


def same_stem(items: Sequence[Query], stems: Mapping[str, str]) -> dict[str, str]:
    """Queries that name the stem of an earlier one, as "singing" does behind "vocals": one sound by two words.

    Args:
        items: the queries. Different names, which they were given, make different targets.
        stems: name of each target that a stem answers -> the stem.

    Returns:
        Name of each such target -> the name of the earlier one.
    """
    first: dict[tuple[str, str | None], str] = {}
    names = zip(unique_names([query.label for query in items]), items, strict=True)
    earlier = {name: first.setdefault((stems[name], query.name), name) for name, query in names if name in stems}
    return {name: before for name, before in earlier.items() if before != name}


def _by_text(items: Sequence[Query], own: Container[str], find: Callable[[str], str | None]) -> dict[str, str]:
    names = unique_names([query.label for query in items])
    found = {
        name: find(query.text)
        for name, query in zip(names, items, strict=True)
        if query.text is not None and not query.negatives and not query.anchored and query.text not in own
    }
    return {name: stem for name, stem in found.items() if stem is not None}


def _spoken(text: str) -> tuple[str, str]:
    """A query without the article before it, and with it."""
    words = re.sub(r"\s+", " ", text.strip().casefold())
    return re.sub(r"^(the|a|an) ", "", words), words
