"""Losses for separation, by name, to be added up in a configuration.

    {"losses": [{"name": "band_snr", "weight": 0.1}, {"name": "band_magnitude", "power": 0.15}]}

Two kinds: of waveforms (estimate e, target t, mixture x, with interference n = x - t) and of band energies, which need
no spectrogram of the estimate: for a mask m that is constant within a band the squared error of m X against T is

    sum m^2 A - 2 m B + C,   A = sum |X|^2,  B = sum Re(X conj(T)),  C = sum |T|^2 over the bins of the band.

A target below -40 dB of its mixture counts as absent: what is asked then is silence, measured against the mixture,
because silence has no scale of its own. All losses give one number a query and finite gradients on silence; all
but the plain differences (l1, huber) do not change when the mixture is made louder.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from audiosep.errors import ConfigError
from audiosep.models.stft import power as power_of
from audiosep.models.stft import stft

ABSENT = 1e-4
TINY = 1e-8

Loss = Callable[..., Tensor]


def l1(estimate: Tensor, target: Tensor, mixture: Tensor) -> Tensor:
    """mean |e - t|, the loss of AudioSep (Liu et al., 2023)."""
    return (estimate - target).abs().mean(-1)


def huber(estimate: Tensor, target: Tensor, mixture: Tensor, delta: float = 0.02) -> Tensor:
    """Mean of d^2 / 2 where |d| = |e - t| < delta, delta (|d| - delta / 2) beyond (Huber, 1964).

    Args:
        delta: amplitude (1 is full scale) where the parabola becomes a line.
    """
    return F.huber_loss(estimate, target, reduction="none", delta=delta).mean(-1)


def snr(estimate: Tensor, target: Tensor, mixture: Tensor, threshold_db: float = 30.0, absent: float = 0.1) -> Tensor:
    """Thresholded negative SNR (Wisdom et al., 2021: "What's all the FUSS about free universal sound separation").

    10 log10((sum (e - t)^2 + tau R) / R) with tau = 10^(-threshold_db / 10) and R = sum t^2, or sum x^2 where the
    target is absent. Beyond the threshold an easy example has no more to give.

    Args:
        threshold_db: SNR at which the gradient fades.
        absent: weight of queries whose target is absent.
    """
    error = (estimate - target).square().sum(-1)
    return _thresholded(error, target.square().sum(-1), mixture.square().sum(-1), threshold_db, absent)


def si_sdr(estimate: Tensor, target: Tensor, mixture: Tensor) -> Tensor:
    """Negative scale-invariant SDR (Le Roux et al., 2019), soft-limited to +-50 dB; 0 where the target is absent.

    -10 log10((|a t|^2 + eps) / (|a t - e|^2 + eps)), a = <e, t> / |t|^2, eps = 1e-5 |e|^2.
    """
    energy = target.square().sum(-1, keepdim=True)
    projection = (estimate * target).sum(-1, keepdim=True) / (energy + TINY) * target
    good, bad = projection.square().sum(-1), (projection - estimate).square().sum(-1)
    floor = 1e-5 * estimate.square().sum(-1) + TINY
    ratio = 10 * (torch.log10(bad + floor) - torch.log10(good + floor))
    return torch.where(_absent(energy[..., 0], mixture.square().sum(-1)), torch.zeros_like(ratio), ratio)


def noise_weighted_mse(
    estimate: Tensor, target: Tensor, mixture: Tensor, window: int = 1024, floor: float = 0.1
) -> Tensor:
    """Squared error weighted by the local share of the interference, relative to the mixture's energy.

    sum w (e - t)^2 / sum x^2 with w = floor + (1 - floor) N / (N + T), where N and T are the energies of n and t around
    each sample: where the target sounds alone a mask cannot do much wrong, so the weight goes to where it has work.

    Args:
        window: samples over which the local energies are taken.
        floor: weight where there is no interference.
    """
    local_n, local_t = (_smooth((mixture - target).square(), window), _smooth(target.square(), window))
    weight = floor + (1 - floor) * local_n / (local_n + local_t + TINY)
    error = (weight * (estimate - target).square()).sum(-1)
    return error / (mixture.square().sum(-1) + TINY)


def projection(estimate: Tensor, target: Tensor, mixture: Tensor, interference: float = 1.0) -> Tensor:
    """Source-projection loss: e = a t + b n + R by least squares, wanted a = 1, b = 0, R = 0.

    (a - 1)^2 |t|^2 / P + interference * b^2 |n|^2 / P + |R|^2 / P, with P = |t|^2, or |x|^2 where the target is absent.
    The parts are gain error, interference and artefacts of BSS Eval (Vincent et al., 2006) without filters.

    Args:
        interference: weight of what leaks through.
    """
    noise = mixture - target
    tt, nn = target.square().sum(-1), noise.square().sum(-1)
    tn, et, en = (target * noise).sum(-1), (estimate * target).sum(-1), (estimate * noise).sum(-1)
    ridge = 1e-6 * (tt + nn) + TINY
    determinant = (tt + ridge) * (nn + ridge) - tn.square()
    a = (et * (nn + ridge) - en * tn) / determinant
    b = (en * (tt + ridge) - et * tn) / determinant
    rest = estimate - a[..., None] * target - b[..., None] * noise
    total = mixture.square().sum(-1)
    reference = torch.where(_absent(tt, total), total, tt) + TINY
    return ((a - 1).square() * tt + interference * b.square() * nn + rest.square().sum(-1)) / reference


def silence(estimate: Tensor, target: Tensor, mixture: Tensor, threshold_db: float = 30.0) -> Tensor:
    """For absent targets the level of the output, 0 for all others (Wisdom et al., 2021, inactive sources).

    10 log10(sum e^2 / sum x^2 + tau), tau = 10^(-threshold_db / 10).

    Args:
        threshold_db: attenuation that is enough.
    """
    total = mixture.square().sum(-1)
    level = 10 * torch.log10(estimate.square().sum(-1) / (total + TINY) + 10 ** (-threshold_db / 10))
    return torch.where(_absent(target.square().sum(-1), total), level, torch.zeros_like(level))


def multi_resolution_stft(
    estimate: Tensor,
    target: Tensor,
    mixture: Tensor,
    sizes: Sequence[int] = (512, 1024, 2048),
    power: float = 0.3,
) -> Tensor:
    """Distance of compressed magnitudes at several FFT sizes, relative to the mixture's.

    Mean over sizes of mean | |E|^p - |T|^p | / mean |X|^p, hop = size / 4. Several resolutions after Yamamoto et al.
    (2020, Parallel WaveGAN), compression after Braun and Tashev (2021).

    Args:
        sizes: FFT lengths in samples.
        power: exponent of the magnitudes.
    """
    total = torch.zeros_like(estimate[..., 0])
    for size in sizes:
        e, t, x = (power_of(stft(signal, size, size // 4)) for signal in (estimate, target, mixture))
        total = total + _compressed(e, t, x, power / 2)
    return total / len(sizes)


def band_snr(
    mask: Tensor, mixture: Tensor, cross: Tensor, target: Tensor, threshold_db: float = 30.0, absent: float = 0.1
) -> Tensor:
    """Thresholded negative SNR (see `snr`) on band energies.

    10 log10((sum (m^2 A - 2 m B + C) + tau R) / R), R = sum C, or sum A where the target is absent.

    Args:
        mask, mixture, cross, target: m, A, B, C of the module's description, (queries, bands, frames).
        threshold_db: SNR at which the gradient fades.
        absent: weight of queries whose target is absent.
    """
    error = (mask.square() * mixture - 2 * mask * cross + target).sum((-2, -1)).clamp_min(0)
    return _thresholded(error, target.sum((-2, -1)), mixture.sum((-2, -1)), threshold_db, absent)


def band_magnitude(mask: Tensor, mixture: Tensor, cross: Tensor, target: Tensor, power: float = 0.15) -> Tensor:
    """Distance of compressed band energies relative to the mixture's: quiet bands count too (Braun and Tashev, 2021).

    mean |(m^2 A + eps)^p - (C + eps)^p| / mean (A + eps)^p, eps = 1e-7 mean A.

    Args:
        mask, mixture, cross, target: m, A, B, C of the module's description, (queries, bands, frames).
        power: exponent of the energies; half the exponent of the magnitudes.
    """
    return _compressed(mask.square() * mixture, target, mixture, power)


def band_si_sdr(mask: Tensor, mixture: Tensor, cross: Tensor, target: Tensor, limit_db: float = 30.0) -> Tensor:
    """Negative scale-invariant SDR (see `si_sdr`) on band energies; 0 where the target is absent.

    10 log10((1 - r + tau) / (r + tau)), r = (sum m B)^2 / (sum m^2 A sum C) the squared cosine of estimate and target.
    A thresholded SNR costs nothing when the output is silent; this one makes an unsure network let both sounds through
    instead of cutting out what may be the wanted one.

    Args:
        mask, mixture, cross, target: m, A, B, C of the module's description, (queries, bands, frames).
        limit_db: beyond +-limit_db the gradient fades, tau = 10^(-limit_db / 10).
    """
    shared, energy = (mask * cross).sum((-2, -1)).clamp_min(0), target.sum((-2, -1))
    cosine = shared.square() / (((mask.square() * mixture).sum((-2, -1)) + TINY) * (energy + TINY))
    cosine = cosine.clamp_max(1)
    tau = 10 ** (-limit_db / 10)
    ratio = 10 * (torch.log10(1 - cosine + tau) - torch.log10(cosine + tau))
    return torch.where(_absent(energy, mixture.sum((-2, -1))), torch.zeros_like(ratio), ratio)


WAVEFORM_LOSSES: dict[str, Loss] = {
    f.__name__: f for f in (l1, huber, snr, si_sdr, noise_weighted_mse, projection, silence, multi_resolution_stft)
}
BAND_LOSSES: dict[str, Loss] = {f.__name__: f for f in (band_snr, band_si_sdr, band_magnitude)}


class Losses:
    """A weighted sum of named losses.

    Args:
        terms: [{"name": ..., "weight": 1.0, option: value, ...}]; options are the arguments of the loss.

    Attributes:
        waveform, band: whether there are terms of that kind.

    Raises:
        ConfigError: an unknown name or option.
    """

    def __init__(self, terms: Sequence[Mapping[str, Any]]) -> None:
        self._terms = [_term(term, f"losses[{i}]") for i, term in enumerate(terms)]
        if not self._terms:
            raise ConfigError("losses: name at least one, such as band_snr")
        self.waveform = any(name in WAVEFORM_LOSSES for name, _, _ in self._terms)
        self.band = any(name in BAND_LOSSES for name, _, _ in self._terms)

    def waveforms(self, estimate: Tensor, target: Tensor, mixture: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The terms on waveforms.

        Args:
            estimate, target, mixture: (queries, ..., samples); channels are averaged.

        Returns:
            (queries,) the weighted sum, and the means of the terms, detached, before weighting.
        """
        return self._sum(WAVEFORM_LOSSES, (estimate, target, mixture))

    def bands(self, mask: Tensor, mixture: Tensor, cross: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The terms on band energies.

        Args:
            mask: (queries, bands, frames).
            mixture, cross, target: energies A, B, C of the module's description, same shape.

        Returns:
            As `waveforms`.
        """
        return self._sum(BAND_LOSSES, (mask, mixture, cross, target))

    def _sum(self, registry: Mapping[str, Loss], signals: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        total, parts = signals[0].new_zeros(signals[0].shape[0], dtype=torch.float32), {}
        with torch.autocast(signals[0].device.type, enabled=False):
            inputs = [signal.float() for signal in signals]
            for name, weight, options in self._terms:
                if name in registry:
                    value = registry[name](*inputs, **options).reshape(total.shape[0], -1).mean(1)
                    total = total + weight * value
                    parts[name] = value.detach().mean()
        return total, parts


def _term(term: Mapping[str, Any], where: str) -> tuple[str, float, dict[str, Any]]:
    options = dict(term)
    name, weight = options.pop("name", None), options.pop("weight", 1.0)
    known = WAVEFORM_LOSSES | BAND_LOSSES
    if name not in known:
        raise ConfigError(f"{where}.name: {name!r} is not one of {', '.join(sorted(known))}")
    if not isinstance(weight, int | float) or isinstance(weight, bool):
        raise ConfigError(f"{where}.weight: expected a number, got {weight!r}")
    parameters = inspect.signature(known[name]).parameters.values()
    allowed = [p.name for p in parameters if p.default is not inspect.Parameter.empty]
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        raise ConfigError(f"{where}: {name} has no option {unknown[0]!r}; it has {', '.join(allowed) or 'none'}")
    return name, float(weight), options


def _absent(target: Tensor, mixture: Tensor) -> Tensor:
    return target < ABSENT * mixture


def _thresholded(error: Tensor, target: Tensor, mixture: Tensor, threshold_db: float, absent: float) -> Tensor:
    missing = _absent(target, mixture)
    reference = torch.where(missing, mixture, target) + TINY
    ratio = 10 * torch.log10(error / reference + 10 ** (-threshold_db / 10))
    return ratio * torch.where(missing, absent, 1.0)


def _compressed(estimate: Tensor, target: Tensor, mixture: Tensor, power: float) -> Tensor:
    """Relative distance of compressed energies (..., frequencies, frames)."""
    floor = 1e-7 * mixture.mean((-2, -1), keepdim=True) + 1e-12
    distance = ((estimate + floor) ** power - (target + floor) ** power).abs().mean((-2, -1))
    return distance / ((mixture + floor) ** power).mean((-2, -1))


def _smooth(energy: Tensor, window: int) -> Tensor:
    """Moving mean over `window` samples (rounded up to odd), same length."""
    half = min(window // 2, energy.shape[-1] - 1)
    flat = energy.reshape(-1, 1, energy.shape[-1])
    return F.avg_pool1d(flat, 2 * half + 1, 1, half, count_include_pad=False).reshape(energy.shape)
