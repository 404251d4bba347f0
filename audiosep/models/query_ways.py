"""Several ways to an estimate of one sound, whose masks are averaged by how well they fit.

The estimate of a query may be the wrong one of two sounds; then what it leaves is the right one. Often the other sounds
of a mixture are better known than the queried one: what remains without the one that is heard most clearly is a further
estimate. By its tags and in the joint space, the listener compares every estimate with its residual, and the masks are
averaged with a softmax of these scores. Where the words name a stem, its mask is an estimate instead of all these.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from audiosep.models.refinement import Heard

# How much the tags and the joint space say for an estimate, in the softmax that weighs masks. Fitted on half of groups
# a, b, g and h of the validation recipe, see research/mini.md.
_BY_TAGS = 0.9
_BY_WORD = 14.6
_SAME = 0.7  # likeness of the recordings of two names for much the same sound
# By how much larger the exponent of the presence is, for each way: the best of several estimates of a sound that is
# absent is louder, the more so the more there are.
_ABSENT = 0.55
_CLEAREST = ("the clearest", "the second clearest", "the third clearest")


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


@dataclass(frozen=True)
class Beside:
    """Which sounds may be heard beside a queried one, and how many of them are taken away, one at a time.

    Attributes:
        known: sounds.
        others: (sounds,), which of them are other sounds than the queried one.
        most: how many are taken away, 1 to 3.
    """

    known: KnownSounds
    others: Tensor
    most: int

    def to(self, device: torch.device) -> Beside:
        """The same on a device."""
        return Beside(self.known.to(device), self.others.to(device), self.most)

    def loudest(self, heard: Tensor) -> Tensor:
        """Queries for the sounds that the listener hears most clearly, none of which is much like another one.

        Args:
            heard: (batch, tags) logits of the listener for mixtures.

        Returns:
            (most, batch, dimension), L2-normalised.
        """
        known = self.known
        scores = (heard @ known.tags.T - known.offsets).masked_fill(~self.others, -torch.inf)
        best = scores.argmax(1)
        found = [best]
        for _ in range(1, self.most):
            scores = scores.masked_fill(known.recordings[found[-1]] @ known.recordings.T > _SAME, -torch.inf)
            clearest, number = scores.max(1)
            found.append(torch.where(clearest > -torch.inf, number, best))  # where no further one is known, again
        return known.embeddings[torch.stack(found)]


@dataclass(frozen=True)
class Ways:
    """What the estimates of one sound are compared by, and which there are beside that of the query.

    Attributes:
        tags: (tags,), how much each logit of the listener says for the sound.
        sound: (dimension,), L2-normalised, the embedding of the sound that estimates are compared with.
        beside: sounds that are taken away for further estimates; None for none.
        stem: stem of songs that the query names: its mask is an estimate, and what others leave is none; None for none.
    """

    tags: Tensor
    sound: Tensor
    beside: Beside | None = None
    stem: str | None = None

    def to(self, device: torch.device) -> Ways:
        """The same on a device."""
        beside = None if self.beside is None else self.beside.to(device)
        return Ways(self.tags.to(device), self.sound.to(device), beside, self.stem)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the ways, in the order of their weights."""
        if self.stem is not None:
            return ("as asked", "the refined stem", "the stem")
        most = 0 if self.beside is None else self.beside.most
        return ("as asked", "what that leaves", *(f"without {name} other sound" for name in _CLEAREST[:most]))

    @property
    def caution(self) -> float:
        """By how much larger the exponent of the presence is than for a query without ways."""
        return _ABSENT * len(self.names)

    def scores(self, heard: Heard, left: Heard) -> Tensor:
        """(batch,): how much better estimates fit the sound than their residuals; a softmax of these weighs masks.

        Args:
            heard: in the estimates.
            left: in what they leave.
        """
        by_tags = (heard.tags - left.tags) @ self.tags
        return _BY_TAGS * by_tags + _BY_WORD * ((heard.embedding - left.embedding) @ self.sound)
