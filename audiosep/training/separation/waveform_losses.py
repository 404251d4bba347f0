"""Losses on waveforms: estimate e, target t, mixture x, with interference n = x - t.

For fine-tuning and the task `waveform`, which take every family of models. Channels are averaged by
`losses.WeightedLosses`. All but the plain differences (`l1`, `huber`) do not depend on the level of the mixture.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from audiosep.models.stft import power as power_of
from audiosep.models.stft import stft
from audiosep.training.separation.losses import TINY, Loss, compressed_distance, is_absent, thresholded


def l1(estimate: Tensor, target: Tensor, mixture: Tensor) -> Tensor:
    """Mean of |e - t|, the loss of AudioSep (Liu et al., 2023).

    Args:
        estimate: (..., samples).
        target: (..., samples).
        mixture: (..., samples).

    Returns:
        (...).
    """
    return (estimate - target).abs().mean(-1)


def huber(estimate: Tensor, target: Tensor, mixture: Tensor, delta: float = 0.02) -> Tensor:
    """Mean of d^2 / 2 where |d| = |e - t| < delta, delta (|d| - delta / 2) beyond (Huber, 1964).

    Args:
        estimate: (..., samples).
        target: (..., samples).
        mixture: (..., samples).
        delta: amplitude (1 is full scale) where the parabola becomes a line.

    Returns:
        (...).
    """
    return F.huber_loss(estimate, target, reduction="none", delta=delta).mean(-1)


def snr(estimate: Tensor, target: Tensor, mixture: Tensor, threshold_db: float = 30.0, absent: float = 0.1) -> Tensor:
    """Thresholded negative SNR (Wisdom et al., 2021: "What's all the FUSS about free universal sound separation").

    10 log10((sum (e - t)^2 + tau R) / R) with tau = 10^(-threshold_db / 10) and R = sum t^2, or sum x^2 if the target
    is absent.

    Args:
        estimate: (..., samples).
        target: (..., samples).
        mixture: (..., samples).
        threshold_db: SNR above which the gradient fades.
        absent: weight of queries whose target is absent.

    Returns:
        (...), dB.
    """
    error = (estimate - target).square().sum(-1)
    return thresholded(error, target.square().sum(-1), mixture.square().sum(-1), threshold_db, absent)


def si_sdr(estimate: Tensor, target: Tensor, mixture: Tensor) -> Tensor:
    """Negative scale-invariant SDR (Le Roux et al., 2019), soft-limited to +-50 dB; 0 where the target is absent.

    -10 log10((|a t|^2 + eps) / (|a t - e|^2 + eps)), a = <e, t> / |t|^2, eps = 1e-5 |e|^2.

    Args:
        estimate: (..., samples).
        target: (..., samples).
        mixture: (..., samples).

    Returns:
        (...).
    """
    energy = target.square().sum(-1, keepdim=True)
    projection = (estimate * target).sum(-1, keepdim=True) / (energy + TINY) * target
    good, bad = projection.square().sum(-1), (projection - estimate).square().sum(-1)
    floor = 1e-5 * estimate.square().sum(-1) + TINY
    ratio = 10 * (torch.log10(bad + floor) - torch.log10(good + floor))
    return torch.where(is_absent(energy[..., 0], mixture.square().sum(-1)), torch.zeros_like(ratio), ratio)


def noise_weighted_mse(
    estimate: Tensor, target: Tensor, mixture: Tensor, window: int = 1024, floor: float = 0.1
) -> Tensor:
    """Squared error weighted by the local share of the interference, relative to the mixture's energy.

    sum w (e - t)^2 / sum x^2 with w = floor + (1 - floor) N / (N + T), where N and T are the energies of n and t around
    each sample: where the target sounds alone the mixture is nearly right, so the weight goes to where it is not.

    Args:
        estimate: (..., samples).
        target: (..., samples).
        mixture: (..., samples).
        window: samples over which the local energies are taken.
        floor: weight where there is no interference.

    Returns:
        (...).
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
        estimate: (..., samples).
        target: (..., samples).
        mixture: (..., samples).
        interference: weight of the interference that is left in the estimate.

    Returns:
        (...).
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
    reference = torch.where(is_absent(tt, total), total, tt) + TINY
    return ((a - 1).square() * tt + interference * b.square() * nn + rest.square().sum(-1)) / reference


def silence(estimate: Tensor, target: Tensor, mixture: Tensor, threshold_db: float = 30.0) -> Tensor:
    """For absent targets the level of the output, 0 for all others (Wisdom et al., 2021, inactive sources).

    10 log10(sum e^2 / sum x^2 + tau), tau = 10^(-threshold_db / 10).

    Args:
        estimate: (..., samples).
        target: (..., samples).
        mixture: (..., samples).
        threshold_db: attenuation beyond which the gradient fades.

    Returns:
        (...).
    """
    total = mixture.square().sum(-1)
    level = 10 * torch.log10(estimate.square().sum(-1) / (total + TINY) + 10 ** (-threshold_db / 10))
    return torch.where(is_absent(target.square().sum(-1), total), level, torch.zeros_like(level))


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
        estimate: (..., samples).
        target: (..., samples).
        mixture: (..., samples).
        sizes: FFT lengths in samples.
        power: exponent of the magnitudes.

    Returns:
        (...).
    """
    total = torch.zeros_like(estimate[..., 0])
    for size in sizes:
        e, t, x = (power_of(stft(signal, size, size // 4)) for signal in (estimate, target, mixture))
        total = total + compressed_distance(e, t, x, power / 2)
    return total / len(sizes)


def ssim(
    estimate: Tensor, target: Tensor, mixture: Tensor, size: int = 1024, power: float = 0.3, window: int = 7
) -> Tensor:
    """One minus the structural similarity of compressed spectrograms (Wang et al., 2004: "Image Quality Assessment").

    Mean over all patches of 1 - (2 m_e m_t + c1) (2 s_et + c2) / ((m_e^2 + m_t^2 + c1) (s_e^2 + s_t^2 + c2)), with
    means m, variances s^2 and covariance s_et of the magnitudes to `power` in a patch, c1 = (0.01 L)^2,
    c2 = (0.03 L)^2, and L the largest value of the mixture; hop = size / 4.

    Args:
        estimate: (..., samples).
        target: (..., samples).
        mixture: (..., samples).
        size: FFT length in samples.
        power: exponent of the magnitudes.
        window: bins and frames of a patch.

    Returns:
        (...), from 0 (equal) to 2.
    """
    spectra = (power_of(stft(x, size, size // 4)) for x in (estimate, target, mixture))
    e, t, x = ((spectrum + TINY) ** (power / 2) for spectrum in spectra)
    peak = x.amax((-2, -1), keepdim=True)
    c1, c2 = (0.01 * peak).square(), (0.03 * peak).square()
    window = min(window, *e.shape[-2:])

    def patches(values: Tensor) -> Tensor:
        means = F.avg_pool2d(values.reshape(-1, *values.shape[-2:]), window, 1)
        found: Tensor = means.unflatten(0, values.shape[:-2] or (1,))
        return found

    m_e, m_t = patches(e), patches(t)
    s_e, s_t, s_et = patches(e * e) - m_e.square(), patches(t * t) - m_t.square(), patches(e * t) - m_e * m_t
    same: Tensor = (2 * m_e * m_t + c1) * (2 * s_et + c2) / ((m_e.square() + m_t.square() + c1) * (s_e + s_t + c2))
    return 1 - same.mean((-2, -1)).reshape(estimate.shape[:-1])


WAVEFORM_LOSSES: dict[str, Loss] = {
    f.__name__: f
    for f in (l1, huber, snr, si_sdr, noise_weighted_mse, projection, silence, multi_resolution_stft, ssim)
}


def _smooth(energy: Tensor, window: int) -> Tensor:
    """The moving mean over `window` samples (rounded up to odd), of the same length."""
    half = min(window // 2, energy.shape[-1] - 1)
    flat = energy.reshape(-1, 1, energy.shape[-1])
    return F.avg_pool1d(flat, 2 * half + 1, 1, half, count_include_pad=False).reshape(energy.shape)
