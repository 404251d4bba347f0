"""Dead parts of a network are seen."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_trainer import CONFIG, TinyTask
from torch import nn

from audiosep.training.engine.dead_channels import Health
from audiosep.training.engine.runlog import read_log
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


def test_a_channel_that_no_input_wakes_is_dead() -> None:
    net = Net()
    with torch.no_grad():
        net.first.bias[:3] = torch.tensor([-10.0, -0.5, -0.5])
    with Health(net) as health:
        net(torch.zeros(1, 1, 2, 2))
        assert health.silent == ["first", "second"]
        net(torch.rand(2, 1, 3, 3) + 1)  # wakes the second and third
    assert health.silent == []
    assert health.dead == pytest.approx(1 / 7)  # of 1 + 4 + 2 channels
    net(torch.zeros(1, 1, 2, 2))
    assert health.dead == pytest.approx(1 / 7)  # nothing is watched any more


def test_a_layer_behind_a_dead_relu_is_deaf_and_frozen_ones_do_not_count() -> None:
    net = Net()
    nn.init.constant_(net.first.bias, -10.0)
    with Health(net) as health:
        net(torch.rand(1, 1, 2, 2))
    assert health.silent == ["second"]
    net.second.requires_grad_(False)
    with Health(net) as health:
        net(torch.rand(1, 1, 2, 2))
    assert health.silent == []
    assert health.dead == 0.0


def test_what_other_processes_saw_counts_and_inputs_of_any_shape_do() -> None:
    net = Net()
    with Health(net) as here:
        net.first(torch.zeros(1, 2, 2))  # one picture, not a batch
        net.last(torch.tensor([1.0, 0.0]))
        net.last(input=torch.full((3, 2), float("nan")))  # neither alive nor an error
    assert here.silent == ["first"]
    assert here.dead == pytest.approx(2 / 3)
    with Health(net) as there:
        net.first(torch.ones(1, 1, 2, 2))
        net.second(torch.zeros(1, 4, 2, 2))
    here.join([here.awake(), there.awake()])
    assert here.silent == ["second"]
    assert here.dead == pytest.approx(5 / 7)


def test_a_training_says_what_has_died(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def train(task: TinyTask, name: str) -> dict[str, float]:
        caplog.clear()
        Trainer(task, replace(CONFIG, steps=2), tmp_path / name).fit()
        return next(line for line in read_log(tmp_path / name / "log.jsonl") if line["event"] == "validation")

    with caplog.at_level(logging.WARNING):
        well = train(TinyTask(), "well")["val/dead_channels"]
        assert 0 <= well < 5 / 17  # of 1 + 8 + 8 channels
        assert "zeros" not in caplog.text
        ill = TinyTask()
        nn.init.constant_(ill.model[1].bias, -100.0)  # the batch normalisation in front of the first ReLU
        assert train(ill, "ill")["val/dead_channels"] >= 8 / 17
        assert "nothing but zeros reached 4 in this validation" in caplog.text
