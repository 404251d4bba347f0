"""Interpolation as a product agrees with torch's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from audiosep.models.interpolation import interpolated


@pytest.mark.parametrize(("old", "new"), [(5, 11), (11, 5), (7, 7), (1, 4), (4, 1), (80, 160)])
def test_linear(old: int, new: int) -> None:
    x = torch.randn(2, 3, old, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(interpolated(x, new), F.interpolate(x, size=new, mode="linear"), atol=1e-5, rtol=1e-5)


def test_bilinear_and_its_gradient() -> None:
    one = torch.randn(2, 3, 6, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    other = one.detach().clone().requires_grad_()
    mine, theirs = interpolated(one, 13, 9), F.interpolate(other, size=(13, 9), mode="bilinear")
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
    mine.square().sum().backward()
    theirs.square().sum().backward()
    torch.testing.assert_close(one.grad, other.grad, atol=1e-4, rtol=1e-4)
