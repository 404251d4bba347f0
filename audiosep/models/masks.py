"""From network outputs to masks, and from masks of stems to stems that sum to the mixture."""

from __future__ import annotations

import torch
from torch import Tensor

CEILING = 1.1


def real_mask(x: Tensor) -> Tensor:
    """A magnitude mask in 0 ... 1.1: a little above one, because in-phase sources can cancel in the mixture."""
    return torch.sigmoid(x.float()) * CEILING


def share_out(masks: Tensor) -> Tensor:
    """Masks that sum to one: what is left over is spread by mask power, as a Wiener filter would.

    Args:
        masks: (..., stems, bands, frames), >= 0.

    Returns:
        The same shape; sums to one over the stems.
    """
    power = masks.square() + 1e-8
    rest = 1 - masks.sum(-3, keepdim=True)
    return masks + rest * power / power.sum(-3, keepdim=True)
