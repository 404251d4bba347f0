"""Several ways of querying for one sound, whose masks are averaged by how well their estimates fit.

A word, what recordings of the sound were like, or one kind of them: each is the best query for some mixtures, and none
for all. So the decoder runs once for each. A tower with tags, the judge, compares every estimate with its residual, and
the masks are averaged with a softmax of these scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_SHARPNESS = 1.5  # of the softmax
# How much the scores count for the runs that follow, beside the similarity to the query: for sounds that were trained
# on the joint space tells estimates apart better than the tags do.
REFINED = 0.25
# By how much larger the exponent of the presence is than for one way: the best of several estimates of a sound that is
# absent is louder.
ABSENT = 0.5


@dataclass(frozen=True)
class Ways:
    """The ways of querying for one sound.

    Attributes:
        names: of the ways.
        embeddings: (ways, dimension), L2-normalised.
        tags: (tags,), how much each logit of the judge says for the sound.
    """

    names: tuple[str, ...]
    embeddings: Tensor
    tags: Tensor

    def to(self, device: torch.device) -> Ways:
        """The same on a device."""
        return Ways(self.names, self.embeddings.to(device), self.tags.to(device))

    def scores(self, estimates: Tensor, residuals: Tensor) -> Tensor:
        """How much better estimates fit the sound than their residuals do; a softmax of these scores weighs masks.

        Args:
            estimates: (..., tags) logits of the judge for the estimates.
            residuals: (..., tags) those for what they leave.
        """
        return _SHARPNESS * ((estimates - residuals) @ self.tags)
