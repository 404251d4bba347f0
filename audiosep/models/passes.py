"""Asking a decoder again: what the listener hears in an answer, and in what the answer leaves, sharpens the question.

Words find the place of a sound that was never trained on only roughly, recordings find it well; an answer that is
roughly right is such a recording.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

TINY = 1e-10  # far below the energy of silence in 16 bits


@dataclass
class Decoded:
    """The answers of a decoder pass.

    Attributes:
        mask: (queries, bands, frames). presence: (queries,) logits. stems: (songs, stems, bands, frames).
        similarity: how well the first question is answered by what is heard, everywhere (see `Attention`).
        heard, rest: (queries, dimension) what the mask lets through, and what it leaves, sound like to the listener;
            the latter where it was asked for.
    """

    mask: Tensor
    presence: Tensor | None
    stems: Tensor | None
    similarity: Tensor | None = None
    heard: Tensor | None = None
    rest: Tensor | None = None

    def detach(self) -> Decoded:
        """The same without what is kept for gradients."""
        presence, similarity = (None if x is None else x.detach() for x in (self.presence, self.similarity))
        return Decoded(self.mask.detach(), presence, None, similarity, self.heard, self.rest)


Decode = Callable[[Decoded | None], Decoded]  # one pass, from the answer of the one before
Hear = Callable[[Tensor], Tensor]  # masks (queries, bands, frames) -> (queries, dimension), what they let through


def last_answer(decode: Decode, passes: int) -> Decoded:
    """The answer of the last pass; each hears the one before.

    No gradient goes through the passes before the last one, but they are not computed without: the weights of
    adapters, computed once a batch, would keep that.
    """
    decoded = decode(None)
    for _ in range(passes - 1):
        decoded = decode(decoded.detach())
    return decoded


def mixed_answer(decode: Decode, hear: Hear, embeddings: Tensor, passes: int, scale: float) -> Decoded:
    """The last answer with a mean of all masks, and of one more, weighed by how well they fit the question.

    Of two sounds the first answer may hold the wrong one, and then the second would, only more so. So the decoder is
    also asked as if the rest had been the answer, and masks count by how much more what they let through sounds like
    the question than what they leave, times `scale`.

    Args:
        embeddings: (queries, dimension) of the question.
    """

    def answer(before: Decoded | None) -> Decoded:
        decoded = decode(before)
        return replace(decoded, rest=_rest_of(decoded, hear))

    answers: list[Decoded] = []
    for _ in range(passes):
        answers.append(answer(answers[-1] if answers else None))
    first, last = answers[0], answers[-1]
    answers.append(answer(replace(first, mask=_rest(first.mask), heard=first.rest, rest=first.heard)))
    question = F.normalize(embeddings.float(), dim=-1)
    heard, rests = (torch.stack([getattr(a, name) for a in answers]) for name in ("heard", "rest"))
    weights = (scale * ((heard - rests) * question).sum(-1)).softmax(0)[..., None, None]
    return replace(last, mask=torch.stack([a.mask.float() for a in answers]).mul(weights).sum(0))


@torch.no_grad()
def question_after(
    before: Decoded, hear: Hear, energies: Tensor, wanted: Tensor, unwanted: Tensor
) -> tuple[Tensor, Tensor]:
    """What is wanted and unwanted, with what an answer and its rest sound like, as far as it seems to be right.

    Args:
        before: with presence, and with what it sounds like.
        energies: (queries, bands, frames) of the mixtures. wanted, unwanted: (queries, dimension).
    """
    assert before.presence is not None  # see `hybrid_config.check`
    assert before.heard is not None
    sure = torch.sigmoid(before.presence.float())[:, None]
    # The listener takes levels out: what hardly anything is left of must not be kept out as it is.
    left = (_rest(before.mask).square() * energies).sum((1, 2)) / (energies.sum((1, 2)) + TINY)
    unwanted = unwanted + sure * left.sqrt()[:, None] * _rest_of(before, hear)
    return F.normalize(wanted + sure * before.heard, dim=-1), unwanted


def _rest(mask: Tensor) -> Tensor:
    """The mask of what a mask leaves."""
    return 1 - mask.float().clamp(0, 1)


def _rest_of(decoded: Decoded, hear: Hear) -> Tensor:
    """(queries, dimension): what an answer leaves sounds like to the listener."""
    return hear(_rest(decoded.mask)) if decoded.rest is None else decoded.rest
