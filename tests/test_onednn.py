"""Convolutions by oneDNN's own functions: the same numbers as the usual way, and only where it is the same."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F

from audiosep.deploy.roofline import count
from audiosep.models import onednn
from audiosep.models.onednn import PackedConv2d, leaky_conv2d


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    for tried in (onednn._works, onednn._packs):
        tried.cache_clear()
    yield
    for tried in (onednn._works, onednn._packs):
        tried.cache_clear()


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


LAYERS: dict[str, Callable[[], PackedConv2d]] = {
    "3 x 3": lambda: PackedConv2d(8, 12, 3, padding=1, bias=False),
    "1 x 1": lambda: PackedConv2d(8, 12, 1),
    "stride": lambda: PackedConv2d(8, 12, (3, 1), stride=(2, 1)),
    "groups": lambda: PackedConv2d(8, 16, 3, padding=(0, 1), groups=2),
}


def layer(name: str = "3 x 3") -> PackedConv2d:
    torch.manual_seed(0)
    return LAYERS[name]().eval()


def usual(conv: PackedConv2d, x: torch.Tensor) -> torch.Tensor:
    return torch.nn.Conv2d.forward(conv, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", LAYERS)
def test_packed_weights_compute_the_same(name: str, dtype: torch.dtype) -> None:
    conv = layer(name)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        for size in (9, 9, 16, 9, 5, 5):  # as kept, and as replaced
            for layout in (torch.channels_last, torch.contiguous_format):
                x = torch.randn(2, 8, size, 6).contiguous(memory_format=layout)
                out, plain = conv(x), usual(conv, x)
                assert out.dtype == plain.dtype
                bound = 1e-5 if dtype == torch.float32 else 2e-2
                torch.testing.assert_close(out, plain, rtol=bound, atol=bound)
    if onednn._packs(dtype):
        assert [use[0][2] for use in conv._packed] == [16, 5]  # type: ignore[index]


def test_packed_weights_follow_the_weights() -> None:
    conv, x = layer(), torch.randn(1, 8, 9, 6)
    with torch.no_grad():
        conv(x)
        conv.weight.mul_(2)
        torch.testing.assert_close(conv(x), usual(conv, x))
        conv.load_state_dict({"weight": torch.ones_like(conv.weight)})
        torch.testing.assert_close(conv(x), usual(conv, x))
        conv.weight.data = torch.zeros_like(conv.weight)
        assert not conv(x).any()
        conv.weight.data.add_(1)  # torch does not count this, but a model that was trained is set to `eval`
        torch.testing.assert_close(conv.eval()(x), usual(conv, x))


def test_computed_weights_are_not_kept() -> None:
    class Sum(torch.nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight + change

    change, conv, x = torch.zeros(1), layer(), torch.randn(1, 8, 9, 6)
    torch.nn.utils.parametrize.register_parametrization(conv, "weight", Sum())
    with torch.no_grad():
        for _ in range(3):
            change += 1
            torch.testing.assert_close(conv(x), usual(conv, x))
    assert not conv._packed


def test_layers_with_packed_weights_are_copied_without_them() -> None:
    conv, x = layer(), torch.randn(1, 8, 9, 6)
    with torch.inference_mode():
        out = conv(x)
        for other in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
            assert not other._packed
            assert torch.equal(other(x), out)
    assert list(conv.state_dict()) == ["weight"]


def test_training_and_exports_see_a_plain_convolution() -> None:
    conv, x = layer(), torch.randn(1, 8, 9, 6)
    conv(x).sum().backward()
    assert conv.weight.grad is not None
    with torch.inference_mode():
        traced = torch.jit.trace(conv, x, check_trace=False)
    assert "mkldnn" not in str(traced.inlined_graph)  # type: ignore[attr-defined]
    assert "mkldnn" not in str(torch.export.export(conv.requires_grad_(False), (x,)).graph)
    assert not conv._packed


@pytest.mark.parametrize("missing", ["FUSED", "REORDER"])
def test_a_torch_that_packs_no_weights_takes_the_usual_way(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setattr(onednn, missing, None)
    conv, x = layer(), torch.randn(1, 8, 9, 6)
    with torch.inference_mode():
        assert torch.equal(conv(x), usual(conv, x))
    assert not conv._packed


@pytest.mark.parametrize("broken", ["refused", "wrong"])
def test_a_torch_that_packs_otherwise_takes_the_usual_way(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def refused(*_: object) -> None:
        raise RuntimeError("expected another number of arguments")

    def wrong(weight: torch.Tensor, *_: object) -> torch.Tensor:
        return 2 * weight.to_dense()

    monkeypatch.setattr(onednn, "REORDER", {"refused": refused, "wrong": wrong}[broken])
    conv, x = layer(), torch.randn(1, 8, 9, 6)
    with torch.inference_mode():
        assert torch.equal(conv(x), usual(conv, x))


def test_operations_with_packed_weights_are_counted() -> None:
    conv, x = layer(), torch.randn(1, 8, 9, 6)
    with torch.inference_mode():
        packed, plain = count(lambda: conv(x)), count(lambda: usual(conv, x))
    assert packed[0] == plain[0] > 0
