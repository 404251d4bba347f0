"""Losses: the right order of good and bad estimates, finite gradients on silence, the exact band form."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from audiosep.errors import ConfigError
from audiosep.models.bands import Bands
from audiosep.models.stft import istft, power, stft
from audiosep.training.separation import losses, waveform_losses
from audiosep.training.separation.losses import BAND_LOSSES, WeightedLosses
from audiosep.training.separation.waveform_losses import WAVEFORM_LOSSES

RATE = 16000


def voice(seed: int, samples: int = RATE) -> torch.Tensor:
    """A gliding harmonic sound with a tremolo and some breath."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(samples) / RATE
    pitch = 120 + 80 * torch.rand(1, generator=generator) + 30 * torch.sin(6.28 * 2 * time + seed)
    phase = (6.28 * pitch / RATE).cumsum(0)
    tone = sum(torch.sin(k * phase) / k for k in range(1, 12))
    return 0.05 * tone * (1 + torch.sin(6.28 * 5 * time)) + 0.002 * torch.randn(samples, generator=generator)


@pytest.fixture
def signals() -> tuple[torch.Tensor, torch.Tensor]:
    target = torch.stack([voice(1), voice(2)])
    return target, target + torch.stack([voice(3), voice(4)])


@pytest.mark.parametrize("name", sorted(set(WAVEFORM_LOSSES) - {"silence"}))
def test_a_better_estimate_has_a_lower_loss(name, signals):
    target, mixture = signals
    loss = WAVEFORM_LOSSES[name]
    values = [loss(target + leak * (mixture - target), target, mixture) for leak in (0.0, 0.1, 0.5, 1.0)]
    for better, worse in pairwise(values):
        assert (better < worse).all()


@pytest.mark.parametrize("name", sorted(WAVEFORM_LOSSES))
@pytest.mark.parametrize("silent", ["target", "estimate", "mixture", "all"])
def test_gradients_are_finite_on_silence(name, silent, signals):
    target, mixture = signals
    estimate = mixture * 0.5
    if silent in ("target", "all"):
        target = target * 0
    if silent in ("mixture", "all"):
        mixture = mixture * 0
    if silent in ("estimate", "all"):
        estimate = estimate * 0
    estimate = estimate.clone().requires_grad_()
    value = WAVEFORM_LOSSES[name](estimate, target, mixture)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(estimate.grad).all()


@pytest.mark.parametrize(
    "name", ["snr", "projection", "silence", "noise_weighted_mse", "multi_resolution_stft", "ssim"]
)
def test_the_best_estimate_of_an_absent_target_is_silence(name, signals):
    _, mixture = signals
    loss = WAVEFORM_LOSSES[name]
    quiet, loud = (loss(mixture * gain, mixture * 0, mixture) for gain in (0.05, 0.5))
    assert (quiet < loud).all()


@pytest.mark.parametrize("absent", [0.1, 0.5])
def test_queries_with_an_absent_target_count_with_their_own_weight(absent, signals):
    target, mixture = signals
    expected = torch.full((2,), absent * 10 * float(torch.log10(torch.tensor(0.25 + 1e-3))))
    terms = WeightedLosses([{"name": "snr", "absent": absent}], WAVEFORM_LOSSES)
    assert torch.allclose(terms(0.5 * mixture, 0 * mixture, mixture)[0], expected, atol=1e-3)
    _, _, _, (a, b, c) = band_energies(target, mixture)
    terms, mask = WeightedLosses([{"name": "band_snr", "absent": absent}], BAND_LOSSES), torch.full_like(a, 0.5)
    assert torch.allclose(terms(mask, a, 0 * b, 0 * c)[0], expected, atol=1e-3)
    present = WeightedLosses([{"name": "band_snr", "absent": 1.0}], BAND_LOSSES)
    assert torch.equal(terms(mask, a, b, c)[0], present(mask, a, b, c)[0])


@pytest.mark.parametrize("name", sorted(set(WAVEFORM_LOSSES) - {"l1", "huber"}))
def test_losses_do_not_depend_on_the_level(name, signals):
    target, mixture = signals
    estimate = target + 0.3 * (mixture - target)
    loss = WAVEFORM_LOSSES[name]
    assert torch.allclose(
        loss(estimate, target, mixture), loss(*(4 * s for s in (estimate, target, mixture))), rtol=1e-3
    )


def test_formulas(signals):
    target, mixture = signals
    noise = mixture - target
    assert torch.allclose(waveform_losses.snr(target, target, mixture), torch.full((2,), -30.0), atol=1e-3)
    ratio = noise.square().sum(-1) / target.square().sum(-1)
    expected = 10 * torch.log10(0.25 * ratio + 1e-3)
    assert torch.allclose(waveform_losses.snr(target + 0.5 * noise, target, mixture), expected, atol=1e-3)
    # a = 0.8, b = 0.3, R = 0
    value = waveform_losses.projection(0.8 * target + 0.3 * noise, target, mixture)
    assert torch.allclose(value, 0.04 + 0.09 * ratio, rtol=1e-2)
    assert torch.allclose(waveform_losses.si_sdr(2 * target, target, mixture), torch.full((2,), -50.0), atol=0.1)


def band_energies(target, mixture):
    bands = Bands(1025, 64)
    X, T = stft(mixture, 2048, 512), stft(target, 2048, 512)
    cross = X.real * T.real + X.imag * T.imag
    return bands, X, T, [bands.energy(v) for v in (power(X), cross, power(T))]


def test_band_energies_give_the_exact_squared_error_of_a_band_mask(signals):
    bands, X, T, (a, b, c) = band_energies(*signals)
    mask = torch.rand(2, 1, a.shape[-1], generator=torch.Generator().manual_seed(0)).expand(-1, 64, -1)
    error = (X * bands.expand(mask) - T).abs().square().sum((1, 2))
    assert torch.allclose(losses.squared_error(mask, a, b, c), error, rtol=1e-4)
    expected = 10 * torch.log10(error / c.sum((1, 2)) + 1e-3)
    assert torch.allclose(losses.band_snr(mask, a, b, c), expected, atol=1e-3)


@pytest.mark.parametrize("name", sorted(BAND_LOSSES))
def test_the_best_mask_has_the_lowest_band_loss(name, signals):
    target, mixture = signals
    _, _, _, (a, b, c) = band_energies(target, mixture)
    best = (c / (a + 1e-9)).sqrt().clamp(0, 1) if name == "band_magnitude" else (b / (a + 1e-9)).clamp(0, 1)
    loss = BAND_LOSSES[name]
    others = [torch.ones_like(best), torch.zeros_like(best)]
    if name == "band_si_sdr":
        torch.testing.assert_close(loss(0.5 * best, a, b, c), loss(best, a, b, c), rtol=1e-3, atol=1e-3)
        assert (loss(best, a, b * 0, c * 0) == 0).all()
        assert (loss(others[0], a, b, c) < loss(1 - best, a, b, c)).all(), "both sounds are better than the wrong one"
    else:
        others.append(0.5 * best)
        assert (loss(0.1 * best, a, b * 0, c * 0) < loss(best, a, b * 0, c * 0)).all()
    for other in others:
        assert (loss(best, a, b, c) < loss(other, a, b, c)).all()


@pytest.mark.parametrize("name", sorted(BAND_LOSSES))
@pytest.mark.parametrize("value", [0.0, 0.5])
@pytest.mark.parametrize("energy", [0.0, 1e-12, 1.0, 1e6])
def test_band_gradients_are_finite_on_silence(name, value, energy):
    mask = torch.full((2, 8, 5), value, requires_grad=True)
    a = torch.full((2, 8, 5), energy)
    for c in (a * 0, a):
        loss = BAND_LOSSES[name](mask, a, c, c)
        mask.grad = None
        loss.sum().backward()
        assert torch.isfinite(loss).all()
        assert torch.isfinite(mask.grad).all()


def test_minimising_the_band_losses_separates(signals):
    target, mixture = signals
    bands, X, _, (a, b, c) = band_energies(target, mixture)
    total = WeightedLosses([{"name": "band_snr", "weight": 0.1}, {"name": "band_magnitude"}], BAND_LOSSES)
    logits = torch.zeros_like(a, requires_grad=True)
    optimizer = torch.optim.Adam([logits], 0.2)
    for _ in range(100):
        optimizer.zero_grad()
        loss, parts = total(logits.sigmoid(), a, b, c)
        loss.mean().backward()
        optimizer.step()
    estimate = istft(X * bands.expand(logits.sigmoid().detach()), 2048, 512, RATE)
    error = (estimate - target).square().sum() / target.square().sum()
    before = (mixture - target).square().sum() / target.square().sum()
    assert 10 * torch.log10(before / error) > 3
    assert set(parts) == {"band_snr", "band_magnitude"}


def test_losses_add_up_with_their_weights_and_average_channels(signals):
    target, mixture = (torch.stack([s, s * 0.5], 1) for s in signals)
    terms = [{"name": "multi_resolution_stft", "weight": 2.0}, {"name": "snr", "weight": 0.1, "threshold_db": 20}]
    total, parts = WeightedLosses(terms, WAVEFORM_LOSSES)(mixture.bfloat16(), target, mixture)
    assert total.shape == (2,)
    assert total.dtype == torch.float32
    assert float(total.mean()) == pytest.approx(
        2 * float(parts["multi_resolution_stft"]) + 0.1 * float(parts["snr"]), rel=1e-5
    )


def test_wrong_terms_are_refused():
    for terms, match in (
        ([{"name": "band_snr"}], "not one of huber, l1"),
        ([{"name": "snr", "threshold": 3}], "has no option 'threshold'"),
        ([{"name": "snr", "weight": "2"}], "expected a number"),
        ([], "at least one"),
    ):
        with pytest.raises(ConfigError, match=match):
            WeightedLosses(terms, WAVEFORM_LOSSES)
