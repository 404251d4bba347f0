"""Mask models as modules of plain tensors, for engines that take a traced network: OpenVINO, ONNX.

One recording at a time, so there is no batch axis: power (bins, frames) in, masks (queries, bins, frames) out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiosep.errors import ModelError
from audiosep.models.mask_model import MaskModel, Masks, query_groups
from audiosep.models.query_ways import Ways
from audiosep.models.separation_model import SeparationModel

TRACED_FRAMES = 50  # so few that the published network does not cut them into stretches, which a trace would keep


class MaskGraph(nn.Module):
    """The queries or the stems of a mask model: power in, masks out.

    Args:
        model: the network.
        stems: its fixed stems instead of queries.

    Attributes:
        inputs: names of the inputs.
        outputs: names of what `forward` gives.
        targets: names of the stems; empty for queries.
        any_queries: whether any number of queries can be computed at once; otherwise it is one.

    Raises:
        ModelError: the model computes no masks.
    """

    def __init__(self, model: SeparationModel, *, stems: bool = False) -> None:
        super().__init__()
        if not isinstance(model, MaskModel):
            raise ModelError(f"{type(model).__name__} computes waveforms, not masks: only torch can run it")
        self.model: MaskModel = model
        self.stems = stems
        self.inputs = ("power",) if stems else ("power", "embeddings", "negatives")
        self.targets = model.stem_names if stems else ()
        self.any_queries = model.queries_at_once and not stems
        rotation = ["rotation"] if model.rotates and not stems else []
        presence = ["presence"] if "presence" in model.capabilities and not stems else []
        self.outputs = ("mask", "top", *rotation, *presence)

    def example(self) -> tuple[Tensor, ...]:
        """Inputs of the right shapes."""
        count = 2 if self.any_queries else 1
        queries = [] if self.stems else [torch.ones(count, self.model.dimension)] * 2
        return torch.ones(self.model.bins, TRACED_FRAMES), *queries

    def forward(self, power: Tensor, *queries: Tensor) -> tuple[Tensor, ...]:
        """Masks in the order of `outputs`.

        Args:
            power: (bins, frames), the mean over the channels.
            queries: embeddings and negatives, (queries, dimension) each; none for stems.

        Returns:
            mask (queries, bins, frames), top (queries, frames), and where the network has them rotation
            (queries, 2, bins, frames) and presence (queries,).
        """
        if self.stems:
            masks = self.model.stem_masks(power[None])
        else:
            embeddings, negatives = queries
            (masks,) = self.model.masks(power[None], embeddings, negatives)
        parts = (masks.whole(), masks.mean_over(self.model.top_band), masks.rotation, masks.presence)
        return tuple(part[0] for part in parts if part is not None)


class GraphModel(MaskModel):
    """A mask network whose graph an engine computes, one recording after the other."""

    def computed(self, stems: bool, power: Tensor, *queries: Tensor) -> dict[str, Tensor]:
        """The outputs of the graph by name.

        Args:
            stems: of the graph for the stems instead of that for queries.
            power: as of `MaskGraph.forward`.
            queries: as of `MaskGraph.forward`.
        """
        raise NotImplementedError

    def masks(
        self, power: Tensor, embeddings: Tensor, negatives: Tensor, ways: Sequence[Ways | None] = ()
    ) -> Iterator[Masks]:
        """See `MaskModel.masks`."""
        for queries in query_groups(embeddings, negatives, None if self.queries_at_once else 1):
            yield self._stacked(False, power, *queries)

    def stem_masks(self, power: Tensor) -> Masks:
        """See `MaskModel.stem_masks`."""
        return self._stacked(True, power)

    def _stacked(self, stems: bool, power: Tensor, *queries: Tensor) -> Masks:
        """Masks of (batch, bins, frames) power."""
        found = [self.computed(stems, one, *queries) for one in power]
        stacked = {name: torch.stack([one[name] for one in found]) for name in found[0]}
        return Masks(stacked["mask"], stacked.get("rotation"), stacked.get("presence"))


class WaveformGraph(nn.Module):
    """A mask graph between its transforms: waveform in, waveforms out.

    Attributes:
        inputs, outputs: as of `MaskGraph`.
    """

    def __init__(self, graph: MaskGraph) -> None:
        super().__init__()
        self.graph = graph
        self.inputs = ("mix", *graph.inputs[1:])
        self.outputs = ("targets", "top", *(name for name in graph.outputs if name == "presence"))
        model = graph.model
        self.transform = ConvTransform(model.n_fft, model.hop, model.pad_mode)

    def example(self) -> tuple[Tensor, ...]:
        """Inputs of the right shapes."""
        _, *queries = self.graph.example()
        mix = torch.rand(2, TRACED_FRAMES * self.graph.model.hop, generator=torch.Generator().manual_seed(0))
        return mix, *queries

    def forward(self, mix: Tensor, *queries: Tensor) -> tuple[Tensor, ...]:
        """(channels, samples) -> targets (queries, channels, samples), top, and presence where the network has it."""
        real, imaginary = self.transform(mix).chunk(2, 1)
        power = (real.square() + imaginary.square()).mean(0)
        masks = dict(zip(self.graph.outputs, self.graph(power, *queries), strict=True))
        scale = masks["mask"][:, None]
        if "rotation" in masks:
            c, s = (scale * part[:, None] for part in masks["rotation"].unbind(1))
            spectra = torch.cat([real * c - imaginary * s, real * s + imaginary * c], 2)
        else:
            spectra = torch.cat([real[None] * scale, imaginary[None] * scale], 2)
        targets = self.transform.inverse(spectra.flatten(0, 1), mix.shape[-1]).unflatten(0, spectra.shape[:2])
        return targets, *(masks[name] for name in self.outputs[1:])


class ConvTransform(nn.Module):
    """The STFT and its inverse as convolutions with one basis; ONNX has operators only for the first.

    Args:
        n_fft: FFT length, samples.
        hop: samples between frames.
        pad_mode: as of `models.stft.stft`.
    """

    basis: Tensor
    share: Tensor
    envelope: Tensor

    def __init__(self, n_fft: int, hop: int, pad_mode: Literal["constant", "reflect"]) -> None:
        super().__init__()
        self.n_fft, self.hop, self.pad_mode = n_fft, hop, pad_mode
        bins, n = torch.arange(n_fft // 2 + 1), torch.arange(n_fft)
        # k * n modulo n_fft, so that large angles lose no digits.
        angle = 2 * torch.pi * (bins[:, None] * n % n_fft).double() / n_fft
        window = torch.hann_window(n_fft, dtype=torch.float64)
        basis = torch.cat([angle.cos(), -angle.sin()]) * window
        share = torch.full((len(bins),), 2.0, dtype=torch.float64)
        share[0] = share[-1] = 1.0
        self.register_buffer("basis", basis[:, None].float())
        self.register_buffer("share", (share.repeat(2) / n_fft)[:, None].float())
        self.register_buffer("envelope", window.square()[None, None].float())

    def forward(self, x: Tensor) -> Tensor:
        """(channels, samples) -> (channels, 2 * bins, frames): real parts, then imaginary parts."""
        padded = F.pad(x[:, None], (self.n_fft // 2, self.n_fft // 2), mode=self.pad_mode)
        return F.conv1d(padded, self.basis, stride=self.hop)

    def inverse(self, spectra: Tensor, samples: Tensor | int) -> Tensor:
        """(any, 2 * bins, frames) -> (any, samples)."""
        x = F.conv_transpose1d(spectra * self.share, self.basis, stride=self.hop)[:, 0]
        overlap = F.conv_transpose1d(torch.ones_like(spectra[:1, :1]), self.envelope, stride=self.hop)[0]
        first = self.n_fft // 2
        return x[:, first : first + samples] / overlap[:, first : first + samples]
