"""Magnitude masks from network outputs, how undecided they are, and masks of stems that sum to one."""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-10  # far below the energy of silence in 16 bits
CEILING = 1.1  # in-phase sources can cancel in the mixture: a target may be louder than it
_SOFTER = 0.25  # how much lower the exponent of a stem's mask is that is undecided throughout


def real_mask(x: Tensor) -> Tensor:
    """Network outputs of any shape -> magnitude masks from 0 to `CEILING`."""
    return torch.sigmoid(x.float()) * CEILING


def undecided(masks: Tensor, energies: Tensor) -> Tensor:
    """(...): how undecided masks are about what they let through: 0 for zeros and ones, up to 1 for faint ones.

    What they lack to one, the mean over the bands and frames, weighed by mask and energy.

    Args:
        masks: (..., bands, frames).
        energies: (..., bands, frames) of the mixtures.
    """
    through = masks.float().clamp(0, 1)
    weight = through * energies
    return (weight * (1 - through)).sum((-2, -1)) / (weight.sum((-2, -1)) + TINY)


def share_out(masks: Tensor, energies: Tensor) -> Tensor:
    """Masks of stems that sum to one: what is left over is spread by mask power, as a Wiener filter would.

    A stem that is hard to tell from the others has a mask that is neither high nor low; it is raised before.

    Args:
        masks: (batch, stems, bands, frames), >= 0.
        energies: (batch, bands, frames) of the mixtures.

    Returns:
        As `masks`; sums to one over the stems.
    """
    energies = energies[:, None]
    masks = masks.float() ** (1 - _SOFTER * undecided(masks, energies)[..., None, None])
    power = masks.square() + 1e-8
    rest = 1 - masks.sum(1, keepdim=True)
    return masks + rest * power / power.sum(1, keepdim=True)
