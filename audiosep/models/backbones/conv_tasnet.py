"""Conv-TasNet: masks on a learned basis by dilated convolutions.

Luo and Mesgarani, "Conv-TasNet: Surpassing Ideal Time-Frequency Magnitude Masking for Speech Separation" (IEEE/ACM
TASLP 27(8), 2019), with its best sizes; also its causal form, for streams.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from audiosep.errors import ConfigError
from audiosep.models.backbones.backbone import WaveBackbone
from audiosep.models.backbones.backbone_request import BackboneConfig, BackboneRequest, Heads, Modulation
from audiosep.models.backbones.basis import Basis, CumulativeNorm, GlobalNorm

FRAMES = 100  # a second, about


@dataclass(frozen=True)
class ConvTasNetConfig(BackboneConfig):
    """Sizes; the defaults are the published ones, whose letters are in brackets.

    Attributes:
        sample_rate: Hz.
        stems: names of the fixed stems, see `BackboneConfig`.
        context: of it, seconds at each side that are computed for context only.
        filters: of the basis (N).
        length: of a basis function, samples (L).
        bottleneck: channels of the residual path (B).
        skip: channels of the sum over all blocks (Sc).
        hidden: channels within a block (H).
        kernel: steps of the depthwise convolutions, odd (P).
        blocks: of a stack, each with twice the dilation of the one before (X).
        stacks: (R).
        causal: outputs depend on the past only, but for `length` samples.
    """

    sample_rate: int = 8000
    stems: tuple[str, ...] = ("vocals", "drums", "bass", "other")
    filters: int = 512
    length: int = 16
    bottleneck: int = 128
    skip: int = 128
    hidden: int = 512
    kernel: int = 3
    blocks: int = 8
    stacks: int = 3
    causal: bool = False
    context: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.length % 2 or not self.kernel % 2:
            raise ConfigError(f"length must be even and kernel odd, got {self.length} and {self.kernel}")
        if self.causal and self.normalise:
            raise ConfigError(
                "causal: set normalise to false, since the level of a whole mixture depends on the future"
            )


class ConvTasNet(WaveBackbone):
    """See the module's description; every channel is separated by itself."""

    Config = ConvTasNetConfig
    config: ConvTasNetConfig

    def __init__(self, config: ConvTasNetConfig) -> None:
        stride = config.length // 2
        super().__init__(config, hop=max(1, round(config.sample_rate / FRAMES / stride)) * stride, alignment=stride)
        self.basis = Basis(config.filters, config.length)
        self.norm = CumulativeNorm(config.filters) if config.causal else GlobalNorm(config.filters)
        self.input = nn.Conv1d(config.filters, config.bottleneck, 1)
        dilations = [2**block for block in range(config.blocks)] * config.stacks
        self.blocks = nn.ModuleList(
            _Block(config, dilation, last=number == len(dilations) - 1) for number, dilation in enumerate(dilations)
        )
        self.activation = nn.PReLU()
        self.out = Heads(config, lambda targets: nn.Conv1d(config.skip, targets * config.filters, 1))

    def network(self, mix: Tensor, request: BackboneRequest) -> list[Tensor]:
        """See `WaveBackbone.network`."""
        coefficients = self.basis.encode(mix)
        x = self.input(self.norm(coefficients))
        total = torch.zeros((), device=x.device)
        for block in self.blocks:
            x, skip = block(x, request)
            total = total + skip
        masks = torch.sigmoid(self.out(request, self.activation(total)))
        masks = rearrange(masks, "b (k n) s -> b k n s", n=self.config.filters)
        return [self.basis.decode(masks * coefficients[:, None], mix.shape[-1])]


class _Block(nn.Module):
    """Wide 1 x 1 convolution, depthwise dilated convolution, and the two outputs; the last block has no residual."""

    def __init__(self, config: ConvTasNetConfig, dilation: int, last: bool) -> None:
        super().__init__()
        hidden, norm = config.hidden, CumulativeNorm if config.causal else GlobalNorm
        reach = dilation * (config.kernel - 1)
        self.padding = (reach, 0) if config.causal else (reach // 2, reach // 2)
        self.wide = nn.Sequential(nn.Conv1d(config.bottleneck, hidden, 1), nn.PReLU(), norm(hidden))
        self.film = Modulation(hidden, config.modulation)
        self.depthwise = nn.Sequential(
            nn.Conv1d(hidden, hidden, config.kernel, dilation=dilation, groups=hidden), nn.PReLU(), norm(hidden)
        )
        self.skip = nn.Conv1d(hidden, config.skip, 1)
        self.residual = None if last else nn.Conv1d(hidden, config.bottleneck, 1)

    def forward(self, x: Tensor, request: BackboneRequest) -> tuple[Tensor, Tensor]:
        """(batch, bottleneck, steps) -> the same, and (batch, skip, steps)."""
        h = self.depthwise(F.pad(self.film(self.wide(x), request), self.padding))
        return x if self.residual is None else x + self.residual(h), self.skip(h)
