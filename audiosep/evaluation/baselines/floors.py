"""Trivial estimates. A system that is not better than all three does not separate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from audiosep.audio.samples import Array
from audiosep.evaluation.baselines.base import Baseline, Oracle
from audiosep.query.query import Query


class MixtureFloor(Baseline):
    """Returns the mixture: 0 dB improvement by definition."""

    name: ClassVar[str] = "mixture"
    about: ClassVar[str] = "the mixture itself"

    def _estimate(
        self, mix: Array, queries: Sequence[Query], sample_rate: int, truth: Mapping[str, Array]
    ) -> dict[str, Array]:
        return {query.label: mix.copy() for query in queries}


class Silence(Baseline):
    """Returns silence: SDR 0 dB, which is an improvement where the target is weaker than the rest."""

    name: ClassVar[str] = "silence"
    about: ClassVar[str] = "silence"

    def _estimate(
        self, mix: Array, queries: Sequence[Query], sample_rate: int, truth: Mapping[str, Array]
    ) -> dict[str, Array]:
        return {query.label: np.zeros_like(mix) for query in queries}


class BestGain(Oracle):
    """The mixture times the constant that gives the highest SDR, g = <s, x> / <x, x>.

    The best volume alone gives an SDRi of 3 dB for two sources at 0 dB, and more for quieter targets; its SI-SDRi is
    0 dB.
    """

    name: ClassVar[str] = "best-gain"
    about: ClassVar[str] = "the mixture times the best constant, knowing the target (least squares)"

    def estimate(self, mix: Array, target: Array, sample_rate: int) -> Array:
        x, s = mix.astype(np.float64), target.astype(np.float64)
        scaled: Array = (x * ((s * x).sum() / (x * x).sum())).astype(np.float32)
        return scaled
