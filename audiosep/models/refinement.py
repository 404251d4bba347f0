"""Decoding again: the listener's embeddings of an estimate and of its residual sharpen the query.

A text embedding points only roughly at a sound that was never trained on, the embedding of a recording points at it
well; an estimate that is roughly right is such a recording.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

TINY = 1e-10  # far below the energy of silence in 16 bits


@dataclass
class Heard:
    """What the listener hears in some recordings.

    Attributes:
        embedding: (recordings, dimension), L2-normalised.
        tags: (recordings, tags) logits.
    """

    embedding: Tensor
    tags: Tensor


@dataclass
class Decoded:
    """What one run of the decoder gives.

    Attributes:
        mask: (queries, bands, frames).
        presence: (queries,) logits.
        stems: (songs, stems, bands, frames), where they were decoded too.
        similarity: of the listener's local features to the original query, see `Attention`.
        heard: what the listener hears in the estimate.
        left: what it hears in what the estimate leaves; None if it was not needed yet.
    """

    mask: Tensor
    presence: Tensor
    stems: Tensor | None
    similarity: Tensor | None = None
    heard: Heard | None = None
    left: Heard | None = None

    def detach(self) -> Decoded:
        """The same without stems and without what is kept for gradients."""
        similarity = None if self.similarity is None else self.similarity.detach()
        return Decoded(self.mask.detach(), self.presence.detach(), None, similarity, self.heard, self.left)


Decode = Callable[[Decoded | None], Decoded]
"""One run of the decoder, given the run before."""

DecodeAll = Callable[[Sequence[Decoded]], list[Decoded]]
"""A run of the decoder after each of some runs, all at once; what is heard in what they leave is known."""

Hear = Callable[[Tensor], Heard]
"""Masks (queries, bands, frames) -> what the listener hears in the masked mixtures."""

Score = Callable[[Decoded], Tensor]
"""A run -> (queries,), how well its estimate fits the query."""


def decode_refined(decode: Decode, refinements: int) -> Decoded:
    """The last of 1 + `refinements` runs of the decoder, each given the one before.

    No gradient goes through the runs before the last one, but they are computed with gradients enabled: the weights of
    adapters are computed once a batch, and would keep that they were computed without.
    """
    decoded = decode(None)
    for _ in range(refinements):
        decoded = decode(decoded.detach())
    return decoded


def decode_mixed(decode: Decode, decode_all: DecodeAll, hear: Hear, score: Score, refinements: int) -> Decoded:
    """The last run of the decoder, with a weighted mean of the masks of all runs and of one more.

    Of two sounds the first estimate may be the wrong one, and refining it would make that worse. So the decoder also
    runs as if the first estimate and its residual had been swapped. Masks are weighted by a softmax of their scores.

    Args:
        decode: one run of the decoder.
        decode_all: several runs at once, which small windows are computed faster with.
        hear: the listener.
        score: how well a run's estimate fits the query.
        refinements: runs after the first, at least one.
    """
    first = decode(None)
    first = replace(first, left=left(first, hear))
    refined, other = decode_all([first, swapped(first)])
    runs = [first, refined]
    for _ in range(refinements - 1):
        runs.append(decode(runs[-1]))
    return mean_of([*runs, other], score, like=runs[-1])[0]


def refined_all(decode_all: DecodeAll, refinements: int, first: Sequence[Decoded]) -> list[Decoded]:
    """The last runs of the decoder after each of several first estimates.

    Any of them may be of the wrong sound, and which is easier to hear when each has been refined.

    Args:
        decode_all: a run of the decoder after each of some runs.
        refinements: runs after each first estimate, at least one.
        first: estimates; what is heard in what they leave must be known.
    """
    runs = list(first)
    for _ in range(refinements):
        runs = decode_all(runs)
    return runs


def swapped(run: Decoded) -> Decoded:
    """A run as if its estimate and its residual had been swapped; what is heard in the residual must be known."""
    return replace(run, mask=residual_mask(run.mask), heard=run.left, left=run.heard)


def joined(runs: Sequence[Decoded]) -> Decoded:
    """Runs without stems as one, the queries of one behind those of the other."""

    def heard(parts: Sequence[Heard | None]) -> Heard | None:
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        return Heard(torch.cat([part.embedding for part in known]), torch.cat([part.tags for part in known]))

    similarities = [run.similarity for run in runs if run.similarity is not None]
    return Decoded(
        torch.cat([run.mask for run in runs]),
        torch.cat([run.presence for run in runs]),
        None,
        torch.cat(similarities) if len(similarities) == len(runs) else None,
        heard([run.heard for run in runs]),
        heard([run.left for run in runs]),
    )


def parted(run: Decoded, count: int) -> list[Decoded]:
    """What `joined` has made one, as the single runs.

    Args:
        run: of several runs' queries.
        count: of the runs.
    """

    def parts(values: Tensor | None) -> Sequence[Tensor | None]:
        return [None] * count if values is None else values.chunk(count)

    def heard(values: Heard | None) -> Sequence[Heard | None]:
        if values is None:
            return [None] * count
        return [Heard(*each) for each in zip(values.embedding.chunk(count), values.tags.chunk(count), strict=True)]

    masks, presences = run.mask.chunk(count), run.presence.chunk(count)
    similarities, inside, outside = parts(run.similarity), heard(run.heard), heard(run.left)
    return [Decoded(masks[k], presences[k], None, similarities[k], inside[k], outside[k]) for k in range(count)]


def mean_of(runs: Sequence[Decoded], score: Score, like: Decoded) -> tuple[Decoded, Tensor]:
    """A run with the mean of the masks of all runs, by a softmax of their scores.

    Args:
        runs: at least one.
        score: how well a run's estimate fits the query.
        like: gives all else.

    Returns:
        The run, and (queries, runs) the weights.
    """
    weights = torch.stack([score(run) for run in runs]).softmax(0)
    mask = torch.stack([run.mask.float() for run in runs]).mul(weights[..., None, None]).sum(0)
    return replace(like, mask=mask), weights.T


def similarity_score(hear: Hear, query: Tensor, temperature: float) -> Score:
    """A score by how much more similar to the query the estimate is than its residual.

    Args:
        hear: the listener.
        query: (queries, dimension) embeddings of the original queries.
        temperature: of the softmax that the scores go to.
    """
    query, scale = F.normalize(query.float(), dim=-1), 1 / temperature

    def score(run: Decoded) -> Tensor:
        assert run.heard is not None  # see `HybridConfig.relisten`
        return scale * ((run.heard.embedding - left(run, hear).embedding) * query).sum(-1)

    return score


@torch.no_grad()
def refined_query(
    previous: Decoded, hear: Hear, energies: Tensor, positive: Tensor, negative: Tensor
) -> tuple[Tensor, Tensor]:
    """Positive and negative of a query plus the embeddings of its estimate and residual, weighted by the presence.

    Args:
        previous: the run of the decoder before, with what is heard in its estimate.
        hear: the listener.
        energies: (queries, bands, frames) of the mixtures.
        positive: (queries, dimension).
        negative: (queries, dimension).
    """
    assert previous.heard is not None  # refinements need `relisten`, see `HybridConfig`
    sure = torch.sigmoid(previous.presence.float())[:, None]
    # Embeddings know no level: a residual without energy would be kept out as strongly as any other.
    share = share_of(residual_mask(previous.mask), energies)
    negative = negative + sure * share.sqrt()[:, None] * left(previous, hear).embedding
    return F.normalize(positive + sure * previous.heard.embedding, dim=-1), negative


def share_of(mask: Tensor, energies: Tensor) -> Tensor:
    """(queries,): of the energy of mixtures, (queries, bands, frames), what masks let through."""
    return (mask.float().square() * energies).sum((1, 2)) / (energies.sum((1, 2)) + TINY)


def of_owners(x: Tensor, owner: Tensor) -> Tensor:
    """(queries, ...): of (mixtures, ...) what belongs to the mixture of each query, without a copy where it is one.

    Args:
        x: of the mixtures.
        owner: (queries,) mixture of each query.
    """
    return x.expand(owner.shape[0], *x.shape[1:]) if x.shape[0] == 1 else x[owner]


def residual_mask(mask: Tensor) -> Tensor:
    """What a mask leaves of the mixture, as a mask."""
    return 1 - mask.float().clamp(0, 1)


def left(decoded: Decoded, hear: Hear) -> Heard:
    """What the listener hears in what an estimate leaves."""
    return hear(residual_mask(decoded.mask)) if decoded.left is None else decoded.left
