"""Several ways of querying for one sound, whose masks are averaged by how well their estimates fit.

A word, what recordings of the sound were like, and what the mixture itself sounds like where it is most like them: each
is the best query for some mixtures, and none for all. So the decoder runs once for each. A tower with tags, the judge,
compares every estimate with its residual, and the masks are averaged with a softmax of these scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# What joins the ways that do not depend on the mixture.
HEARD = ("word, recordings, heard", "recordings, heard")
_SHARPNESS = 1.5  # of the softmax
# How much the scores count for the runs that follow, beside the similarity to the query: for sounds that were trained
# on the joint space tells estimates apart better than the tags do.
REFINED = 0.25
_PIECES = 2  # of the mixture that count as heard


@dataclass(frozen=True)
class Ways:
    """The ways of querying for one sound.

    Attributes:
        names: of all ways, those of `HEARD` included.
        embeddings: (ways, dimension), L2-normalised, those that do not depend on the mixture.
        word: (dimension,), the text's own embedding.
        memory: (dimension,), what recordings of the sound were like.
        tags: (tags,), how much each logit of the judge says for the sound.
        heard: how many of `HEARD` join.
    """

    names: tuple[str, ...]
    embeddings: Tensor
    word: Tensor
    memory: Tensor
    tags: Tensor
    heard: int = 0

    def to(self, device: torch.device) -> Ways:
        """The same on a device."""
        queries, tags = self.embeddings.to(device), self.tags.to(device)
        return Ways(self.names, queries, self.word.to(device), self.memory.to(device), tags, self.heard)

    def all(self, pieces: Tensor) -> Tensor:
        """The embeddings of all ways for each mixture.

        Args:
            pieces: (batch, pieces, dimension), L2-normalised embeddings of stretches of the mixtures.

        Returns:
            (batch, ways, dimension), L2-normalised.
        """
        batch, count, dimension = pieces.shape
        given = self.embeddings.expand(batch, -1, -1)
        if not self.heard:
            return given
        like = (pieces @ self.memory).topk(min(_PIECES, count), 1).indices
        heard = F.normalize(pieces.gather(1, like[..., None].expand(-1, -1, dimension)).mean(1), dim=-1)
        more = torch.stack([self.word + self.memory + heard, self.memory + heard], 1)[:, : self.heard]
        return torch.cat([given, F.normalize(more, dim=-1)], 1)

    def scores(self, estimates: Tensor, residuals: Tensor) -> Tensor:
        """How much better estimates fit the sound than their residuals do; a softmax of these scores weighs masks.

        Args:
            estimates: (..., tags) logits of the judge for the estimates.
            residuals: (..., tags) those for what they leave.
        """
        return _SHARPNESS * ((estimates - residuals) @ self.tags)
