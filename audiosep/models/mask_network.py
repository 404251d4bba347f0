"""What other engines than torch compute: a network from power to masks, with or without its transforms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiosep.errors import ModelError
from audiosep.models.base import SeparationModel
from audiosep.models.hybrid import Hybrid
from audiosep.models.masks import share_out
from audiosep.models.resunet import FLOOR, ResUNet30

TOP_BAND = 1000.0  # Hz
TRACED_FRAMES = 50  # so few that the published network does not cut them into stretches, which a trace would keep


@dataclass
class Masks:
    """What a network says: magnitude (queries, bins, frames), rotation (queries, 2, bins, frames) as cosine and sine,
    presence (queries,); the last two where the network has them.
    """

    magnitude: Tensor
    rotation: Tensor | None = None
    presence: Tensor | None = None


class MaskNetwork(nn.Module):
    """A network from the mean power of the channels to masks.

    Attributes:
        names: of the inputs beside the power. pad: how its STFT continues a signal beyond its ends.
        free: whether any number of queries can be asked at once, or one.
        top: bins of its highest 1 kHz. targets: names of the outputs; empty for queries.
    """

    names: tuple[str, ...] = ("embeddings", "negatives")
    pad = "constant"
    free = True
    targets: tuple[str, ...] = ()

    def __init__(self, model: Any, *, unseen: int = 0) -> None:
        super().__init__()
        self.model = model
        self.n_fft, self.hop = model.config.n_fft, model.hop
        self.bins = self.n_fft // 2 + 1
        last = self.bins - unseen
        self.top = slice(last - max(1, round(TOP_BAND * self.n_fft / model.sample_rate)), last)

    def forward(self, power: Tensor, *asked: Tensor) -> Masks:
        """(bins, frames) mean power of the channels, (queries, dimension) embeddings and negatives -> masks."""
        raise NotImplementedError


class HybridQueries(MaskNetwork):
    """The query path of the hybrid network."""

    model: Hybrid

    def forward(self, power: Tensor, *asked: Tensor) -> Masks:
        """See `MaskNetwork`."""
        embeddings, negatives = asked
        model = self.model
        features = model.encode(model.energies(power[None]))
        owner = torch.zeros_like(embeddings[:, 0], dtype=torch.int64)
        chosen = model.select(features, embeddings, owner) if model.config.refine else None
        decoded = model.decide(features, embeddings, negatives, owner, chosen)
        presence = None if decoded.presence is None else torch.sigmoid(decoded.presence)
        return Masks(model.bands.expand(model.answer(decoded)), presence=presence)


class HybridStems(MaskNetwork):
    """The fixed heads of the hybrid network."""

    model: Hybrid
    names = ()
    free = False

    def __init__(self, model: Hybrid) -> None:
        super().__init__(model)
        self.targets = model.stem_names

    def forward(self, power: Tensor, *asked: Tensor) -> Masks:
        """See `MaskNetwork`."""
        features = self.model.encode(self.model.energies(power[None]))
        return Masks(self.model.bands.expand(share_out(self.model.stem_masks(features))[0]))


class ResUNetQuery(MaskNetwork):
    """One query of the published AudioSep network, whose layers know the query from the first one on."""

    model: ResUNet30
    pad = "reflect"
    free = False

    def __init__(self, model: ResUNet30) -> None:
        super().__init__(model, unseen=1)

    def forward(self, power: Tensor, *asked: Tensor) -> Masks:
        """See `MaskNetwork`; ONNX has no complex numbers, so this takes the network's real parts."""
        embeddings, negatives = asked
        x = self.model.norm(power[None].clamp_min(FLOOR).sqrt())[:, :-1]
        x = F.pad(x, (0, -x.shape[-1] % self.model.grid)).transpose(1, 2)[:, None]
        logits = self.model._unet(x, F.normalize(embeddings - negatives, dim=-1)[0]).transpose(2, 3)
        logits = F.pad(logits[..., : power.shape[-1]], (0, 0, 0, 1))
        rotation = torch.tanh(logits[:, 1:])
        length = rotation.square().sum(1, keepdim=True).clamp_min(FLOOR**2).sqrt()
        return Masks(torch.sigmoid(logits[:, 0]), rotation / length)


def network_of(model: SeparationModel, stems: bool = False) -> MaskNetwork:
    """The part of a model that is exported.

    Raises:
        ModelError: there is none for this family.
    """
    if isinstance(model, Hybrid):
        return HybridStems(model) if stems else HybridQueries(model)
    if isinstance(model, ResUNet30):
        return ResUNetQuery(model)
    raise ModelError(f"{type(model).__name__} cannot be exported; hybrid and resunet30 networks can")


class Outside(nn.Module):
    """Power in, masks out. Outputs: mask, top, then rotation and presence where the network has them."""

    def __init__(self, masks: MaskNetwork) -> None:
        super().__init__()
        self.masks = masks

    def forward(self, power: Tensor, *asked: Tensor) -> dict[str, Tensor]:
        """(bins, frames) -> mask (queries, bins, frames) and the others."""
        said = self.masks(power, *asked)
        parts = {"mask": said.magnitude, "top": said.magnitude[:, self.masks.top].mean(1)}
        return {**parts, **_there(rotation=said.rotation, presence=said.presence)}


class Inside(nn.Module):
    """Waveform in, waveforms out. Outputs: targets, top, then presence where the network has it."""

    def __init__(self, masks: MaskNetwork) -> None:
        super().__init__()
        self.masks = masks
        self.transform = Transform(masks.n_fft, masks.hop, masks.pad)

    def forward(self, mix: Tensor, *asked: Tensor) -> dict[str, Tensor]:
        """(channels, samples) -> targets (queries, channels, samples) and the others."""
        real, imaginary = self.transform.forward(mix).chunk(2, 1)
        said = self.masks((real.square() + imaginary.square()).mean(0), *asked)
        scale = said.magnitude[:, None]
        if said.rotation is None:
            spectra = torch.cat([real[None] * scale, imaginary[None] * scale], 2)
        else:
            c, s = (scale * part[:, None] for part in said.rotation.unbind(1))
            spectra = torch.cat([real * c - imaginary * s, real * s + imaginary * c], 2)
        targets = self.transform.inverse(spectra.flatten(0, 1), mix.shape[-1]).unflatten(0, spectra.shape[:2])
        return {
            "targets": targets,
            "top": said.magnitude[:, self.masks.top].mean(1),
            **_there(presence=said.presence),
        }


class InOrder(nn.Module):
    """The outputs of a network in order, as tracing wants them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What `network` takes -> its outputs without their names."""
        return tuple(self.network(*inputs).values())


class Transform(nn.Module):
    """The STFT and its inverse as convolutions with one basis; ONNX has operators only for the first.

    Args:
        n_fft, hop: samples. pad: as `pad_mode` of `models.stft.stft`.
    """

    basis: Tensor
    share: Tensor
    envelope: Tensor

    def __init__(self, n_fft: int, hop: int, pad: str) -> None:
        super().__init__()
        self.n_fft, self.hop, self.pad = n_fft, hop, pad
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
        padded = F.pad(x[:, None], (self.n_fft // 2, self.n_fft // 2), mode=self.pad)
        return F.conv1d(padded, self.basis, stride=self.hop)

    def inverse(self, spectra: Tensor, samples: Tensor | int) -> Tensor:
        """(any, 2 * bins, frames) -> (any, samples)."""
        x = F.conv_transpose1d(spectra * self.share, self.basis, stride=self.hop)[:, 0]
        overlap = F.conv_transpose1d(torch.ones_like(spectra[:1, :1]), self.envelope, stride=self.hop)[0]
        first = self.n_fft // 2
        return x[:, first : first + samples] / overlap[:, first : first + samples]


def _there(**parts: Tensor | None) -> dict[str, Tensor]:
    return {name: part for name, part in parts.items() if part is not None}
