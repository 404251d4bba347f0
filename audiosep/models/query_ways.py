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

from audiosep.models.known_sounds import Among, Beside
from audiosep.models.refinement import Heard

# How much the tags and the joint space say for an estimate, in the softmax that weighs masks. Fitted on half of groups
# a, b, g and h of the validation recipe, see research/mini.md.
_BY_TAGS = 0.9
_BY_WORD = 14.6
_CLEAREST = ("the clearest", "the second clearest", "the third clearest")


@dataclass(frozen=True)
class Ways:
    """What the estimates of one sound are compared by, and which there are beside that of the query.

    Attributes:
        tags: (tags,), how much each logit of the listener says for the sound.
        sound: (dimension,), L2-normalised, the embedding of the sound that estimates are compared with.
        among: the sound among those that are known; None where none are.
        beside: known sounds that are taken away for further estimates; None for none.
        stem: stem of songs that the query names: its mask is an estimate, and what others leave is none; None for none.
    """

    tags: Tensor
    sound: Tensor
    among: Among | None = None
    beside: Beside | None = None
    stem: str | None = None

    def to(self, device: torch.device) -> Ways:
        """The same on a device."""
        among = None if self.among is None else self.among.to(device)
        beside = None if self.beside is None else self.beside.to(device)
        return Ways(self.tags.to(device), self.sound.to(device), among, beside, self.stem)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the ways, in the order of their weights."""
        if self.stem is not None:
            return ("as asked", "the refined stem", "the stem")
        most = 0 if self.beside is None else self.beside.most
        return ("as asked", "what that leaves", *(f"without {name} other sound" for name in _CLEAREST[:most]))

    def scores(self, heard: Heard, left: Heard) -> Tensor:
        """(batch,): how much better estimates fit the sound than their residuals; a softmax of these weighs masks.

        Args:
            heard: in the estimates.
            left: in what they leave.
        """
        by_tags = (heard.tags - left.tags) @ self.tags
        return _BY_TAGS * by_tags + _BY_WORD * ((heard.embedding - left.embedding) @ self.sound)
