"""What a network says from, how sure it is that a sound is in a mixture: a few numbers about a mask and a query."""

from __future__ import annotations

import torch
from torch import Tensor

from audiosep.models.masks import TINY


def presence_inputs(mask: Tensor, energies: Tensor, similarity: Tensor | None, likeness: Tensor | None) -> Tensor:
    """(queries, numbers): how much a mask lets through, and how similar to the query that and the mixture are.

    Args:
        mask: (queries, bands, frames).
        energies: of the mixtures, the same shape.
        similarity: of the listener's local features to the query, see `Attention`.
        likeness: (queries, 1) similarity of the estimate's embedding to the query.
    """
    kept = (mask.detach().float().square() * energies).sum(1)
    whole = energies.sum(1)
    share = kept.sum(1) / (whole.sum(1) + TINY)
    frames = kept / (whole + 0.01 * whole.mean(1, keepdim=True) + TINY)
    parts = [torch.log10(share + 1e-4)[:, None], frames.mean(1)[:, None], frames.amax(1)[:, None]]
    if similarity is not None:
        # Whether a sound is there does not depend on what else is to be kept out.
        similarity = torch.cat([similarity[:, :1], torch.zeros_like(similarity[:, :1]), similarity[:, 2:]], 1)
        parts += [similarity.float().mean((2, 3)), similarity.float().amax((2, 3))]
    if likeness is not None:
        parts.append(4 * likeness.float())
    return torch.cat(parts, 1)
