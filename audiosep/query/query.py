"""A query: words, an example recording, an embedding or spans of the wanted sound, and what to keep out."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiosep.audio.inputs import AudioFile, is_opened
from audiosep.audio.limits import check_rate
from audiosep.audio.spool import content_of, place_of
from audiosep.errors import QueryError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

_ARTICLES = ("a", "an", "the")


@dataclass(frozen=True, eq=False)
class Query:
    """One sound to separate.

    Exactly one of `text`, `audio` and `embedding` describes the sound, or `spans` do, alone or beside `text`.

    Args:
        text: words, such as "piano" or "a dog barking far away".
        audio: an example of the sound: a path, an opened file, which is read at once, the bytes of one, an array of
            shape (samples,) or (channels, samples) at the sample rate of the mixture, or (array, sample rate in Hz).
        embedding: (dimension,) computed elsewhere in the model's query space.
        negative: what to keep out: words, a Query without a negative or weight of its own, or several of them.
        weight: how strongly `negative` counts, >= 0.
        name: label of the output; by default the text, or the stem of the audio file.
        spans: where the sound can be heard in the recording itself, pairs of seconds: what sounds there is the
            example; without words, what sounds around them is kept out.
        negative_spans: where something can be heard that is to be kept out, in place of what is around `spans`.

    Raises:
        InputError: an opened file that is empty, or not in binary mode.
        QueryError: not exactly one kind of query, empty text, a text or name that is none, a weight that is negative or
            not finite, or spans that end before they begin or stand beside `audio` or `embedding`.
    """

    text: str | None = None
    audio: AudioFile | NDArray[Any] | Tensor | tuple[NDArray[Any] | Tensor, int] | None = field(
        default=None, repr=False
    )
    embedding: NDArray[Any] | Tensor | Sequence[float] | None = None
    negative: str | Query | tuple[str | Query, ...] | list[str | Query] | None = None
    weight: float = 1.0
    name: str | None = None
    spans: Sequence[tuple[float, float]] = ()
    negative_spans: Sequence[tuple[float, float]] = ()

    def __post_init__(self) -> None:
        if is_opened(self.audio):
            self._keep_content()
        given = [k for k in ("text", "audio", "embedding") if getattr(self, k) is not None]
        for name in ("spans", "negative_spans"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or value:
                from audiosep.hearing.spans import checked_spans  # needs numpy, which a command line does without

                object.__setattr__(self, name, checked_spans(value))
        if len(given) != 1 and not (self.spans and not given):
            raise QueryError(
                "a query needs exactly one of text, audio and embedding, or spans, "
                f"got {' and '.join(given) if given else 'none'}"
            )
        if (self.spans or self.negative_spans) and self.text is None and given:
            raise QueryError(f"spans go with words or stand alone: leave out {given[0]}, or the spans")
        if self.text is not None and not (is_text(self.text) and self.text.strip()):
            raise QueryError(f"query text must be words, such as 'piano', got {self.text!r}")
        if self.name is not None and not is_text(self.name):
            raise QueryError(f"the name of a query must be text, got {self.name!r}")
        if not isinstance(self.weight, Real) or not (math.isfinite(self.weight) and self.weight >= 0):
            raise QueryError(f"weight must be a finite number of at least 0, got {self.weight!r}")

    def _keep_content(self) -> None:
        """Bytes in place of an opened file, which could be read only once, and its name."""
        place = place_of(self.audio)  # type: ignore[arg-type]  # it is opened
        if self.name is None and str(place) != "-":
            object.__setattr__(self, "name", place.stem)
        object.__setattr__(self, "audio", content_of(self.audio))  # type: ignore[arg-type]  # as above

    @property
    def label(self) -> str:
        """The name of this query's output."""
        if self.name:
            return self.name
        if self.text is not None:
            return self.text.strip()
        if isinstance(self.audio, str | Path):
            return Path(self.audio).stem
        if self.audio is not None or self.embedding is not None:
            return "audio query" if self.audio is not None else "embedding query"
        return "sound at " + ", ".join(f"{start:g}-{end:g} s" for start, end in self.spans)

    @property
    def anchored(self) -> bool:
        """Whether the query points at spans of the recording."""
        return bool(self.spans or self.negative_spans)

    @property
    def negatives(self) -> tuple[Query, ...]:
        """`negative` as a tuple of queries, each sound once."""
        if self.negative is None or (isinstance(self.negative, tuple | list) and not self.negative):
            return ()
        items = self.negative if isinstance(self.negative, tuple | list) else [self.negative]
        queries = tuple(as_queries(items))
        if any(query.anchored for query in queries):
            raise QueryError("a negative has no spans of its own: give the query negative_spans=[(10, 12)]")
        if any(query.negative for query in queries):
            raise QueryError("a negative has no negative of its own: name all that is to be kept out in one list")
        if any(query.weight != Query.weight for query in queries):
            raise QueryError("a negative has no weight of its own: give the weight to the query, for all its negatives")
        if self.text is not None and fold_name(self.text) in {fold_name(one.text) for one in queries if one.text}:
            raise QueryError(f"{self.text!r} is asked for and kept out at once: leave it out of the negatives (--not)")
        return queries


def is_text(value: object) -> bool:
    """Whether a value is text that can be written: no bytes that a terminal could not decode.

    Args:
        value: anything.
    """
    return isinstance(value, str) and value.encode("utf-8", "ignore").decode() == value


def as_query(item: str | Query) -> Query:
    """Words or a Query as a Query.

    Args:
        item: either.

    Raises:
        QueryError: `item` is neither.
    """
    if isinstance(item, Query):
        return item
    if isinstance(item, str):
        return Query(text=item)
    raise QueryError(f"a query is text or an audiosep.Query, got {type(item).__name__}{_hint(item)}")


def _hint(item: object) -> str:
    """What was perhaps meant by something that is no query."""
    if isinstance(item, Path):
        return f": a recording of the sound is audiosep.Query(audio={str(item)!r})"
    name = getattr(item, "name", None)  # of a sound that was described
    return f": name it by its words, {name!r}" if isinstance(name, str) else ""


def as_queries(queries: str | Query | Sequence[str | Query]) -> list[Query]:
    """One or several queries as a list, each sound once.

    A sound that is named again is left out, as what is left of the mixture would lose it twice: the same words as
    `fold_name` compares them, or the same example, with the same negatives and spans. Different names, which queries
    were given, make different targets, of which what is left of the mixture loses one.

    Args:
        queries: one or several.

    Raises:
        QueryError: none, or something that is no query.

    >>> [query.label for query in as_queries(["speech", "dog", " Speech", Query("dog", negative="rain")])]
    ['speech', 'dog', 'dog']
    """
    if isinstance(queries, Mapping):  # a list of it would be its keys
        raise QueryError("queries are a list: a query with a name of its own is audiosep.Query('a dog', name='Fido')")
    items = list(queries) if isinstance(queries, Iterable) and not isinstance(queries, str) else [queries]
    if not items:
        raise QueryError("say what to separate: at least one query, such as 'piano'")
    once: dict[Hashable, Query] = {}
    for query in map(as_query, items):
        once.setdefault((meaning(query), query.name), query)
    return list(once.values())


def meaning(query: Query) -> Hashable:
    """What two queries of one sound have in common, whatever their names; arrays are the same if they are one object.

    Args:
        query: with its negatives.
    """
    return (
        fold_name(query.text or ""),
        _same_example(query.audio),
        id(query.embedding),
        frozenset(map(meaning, query.negatives)),
        query.weight,
        query.spans,
        query.negative_spans,
    )


def with_rate(audio: Any) -> tuple[Any, int | None]:
    """An example and its sample rate, Hz; None for one that comes without.

    Args:
        audio: of a query.

    Raises:
        InputError: an impossible sample rate.
    """
    if isinstance(audio, tuple | list) and len(audio) == 2:
        import numpy as np  # as for spans

        if np.ndim(audio[1]) == 0:  # else these are two channels
            return audio[0], check_rate(audio[1])
    return audio, None


def _same_example(audio: object) -> Hashable:
    """Equal for the same example: by place or content, and one array only for itself."""
    if isinstance(audio, str | Path):
        return Path(audio).absolute()
    return audio if isinstance(audio, bytes) else id(audio)


def fold_name(name: str) -> str:
    """A name as it is compared: case, white space, a leading article and how letters are encoded do not matter.

    Args:
        name: of a sound, or the text of a query.
    """
    words = unicodedata.normalize("NFKC", name).casefold().split()
    return " ".join(words[1:] if len(words) > 1 and words[0] in _ARTICLES else words)


def check_capable(query: Query, capabilities: Set[str], model: str) -> None:
    """Refuse a query that a model cannot take.

    Args:
        query: with its negatives.
        capabilities: of the model.
        model: its name, for the message.

    Raises:
        QueryError: it is one.
    """
    kinds = {
        "text": query.text is not None,
        "audio": query.audio is not None or query.anchored,
        "negative": bool(query.negatives or query.negative_spans),
    }
    for kind, given in kinds.items():
        if given and kind not in capabilities:
            able = ", ".join(sorted(capabilities))
            raise QueryError(f"{model} takes no {kind} queries (it can do {able}); use a model that does")
    for negative in query.negatives:
        check_capable(negative, capabilities, model)


def unique_names(labels: Sequence[str]) -> tuple[str, ...]:
    """Labels with repeated ones numbered: "piano", "piano (2)".

    Args:
        labels: of the queries, in order.
    """
    names: list[str] = []
    for label in labels:
        name, number = label, 1
        while name in names:
            number += 1
            name = f"{label} ({number})"
        names.append(name)
    return tuple(names)
