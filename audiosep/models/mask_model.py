"""From masks to waveforms: the transforms around every network that turns a power spectrum into masks.

    mixture --STFT--> spectra --mean power--> network.masks --> mask x spectra --inverse STFT--> targets
                                                         `----> mean mask of the highest 1 kHz: gain above the band

A network computes `masks` and, if it has fixed stems, `stem_masks`; this module does the rest, for torch and for other
engines alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from audiosep.errors import ModelError
from audiosep.models.bands import Bands
from audiosep.models.query_ways import Ways
from audiosep.models.separation_model import Estimate, SeparationModel
from audiosep.models.stft import frames_of, istft_stretch, power, stft_stretch

TOP_BAND = 1000.0  # Hz
# Queries that are decoded together: the one place where that is decided, for each type of device. Each has activations
# of its own. On a CPU several at once are hardly faster, and one at a time gives the bytes that it gives beside others.
QUERIES_TOGETHER = {"cpu": 1, "mps": 4, "cuda": 16}
_FRAMES = 128  # that are transformed at a time

PadMode = Literal["constant", "reflect"]
"""How the STFT continues a signal beyond its ends, see `models.stft.stft`."""


@dataclass
class Masks:
    """Masks of some targets.

    Attributes:
        magnitude: (batch, targets, bins, frames), at least 0; bands instead of bins where `bands` is not None.
        rotation: (batch, targets, 2, bins, frames), cosine and sine of what is added to the mixture's phase; None to
            keep that phase.
        presence: (batch, targets) in 0..1, how sure the network is that the sound is there; None if it cannot tell.
        weights: (batch, ways), of the ways to an estimate of one target; None where there is one way.
        bands: that the magnitudes are of, a fifth of the memory; None where they are of bins.
    """

    magnitude: Tensor
    rotation: Tensor | None = None
    presence: Tensor | None = None
    weights: Tensor | None = None
    bands: Bands | None = None

    def of(self, target: int, frames: slice, window: slice) -> Tensor:
        """(windows, bins, frames): the mask of one target in some frames, complex if it rotates phases."""
        magnitude = self._of_bins(self.magnitude[window, target, :, frames])
        if self.rotation is None:
            return magnitude
        return magnitude * torch.complex(*self.rotation[window, target, ..., frames].unbind(1))

    def tail(self, frame: int, window: slice) -> Masks:
        """The masks of some of the batch from a frame on, in memory of their own."""
        magnitude = self.magnitude[window, ..., frame:]
        magnitude = _copied(magnitude) if self.bands is None else magnitude.clone()
        rotation = None if self.rotation is None else _copied(self.rotation[window, ..., frame:])
        return Masks(magnitude, rotation, bands=self.bands)

    def whole(self) -> Tensor:
        """(batch, targets, bins, frames): the magnitudes."""
        return self._of_bins(self.magnitude)

    def mean_over(self, bins: slice) -> Tensor:
        """(batch, targets, frames): the mean magnitude over some bins."""
        return self._of_bins(self.magnitude, bins).transpose(-2, -1).contiguous().mean(-1)

    def _of_bins(self, magnitude: Tensor, bins: slice = slice(None)) -> Tensor:
        return magnitude[..., bins, :] if self.bands is None else self.bands.expand(magnitude, bins)


@dataclass
class MaskedMixture:
    """The targets of mixtures as masks: their waveforms are computed a stretch at a time, in the memory of a stretch.

    Spectra are not kept: they are 5 MB for each channel of a window of ten seconds, and quickly computed again.

    Attributes:
        mix: (batch, channels, samples).
        masks: of all targets that have one.
        n_fft: FFT length, samples.
        hop: samples between frames.
        pad_mode: of the STFT.
        closed: whether there is one target more, what the others leave of the mixture.
        top: as of `Estimate`.
        presence: as of `Estimate`.
        weights: as of `Estimate`.
    """

    mix: Tensor
    masks: Masks
    n_fft: int
    hop: int
    pad_mode: PadMode
    closed: bool
    top: Tensor
    presence: Tensor | None
    weights: tuple[Tensor | None, ...]

    def waveforms(self, start: int, stop: int, window: slice = slice(None)) -> Tensor:
        """A stretch of all targets, whose samples do not depend on where it begins and ends.

        Args:
            start: its first sample.
            stop: the sample after its last.
            window: those of the batch that are wanted.

        Returns:
            (windows, targets, channels, stop - start).
        """
        frames = frames_of(self.n_fft, self.hop, start, stop)
        mix = self.mix[window]
        masks = [self.masks.of(k, frames, window) for k in range(self.masks.magnitude.shape[1])]
        count = len(masks)
        targets = mix.new_empty(len(mix), count + self.closed, mix.shape[1], stop - start)
        # One channel at a time: the transforms need several times the memory of their results.
        for c in range(mix.shape[1]):
            signal = _long_enough(mix[:, c], self.n_fft, self.pad_mode)
            channel = stft_stretch(signal, self.n_fft, self.hop, frames, self.pad_mode)
            for k, mask in enumerate(masks):
                targets[:, k, c] = istft_stretch(_product(channel, mask), self.n_fft, self.hop, start, stop)
        if self.closed:
            targets[:, count] = mix[..., start:stop] - targets[:, :count].sum(1)
        return targets

    def tail(self, start: int, window: slice) -> tuple[MaskedMixture, int]:
        """What the samples from `start` on are computed from, in memory of its own.

        Args:
            start: the first sample that is wanted.
            window: those of the batch that are wanted.

        Returns:
            The rest, and its first sample.
        """
        # The first frame that reaches into the sample reaches back by as much as a transform, a reflection by one more.
        frame = max(0, start - self.n_fft - 1) // self.hop
        rest = replace(
            self,
            mix=self.mix[window, :, frame * self.hop :].clone(),
            masks=self.masks.tail(frame, window),
            top=self.top[window, :, frame:].clone(),
            presence=None,
            weights=(),
        )
        return rest, frame * self.hop

    def estimate(self) -> Estimate:
        """All of it."""
        return Estimate(self.waveforms(0, self.mix.shape[-1]), self.top, self.presence, self.weights)


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
    pad_mode: PadMode = "constant"
    unseen_bins: int = 0
    rotates: bool = False
    queries_at_once: bool = True

    def take_description(self, model: MaskModel) -> None:
        """Take all attributes that describe a model from another one; its ways are not mixed."""
        for name in {**SeparationModel.__annotations__, **MaskModel.__annotations__}.keys() - {"Config", "mixes_ways"}:
            setattr(self, name, getattr(model, name))

    @property
    def bins(self) -> int:
        """Bins of the STFT."""
        return self.n_fft // 2 + 1

    @property
    def mask_bands(self) -> Bands | None:
        """The bands that its masks are of; None where they are of bins."""
        return None

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
        return self.masked(mix, embeddings, negatives, ways).estimate()

    def stems(self, mix: Tensor) -> Estimate:
        """See `SeparationModel.stems`; the last stem is what the others leave of the mixture.

        Raises:
            ModelError: the network has no fixed stems.
        """
        return self.masked_stems(mix).estimate()

    def masked(
        self, mix: Tensor, embeddings: Tensor, negatives: Tensor | None = None, ways: Sequence[Ways | None] = ()
    ) -> MaskedMixture:
        """As `forward`, without the waveforms."""
        mean = self._mean_power(mix)
        negatives = torch.zeros_like(embeddings) if negatives is None else negatives
        # All masks in one block of memory that is taken before the network runs: what stays between the activations of
        # two queries would keep their memory from being used again.
        shape, bands = (len(mix), len(embeddings)), self.mask_bands
        if bands is None:
            whole = Masks(mean.new_empty(*shape, *mean.mT.shape[1:]).mT)
        else:
            whole = Masks(mean.new_empty(*shape, bands.count, mean.shape[-1]), bands=bands)
        scores, weights = list[Tensor](), list[Tensor | None]()
        done = 0
        for masks in self.masks(mean, embeddings, negatives, *([ways] if ways else [])):
            upto = done + masks.magnitude.shape[1]
            whole.magnitude[:, done:upto] = masks.magnitude
            if masks.rotation is not None:
                if whole.rotation is None:
                    whole.rotation = mean.new_empty(*shape, 2, *mean.mT.shape[1:]).mT
                whole.rotation[:, done:upto] = masks.rotation
            scores += [] if masks.presence is None else [masks.presence]
            weights += [masks.weights] * (upto - done)
            done = upto
        top = whole.mean_over(self.top_band)[..., : mix.shape[-1] // self.hop + 1]
        return self._masked(mix, whole, top, torch.cat(scores, 1) if scores else None, tuple(weights))

    def masked_stems(self, mix: Tensor) -> MaskedMixture:
        """As `stems`, without the waveforms.

        Raises:
            ModelError: the network has no fixed stems.
        """
        if not self.stem_names:
            raise ModelError("this model has no fixed stems; load one that has, such as 'mini'")
        masks, last = self.stem_masks(self._mean_power(mix)), len(self.stem_names) - 1
        rotation = None if masks.rotation is None else masks.rotation[:, :last]
        top = masks.mean_over(self.top_band)[:, :last, : mix.shape[-1] // self.hop + 1]
        top = torch.cat([top, 1 - top.sum(1, keepdim=True)], 1)
        shown = Masks(masks.magnitude[:, :last], rotation, bands=masks.bands)
        return self._masked(mix, shown, top, closed=True)

    def _masked(
        self,
        mix: Tensor,
        masks: Masks,
        top: Tensor,
        presence: Tensor | None = None,
        weights: tuple[Tensor | None, ...] = (),
        *,
        closed: bool = False,
    ) -> MaskedMixture:
        return MaskedMixture(mix.float(), masks, self.n_fft, self.hop, self.pad_mode, closed, top, presence, weights)

    def _mean_power(self, mix: Tensor) -> Tensor:
        """(batch, channels, samples) mixtures -> (batch, bins, frames), the mean over the channels."""
        mix = _long_enough(mix, self.n_fft, self.pad_mode)
        # In the order in which transforms lie in memory, frame by frame; one channel and some frames at a time, because
        # the transform needs several times the memory of its result.
        batch, channels, samples = mix.shape
        count = samples // self.hop + 1
        mean = torch.empty((batch, count, self.bins), device=mix.device).mT
        for start in range(0, count, _FRAMES):
            frames = slice(start, min(start + _FRAMES, count))
            total: Tensor | None = None
            for c in range(channels):
                energy = power(stft_stretch(mix[:, c].float(), self.n_fft, self.hop, frames, self.pad_mode))
                total = energy if total is None else total.add_(energy)
            assert total is not None  # no mixture has no channels
            mean[..., frames] = total / channels
        return mean


def _long_enough(x: Tensor, n_fft: int, pad_mode: PadMode) -> Tensor:
    """(..., samples) with zeros behind a signal that is too short to be continued by reflection."""
    missing = n_fft // 2 + 1 - x.shape[-1]
    return F.pad(x, (0, missing)) if pad_mode == "reflect" and missing > 0 else x


def _copied(x: Tensor) -> Tensor:
    """A copy of (..., bins, frames) in the order in which transforms lie in memory."""
    return x.mT.clone(memory_format=torch.contiguous_format).mT


def _product(spectrum: Tensor, mask: Tensor) -> Tensor:
    """A spectrum under a real or complex mask.

    torch rounds a complex product one way in the middle of a tensor and another at its end; here a value does not
    depend on its place.
    """
    if not mask.is_complex():
        return spectrum * mask
    real = spectrum.real * mask.real - spectrum.imag * mask.imag
    return torch.complex(real, spectrum.real * mask.imag + spectrum.imag * mask.real)


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
