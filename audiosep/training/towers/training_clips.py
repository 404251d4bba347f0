"""What the listener is trained on: targets of mixtures, clean or with leakage of the other sources, and masks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from audiosep.data.mixing import MixtureBatch
from audiosep.data.sampling import SamplingConfig
from audiosep.errors import ConfigError


def check_mono(sampling: SamplingConfig) -> None:
    """Refuse stereo mixtures, which the listener does not take.

    Args:
        sampling: the task's.

    Raises:
        ConfigError: the mixtures are not mono.
    """
    if sampling.channels != 1:
        raise ConfigError(f"sampling.channels: the listener takes mono audio, set it to 1, got {sampling.channels}")


def with_leakage(mixtures: MixtureBatch, leak_db: float, generator: torch.Generator) -> tuple[Tensor, list[int]]:
    """Return the targets of a batch's queries, half of them with leakage, as an imperfect separation leaves it.

    Args:
        mixtures: the batch.
        leak_db: largest level of the other sources in the clip, dB; the smallest is 20 dB below.
        generator: of the random numbers.

    Returns:
        (targets, samples) without the absent ones, and the number of the query of each.
    """
    mix = mixtures.sources.sum(1)
    present = torch.nonzero(mixtures.membership.sum(1) > 0)[:, 0]
    clean = torch.einsum("qs,qst->qt", mixtures.membership[present], mixtures.sources[mixtures.owner[present]])
    rest = mix[mixtures.owner[present]] - clean
    level = 10 ** ((leak_db - 20 * torch.rand(len(present), 1, generator=generator)) / 20)
    level = level * (torch.rand(len(present), 1, generator=generator) < 0.5)
    return clean + level * rest, present.tolist()


def estimated_masks(target: Tensor, rest: Tensor, generator: torch.Generator) -> Tensor:
    """Draw masks as a separator estimates them: ideal ratio masks, smeared, and unsure by some share.

    Args:
        target: (n, bands, frames) energies of a sound.
        rest: (n, bands, frames) energies of all other sounds.
        generator: of the random numbers.

    Returns:
        (n, bands, frames) magnitude masks, 0..1.
    """

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(len(target), 1, 1, generator=generator)

    ideal = (target / (target + rest + 1e-12)) ** draw(0.35, 1.0)
    smeared = F.avg_pool2d(ideal[:, None], 9, 1, 4, count_include_pad=False)[:, 0]
    unsure = draw(0.0, 0.55).square()
    return unsure + (1 - 2 * unsure) * torch.lerp(ideal, smeared, draw(0.0, 1.0))
