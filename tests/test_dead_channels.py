"""Dead channels of a network are counted and reported."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_trainer import CONFIG, TinyTask
from torch import nn

from audiosep.training.engine.dead_channels import DeadChannels
from audiosep.training.engine.run_log import read_log
from audiosep.training.engine.trainer import Trainer


class Net(nn.Module):
    """A convolution, a ReLU, another one, and a linear layer at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 1)
        self.second = nn.Conv2d(4, 2, 1)
        self.last = nn.Linear(2, 2)
        nn.init.ones_(self.first.weight)
        nn.init.zeros_(self.first.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.second(self.first(x).relu()).mean((2, 3)))


def test_a_channel_that_is_zero_for_every_input_is_dead() -> None:
    net = Net()
    with torch.no_grad():
        net.first.bias[:3] = torch.tensor([-10.0, -0.5, -0.5])
    with DeadChannels(net) as channels:
        net(torch.zeros(1, 1, 2, 2))
        assert channels.zero_layers == ["first", "second"]
        net(torch.rand(2, 1, 3, 3) + 1)  # the second and third become active
    assert channels.zero_layers == []
    assert channels.share == pytest.approx(1 / 7)  # of 1 + 4 + 2 channels
    net(torch.zeros(1, 1, 2, 2))
    assert channels.share == pytest.approx(1 / 7)  # outside the block nothing is recorded


def test_a_layer_behind_a_dead_relu_is_a_zero_layer_and_frozen_ones_do_not_count() -> None:
    net = Net()
    nn.init.constant_(net.first.bias, -10.0)
    with DeadChannels(net) as channels:
        net(torch.rand(1, 1, 2, 2))
    assert channels.zero_layers == ["second"]
    net.second.requires_grad_(False)
    with DeadChannels(net) as channels:
        net(torch.rand(1, 1, 2, 2))
    assert channels.zero_layers == []
    assert channels.share == 0.0


def test_other_processes_and_inputs_of_any_shape_count() -> None:
    net = Net()
    with DeadChannels(net) as here:
        net.first(torch.zeros(1, 2, 2))  # one image, not a batch
        net.last(torch.tensor([1.0, 0.0]))
        net.last(input=torch.full((3, 2), float("nan")))  # not active, and no error
    assert here.zero_layers == ["first"]
    assert here.share == pytest.approx(2 / 3)
    with DeadChannels(net) as there:
        net.first(torch.ones(1, 1, 2, 2))
        net.second(torch.zeros(1, 4, 2, 2))
    here.merge([here.active(), there.active()])
    assert here.zero_layers == ["second"]
    assert here.share == pytest.approx(5 / 7)


def test_a_training_warns_of_dead_layers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def train(task: TinyTask, name: str) -> dict[str, float]:
        caplog.clear()
        Trainer(task, replace(CONFIG, steps=2), tmp_path / name).fit()
        return next(line for line in read_log(tmp_path / name / "log.jsonl") if line["event"] == "validation")

    with caplog.at_level(logging.WARNING):
        well = train(TinyTask(), "well")["val/dead_channels"]
        assert 0 <= well < 5 / 17  # of 1 + 8 + 8 channels
        assert "were zero" not in caplog.text
        ill = TinyTask()
        nn.init.constant_(ill.model[1].bias, -100.0)  # the batch normalisation in front of the first ReLU
        assert train(ill, "ill")["val/dead_channels"] >= 8 / 17
        assert "all inputs of 4 were zero in this validation" in caplog.text
