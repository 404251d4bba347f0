"""The networks that are compared: what was published about each, and the reduced sizes that one core can train."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One network.

    Attributes:
        family: as in `models.families`.
        title: of the network, and the year.
        published: parameters in millions.
        source: of that number.
        reduced: sizes of the network that is trained in the comparison.
    """

    family: str
    title: str
    published: float
    source: str
    reduced: dict[str, Any] = field(default_factory=dict)


PAPER = "the paper"
COUNTED = "counted from the layers of the official code; the paper gives none"
_SPECTRUM = {"n_fft": 1024, "hop": 256}

ENTRIES = (
    Entry("unet", "U-Net (Jansson 2017)", 9.825, "39.30 for four, Meseguer-Brocal and Peeters 2019, table 1"),
    Entry("wave_unet", "Wave-U-Net (Stoller 2018)", 10.26, COUNTED),
    Entry("skip_filtering", "Skip-filtering (Mimilakis 2017)", 27.2, COUNTED),
    Entry("mmdenselstm", "MMDenseLSTM (Takahashi 2018)", 1.22, PAPER),
    Entry("open_unmix", "Open-Unmix (Stöter 2019)", 8.893, COUNTED),
    Entry("conv_tasnet", "Conv-TasNet (Luo 2019)", 5.1, PAPER),
    Entry("dprnn", "DPRNN (Luo 2020)", 2.6, PAPER),
    Entry("svoice", "SVoice (Nachmani 2020)", 7.5, PAPER),
    Entry("resunet_decouple", "ResUNetDecouple+ (Kong 2021)", 102.6, COUNTED),
    Entry("cws_presunet", "CWS-PResUNet (Liu 2021)", 200.4, COUNTED),
    Entry("bs_roformer", "BS-RoFormer (Lu 2023)", 93.4, PAPER),
    Entry("scnet", "SCNet (Tong 2024)", 10.58, COUNTED),
)
