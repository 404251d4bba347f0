"""CWS-PResUNet: a residual U-Net of 276 layers whose input channels are subbands.

Liu, Kong and Liu, "CWS-PResUNet: Music Source Separation with Channel-wise Subband Phase-aware ResUNet" (MDX Workshop
2021), https://arxiv.org/abs/2112.04685: a bank of filters cuts the waveform into four bands of a quarter of the rate,
whose spectra are the channels of one network, so that its weights need not be the same for low and high frequencies.
"""

from __future__ import annotations

from dataclasses import dataclass

from einops import rearrange
from torch import Tensor

from audiosep.models.backbones.backbone import WaveBackbone
from audiosep.models.backbones.backbone_request import BackboneRequest
from audiosep.models.backbones.decoupled_resunet import DecoupledResUNet
from audiosep.models.backbones.pqmf import FilterBank
from audiosep.models.backbones.resunet_decouple import ResUNetDecoupleConfig
from audiosep.models.stft import istft, stft


@dataclass(frozen=True)
class CWSPResUNetConfig(ResUNetDecoupleConfig):
    """Sizes; the defaults are the published ones.

    Attributes:
        n_fft: FFT length, samples.
        hop: samples between frames.
        frame_levels: levels that halve the frames too, from the finest.
        blocks: residual blocks of a level.
        subbands: of equal width; n_fft and hop are in samples of a subband.
    """

    n_fft: int = 512
    hop: int = 110
    frame_levels: int = 6
    blocks: int = 8
    subbands: int = 4


class CWSPResUNet(WaveBackbone):
    """See the module's description."""

    Config = CWSPResUNetConfig
    config: CWSPResUNetConfig

    def __init__(self, config: CWSPResUNetConfig) -> None:
        hop = config.hop * config.subbands
        super().__init__(config, hop=hop, alignment=hop * 2**config.frame_levels, channels=config.channels)
        self.bank = FilterBank(config.subbands)
        self.unet = DecoupledResUNet(
            config, config.channels * config.subbands, config.bins, config.widths, config.frame_levels, config.blocks,
            config.middle, config.last,
        )  # fmt: skip

    def network(self, mix: Tensor, request: BackboneRequest) -> list[Tensor]:
        """See `WaveBackbone.network`."""
        n_fft, hop, channels = self.config.n_fft, self.config.hop, self.config.channels
        bands = rearrange(self.bank.split(mix.flatten(0, 1)), "(b c) s t -> b (c s) t", c=channels)
        spectra = self.unet(stft(bands, n_fft, hop), request)
        found = rearrange(istft(spectra, n_fft, hop, bands.shape[-1]), "b k (c s) t -> (b k c) s t", c=channels)
        waveforms = self.bank.join(found, mix.shape[-1])
        return [rearrange(waveforms, "(b k c) t -> b k c t", b=len(mix), c=channels)]
