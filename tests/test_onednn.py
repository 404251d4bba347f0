"""A convolution with its leaky ReLU: the same numbers in one pass and in two, and only where it is the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F

from audiosep.bench.roofline import count
from audiosep.models import onednn
from audiosep.models.onednn import leaky_conv2d


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    onednn._works.cache_clear()
    yield
    onednn._works.cache_clear()


def case(dtype: torch.dtype, groups: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(groups)
    x = torch.randn(2, 8, 9, 16, generator=generator).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(8, 8 // groups, 3, 3, generator=generator)
    return x.to(dtype), weight.to(dtype), torch.randn(8, generator=generator)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("groups", [1, 8])
@pytest.mark.parametrize("padding", [(0, 1), (1, 1)])
def test_it_is_the_convolution_and_its_leaky_relu(dtype: torch.dtype, groups: int, padding: tuple[int, int]) -> None:
    x, weight, bias = case(dtype, groups)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        out = leaky_conv2d(x, weight, bias, 0.01, padding=padding, groups=groups)
    plain = F.leaky_relu(F.conv2d(x.float(), weight.float(), bias, padding=padding, groups=groups), 0.01)
    assert out.dtype == dtype
    error = (out.float() - plain).norm() / plain.norm()
    assert error < (1e-5 if dtype == torch.float32 else 4e-3)  # half a step of bf16 is 2e-3


def test_gradients_take_the_usual_way() -> None:
    x, weight, bias = case(torch.bfloat16, 1)
    weight.requires_grad_()
    assert not onednn.fuses(x)
    leaky_conv2d(x, weight, bias.bfloat16(), 0.01).float().sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize("broken", ["absent", "refused", "wrong"])
def test_another_torch_takes_the_usual_way(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def refused(*_: object) -> None:
        raise RuntimeError("expected another number of arguments")

    def wrong(x: torch.Tensor, weight: torch.Tensor, *_: object) -> torch.Tensor:
        return torch.zeros_like(F.conv2d(x, weight, padding=0, groups=x.shape[1] // weight.shape[1]))

    monkeypatch.setattr(onednn, "FUSED", {"absent": None, "refused": refused, "wrong": wrong}[broken])
    x, weight, bias = case(torch.bfloat16, 1)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert not onednn.fuses(x)
        out = leaky_conv2d(x, weight, bias, 0.01)
        plain = F.leaky_relu(F.conv2d(x, weight, bias), 0.01)
    assert torch.equal(out, plain)


def test_its_operations_are_counted() -> None:
    x, weight, bias = case(torch.bfloat16, 1)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        if not onednn.fuses(x):
            pytest.skip("this CPU has no bf16")
        fused = count(lambda: leaky_conv2d(x, weight, bias, 0.01))
        plain = count(lambda: F.conv2d(x, weight, bias.bfloat16()))
    assert fused[0] == plain[0] > 0
