"""Sounds that are known by recordings of them, and may be heard in a mixture beside a queried one or instead of it.

The network's own presence knows the query alone, and takes another sound that resembles it for the queried one. Whether
the sound is there is told better by how clearly it is heard among all sounds that are known.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from audiosep.models.refinement import Heard

_SAME = 0.7  # likeness of the recordings of two names for much the same sound
# What each part of `Among.evidence` says for the presence, and the constant: a logistic regression on held-back
# recordings and mixtures (`python -m research.presence_evidence`).
_WEIGHTS, _CONSTANT = (0.409, 0.082, 0.154, 4.743, 1.749), 0.566
# Masks are turned down by this power of the presence, were it that much more probable (in logits): what is there stays
# as loud as by the network's presence alone, and what is surely absent comes out more quietly.
_POWER, _BENEFIT = 2.0, 2.4


@dataclass(frozen=True)
class KnownSounds:
    """Sounds that may be heard in a mixture.

    Attributes:
        embeddings: (sounds, dimension), L2-normalised, to query for them with.
        recordings: (sounds, dimension), L2-normalised, what recordings of them were like.
        tags: (sounds, tags), how much each logit of the listener says for each of them.
        offsets: (sounds,), the score of a sound that is not there.
    """

    embeddings: Tensor
    recordings: Tensor
    tags: Tensor
    offsets: Tensor

    def to(self, device: torch.device) -> KnownSounds:
        """The same on a device."""
        return KnownSounds(*(part.to(device) for part in (self.embeddings, self.recordings, self.tags, self.offsets)))

    def scores(self, tags: Tensor) -> Tensor:
        """(batch, tags) logits of the listener -> (batch, sounds), how clearly each is heard; about 0 if it is not."""
        scores: Tensor = tags @ self.tags.T - self.offsets
        return scores


@dataclass(frozen=True)
class Among:
    """A queried sound among those that are known.

    Attributes:
        known: sounds, it may be one of them.
        recordings: (dimension,), L2-normalised, what recordings of the queried one were like.
        tags: (tags,), how much each logit of the listener says for it.
        offset: the score of the queried one where it is not there.
    """

    known: KnownSounds
    recordings: Tensor
    tags: Tensor
    offset: float

    def to(self, device: torch.device) -> Among:
        """The same on a device."""
        return Among(self.known.to(device), self.recordings.to(device), self.tags.to(device), self.offset)

    def evidence(self, logits: Tensor, share: Tensor, estimate: Heard, mixture: Heard) -> Tensor:
        """(batch, 5): what says that the sound is there.

        The network's own logit. How clearly the sound is heard in the mixture, less that of the known sound that is
        heard most clearly; the same in the estimate, times its share. How alike recordings of the sound are to the
        mixture or, by its share, to the estimate, less the likeness of the known sound that is most alike. The share.

        Args:
            logits: (batch,) of the network's presence.
            share: (batch,) of the mixture's energy that is in the estimate, 0 to 1.
            estimate: what is heard in it.
            mixture: what is heard there.
        """
        clear = [self._clear(heard.tags) for heard in (mixture, estimate)]
        alike = [self.alike(heard.embedding) for heard in (mixture, estimate)]
        return torch.stack([logits, clear[0], share * clear[1], torch.lerp(alike[0], alike[1], share), share], 1)

    def presence(self, evidence: Tensor) -> Tensor:
        """(batch,): logits of the presence; 0 where it is as probable as not, of sounds half of which are there.

        Args:
            evidence: (batch, 5), of `evidence`.
        """
        return (evidence * evidence.new_tensor(_WEIGHTS)).sum(-1) + _CONSTANT

    def loudness(self, presence: Tensor) -> Tensor:
        """(batch,): what masks are multiplied by, 0 to 1.

        Args:
            presence: (batch,), of `presence`.
        """
        return torch.sigmoid(presence + _BENEFIT).pow(_POWER)

    def alike(self, embedding: Tensor) -> Tensor:
        """(batch,): likeness of recordings of the sound to others, less that of the known sound that is most alike.

        Args:
            embedding: (batch, dimension) of those others, L2-normalised.
        """
        return embedding @ self.recordings - (embedding @ self.known.recordings.T).amax(1)

    def _clear(self, tags: Tensor) -> Tensor:
        return tags @ self.tags - self.offset - self.known.scores(tags).amax(1)


@dataclass(frozen=True)
class Beside:
    """Which of the known sounds may be heard beside a queried one, and how many are taken away, one at a time.

    Attributes:
        others: (sounds,), which are other sounds than the queried one.
        most: how many are taken away, 1 or 2.
    """

    others: Tensor
    most: int

    def to(self, device: torch.device) -> Beside:
        """The same on a device."""
        return Beside(self.others.to(device), self.most)

    def loudest(self, known: KnownSounds, heard: Tensor) -> Tensor:
        """Queries for the sounds that the listener hears most clearly, none of which is much like another one.

        Args:
            known: sounds.
            heard: (batch, tags) logits of the listener for mixtures.

        Returns:
            (most, batch, dimension), L2-normalised.
        """
        scores = known.scores(heard).masked_fill(~self.others, -torch.inf)
        best = scores.argmax(1)
        found = [best]
        for _ in range(1, self.most):
            scores = scores.masked_fill(known.recordings[found[-1]] @ known.recordings.T > _SAME, -torch.inf)
            clearest, number = scores.max(1)
            found.append(torch.where(clearest > -torch.inf, number, best))  # where no further one is known, again
        return known.embeddings[torch.stack(found)]
