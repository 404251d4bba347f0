"""ResUNetDecouple+: a residual U-Net of 143 layers with decoupled magnitude and phase.

Kong et al., "Decoupling Magnitude and Phase Estimation with Deep ResUNet for Music Source Separation" (ISMIR 2021),
https://arxiv.org/abs/2109.05418.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from audiosep.errors import ConfigError
from audiosep.models.backbones.backbone import SpectrumBackbone, SpectrumConfig
from audiosep.models.backbones.backbone_request import BackboneRequest
from audiosep.models.backbones.decoupled_resunet import DecoupledResUNet


@dataclass(frozen=True)
class ResUNetDecoupleConfig(SpectrumConfig):
    """Sizes; the defaults are the published ones.

    Attributes:
        n_fft: FFT length, samples.
        hop: samples between frames.
        channels: that are read and written together.
        widths: channels of the levels, each of which halves the bins.
        frame_levels: levels that halve the frames too, from the finest.
        blocks: residual blocks of a level.
        middle: groups of `blocks` at the bottom.
        last: residual blocks before the output.
    """

    n_fft: int = 2048
    hop: int = 441
    channels: int = 2
    widths: tuple[int, ...] = (32, 64, 128, 256, 384, 384)
    frame_levels: int = 5
    blocks: int = 4
    middle: int = 4
    last: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.n_fft // 2) % 2 ** len(self.widths):
            raise ConfigError(f"n_fft / 2 = {self.n_fft // 2} cannot be halved {len(self.widths)} times")
        if self.frame_levels > len(self.widths):
            raise ConfigError(f"frame_levels = {self.frame_levels} is more than the {len(self.widths)} widths")


class ResUNetDecouple(SpectrumBackbone):
    """See the module's description."""

    Config = ResUNetDecoupleConfig
    config: ResUNetDecoupleConfig

    def __init__(self, config: ResUNetDecoupleConfig) -> None:
        super().__init__(config, grid=2**config.frame_levels, channels=config.channels)
        self.unet = DecoupledResUNet(
            config, config.channels, config.bins, config.widths, config.frame_levels, config.blocks, config.middle,
            config.last,
        )  # fmt: skip

    def spectra(self, spectrum: Tensor, request: BackboneRequest) -> Tensor:
        """See `SpectrumBackbone.spectra`."""
        out: Tensor = self.unet(spectrum, request)
        return out
