"""A discriminator that tells estimates from targets by patches of their spectrograms.

Fan, Lai and Jang, "SVSGAN: Singing Voice Separation via Generative Adversarial Network" (ICASSP 2018): the separator is
trained as usual first, then also to look like the targets to a second network, which sees the mixture too. It judges
patches (Isola et al., 2017: "Image-to-Image Translation with Conditional Adversarial Networks") by squared errors (Mao
et al., 2017: "Least Squares Generative Adversarial Networks").
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiosep.errors import ConfigError
from audiosep.models.stft import power, stft

COMPRESSION = 0.15  # exponent of powers
SLOPE = 0.2


@dataclass(frozen=True)
class AdversaryConfig:
    """The discriminator and its part of the loss.

    Attributes:
        weight: of the loss of estimates that it recognises as such.
        after: batches without it (of one process; steps, where `trainer.accumulation` is 1), in which the separator
            learns by the other losses.
        widths: channels of its layers, each of which halves bins and frames.
        n_fft: FFT length, samples.
        hop: samples between frames.
    """

    weight: float = 0.05
    after: int = 1000
    widths: tuple[int, ...] = (32, 64, 128)
    n_fft: int = 1024
    hop: int = 256

    def __post_init__(self) -> None:
        if not self.weight > 0 or self.after < 0:
            raise ConfigError(f"adversary: weight must be greater than 0 and after not negative, got {self}")
        if not self.widths or min(self.widths) < 1 or not 0 < self.hop < self.n_fft:
            raise ConfigError(f"adversary: widths must be positive and hop shorter than n_fft, got {self}")


class PatchDiscriminator(nn.Module):
    """Convolutions from the spectrograms of sound and mixture to one score for each patch.

    Args:
        config: its sizes.
    """

    def __init__(self, config: AdversaryConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(nn.Conv2d(i, o, 4, 2, padding=2) for i, o in pairwise((2, *config.widths)))
        self.last = nn.Conv2d(config.widths[-1], 1, 3, padding=1)

    def forward(self, sound: Tensor, mix: Tensor) -> Tensor:
        """Scores near 1 for targets, near 0 for estimates.

        Args:
            sound: (n, channels, samples), a target or an estimate.
            mix: (n, channels, samples).

        Returns:
            (n * channels, 1, patches of bins, patches of frames).
        """
        with torch.autocast(sound.device.type, enabled=False):
            found = [self._spectrogram(x.float().flatten(0, 1)) for x in (sound, mix)]
            level = found[1].mean((1, 2), keepdim=True) + 1e-4
            x = torch.stack([spectrogram / level for spectrogram in found], 1)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE)
        scores: Tensor = self.last(x).float()
        return scores

    def _spectrogram(self, x: Tensor) -> Tensor:
        """(n, samples) -> (n, bins, frames): compressed, with a finite slope at silence."""
        return (power(stft(x, self.config.n_fft, self.config.hop)) + 1e-8) ** COMPRESSION


def deception(discriminator: PatchDiscriminator, estimate: Tensor, mix: Tensor) -> Tensor:
    """The separator's loss: how far the scores of its estimates are from those of targets.

    Args:
        discriminator: gets no gradient.
        estimate: (n, channels, samples).
        mix: (n, channels, samples).
    """
    discriminator.requires_grad_(False)
    loss: Tensor = (discriminator(estimate, mix) - 1).square().mean()
    discriminator.requires_grad_(True)
    return loss


def discrimination(discriminator: PatchDiscriminator, estimate: Tensor, target: Tensor, mix: Tensor) -> Tensor:
    """The discriminator's loss: scores of 1 for targets and 0 for estimates.

    Args:
        discriminator: is trained.
        estimate: (n, channels, samples), without a gradient.
        target: (n, channels, samples).
        mix: (n, channels, samples).
    """
    false, true = discriminator(estimate, mix), discriminator(target, mix)
    loss: Tensor = (false.square().mean() + (true - 1).square().mean()) / 2
    return loss
