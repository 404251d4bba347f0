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
from audiosep.models.refinement import Decoded, Heard

# How much each part says for an estimate, in the softmax that weighs masks: the tags, the likeness to the word, the
# likeness to recordings among all known sounds, and the logit of the network's presence. Fitted on groups a, b and g of
# the validation recipe, see research/mini.md.
_BY_TAGS, _BY_WORD, _AMONG_ALL, _BY_PRESENCE = 0.63, 9.85, 2.66, 0.6
_CLEAREST = ("the clearest", "the second clearest", "the third clearest")


@dataclass(frozen=True)
class Ways:
    """What the estimates of one sound are compared by, and which there are beside that of the query.

    Attributes:
        sound: (dimension,), L2-normalised, the embedding of the sound that estimates are compared with.
        among: the sound among those that are known.
        beside: known sounds that are taken away for further estimates; None for none.
        stem: stem of songs that the query names: its mask is an estimate, and what others leave is none; None for none.
    """

    sound: Tensor
    among: Among
    beside: Beside | None = None
    stem: str | None = None

    def to(self, device: torch.device) -> Ways:
        """The same on a device."""
        beside = None if self.beside is None else self.beside.to(device)
        return Ways(self.sound.to(device), self.among.to(device), beside, self.stem)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the ways, in the order of their weights."""
        if self.stem is not None:
            return ("as asked", "the refined stem", "the stem")
        most = 0 if self.beside is None else self.beside.most
        return ("as asked", "what that leaves", *(f"without {name} other sound" for name in _CLEAREST[:most]))

    def scores(self, run: Decoded, left: Heard) -> Tensor:
        """(batch,): how well estimates fit the sound, in themselves and better than their residuals.

        A softmax of these weighs masks.

        Args:
            run: of the decoder, with what is heard in its estimates.
            left: what is heard in what they leave.
        """
        heard = run.heard
        assert heard is not None  # see `HybridConfig.relisten`
        by_tags = (heard.tags - left.tags) @ self.among.tags
        by_word = (heard.embedding - left.embedding) @ self.sound
        among_all = self.among.alike(heard.embedding) - self.among.alike(left.embedding)
        return _BY_TAGS * by_tags + _BY_WORD * by_word + _AMONG_ALL * among_all + _BY_PRESENCE * run.presence
