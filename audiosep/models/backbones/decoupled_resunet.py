"""The U-Net of residual blocks that estimates magnitude and phase apart.

Kong et al., "Decoupling Magnitude and Phase Estimation with Deep ResUNet for Music Source Separation" (ISMIR 2021):
a target is relu(sigmoid(m) |X| + q) at the mixture's phase turned by an estimated angle, with maps m (bounded mask),
q (additive magnitude) and two whose direction is the angle.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from audiosep.models.backbones.backbone_request import BackboneConfig, BackboneRequest, Heads
from audiosep.models.blocks import ResidualBlock
from audiosep.models.film import Condition

TINY = 1e-8
MAPS = 4  # m, q, and the cosine and sine of the angle


class DecoupledResUNet(nn.Module):
    """Spectra in, spectra of the targets out.

    Args:
        config: what is asked for.
        inputs: spectra of a mixture: channels times subbands.
        bins: of each; one less is halved at each level.
        widths: channels of the levels.
        frame_levels: levels that halve the frames too, from the finest.
        blocks: residual blocks of a level.
        middle: groups of `blocks` at the bottom.
        last: residual blocks before the output.
    """

    def __init__(
        self,
        config: BackboneConfig,
        inputs: int,
        bins: int,
        widths: Sequence[int],
        frame_levels: int,
        blocks: int,
        middle: int,
        last: int,
    ) -> None:
        super().__init__()
        modulation = config.modulation
        self.grid = 2**frame_levels
        self.pools = [(2 if level < frame_levels else 1, 2) for level in range(len(widths))]
        self.norm = nn.BatchNorm2d(bins)
        below = [inputs, *widths[:-1]]
        self.encoder = nn.ModuleList(_Stage(i, o, blocks, modulation) for i, o in zip(below, widths, strict=True))
        self.middle = nn.ModuleList(_Stage(widths[-1], widths[-1], blocks, modulation) for _ in range(middle))
        above, into = [widths[-1], *widths[:0:-1]], widths[::-1]
        self.ups = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(i), nn.ReLU(), nn.ConvTranspose2d(i, o, pool, pool, bias=False))
            for i, o, pool in zip(above, into, self.pools[::-1], strict=True)
        )
        self.decoder = nn.ModuleList(_Stage(2 * o, o, blocks, modulation) for o in into)
        self.last = _Stage(widths[0], widths[0], last, modulation)
        self.out = Heads(config, lambda targets: _output(widths[0], targets * inputs))

    def forward(self, spectrum: Tensor, request: BackboneRequest) -> Tensor:
        """(batch, inputs, bins, frames) complex -> (batch, targets, inputs, bins, frames) complex."""
        magnitude = spectrum.abs()
        maps = self._maps(rearrange(magnitude, "b c f t -> b c t f"), request)
        mask, added, *angle = rearrange(maps, "b (k c m) t f -> m b k c f t", c=spectrum.shape[1], m=MAPS).unbind(0)
        found = F.relu(torch.sigmoid(mask) * magnitude[:, None] + added)
        length = (angle[0].square() + angle[1].square() + TINY).sqrt()
        phase = spectrum / (magnitude + TINY)
        return found * phase[:, None] * torch.complex(angle[0] / length, angle[1] / length)

    def _maps(self, x: Tensor, request: BackboneRequest) -> Tensor:
        """(batch, inputs, frames, bins) -> (batch, maps, frames, bins); the last bin gets those of the one before."""
        frames = x.shape[2]
        x = rearrange(self.norm(rearrange(x, "b c t f -> b f t c")), "b f t c -> b c t f")[..., :-1]
        x = F.pad(x, (0, 0, 0, (self.grid - frames % self.grid) % self.grid))
        condition = None if request.vector is None else Condition(request.vector)
        skips = []
        for stage, pool in zip(self.encoder, self.pools, strict=True):
            skips.append(stage(x, condition))
            x = F.avg_pool2d(skips[-1], pool)
        for stage in self.middle:
            x = stage(x, condition)
        for up, stage in zip(self.ups, self.decoder, strict=True):
            x = stage(torch.cat([up(x), skips.pop()], 1), condition)
        maps = self.out(request, self.last(x, condition))[:, :, :frames]
        return torch.cat([maps, maps[..., -1:]], -1).float()


class _Stage(nn.Module):
    """Residual blocks of one level."""

    def __init__(self, inputs: int, outputs: int, blocks: int, modulation: int) -> None:
        super().__init__()
        widths = [inputs, *[outputs] * (blocks - 1)]
        self.blocks = nn.ModuleList(ResidualBlock(width, outputs, modulation) for width in widths)

    def forward(self, x: Tensor, condition: Condition | None) -> Tensor:
        for block in self.blocks:
            x = block(x, condition)
        return x


def _output(width: int, spectra: int) -> nn.Conv2d:
    """The maps of some spectra, at first half of the mixture's magnitude at its phase."""
    layer = nn.Conv2d(width, spectra * MAPS, 1)
    nn.init.normal_(layer.weight, std=0.02)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([0.0, 0.0, 1.0, 0.0]).repeat(spectra))  # type: ignore[union-attr]  # it has one
    return layer
