"""Baselines that models are compared with. Here are only their classes by name, which are imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from audiosep.errors import ModelError

if TYPE_CHECKING:
    from audiosep.evaluation.baselines.base import Baseline

BASELINES: dict[str, str] = {
    "mixture": "audiosep.evaluation.baselines.floors:MixtureFloor",
    "silence": "audiosep.evaluation.baselines.floors:Silence",
    "best-gain": "audiosep.evaluation.baselines.floors:BestGain",
    "oracle-ibm": "audiosep.evaluation.baselines.oracle:IdealBinaryMask",
    "oracle-irm": "audiosep.evaluation.baselines.oracle:IdealRatioMask",
    "oracle-complex": "audiosep.evaluation.baselines.oracle:IdealComplexMask",
    "oracle-mwf": "audiosep.evaluation.baselines.oracle:MultichannelWiener",
    "oracle-nmf": "audiosep.evaluation.baselines.nmf:OracleNmf",
    "nmf": "audiosep.evaluation.baselines.nmf:ExampleNmf",
    "rpca": "audiosep.evaluation.baselines.rpca:Rpca",
    "repet": "audiosep.evaluation.baselines.repet:Repet",
    "repet-adaptive": "audiosep.evaluation.baselines.repet:AdaptiveRepet",
    "repet-sim": "audiosep.evaluation.baselines.repet:RepetSim",
    "hpss": "audiosep.evaluation.baselines.hpss:Hpss",
    "spectral-gating": "audiosep.evaluation.baselines.gating:SpectralGating",
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
        ModelError: an unknown name.
    """
    return baseline_class(name)()
