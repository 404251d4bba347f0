"""Mixtures of narrow-band recordings, cut off where the narrowest of their sources ends."""

from __future__ import annotations

import torch
from torch import Tensor


def band_limited(sources: Tensor, cutoff: Tensor, sample_rate: int) -> Tensor:
    """Remove what lies above each mixture's cutoff, so that the model does not learn the bandwidth of a recording.

    Args:
        sources: (mixtures, ..., samples).
        cutoff: (mixtures,) Hz.
        sample_rate: Hz.
    """
    samples = sources.shape[-1]
    frequencies = torch.fft.rfftfreq(samples, 1 / sample_rate, device=sources.device)
    wanted = cutoff < sample_rate / 2
    if not bool(wanted.any()):
        return sources
    result = sources.clone()
    keep = frequencies <= cutoff[wanted, None]
    keep = keep.view(len(keep), *[1] * (sources.ndim - 2), -1)
    result[wanted] = torch.fft.irfft(torch.fft.rfft(sources[wanted]) * keep, samples)
    return result
