"""What pages ask for, in requests of JSON that are checked here."""

from __future__ import annotations

from collections.abc import Mapping

from audiosep.errors import InputError
from audiosep.query.query import Query

_MOST_SPANS = 32
_LONGEST_TEXT = 500

Message = Mapping[str, object]


def query_of(wanted: Message) -> Query | None:
    """The query of a request.

    Args:
        wanted: of the request, as for `Work.separate`.

    Returns:
        The query; None where neither words nor spans are given.

    Raises:
        InputError: something else than words and pairs of seconds.
        QueryError: an impossible query.
    """
    text = " ".join(text_in(wanted, "text").split())
    spans, others = _spans(wanted, "spans"), _spans(wanted, "not")
    if not text and not spans and others:
        raise InputError("Not this only keeps sounds out of an answer: add words, or a stretch with This sound")
    if not text and not spans:
        return None
    return Query(text or None, spans=spans, negative_spans=others)


def text_in(wanted: Message, name: str) -> str:
    """A text of a request, "" where there is none.

    Args:
        wanted: of the request.
        name: of the text.

    Raises:
        InputError: something else, or a longer text.
    """
    value = wanted.get(name) or ""
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise InputError(f"{name} must be a text of up to {_LONGEST_TEXT} letters")
    return value


def number_in(wanted: Message, name: str, default: float) -> float:
    """A number of seconds of a request.

    Args:
        wanted: of the request.
        name: of the number.
        default: where there is none.

    Raises:
        InputError: something else.
    """
    value = wanted.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
        raise InputError(f"{name} must be a number of seconds, got {value!r}")
    return float(value)


def _spans(wanted: Message, name: str) -> list[tuple[float, float]]:
    value = wanted.get(name) or []
    if not isinstance(value, list) or len(value) > _MOST_SPANS:
        raise InputError(f"{name} must be up to {_MOST_SPANS} pairs of seconds")
    spans = []
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2:
            raise InputError(f"{name} must be pairs of seconds, got {pair!r}")
        start, end = (number_in({"second": second}, "second", 0.0) for second in pair)
        spans.append((start, end))
    return spans
