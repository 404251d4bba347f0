"""The network families: their names in `config.json`, and where their classes are, so that only what is used loads."""

from __future__ import annotations

import importlib
from pathlib import Path

from audiosep.errors import ModelError
from audiosep.models.separation_model import SeparationModel

FAMILIES = {
    "resunet30": "audiosep.models.resunet:ResUNet30",
    "hybrid": "audiosep.models.hybrid:Hybrid",
    "published": "audiosep.models.published:PublishedStems",  # networks of other packages
    # Networks of the literature, see `backbones`.
    "unet": "audiosep.models.backbones.unet:UNet",
    "wave_unet": "audiosep.models.backbones.wave_unet:WaveUNet",
    "open_unmix": "audiosep.models.backbones.open_unmix:OpenUnmix",
    "mmdenselstm": "audiosep.models.backbones.mmdenselstm:MMDenseLSTM",
    "conv_tasnet": "audiosep.models.backbones.conv_tasnet:ConvTasNet",
    "dprnn": "audiosep.models.backbones.dprnn:DPRNN",
    "svoice": "audiosep.models.backbones.svoice:SVoice",
    "resunet_decouple": "audiosep.models.backbones.resunet_decouple:ResUNetDecouple",
    "cws_presunet": "audiosep.models.backbones.cws_presunet:CWSPResUNet",
    "skip_filtering": "audiosep.models.backbones.skip_filtering:SkipFiltering",
    "bs_roformer": "audiosep.models.backbones.bs_roformer:BSRoFormer",
    "scnet": "audiosep.models.backbones.scnet:SCNet",
}


def family_class(family: str, where: Path | str = "family") -> type[SeparationModel]:
    """The class of a registered family.

    Raises:
        ModelError: an unknown family.
    """
    if family not in FAMILIES:
        raise ModelError(f"{where}: unknown family {family!r}, this version knows {', '.join(FAMILIES)}")
    module, name = FAMILIES[family].split(":")
    found: type[SeparationModel] = getattr(importlib.import_module(module), name)
    return found


def family_of(model: SeparationModel) -> str:
    """The name of a model's family.

    Raises:
        ModelError: its class is no registered family.
    """
    place = f"{type(model).__module__}:{type(model).__qualname__}"
    for family, known in FAMILIES.items():
        if known == place:
            return family
    raise ModelError(f"{place} is no registered family; add it to audiosep.models.families.FAMILIES")
