"""The networks that are compared: what was published about each, and the reduced sizes that one core can train."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from audiosep.models.families import family_class
from audiosep.models.separation_model import SeparationModel
from audiosep.weights.configs import from_dict

RATE = 16000  # Hz, of the comparison
STEMS = ("vocals", "drums", "bass", "other")


@dataclass(frozen=True)
class Entry:
    """One network.

    Attributes:
        family: as in `models.families`.
        title: of the network, and the year.
        published: parameters in millions, as stated or as counted.
        source: of that number.
        reduced: sizes of the network that is trained in the comparison.
    """

    family: str
    title: str
    published: float
    source: str
    reduced: dict[str, Any] = field(default_factory=dict)

    @property
    def compared(self) -> dict[str, Any]:
        """The `model` of a training configuration: the reduced network, for stems and words."""
        common = {"sample_rate": RATE, "stems": list(STEMS), "words": True, "features": 64, "window": 6.0}
        return {"family": self.family, **common, "context": 1.0, **self.reduced}


PAPER = "stated in the paper"
COUNTED = "our count of the layers of paper and code"
_SPECTRUM = {"n_fft": 1024, "hop": 256}
_BAND = {"features": 12, "growth": 6, "layers": [2, 2, 3, 2, 2], "units": [0, 0, 32, 0, 0]}
_WHOLE = {"features": 8, "growth": 6, "layers": [2, 2, 3, 2, 2], "units": [0, 0, 64, 0, 0]}
_BANDS = [8] * 16 + [16] * 12 + [32] * 5 + [33]

ENTRIES = (
    Entry(
        "unet", "U-Net (Jansson 2017)", 9.825, "39.30 for four stated by Meseguer-Brocal and Peeters (2019)",
        _SPECTRUM | {"widths": [12, 24, 48, 96, 128], "dropout": 0.1},
    ),
    Entry(
        "skip_filtering", "Skip-filtering (Mimilakis 2017)", 27.2, COUNTED,
        _SPECTRUM | {"read_bins": 128, "enhancement": 256, "iterations": 3},
    ),
    Entry(
        "wave_unet", "Wave-U-Net (Stoller 2018)", 10.26, COUNTED, {"channels": 1, "levels": 8, "width": 12},
    ),
    Entry(
        "mmdenselstm", "MMDenseLSTM (Takahashi 2018)", 1.22, f"{PAPER}, and ours made to fit",
        _SPECTRUM | {"edges": [96, 256], "bands": [_BAND] * 3, "whole": _WHOLE},
    ),
    Entry(
        "open_unmix", "Open-Unmix (Stöter 2019)", 8.893, COUNTED,
        _SPECTRUM | {"channels": 1, "bandwidth": 8000.0, "hidden": 256},
    ),
    Entry(
        "conv_tasnet", "Conv-TasNet (Luo 2019)", 5.1, PAPER,
        {"filters": 256, "length": 32, "bottleneck": 64, "skip": 64, "hidden": 128, "blocks": 6, "stacks": 2},
    ),
    Entry(
        "dprnn", "DPRNN (Luo 2020)", 2.6, PAPER,
        {"filters": 64, "length": 32, "chunk": 64, "hidden": 64, "blocks": 3},
    ),
    Entry(
        "svoice", "SVoice (Nachmani 2020)", 7.5, PAPER,
        {"filters": 64, "length": 32, "chunk": 64, "hidden": 48, "blocks": 3},
    ),
    Entry(
        "resunet_decouple", "ResUNetDecouple+ (Kong 2021)", 102.6, COUNTED,
        _SPECTRUM | {"channels": 1, "widths": [8, 16, 32, 64], "frame_levels": 4, "blocks": 1, "middle": 1, "last": 1},
    ),
    Entry(
        "cws_presunet", "CWS-PResUNet (Liu 2021)", 200.4, COUNTED,
        {"n_fft": 256, "hop": 64, "channels": 1, "widths": [16, 32, 64, 96], "frame_levels": 4, "blocks": 1,
         "middle": 1, "last": 1},
    ),
    Entry(
        "bs_roformer", "BS-RoFormer (Lu 2023)", 93.4, PAPER,
        _SPECTRUM | {"channels": 1, "bands": _BANDS, "width": 64, "layers": 3, "heads": 4, "expansion": 2},
    ),
    Entry(
        "scnet", "SCNet (Tong 2024)", 10.58, "our count of the authors' code; the paper states 10.08",
        _SPECTRUM | {"channels": 1, "widths": [16, 24, 48], "layers": 4},
    ),
)  # fmt: skip


def build(model: dict[str, Any]) -> SeparationModel:
    """Build a network.

    Args:
        model: "family" and the sizes that differ from the published ones.
    """
    sizes = dict(model)
    family = family_class(sizes.pop("family"))
    return family(from_dict(family.Config, sizes))


def parameters(model: SeparationModel) -> float:
    """The parameters of a network, in millions."""
    return sum(p.numel() for p in model.parameters()) / 1e6
