"""What the shipped weights make of the example recordings, held to figures of a command (golden/make_mini.py)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import foreign
import numpy as np
import pytest
from make_mini import measure, weights

from audiosep import load
from audiosep.models.hybrid_config import HybridConfig
from audiosep.weights import configs
from audiosep.weights.catalogue import locate
from audiosep.weights.model_config import read_config

TOLERANCE = 1e-3  # relative to the level of a target


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return foreign.figures("mini")


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    return measure(load("mini", device="cpu", precision="fp32"))


def test_the_figures_belong_to_the_shipped_weights(golden: dict[str, Any]) -> None:
    assert golden["weights"] == weights(), "run python tests/golden/make_mini.py and look at what changed"


def test_every_target_has_the_level_the_samples_and_the_presence_that_it_had(
    golden: dict[str, Any], measured: dict[str, Any]
) -> None:
    assert list(measured) == list(golden)
    for name, before in golden.items():
        if name == "weights":
            continue
        now = measured[name]
        assert now["rms"] == pytest.approx(before["rms"], rel=TOLERANCE), name
        assert now["presence"] == pytest.approx(before["presence"], abs=TOLERANCE), name
        np.testing.assert_allclose(now["values"], before["values"], atol=TOLERANCE, err_msg=name)
        np.testing.assert_allclose(now["projections"], before["projections"], atol=TOLERANCE, err_msg=name)


def test_the_default_configuration_is_that_of_the_shipped_weights() -> None:
    shipped = configs.from_dict(HybridConfig, read_config(locate("mini"))["model"])
    assert HybridConfig() == replace(shipped, presence_calibration=(1.0, 0.0))  # research makes these
