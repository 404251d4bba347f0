"""Losses for separation by name, which a configuration adds up.

    {"losses": [{"name": "band_snr", "weight": 0.1}, {"name": "band_magnitude", "power": 0.15}]}

Losses on waveforms have a module of their own. Those here are on band energies and need no spectrogram of the estimate:
for a mask m that is constant within a band the squared error of m X against T is

    sum m^2 A - 2 m B + C,   A = sum |X|^2,  B = sum Re(X conj(T)),  C = sum |T|^2 over the bins of the band.

A target below -40 dB of its mixture counts as absent: the estimate should then be silent, and its level is measured
relative to the mixture because a silent target has none. All losses give one number for each query, have finite
gradients on silence and do not depend on the level of the mixture.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from audiosep.errors import ConfigError

ABSENT = 1e-4  # energy of a target relative to its mixture, -40 dB
TINY = 1e-8

Loss = Callable[..., Tensor]


def band_snr(
    mask: Tensor, mixture: Tensor, cross: Tensor, target: Tensor, threshold_db: float = 30.0, absent: float = 0.1
) -> Tensor:
    """Thresholded negative SNR (see `waveform_losses.snr`) on band energies.

    10 log10((sum (m^2 A - 2 m B + C) + tau R) / R), R = sum C, or sum A if the target is absent.

    Args:
        mask: m, (queries, bands, frames).
        mixture: A, same shape.
        cross: B, same shape.
        target: C, same shape.
        threshold_db: SNR above which the gradient fades.
        absent: weight of queries whose target is absent.

    Returns:
        (queries,), dB.
    """
    error = squared_error(mask, mixture, cross, target).clamp_min(0)
    return thresholded(error, target.sum((-2, -1)), mixture.sum((-2, -1)), threshold_db, absent)


def band_magnitude(mask: Tensor, mixture: Tensor, cross: Tensor, target: Tensor, power: float = 0.15) -> Tensor:
    """Distance of compressed band energies relative to the mixture's (Braun and Tashev, 2021).

    mean |(m^2 A + eps)^p - (C + eps)^p| / mean (A + eps)^p, eps = 1e-7 mean A. The compression gives quiet bands
    weight.

    Args:
        mask: m, (queries, bands, frames).
        mixture: A, same shape.
        cross: B, same shape; not used.
        target: C, same shape.
        power: exponent of the energies; half the exponent of the magnitudes.

    Returns:
        (queries,).
    """
    return compressed_distance(mask.square() * mixture, target, mixture, power)


def band_si_sdr(mask: Tensor, mixture: Tensor, cross: Tensor, target: Tensor, limit_db: float = 30.0) -> Tensor:
    """Negative scale-invariant SDR (Le Roux et al., 2019) on band energies; 0 if the target is absent.

    10 log10((1 - r + tau) / (r + tau)), r = (sum m B)^2 / (sum m^2 A sum C) the squared cosine of estimate and target.
    A silent estimate costs nothing in a thresholded SNR. With this loss an uncertain network lets both sounds through
    instead of removing the one that may be the target.

    Args:
        mask: m, (queries, bands, frames).
        mixture: A, same shape.
        cross: B, same shape.
        target: C, same shape.
        limit_db: beyond +-limit_db the gradient fades, tau = 10^(-limit_db / 10).

    Returns:
        (queries,), dB.
    """
    shared, energy = (mask * cross).sum((-2, -1)).clamp_min(0), target.sum((-2, -1))
    cosine = shared.square() / (((mask.square() * mixture).sum((-2, -1)) + TINY) * (energy + TINY))
    cosine = cosine.clamp_max(1)
    tau = 10 ** (-limit_db / 10)
    ratio = 10 * (torch.log10(1 - cosine + tau) - torch.log10(cosine + tau))
    return torch.where(is_absent(energy, mixture.sum((-2, -1))), torch.zeros_like(ratio), ratio)


BAND_LOSSES: dict[str, Loss] = {f.__name__: f for f in (band_snr, band_si_sdr, band_magnitude)}


class WeightedLosses:
    """A weighted sum of named losses.

    Args:
        terms: [{"name": ..., "weight": 1.0, option: value, ...}]; options are the arguments of the loss.
        losses: the losses to choose from, `waveform_losses.WAVEFORM_LOSSES` or `BAND_LOSSES`.

    Raises:
        ConfigError: an unknown name or option.
    """

    def __init__(self, terms: Sequence[Mapping[str, Any]], losses: Mapping[str, Loss]) -> None:
        self._terms = [_term(term, losses, f"losses[{i}]") for i, term in enumerate(terms)]
        self._losses = losses
        if not self._terms:
            raise ConfigError(f"losses: name at least one of {', '.join(sorted(losses))}")

    def __call__(self, *signals: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the sum in float32.

        Args:
            signals: the tensor arguments of the losses, each (queries, ...). On waveforms (queries, channels, samples)
                the loss is the mean over channels.

        Returns:
            (queries,) the weighted sum, and the means of the terms, detached, before weighting.
        """
        total, parts = signals[0].new_zeros(signals[0].shape[0], dtype=torch.float32), {}
        with torch.autocast(signals[0].device.type, enabled=False):
            inputs = [signal.float() for signal in signals]
            for name, weight, options in self._terms:
                value = self._losses[name](*inputs, **options)
                value = value.flatten(1).mean(1) if value.ndim > 1 else value
                total = total + weight * value
                parts[name] = value.detach().sum() / max(1, len(value))  # a batch may have no query
        return total, parts


def _term(term: Mapping[str, Any], losses: Mapping[str, Loss], where: str) -> tuple[str, float, dict[str, Any]]:
    options = dict(term)
    name, weight = options.pop("name", None), options.pop("weight", 1.0)
    if name not in losses:
        raise ConfigError(f"{where}.name: {name!r} is not one of {', '.join(sorted(losses))}")
    if not isinstance(weight, int | float) or isinstance(weight, bool):
        raise ConfigError(f"{where}.weight: expected a number, got {weight!r}")
    parameters = inspect.signature(losses[name]).parameters.values()
    allowed = [p.name for p in parameters if p.default is not inspect.Parameter.empty]
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        raise ConfigError(f"{where}: {name} has no option {unknown[0]!r}; it has {', '.join(allowed) or 'none'}")
    return name, float(weight), options


def squared_error(mask: Tensor, mixture: Tensor, cross: Tensor, target: Tensor) -> Tensor:
    """Sum of m^2 A - 2 m B + C: the squared error of a mask from band energies.

    Args:
        mask: m, (queries, bands, frames).
        mixture: A, same shape.
        cross: B, same shape.
        target: C, same shape.

    Returns:
        (queries,).
    """
    return (mask.square() * mixture - 2 * mask * cross + target).sum((-2, -1))


def is_absent(target: Tensor, mixture: Tensor) -> Tensor:
    """Whether the energy of a target is so low that it counts as absent.

    Args:
        target: energies of the targets.
        mixture: energies of their mixtures, same shape.
    """
    return target < ABSENT * mixture


def thresholded(error: Tensor, target: Tensor, mixture: Tensor, threshold_db: float, absent: float) -> Tensor:
    missing = is_absent(target, mixture)
    reference = torch.where(missing, mixture, target) + TINY
    ratio = 10 * torch.log10(error / reference + 10 ** (-threshold_db / 10))
    return ratio * torch.where(missing, absent, 1.0)


def compressed_distance(estimate: Tensor, target: Tensor, mixture: Tensor, power: float) -> Tensor:
    """Relative distance of compressed energies (..., frequencies, frames)."""
    floor = 1e-7 * mixture.mean((-2, -1), keepdim=True) + 1e-12
    distance = ((estimate + floor) ** power - (target + floor) ** power).abs().mean((-2, -1))
    return distance / ((mixture + floor) ** power).mean((-2, -1))
