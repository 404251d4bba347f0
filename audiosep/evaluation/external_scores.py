"""Scores by published packages: BSS Eval v3 (fast_bss_eval) and v4 (museval), PESQ and STOI."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiosep import metrics
from audiosep.audio import resample
from audiosep.errors import DependencyError, install_extra
from audiosep.evaluation.measures import GROUPS

Wave = NDArray[np.float64]


def bss_eval(e: Wave, s: Wave, x: Wave) -> dict[str, float]:
    """BSS Eval v3 of the target among {target, rest}, mean of the channels, and NSDR.

    Args:
        e: estimate, (channels, samples).
        s: true target, (channels, samples).
        x: mixture, (channels, samples).

    Returns:
        The measures of the group `bss`; empty if the estimate, the target or the rest is silent.
    """
    package = import_package("fast_bss_eval")
    rows = []
    for ec, sc, xc in zip(e, s, x, strict=True):
        if min(np.mean(y**2) for y in (ec, sc, xc - sc)) <= metrics.SILENCE:
            continue
        # As numpy arrays, not tensors: torch's batched solver (oneMKL) fails on these systems on some processors.
        reference = np.stack([sc, xc - sc])
        # Only the first row is used. A second row that equals its source keeps the two from being swapped.
        (sdr, sir, sar), (unprocessed, _, _) = (
            package.bss_eval_sources(reference, np.stack([y, xc - sc]), clamp_db=metrics.LIMIT_DB)[:3] for y in (ec, xc)
        )
        rows.append([float(sdr[0]), float(sir[0]), float(sar[0]), float(sdr[0] - unprocessed[0])])
    if not rows:
        return {}
    return dict(zip(GROUPS["bss"], np.mean(rows, axis=0).tolist(), strict=True))


def bss_eval_v4(e: Wave, s: Wave, x: Wave, sample_rate: int) -> dict[str, float]:
    """BSS Eval v4 of the target among {target, rest}: medians over windows of one second.

    Args:
        e: estimate, (channels, samples).
        s: true target, (channels, samples).
        x: mixture, (channels, samples).
        sample_rate: Hz.

    Returns:
        The measures of the group `museval`; empty if the estimate, the target or the rest is silent.
    """
    package = museval_metrics()
    if min(np.mean(y**2) for y in (e, s, x - s)) <= metrics.SILENCE:
        return {}
    reference, estimate = np.stack([s.T, (x - s).T]), np.stack([e.T, s.T])  # the second row as above
    with np.errstate(all="ignore"):  # silent windows divide by zero; museval marks them NaN
        sdr, isr, sir, sar, _ = package.bss_eval(reference, estimate, window=sample_rate, hop=sample_rate)
    medians = [float(np.nanmedian(y[0])) if np.isfinite(y[0]).any() else float("nan") for y in (sdr, isr, sir, sar)]
    return dict(zip(GROUPS["museval"], medians, strict=True))


def speech(e: Wave, s: Wave, sample_rate: int) -> dict[str, float]:
    """PESQ (wide band) and STOI of the channels' mean.

    Args:
        e: estimate, (channels, samples).
        s: true speech, (channels, samples).
        sample_rate: Hz.
    """
    pesq, pystoi = import_package("pesq"), import_package("pystoi")
    rate = 16000
    reference, estimate = (resample(y.mean(0, keepdims=True).astype(np.float32), sample_rate, rate)[0] for y in (s, e))
    scores = {"stoi": float(pystoi.stoi(reference, estimate, rate))}
    value = pesq.pesq(rate, reference, estimate, "wb", on_error=pesq.PesqError.RETURN_VALUES)
    if value >= 1:  # pesq returns -1 where it finds no utterance; MOS-LQO starts at 1
        scores["pesq"] = float(value)
    return scores


@functools.cache
def museval_metrics() -> Any:
    """museval's module of metrics. It is loaded without its package, whose import fails on machines without ffmpeg."""
    package = importlib.util.find_spec("museval")
    if package is None or not package.submodule_search_locations:
        raise DependencyError(f"museval is not installed: {install_extra('eval')}")
    path = Path(package.submodule_search_locations[0]) / "metrics.py"
    spec = importlib.util.spec_from_file_location("museval_metrics", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def import_package(name: str) -> Any:
    """Import a package of the extra `eval`.

    Raises:
        DependencyError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DependencyError(f"{name} is not installed ({error}): {install_extra('eval')}") from error
