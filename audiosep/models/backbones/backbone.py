"""The face of all backbones: a network gives masks of a power spectrum, or waveforms, and these classes do the rest.

    MaskBackbone      network(power, request) -> masks         one mask for all channels, as every `MaskModel`
    WaveBackbone      network(mix, request)   -> waveforms     of `channels` channels
    SpectrumBackbone  network(spectrum, request) -> spectra    the same between an STFT and its inverse

Networks of a fixed number of channels get other recordings channel by channel, each repeated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

from audiosep.errors import ConfigError, ModelError
from audiosep.models.backbones.backbone_request import BackboneConfig, BackboneRequest, Requests
from audiosep.models.mask_model import TOP_BAND, MaskModel, Masks, query_groups
from audiosep.models.query_ways import Ways
from audiosep.models.separation_model import Estimate, SeparationModel
from audiosep.models.stft import istft, power, stft

QUIETEST = 1e-5
TINY = 1e-12


@dataclass(frozen=True)
class SpectrumConfig(BackboneConfig):
    """Of networks between an STFT and its inverse.

    Attributes:
        n_fft: FFT length, samples.
        hop: samples between frames.
    """

    n_fft: int = 2048
    hop: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hop >= self.n_fft or self.n_fft % 2:
            raise ConfigError(f"n_fft must be even and longer than hop, got n_fft = {self.n_fft}, hop = {self.hop}")

    @property
    def bins(self) -> int:
        """Bins of the STFT."""
        return self.n_fft // 2 + 1


def set_attributes(model: SeparationModel, config: BackboneConfig, hop: int, alignment: int) -> None:
    """Set the attributes that a separator reads, see `SeparationModel`.

    Args:
        model: changed in place.
        config: of its network.
        hop: samples between frames.
        alignment: samples, a multiple of which windows should start at.
    """
    model.config = config
    model.sample_rate, model.hop, model.dimension = config.sample_rate, hop, config.dimension
    model.stem_names, model.alignment = config.stems, alignment
    words = {"text", "audio", "negative"} if config.words else set()
    model.capabilities = frozenset(words | ({"stems"} if config.stems else set()))
    model.context = model.past = ceil(config.context * config.sample_rate / hop) * hop
    model.window = ceil(config.window * config.sample_rate / hop) * hop


def pad_to(x: Tensor, grid: int) -> Tensor:
    """Zeros behind the last axis, so that its length is a multiple of `grid`."""
    return F.pad(x, (0, (grid - x.shape[-1] % grid) % grid))


class WaveBackbone(SeparationModel):
    """A network from waveforms to waveforms.

    Args:
        config: of the network.
        hop: samples between the frames of `Estimate.top`.
        alignment: samples; a mixture that is shifted by a multiple of it gives shifted estimates.
        channels: that the network takes at a time.

    Attributes:
        level: RMS of normalised mixtures.
    """

    config: BackboneConfig
    level = 1.0

    def __init__(self, config: BackboneConfig, *, hop: int, alignment: int, channels: int = 1) -> None:
        super().__init__()
        set_attributes(self, config, hop, alignment)
        self.channels = channels
        self.requests = Requests(config)

    def network(self, mix: Tensor, request: BackboneRequest) -> list[Tensor]:
        """Estimates of every stage of the network, the last one the best; most networks have one stage.

        Args:
            mix: (batch, channels, samples) with the channels of the network.
            request: what is asked for.

        Returns:
            (batch, targets, channels, samples) each.
        """
        raise NotImplementedError

    def forward(
        self, mix: Tensor, embeddings: Tensor, negatives: Tensor | None = None, ways: Sequence[Ways | None] = ()
    ) -> Estimate:
        """See `SeparationModel.forward`."""
        negatives = torch.zeros_like(embeddings) if negatives is None else negatives
        found = []
        for some, kept_out in query_groups(embeddings, negatives, 1):
            queries = some.expand(len(mix), -1), kept_out.expand(len(mix), -1)
            found.append(self.query_each(mix, *queries)[-1])
        targets = torch.stack(found, 1)
        return Estimate(targets, self._top(targets, mix))

    def stems(self, mix: Tensor) -> Estimate:
        """See `SeparationModel.stems`; the last stem is what the others leave.

        Raises:
            ModelError: the network has no fixed stems.
        """
        targets = self.stems_by_stage(mix)[-1]
        top = self._top(targets[:, :-1], mix)
        return Estimate(targets, torch.cat([top, 1 - top.sum(1, keepdim=True)], 1))

    def query_each(self, mix: Tensor, embeddings: Tensor, negatives: Tensor) -> list[Tensor]:
        """See `SeparationModel.query_each`."""
        request = self.requests.queries(embeddings, negatives)
        return [stage[:, 0] for stage in self._stages(mix, request)]

    def stems_by_stage(self, mix: Tensor) -> list[Tensor]:
        """See `SeparationModel.stems_by_stage`."""
        if not self.stem_names:
            raise ModelError("this model has no fixed stems; load one that has, such as 'mini'")
        stages = self._stages(mix, self.requests.stems(len(mix)))
        return [torch.cat([stage, mix[:, None] - stage.sum(1, keepdim=True)], 1) for stage in stages]

    def _stages(self, mix: Tensor, request: BackboneRequest) -> list[Tensor]:
        """`network` for any number of channels, at one level."""
        mix = mix.float()
        gain = torch.ones(())
        if self.config.normalise:
            gain = self.level / mix.square().mean((1, 2), keepdim=True).sqrt().clamp_min(QUIETEST)
            mix = mix * gain
        channels = mix.shape[1]
        if channels == self.channels:
            stages = self.network(mix, request)
        else:
            single = repeat(mix, "b c t -> (b c) n t", n=self.channels)
            stages = [
                rearrange(stage.mean(2), "(b c) k t -> b k c t", c=channels)
                for stage in self.network(single, request.repeat(channels))
            ]
        return [stage.float() / gain[..., None].to(mix.device) for stage in stages]

    def _top(self, targets: Tensor, mix: Tensor) -> Tensor:
        """(batch, targets, frames): the square root of the share of the highest 1 kHz that targets have.

        Args:
            targets: (batch, targets, channels, samples).
            mix: (batch, channels, samples).
        """
        n_fft = 2 * self.hop if self.hop % 2 == 0 else 2 * self.hop + 2
        first = n_fft // 2 + 1 - max(1, round(TOP_BAND * n_fft / self.sample_rate))
        whole = power(stft(mix.float(), n_fft, self.hop))[..., first:, :].sum((1, 2))
        kept = [power(stft(x, n_fft, self.hop))[..., first:, :].sum((1, 2)) for x in targets.unbind(1)]
        return (torch.stack(kept, 1) / (whole[:, None] + TINY)).sqrt().clamp_max(1)


class SpectrumBackbone(WaveBackbone):
    """A network from the spectra of all channels to those of targets.

    Args:
        config: of the network.
        grid: frames, a multiple of which windows should start at.
        channels: that the network takes at a time.
    """

    config: SpectrumConfig

    def __init__(self, config: SpectrumConfig, *, grid: int = 1, channels: int = 2) -> None:
        super().__init__(config, hop=config.hop, alignment=grid * config.hop, channels=channels)

    def spectra(self, spectrum: Tensor, request: BackboneRequest) -> Tensor:
        """Spectra of the targets.

        Args:
            spectrum: (batch, channels, bins, frames) complex.
            request: what is asked for.

        Returns:
            (batch, targets, channels, bins, frames) complex.
        """
        raise NotImplementedError

    def network(self, mix: Tensor, request: BackboneRequest) -> list[Tensor]:
        """See `WaveBackbone.network`."""
        n_fft, hop = self.config.n_fft, self.config.hop
        return [istft(self.spectra(stft(mix, n_fft, hop), request), n_fft, hop, mix.shape[-1])]


class MaskBackbone(MaskModel):
    """A network from the mean power of the channels to one mask for all of them.

    Args:
        config: of the network.
        grid: frames, a multiple of which windows should start at.
    """

    config: SpectrumConfig

    def __init__(self, config: SpectrumConfig, *, grid: int = 1) -> None:
        super().__init__()
        set_attributes(self, config, config.hop, grid * config.hop)
        self.n_fft = config.n_fft
        self.requests = Requests(config)

    def network(self, magnitude: Tensor, request: BackboneRequest) -> Tensor:
        """Masks.

        Args:
            magnitude: (batch, bins, frames).
            request: what is asked for.

        Returns:
            (batch, targets, bins, frames), at least 0.
        """
        raise NotImplementedError

    def masks(
        self, power: Tensor, embeddings: Tensor, negatives: Tensor, ways: Sequence[Ways | None] = ()
    ) -> Iterator[Masks]:
        """See `MaskModel.masks`."""
        for some, kept_out in query_groups(embeddings, negatives):
            batch = len(power)
            # In terms of axes, not of numbers, of which an export would make constants.
            queries = power[:, None].expand(-1, some.shape[0], -1, -1).flatten(0, 1)
            request = self.requests.queries(some.repeat(batch, 1), kept_out.repeat(batch, 1))
            yield Masks(self._masks(queries, request)[:, 0].unflatten(0, (batch, -1)))

    def stem_masks(self, power: Tensor) -> Masks:
        """See `MaskModel.stem_masks`."""
        masks = self._masks(power, self.requests.stems(len(power)))
        return Masks(torch.cat([masks, 1 - masks.sum(1, keepdim=True)], 1))

    def query_each(self, mix: Tensor, embeddings: Tensor, negatives: Tensor) -> list[Tensor]:
        """See `SeparationModel.query_each`."""
        masks = Masks(self._masks(self._mean_power(mix), self.requests.queries(embeddings, negatives)))
        return [self._masked(mix, masks, masks.mean_over(self.top_band)).estimate().waveforms[:, 0]]

    def _masks(self, power: Tensor, request: BackboneRequest) -> Tensor:
        """`network` of the magnitudes at one level."""
        if self.config.normalise:
            power = power / power.mean((1, 2), keepdim=True).clamp_min(QUIETEST**2)
        return self.network(power.clamp_min(TINY).sqrt(), request).float()
