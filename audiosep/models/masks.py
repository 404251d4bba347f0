"""Magnitude masks from network outputs, and masks of stems that sum to one."""

from __future__ import annotations

import torch
from torch import Tensor

CEILING = 1.1  # in-phase sources can cancel in the mixture: a target may be louder than it


def real_mask(x: Tensor) -> Tensor:
    """Network outputs of any shape -> magnitude masks from 0 to `CEILING`."""
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
