"""Several ways to an estimate of one sound, whose masks are averaged by how well they fit.

The estimate of a query may be the wrong one of two sounds; then what it leaves is the right one. Often the other sounds
of a mixture are better known than the queried one: what remains without the one that is heard most clearly is a further
estimate. By its tags and in the joint space, the listener compares every estimate with its residual, and the masks are
averaged with a softmax of these scores. Where the words name a stem, its mask is an estimate instead of all these.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from audiosep.models.known_sounds import Among, Beside
from audiosep.models.refinement import Decoded

# How much each part of `Ways.evidence` says for an estimate, in the softmax that weighs masks: fitted to the SI-SDR of
# groups a, b and g of the validation recipe (`python -m research.estimate_weights`).
WEIGHTS = 0.87, 12.16, 2.78, 0.90
_CLEAREST = ("the clearest", "the second clearest")


@dataclass(frozen=True)
class Ways:
    """What the estimates of one sound are compared by, and which there are beside that of the query.

    Attributes:
        sound: (dimension,), L2-normalised, the embedding of the sound that estimates are compared with.
        among: the sound among those that are known.
        beside: known sounds that are taken away for further estimates; None for none.
        stem: stem of songs that the query names: its mask is an estimate, and what others leave is none; None for none.
        twice: whether estimates are also compared after one more refinement.
    """

    sound: Tensor
    among: Among
    beside: Beside | None = None
    stem: str | None = None
    twice: bool = False

    def to(self, device: torch.device) -> Ways:
        """The same on a device."""
        beside = None if self.beside is None else self.beside.to(device)
        return replace(self, sound=self.sound.to(device), among=self.among.to(device), beside=beside)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the ways, in the order of their weights."""
        if self.stem is not None:
            return ("as asked", "the refined stem", "the stem")
        most = 0 if self.beside is None else self.beside.most
        return ("as asked", "what that leaves", *(f"without {name} other sound" for name in _CLEAREST[:most]))

    def score(self, run: Decoded) -> Tensor:
        """(batch,): how well estimates fit the sound, in themselves and better than their residuals.

        A softmax of these weighs masks.

        Args:
            run: of the decoder, with what is heard in its estimates and in what they leave.
        """
        evidence = self.evidence(run)
        return (evidence * evidence.new_tensor(WEIGHTS)).sum(-1)

    def evidence(self, run: Decoded) -> Tensor:
        """(batch, 4): what says that estimates fit the sound.

        Three figures of the estimate less those of what it leaves: how clearly the tags say the sound; how alike the
        sound is to what is heard; how alike recordings of it are, less the likeness of the known sound that is most
        alike. And the logit of the network's presence.

        Args:
            run: as of `score`.
        """
        heard, left = run.heard, run.left
        assert heard is not None  # see `HybridConfig.relisten`
        assert left is not None
        with torch.autocast(run.mask.device.type, enabled=False):  # small differences of large numbers
            by_tags = (heard.tags - left.tags) @ self.among.tags
            by_word = (heard.embedding - left.embedding) @ self.sound
            among_all = self.among.alike(heard.embedding) - self.among.alike(left.embedding)
        return torch.stack([by_tags, by_word, among_all, run.presence], 1)
