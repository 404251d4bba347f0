"""Queries as models take them: names, embeddings, negatives."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from audiosep.errors import QueryError
from audiosep.inference.devices import without_autocast
from audiosep.inference.explanation import Explanation
from audiosep.inference.options import Quality
from audiosep.models.query_ways import Ways
from audiosep.query import negation
from audiosep.query.anchors import Anchor
from audiosep.query.encoder import QueryEncoder
from audiosep.query.example import example_audio
from audiosep.query.own_sound import WORD, OwnSound
from audiosep.query.prototypes import Prototypes, Recalled
from audiosep.query.query import Query, as_queries, unique_names
from audiosep.query.stem_words import stem_of

_CACHE_SIZE = 4096
_lock = threading.Lock()  # of the caches
# By encoder and not by its name, which two models may share.
_caches: WeakKeyDictionary[QueryEncoder, OrderedDict[str, Tensor]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Resolved:
    """K queries ready for a model.

    Attributes:
        names: unique, in order.
        embeddings: (K, dimension), L2-normalised.
        negatives: (K, dimension), scaled by each query's weight; zeros for none.
        recalled: of each query what prototypes say about its text; None where it has none.
    """

    names: tuple[str, ...]
    embeddings: Tensor
    negatives: Tensor
    recalled: tuple[Recalled | None, ...] = ()

    @property
    def explanations(self) -> dict[str, Explanation]:
        """Name of each query that recordings answer -> with which, without the weights of ways."""
        pairs = zip(self.names, self.recalled, strict=False)
        return {name: Explanation(one.labels, {}, own=one.own) for name, one in pairs if one is not None}

    def ways(self, quality: Quality, stems: Container[str] = ()) -> tuple[Ways | None, ...]:
        """The ways to estimates of each sound; None where nothing can compare them.

        Args:
            quality: how much is computed.
            stems: that the model separates.
        """
        return tuple(None if recalled is None else recalled.ways(quality, stems) for recalled in self.recalled)


@without_autocast()
def resolve(
    queries: str | Query | Sequence[str | Query],
    encoder: QueryEncoder,
    sample_rate: int | None = None,
    prototypes: Prototypes | None = None,
    own: Mapping[str, OwnSound] | None = None,
    anchors: Mapping[Query, Anchor] | None = None,
) -> Resolved:
    """Embed queries.

    Args:
        queries: one or several.
        encoder: of the model that will separate them.
        sample_rate: Hz, of audio examples that are arrays without one.
        prototypes: of the encoder, which text queries are answered with; None for the text alone.
        own: text of a query -> the user's own sound that answers it.
        anchors: query with spans -> what they sound like.

    Returns:
        Names, embeddings and negatives.

    Raises:
        QueryError: no query, a text that asks for what is left without a sound, an embedding of the wrong size, an
            array without a sample rate, spans without anchors.
        AudioError, InputError: an example recording that cannot be read.
    """
    items = as_queries(queries)
    own, anchors = own or {}, anchors or {}
    if any(item.anchored and item not in anchors for item in items):
        raise QueryError("spans are times of one recording, which a stream, an export or several files do not have")
    flat = [q for item in items for q in (item, *item.negatives)]
    for query in flat:
        if query.text is not None and query.text not in own:
            negation.check(query.text)
    vectors = iter(_embed(flat, encoder, sample_rate, anchors))
    embeddings, negatives, recalled = [], [], []
    for item in items:
        embedding, anchor = next(vectors), anchors.get(item)
        memory = _recall(item, embedding, prototypes, own, anchor)
        recalled.append(memory)
        embeddings.append(embedding if memory is None else memory.query)
        against = [
            vector if (sound := own.get(negative.text or "")) is None else sound.recall(vector, None).query
            for negative, vector in zip(item.negatives, vectors, strict=False)
        ]
        if anchor is not None and anchor.outside is not None:
            against.append(anchor.outside)
        away = torch.stack(against).mean(0) if against else torch.zeros(encoder.dimension)
        negatives.append(F.normalize(away, dim=-1) * item.weight)
    names = unique_names([query.label for query in items])
    return Resolved(names, torch.stack(embeddings), torch.stack(negatives), tuple(recalled))


def _recall(
    query: Query,
    embedding: Tensor,
    prototypes: Prototypes | None,
    own: Mapping[str, OwnSound],
    anchor: Anchor | None,
) -> Recalled | None:
    if query.text is None:
        return None
    if anchor is not None and anchor.inside is not None:
        heard = anchor.inside
        labels = ((query.text, 1.0, len(query.spans)),)
        if prototypes is None:
            return Recalled(embedding, heard.embedding, None, labels, word=WORD, own=True)
        # What was heard holds other sounds too: it joins the recordings of the word, and does not replace them.
        known = prototypes.recall(embedding)
        memory = F.normalize(known.memory + heard.embedding, dim=-1)
        return replace(known, memory=memory, labels=labels, trust=1.0, own=True)
    if query.text in own:
        return own[query.text].recall(embedding, prototypes)
    if prototypes is None:
        return None
    return replace(prototypes.recall(embedding), stem=None if query.negatives else stem_of(query.text))


def _embed(
    queries: Sequence[Query], encoder: QueryEncoder, sample_rate: int | None, anchors: Mapping[Query, Anchor]
) -> list[Tensor]:
    texts = [query.text for query in queries if query.text is not None]
    known = _texts(texts, encoder)
    vectors = []
    for query in queries:
        if query.text is not None:
            vectors.append(known[query.text])
        elif query.embedding is not None:
            vectors.append(_given(query.embedding, encoder.dimension))
        elif query in anchors:
            heard = anchors[query].inside
            assert heard is not None  # a query without words has spans
            vectors.append(heard.embedding)
        else:
            waveform, rate = example_audio(query.audio, sample_rate)
            vectors.append(encoder.audio([waveform], rate)[0].detach().float().cpu())
    return vectors


def _texts(texts: Sequence[str], encoder: QueryEncoder) -> dict[str, Tensor]:
    """Embeddings of texts; the cache holds those of earlier calls.

    Its lock is not held while texts are embedded: what was found is kept here, whatever other threads push out of it.
    """
    wanted = dict.fromkeys(texts)
    with _lock:
        cache = _caches.setdefault(encoder, OrderedDict())
        found = {text: cache[text] for text in wanted if text in cache}
    if missing := [text for text in wanted if text not in found]:
        vectors = encoder.text(missing).detach().float().cpu()
        found |= {text: vector.clone() for text, vector in zip(missing, vectors, strict=True)}
    with _lock:
        for text in wanted:
            cache[text] = found[text]
            cache.move_to_end(text)
        while len(cache) > _CACHE_SIZE:
            cache.popitem(last=False)
    return found


def _given(embedding: Any, dimension: int) -> Tensor:
    if isinstance(embedding, Tensor):  # of any device and dtype, with or without gradient
        embedding = embedding.detach().cpu()
        embedding = (embedding if embedding.is_complex() else embedding.double()).numpy()
    try:
        if np.iscomplexobj(embedding):
            raise TypeError("complex numbers")
        vector = torch.from_numpy(np.array(embedding, dtype=np.float64)).flatten()  # of any scale
    except (TypeError, ValueError) as error:
        raise QueryError(f"an embedding is an array of {dimension} numbers, got {type(embedding).__name__}") from error
    if vector.numel() != dimension:
        raise QueryError(f"this model's embeddings have {dimension} numbers, got {tuple(np.shape(embedding))}")
    if not torch.isfinite(vector).all() or not vector.any():
        raise QueryError("an embedding must be finite and not all zeros")
    return F.normalize(vector, dim=-1, eps=1e-300).float()
