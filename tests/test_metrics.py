"""Metrics against their definitions, independent implementations, and silence."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiosep import metrics


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.1


def test_snr_of_a_known_error():
    reference = noise(3, 8000)
    assert torch.allclose(metrics.snr(reference * 0.9, reference), torch.full((3,), 20.0), atol=1e-3)
    assert torch.allclose(metrics.snr(reference * 0, reference), torch.zeros(3), atol=1e-5)


def test_agrees_with_torchmetrics():
    audio = pytest.importorskip("torchmetrics.functional.audio")
    reference, estimate = noise(4, 8000), noise(4, 8000) + noise(4, 8000, seed=1) * 0.3
    ours, theirs = metrics.si_sdr(estimate, reference), audio.scale_invariant_signal_distortion_ratio
    assert torch.allclose(ours, theirs(estimate, reference), atol=1e-3)
    assert torch.allclose(metrics.snr(estimate, reference), audio.signal_noise_ratio(estimate, reference), atol=1e-3)


def test_sdr_counts_all_channels_together():
    reference = torch.stack([noise(8000), noise(8000, seed=1) * 0.1])
    estimate = torch.stack([reference[0], torch.zeros(8000)])
    expected = 10 * math.log10(float(reference.square().sum() / reference[1].square().sum()))
    assert float(metrics.sdr(estimate, reference)) == pytest.approx(expected, abs=1e-3)
    assert metrics.sdr(estimate[None], reference[None]).shape == (1,)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.01, 100.0), st.booleans(), st.integers(0, 1000))
def test_si_sdr_ignores_scale_and_sign(scale, negative, seed):
    reference, estimate = noise(4000, seed=seed), noise(4000, seed=seed) + noise(4000, seed=seed + 1)
    scaled = estimate * (-scale if negative else scale)
    assert float(metrics.si_sdr(scaled, reference)) == pytest.approx(
        float(metrics.si_sdr(estimate, reference)), abs=1e-3
    )


def test_improvements():
    target, other = noise(2, 8000), noise(2, 8000, seed=1)
    mixture = target + other
    estimate = target + 0.1 * other
    assert torch.allclose(metrics.snri(estimate, target, mixture), torch.full((2,), 20.0), atol=1e-3)
    assert (metrics.si_sdri(estimate, target, mixture) > 19).all()
    assert float(metrics.sdri(estimate, target, mixture)) == pytest.approx(20.0, abs=1e-3)
    assert torch.allclose(metrics.si_sdri(mixture * 0.5, target, mixture), torch.zeros(2), atol=1e-4)


def test_silence():
    reference, silent = noise(8000), torch.zeros(8000)
    for metric in (metrics.snr, metrics.si_sdr):
        assert metric(reference, silent).isnan()
        assert metric(silent, silent).isnan()
        assert float(metric(reference, reference)) == pytest.approx(100.0)
    assert float(metrics.snr(silent, reference)) == pytest.approx(0.0, abs=1e-5)
    assert float(metrics.si_sdr(silent, reference)) == -100.0
    assert float(metrics.suppression(silent, reference)) == pytest.approx(100.0)
    assert float(metrics.suppression(reference * 0.1, reference)) == pytest.approx(20.0, abs=1e-3)


def test_half_precision_is_measured_in_float32_and_double_in_double():
    reference = noise(8000)
    assert metrics.snr((reference * 0.9).half(), reference.half()).dtype == torch.float32
    assert metrics.si_sdr(reference.double() * 0.5, reference.double()).dtype == torch.float64


def test_different_lengths_are_refused():
    with pytest.raises(ValueError, match="lengths differ"):
        metrics.snr(noise(10), noise(1))


def test_roc_auc() -> None:
    assert metrics.roc_auc([3, 2], [1, 0]) == 1
    assert metrics.roc_auc([1, 0], [1, 0]) == 0.5
    assert metrics.roc_auc([2, 1, 1], [1, 0]) == pytest.approx(5 / 6)
    assert math.isnan(metrics.roc_auc([1], []))
