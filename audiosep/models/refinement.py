"""Decoding again: the listener's embeddings of an estimate and of its residual sharpen the query.

A text embedding points only roughly at a sound that was never trained on, the embedding of a recording points at it
well; an estimate that is roughly right is such a recording.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from audiosep.models.masks import TINY


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

Hear = Callable[[Tensor], Heard]
"""Masks (queries, bands, frames) -> what the listener hears in the masked mixtures."""


def decode_refined(decode: Decode, refinements: int) -> Decoded:
    """The last of 1 + `refinements` runs of the decoder, each given the one before.

    No gradient goes through the runs before the last one, but they are computed with gradients enabled: the weights of
    adapters are computed once a batch, and would keep that they were computed without.
    """
    decoded = decode(None)
    for _ in range(refinements):
        decoded = decode(decoded.detach())
    return decoded


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
