"""The fit of the weights that choose among estimates (`research.estimate_weights`)."""

from __future__ import annotations

import numpy as np
import torch

from audiosep.api import load
from audiosep.metrics import si_sdr
from research.estimate_weights import Compared, compared, fit, table


def made(targets: torch.Tensor, mixtures: torch.Tensor, estimates: torch.Tensor, evidence: torch.Tensor) -> Compared:
    """What the command keeps of (mixtures, estimates, samples)."""
    unit = torch.nn.functional.normalize(targets, dim=-1)
    right = (estimates * unit[:, None]).sum(-1)
    before = si_sdr(mixtures, targets)
    return Compared(evidence.numpy(), (estimates @ estimates.mT).numpy(), right.numpy(), before.numpy())


def scene(count: int = 40) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Targets, mixtures, and two estimates of each, of which the first is mostly the target, the second the rest."""
    draw = torch.Generator().manual_seed(0)
    targets, others = torch.randn(2, count, 500, generator=draw, dtype=torch.float64)
    estimates = torch.stack([targets + 0.2 * others, others + 0.2 * targets], 1)
    swap = torch.rand(count, generator=draw) < 0.5
    estimates[swap] = estimates[swap].flip(1)
    return targets, targets + others, estimates


def test_gains_are_those_of_the_mean_of_the_waveforms() -> None:
    targets, mixtures, estimates = scene()
    group = made(targets, mixtures, estimates, torch.zeros(40, 2, 1))
    shares = torch.rand(40, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    shares /= shares.sum(1, keepdim=True)
    mean = (shares[..., None] * estimates).sum(1)
    want = si_sdr(mean, targets) - si_sdr(mixtures, targets)
    np.testing.assert_allclose(group.gains(shares.numpy()), want.numpy(), atol=1e-6)
    best = group.gains(group.best())
    for number in (0, 1):
        one = np.eye(2)[[number] * 40]
        assert (best >= group.gains(one) - 1e-9).all()


def test_what_tells_the_target_gets_weight_and_what_does_not_gets_none() -> None:
    targets, mixtures, estimates = scene()
    draw = torch.Generator().manual_seed(2)
    tells = torch.nn.functional.cosine_similarity(estimates, targets[:, None], dim=-1)
    evidence = torch.stack([tells, torch.randn(40, 2, generator=draw, dtype=torch.float64)], -1)
    group = made(targets, mixtures, estimates, evidence)
    weights = fit([group, group])
    spread = evidence.flatten(0, 1).std(0).numpy()
    assert weights[0] * spread[0] > 10 * abs(weights[1] * spread[1])
    assert group.gains(group.chosen(weights)).mean() > group.gains(np.full((40, 2), 0.5)).mean() + 5


def test_the_estimates_of_a_query_by_mini() -> None:
    separator = load("mini", "cpu", "fp32", sounds=False)
    draw = torch.Generator().manual_seed(0)
    target, mix = torch.randn(2, 32_000, generator=draw) * 0.1
    one = compared(separator, mix, target, "dog barking")
    assert one is not None
    assert one.evidence.shape == (1, 3, 4)
    assert one.products.shape == (1, 3, 3)
    np.testing.assert_allclose(one.before, si_sdr(mix.double(), target.double()).numpy(), atol=1e-4)
    assert compared(separator, mix, target, "drums") is None  # a stem is chosen otherwise
    lines = table({"a": one}, np.zeros(4)).splitlines()
    assert len(lines) == 3
    assert lines[2].startswith("| a | 1 |")
