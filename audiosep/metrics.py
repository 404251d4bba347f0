"""Quality of a separation in dB, as functions of tensors.

Every function takes waveforms whose last axis is samples, broadcasts over the axes before, and returns one number for
each signal. "SDR" has several meanings in the literature; each function says which it computes.

Silence (a mean square below `SILENCE`, less than one step of 16-bit audio):

- a silent reference has no ratio: NaN, which `torch.nanmean` leaves out;
- a silent estimate of an audible reference has an SNR and SDR of 0 dB by formula, and the lowest SI-SDR, -100 dB;
- results are limited to -100 ... 100 dB, so that a perfect estimate is a finite number.

An estimate with NaN or infinity has no meaningful result, and a mean that leaves NaN out would not count it: callers
refuse it before.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

SILENCE = 1e-10
LIMIT_DB = 100.0


def snr(estimate: Tensor, reference: Tensor) -> Tensor:
    """Signal-to-noise ratio: 10 log10(sum r^2 / sum (r - e)^2) over the samples of each channel.

    This is what the AudioSep papers call SDR (Liu et al., 2023: "Separate Anything You Describe").

    Args:
        estimate: (..., samples).
        reference: (..., samples).

    Returns:
        (...) in dB.
    """
    estimate, reference = _same(estimate, reference)
    return _ratio_db(reference.square().sum(-1), (reference - estimate).square().sum(-1), _audible(reference))


def sdr(estimate: Tensor, reference: Tensor) -> Tensor:
    """Signal-to-distortion ratio over all channels together: 10 log10(sum r^2 / sum (r - e)^2).

    The utterance SDR of the Sound Demixing Challenge (Fabbro et al., 2024), not the BSS Eval SDR that allows a filter
    (Vincent et al., 2006), nor its median over seconds that is usual for MUSDB18.

    Args:
        estimate: (..., channels, samples).
        reference: (..., channels, samples).

    Returns:
        (...) in dB.
    """
    return snr(estimate.flatten(-2), reference.flatten(-2))


def si_sdr(estimate: Tensor, reference: Tensor) -> Tensor:
    """Scale-invariant SDR (Le Roux et al., 2019: "SDR - half-baked or well done?"), without removing the mean.

    With a = <e, r> / <r, r>: 10 log10(sum (a r)^2 / sum (a r - e)^2).

    Args:
        estimate: (..., samples).
        reference: (..., samples).

    Returns:
        (...) in dB.
    """
    estimate, reference = _same(estimate, reference)
    audible = _audible(reference)
    energy = reference.square().sum(-1, keepdim=True)
    scale = (estimate * reference).sum(-1, keepdim=True) / energy.clamp_min(torch.finfo(energy.dtype).tiny)
    projection = scale * reference
    ratio = _ratio_db(projection.square().sum(-1), (projection - estimate).square().sum(-1), audible)
    silent = estimate.square().sum(-1) == 0
    return torch.where(silent & audible, torch.full_like(ratio, -LIMIT_DB), ratio)


def snri(estimate: Tensor, reference: Tensor, mixture: Tensor) -> Tensor:
    """Improvement of `snr` over the mixture.

    Args:
        estimate: (..., samples).
        reference: (..., samples).
        mixture: (..., samples).

    Returns:
        (...) in dB; NaN where the reference is silent.
    """
    return snr(estimate, reference) - snr(mixture, reference)


def sdri(estimate: Tensor, reference: Tensor, mixture: Tensor) -> Tensor:
    """Improvement of `sdr` over the mixture.

    Compare it with `si_sdri`: scaling the mixture down improves the SDR by up to 3 dB at equal levels, and the SI-SDR
    not at all.

    Args:
        estimate: (..., channels, samples).
        reference: (..., channels, samples).
        mixture: (..., channels, samples).

    Returns:
        (...) in dB; NaN where the reference is silent.
    """
    return sdr(estimate, reference) - sdr(mixture, reference)


def si_sdri(estimate: Tensor, reference: Tensor, mixture: Tensor) -> Tensor:
    """Improvement of `si_sdr` over the mixture.

    Args:
        estimate: (..., samples).
        reference: (..., samples).
        mixture: (..., samples).

    Returns:
        (...) in dB; NaN where the reference is silent.
    """
    return si_sdr(estimate, reference) - si_sdr(mixture, reference)


def suppression(estimate: Tensor, mixture: Tensor) -> Tensor:
    """How far the estimate of an absent sound lies below the mixture: 10 log10(sum x^2 / sum e^2).

    Args:
        estimate: (..., samples).
        mixture: (..., samples).

    Returns:
        (...) in dB, at most 100; NaN where the mixture is silent.
    """
    estimate, mixture = _same(estimate, mixture)
    return _ratio_db(mixture.square().sum(-1), estimate.square().sum(-1), _audible(mixture))


def roc_auc(present: Sequence[float], absent: Sequence[float]) -> float:
    """Area under the ROC curve of a score that should tell present sounds from absent ones.

    It is the chance that a present sound scores higher than an absent one, ties counting half.

    Args:
        present: scores where the sound is in the mixture.
        absent: scores where it is not.

    Returns:
        0 to 1, 0.5 for chance; NaN if one kind is missing.
    """
    from scipy.stats import mannwhitneyu  # of the extras eval and train; the rest of this module needs torch alone

    if not len(present) or not len(absent):
        return float("nan")
    pairs = len(present) * len(absent)
    return float(mannwhitneyu(present, absent, method="asymptotic").statistic / pairs)


def _same(estimate: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    if estimate.shape[-1] != reference.shape[-1]:
        raise ValueError(f"lengths differ: estimate {estimate.shape[-1]}, reference {reference.shape[-1]} samples")
    estimate, reference = torch.broadcast_tensors(estimate, reference)
    return (estimate, reference) if estimate.dtype == torch.float64 else (estimate.float(), reference.float())


def _audible(reference: Tensor) -> Tensor:
    return reference.square().mean(-1) > SILENCE


def _ratio_db(signal: Tensor, noise: Tensor, audible: Tensor) -> Tensor:
    """10 log10(signal / noise) within +-100 dB, NaN where not audible."""
    tiny = torch.finfo(signal.dtype).tiny
    ratio = 10 * (signal.clamp_min(tiny).log10() - noise.clamp_min(tiny).log10())
    return torch.where(audible, ratio.clamp(-LIMIT_DB, LIMIT_DB), torch.full_like(ratio, torch.nan))
