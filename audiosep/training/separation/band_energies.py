"""Band energies of mixtures and targets, on which the losses of separation are computed; see `losses`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from audiosep.models.hybrid import Hybrid
from audiosep.models.stft import power, stft
from audiosep.training.separation.losses import is_absent, squared_error


@dataclass
class BandEnergies:
    """Energies A (mixture), B (cross) and C (target), each (n, bands, frames)."""

    mixture: Tensor
    cross: Tensor
    target: Tensor

    def improvement(self, mask: Tensor) -> Tensor:
        """Mean SDR improvement of masks (dB), without absent targets and targets that are the whole mixture.

        Args:
            mask: (n, bands, frames).
        """
        energy = self.target.sum((1, 2))
        after = squared_error(mask, self.mixture, self.cross, self.target).clamp_min(1e-9)
        before = (self.mixture - 2 * self.cross + self.target).sum((1, 2))
        counts = ~is_absent(energy, self.mixture.sum((1, 2))) & (before > 1e-3 * energy)
        gain = 10 * torch.log10(before.clamp_min(1e-9) / after)
        return (gain * counts).sum() / counts.sum().clamp_min(1)


def spectra(model: Hybrid, waveforms: Tensor) -> Tensor:
    """Transform waveforms as the model does.

    Args:
        model: for the STFT's size and hop.
        waveforms: (..., samples).

    Returns:
        (..., bins, frames) complex.
    """
    return stft(waveforms, model.config.n_fft, model.hop)


def cut_above(model: Hybrid, spectrum: Tensor, cutoff: Tensor, where: Tensor) -> Tensor:
    """Set the bins above a cutoff to zero.

    Args:
        model: for the sample rate and the STFT's size.
        spectrum: (mixtures, channels, bins, frames).
        cutoff: (mixtures,) Hz.
        where: (mixtures,) bool; other mixtures are not cut.
    """
    bins = torch.arange(spectrum.shape[-2], device=spectrum.device) * model.sample_rate / model.config.n_fft
    keep = (bins[None] <= cutoff[:, None]) | ~where[:, None]
    return spectrum * keep[:, None, :, None]


def band_energies(model: Hybrid, spectrum: Tensor, targets: Tensor, owner: Tensor) -> BandEnergies:
    """Compute the energies of targets and their mixtures, means over the channels.

    Args:
        model: for its bands.
        spectrum: (mixtures, channels, bins, frames), zero in bins that the loss must ignore.
        targets: (n, channels, samples).
        owner: (n,) the mixture of each target.
    """
    mix, target = spectrum[owner], spectra(model, targets)
    cross = (mix.real * target.real + mix.imag * target.imag).mean(1)
    total, energy = power(spectrum), model.bands.energy
    used = power(target) * (total > 0).any(-1, keepdim=True)[owner]
    return BandEnergies(energy(total.mean(1))[owner], energy(cross), energy(used.mean(1)))
