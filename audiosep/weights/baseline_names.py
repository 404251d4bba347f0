"""Names of the baselines that `audiosep evaluate` measures; they are not models, and `load` says so."""

from __future__ import annotations

FLOORS = ("best-gain", "mixture", "silence")
"""Trivial estimates that are part of every table."""

KINDS: dict[str, tuple[str, ...]] = {
    "oracles": ("oracle-ibm", "oracle-irm", "oracle-complex", "oracle-mwf", "oracle-nmf"),
    "classical": ("nmf", "rpca", "repet", "repet-adaptive", "repet-sim", "hpss", "spectral-gating"),
}
"""Names that stand for several baselines."""

BASELINE_NAMES = frozenset(FLOORS).union(*KINDS.values())
"""All of them."""
