"""From masks to waveforms: the transforms around every network that turns a power spectrum into masks.

    mixture --STFT--> spectra --mean power--> network.masks --> mask x spectra --inverse STFT--> targets
                                                         `----> mean mask of the highest 1 kHz: gain above the band

A network computes `masks` and, if it has fixed stems, `stem_masks`; this module does the rest, for torch and for other
engines alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from audiosep.errors import ModelError
from audiosep.models.query_ways import Ways
from audiosep.models.separation_model import Estimate, SeparationModel
from audiosep.models.stft import istft, mean_power, stft

TOP_BAND = 1000.0  # Hz
# Each query that is decoded has activations of its own. On a CPU two at a time keep the embedded model below 900 MB.
QUERIES_TOGETHER = {"cpu": 2, "mps": 4, "cuda": 16}


@dataclass
class Masks:
    """Masks of some targets.

    Attributes:
        magnitude: (batch, targets, bins, frames), at least 0.
        rotation: (batch, targets, 2, bins, frames), cosine and sine of what is added to the mixture's phase; None to
            keep that phase.
        presence: (batch, targets) in 0..1, how sure the network is that the sound is there; None if it cannot tell.
        weights: (batch, ways), of the ways of querying for one target; None where there is one way.
    """

    magnitude: Tensor
    rotation: Tensor | None = None
    presence: Tensor | None = None
    weights: Tensor | None = None

    def of(self, target: int) -> Tensor:
        """(batch, bins, frames): the mask of one target, complex if it rotates phases."""
        magnitude = self.magnitude[:, target]
        if self.rotation is None:
            return magnitude
        return magnitude * torch.complex(*self.rotation[:, target].unbind(1))

    def mean_over(self, bins: slice) -> Tensor:
        """(batch, targets, frames): the mean magnitude over some bins."""
        return self.magnitude[:, :, bins].mean(2)


class MaskModel(SeparationModel):
    """A model whose network turns the mean power of a mixture's channels into masks, one for all channels.

    Attributes:
        n_fft: FFT length, samples.
        pad_mode: how the STFT continues a signal beyond its ends, see `models.stft.stft`.
        unseen_bins: highest bins that the network does not see; their masks are not part of the highest 1 kHz.
        rotates: whether masks of queries have a rotation.
        queries_at_once: whether `masks` takes any number of queries in one pass of the network's layers, or one by one.
    """

    n_fft: int
    pad_mode: Literal["constant", "reflect"] = "constant"
    unseen_bins: int = 0
    rotates: bool = False
    queries_at_once: bool = True

    def take_description(self, model: MaskModel) -> None:
        """Take all attributes that describe a model, but for what computes it, from another one."""
        for name in {**SeparationModel.__annotations__, **MaskModel.__annotations__}.keys() - {"Config", "mixes_ways"}:
            setattr(self, name, getattr(model, name))

    @property
    def bins(self) -> int:
        """Bins of the STFT."""
        return self.n_fft // 2 + 1

    @property
    def top_band(self) -> slice:
        """The bins of the highest 1 kHz that the network sees."""
        last = self.bins - self.unseen_bins
        return slice(last - max(1, round(TOP_BAND * self.n_fft / self.sample_rate)), last)

    def masks(
        self, power: Tensor, embeddings: Tensor, negatives: Tensor, ways: Sequence[Ways | None] = ()
    ) -> Iterator[Masks]:
        """Masks of the queries, in their order.

        Args:
            power: (batch, bins, frames), the mean over the channels.
            embeddings: (queries, dimension), L2-normalised; the same queries for every mixture of the batch.
            negatives: (queries, dimension), what to keep out, already scaled by its weight; zeros for nothing.
            ways: of each query, for networks with `mixes_ways`; None or () for one way.

        Yields:
            Masks of as many queries as the network decodes together, until all are done.
        """
        raise NotImplementedError

    def stem_masks(self, power: Tensor) -> Masks:
        """Masks of the fixed stems; they sum to one.

        Args:
            power: (batch, bins, frames), the mean over the channels.
        """
        raise NotImplementedError

    def forward(
        self, mix: Tensor, embeddings: Tensor, negatives: Tensor | None = None, ways: Sequence[Ways | None] = ()
    ) -> Estimate:
        """See `SeparationModel.forward`."""
        spectrum, power = self._analyse(mix)
        negatives = torch.zeros_like(embeddings) if negatives is None else negatives
        targets = mix.new_empty(mix.shape[0], len(embeddings), *mix.shape[1:], dtype=torch.float32)
        top = targets.new_empty(*targets.shape[:2], mix.shape[-1] // self.hop + 1)
        scores: list[Tensor] = []
        weights: list[Tensor | None] = []
        done = 0
        for masks in self.masks(power, embeddings, negatives, *([ways] if ways else [])):
            # One target at a time: spectra of all together would be the largest tensors of a pass.
            count = masks.magnitude.shape[1]
            top[:, done : done + count] = masks.mean_over(self.top_band)[..., : top.shape[-1]]
            for k in range(count):
                targets[:, done + k] = self._target(masks, k, spectrum, mix.shape[-1])
            done += count
            scores += [] if masks.presence is None else [masks.presence]
            weights += [masks.weights] * count
        return Estimate(targets, top, torch.cat(scores, 1) if scores else None, tuple(weights))

    def stems(self, mix: Tensor) -> Estimate:
        """See `SeparationModel.stems`; the last stem is what the others leave of the mixture.

        Raises:
            ModelError: the network has no fixed stems.
        """
        if not self.stem_names:
            raise ModelError("this model has no fixed stems; load one that has, such as 'mini'")
        mix = mix.float()
        spectrum, power = self._analyse(mix)
        masks = self.stem_masks(power)
        targets = mix.new_empty(mix.shape[0], len(self.stem_names), *mix.shape[1:])
        top = targets.new_empty(*targets.shape[:2], mix.shape[-1] // self.hop + 1)
        last = len(self.stem_names) - 1
        top[:, :last] = masks.mean_over(self.top_band)[:, :last, : top.shape[-1]]
        for k in range(last):
            targets[:, k] = self._target(masks, k, spectrum, mix.shape[-1])
        targets[:, last] = mix - targets[:, :last].sum(1)
        top[:, last] = 1 - top[:, :last].sum(1)
        return Estimate(targets, top)

    def _analyse(self, mix: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, channels, samples) -> spectra (batch, channels, bins, frames), mean power (batch, bins, frames)."""
        shortest = self.n_fft // 2 + 1
        if self.pad_mode == "reflect" and mix.shape[-1] < shortest:  # too short to be continued by reflection
            mix = F.pad(mix, (0, shortest - mix.shape[-1]))
        spectrum = stft(mix.float(), self.n_fft, self.hop, pad_mode=self.pad_mode)
        return spectrum, mean_power(spectrum)

    def _target(self, masks: Masks, target: int, spectrum: Tensor, samples: int) -> Tensor:
        """The waveform (batch, channels, samples) of a target."""
        mask = masks.of(target)
        # One channel at a time: the inverse transform needs several times the memory of its result.
        channels = [istft(channel * mask, self.n_fft, self.hop, samples) for channel in spectrum.unbind(1)]
        return torch.stack(channels, 1)


def query_groups(embeddings: Tensor, negatives: Tensor, together: int | None = None) -> Iterable[tuple[Tensor, Tensor]]:
    """Queries and their negatives, some at a time.

    Args:
        embeddings: (queries, dimension).
        negatives: (queries, dimension).
        together: queries at a time; None for as many as the device should decode together.
    """
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]  # a trace keeps its number of groups
        return [(embeddings, negatives)]
    if together is None:
        together = QUERIES_TOGETHER.get(embeddings.device.type, QUERIES_TOGETHER["cpu"])
    return zip(embeddings.split(together), negatives.split(together), strict=True)
