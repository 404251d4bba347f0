"""What users compare with, behind the same interface as our models; names only, the code loads on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Literal

from audiosep.errors import ModelError

if TYPE_CHECKING:
    from audiosep.baselines.base import Baseline

FLOORS = ("best-gain", "mixture", "silence")
"""The trivial answers that stand in every table."""

KINDS: dict[str, tuple[str, ...]] = {
    "oracles": ("oracle-ibm", "oracle-irm", "oracle-complex", "oracle-mwf", "oracle-nmf"),
    "classical": ("nmf", "rpca", "repet", "repet-adaptive", "repet-sim", "hpss", "spectral-gating"),
    "networks": ("hdemucs", "hdemucs-plus", "convtasnet", "demucs", "openunmix"),
}
"""Names for several baselines at once."""

BaselineName = Literal[
    "mixture",
    "silence",
    "best-gain",
    "oracle-ibm",
    "oracle-irm",
    "oracle-complex",
    "oracle-mwf",
    "oracle-nmf",
    "nmf",
    "rpca",
    "repet",
    "repet-adaptive",
    "repet-sim",
    "hpss",
    "spectral-gating",
    "hdemucs",
    "hdemucs-plus",
    "convtasnet",
    "demucs",
    "openunmix",
]

BASELINES: dict[str, str] = {
    "mixture": "audiosep.baselines.floors:Mixture",
    "silence": "audiosep.baselines.floors:Silence",
    "best-gain": "audiosep.baselines.floors:BestGain",
    "oracle-ibm": "audiosep.baselines.oracle:IdealBinaryMask",
    "oracle-irm": "audiosep.baselines.oracle:IdealRatioMask",
    "oracle-complex": "audiosep.baselines.oracle:IdealComplexMask",
    "oracle-mwf": "audiosep.baselines.oracle:MultichannelWiener",
    "oracle-nmf": "audiosep.baselines.nmf:OracleNmf",
    "nmf": "audiosep.baselines.nmf:ExampleNmf",
    "rpca": "audiosep.baselines.rpca:Rpca",
    "repet": "audiosep.baselines.repet:Repet",
    "repet-adaptive": "audiosep.baselines.repet:AdaptiveRepet",
    "repet-sim": "audiosep.baselines.repet:RepetSim",
    "hpss": "audiosep.baselines.hpss:Hpss",
    "spectral-gating": "audiosep.baselines.gating:SpectralGating",
    "hdemucs": "audiosep.baselines.neural:HybridDemucs",
    "hdemucs-plus": "audiosep.baselines.neural:HybridDemucsPlus",
    "convtasnet": "audiosep.baselines.neural:ConvTasNet",
    "demucs": "audiosep.baselines.neural:Demucs",
    "openunmix": "audiosep.baselines.neural:OpenUnmix",
}


def baseline_class(name: str) -> type[Baseline]:
    """The class of a baseline in `BASELINES`; its weights are not touched.

    Raises:
        ModelError: an unknown name.
    """
    if name not in BASELINES:
        raise ModelError(f"no baseline is called {name!r}; there are {', '.join(BASELINES)}")
    module, cls = BASELINES[name].split(":")
    found: type[Baseline] = getattr(importlib.import_module(module), cls)
    return found


def load_baseline(name: str) -> Baseline:
    """A baseline by its name in `BASELINES`.

    Raises:
        ModelError: an unknown name, or weights that are not in the user's cache.
        DependencyError: the package that the baseline needs is not installed.
    """
    return baseline_class(name)()
