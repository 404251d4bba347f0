"""Values that are kept for as long as the weights behind them do not change."""

from __future__ import annotations

import copy
import pickle

import torch
from torch import nn

from audiosep.models.film import FilmNorm
from audiosep.models.kept import Kept
from audiosep.models.mobilenet_blocks import ConvNorm


def test_it_is_computed_again_when_a_weight_changes_in_place_or_is_replaced() -> None:
    kept, layer, calls = Kept[float](), nn.BatchNorm2d(3).requires_grad_(False), []

    def total() -> float:
        calls.append(1)
        return float(layer.weight.sum())

    assert [kept((layer,), total) for _ in range(3)] == [3.0] * 3
    assert len(calls) == 1
    layer.weight.mul_(2)
    assert kept((layer,), total) == 6.0
    layer.weight = nn.Parameter(torch.full((3,), 5.0), requires_grad=False)
    assert kept((layer,), total) == 15.0
    layer.bfloat16().float()
    kept((layer,), total)
    assert len(calls) == 4


def test_weights_that_learn_keep_their_gradient() -> None:
    layer = ConvNorm(2, 3, 3, activation="relu").eval()
    x = torch.randn(1, 2, 5, 5)
    with torch.no_grad():
        assert not layer(x).requires_grad
    layer(x).sum().backward()
    assert layer.conv.weight.grad is not None
    assert layer.norm.weight.grad is not None


def test_what_inference_kept_can_be_trained_through() -> None:
    layer = ConvNorm(2, 3, 3, activation="relu").eval().requires_grad_(False)
    x = torch.randn(1, 2, 5, 5)
    with torch.inference_mode():
        first = layer(x)
    x.requires_grad_()
    again = layer(x)
    again.sum().backward()
    torch.testing.assert_close(again, first)
    assert x.grad is not None


def test_loaded_moved_copied_and_trained_weights_are_used() -> None:
    torch.manual_seed(0)
    x, other = torch.randn(2, 4, 6, 6), FilmNorm(4)
    nn.init.normal_(other.weight)
    norm = FilmNorm(4).eval()
    with torch.no_grad():
        norm(x)
        norm.load_state_dict(other.state_dict())
        torch.testing.assert_close(norm(x), other.eval()(x))
        torch.testing.assert_close(copy.deepcopy(norm).double()(x.double()).float(), norm(x))
        copied = copy.deepcopy(norm)
        copied.weight.zero_()
        assert not torch.equal(copied(x), norm(x))
        norm.train()(x)  # changes the running statistics
        fresh = FilmNorm(4).eval()
        fresh.load_state_dict(norm.state_dict())
        torch.testing.assert_close(norm.eval()(x), fresh(x))


def test_a_copy_begins_anew() -> None:
    """Copied weights count their changes from the start, and come to the number that the original was kept at."""
    x, norm = torch.randn(2, 4, 6, 6), FilmNorm(4).eval()
    with torch.no_grad():
        norm.weight.mul_(1.5)
        norm(x)
        for copied in (copy.deepcopy(norm), pickle.loads(pickle.dumps(norm))):
            for value in (7.0, 3.0, 2.0):
                copied.weight.fill_(value)
                copied.bias.fill_(1.0)
                right = torch.nn.functional.batch_norm(
                    x, copied.running_mean, copied.running_var, copied.weight, copied.bias, eps=copied.eps
                )
                torch.testing.assert_close(copied(x), right)
