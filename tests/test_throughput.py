"""Throughput: the trainer's whole loop beside the network alone, on the same batches."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest
import torch
from test_run_config import config  # noqa: F401 - a fixture
from test_trainer import CONFIG, TinyTask
from torch import nn

from audiosep.errors import ConfigError, TrainingError
from audiosep.training.engine import runtime, throughput
from audiosep.training.engine.adversary import Adversary
from audiosep.training.engine.runtime import Prefetcher
from audiosep.training.engine.throughput import Throughput, measure_throughput


class Recorded(TinyTask):
    """Remembers which batches were asked for, and in which mode the model was trained."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []
        self.modes: set[bool] = set()

    def batch(self, step, rank, world):
        self.asked.append(step)
        return super().batch(step, rank, world)

    def loss(self, model, batch):
        self.modes.add(model.training)
        return super().loss(model, batch)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_network_alone_gets_the_batches_of_the_measured_steps(accumulation):
    task = Recorded()
    found = measure_throughput(
        task, replace(CONFIG, accumulation=accumulation, validate_steps=1, checkpoint_steps=1), 3
    )
    assert (found.steps, found.items) == (3, 3 * 4 * accumulation)
    assert min(found.loop, found.network, found.rendering) > 0
    assert found.share == found.network / found.loop
    assert 0 <= found.waiting <= 1
    assert found.gpu_busy is None
    assert task.asked[-3 * accumulation :] == list(range(3 * accumulation, 6 * accumulation))
    assert task.modes == {True}
    assert task.validations == 0
    assert all(p.grad is None for p in task.model.parameters())


def test_a_task_is_prepared_and_its_adversary_trained():
    task = Recorded()
    task.prepare, task.devices = lambda device: task.devices.append(device.type), []
    task.adversary, calls = nn.Linear(1, 1), []

    def adversary_loss(batch):
        calls.append(len(batch[0]))
        return task.adversary.weight.sum(), {}

    task.adversary_loss = adversary_loss
    measure_throughput(task, CONFIG, 2)
    assert task.devices == ["cpu"]
    assert len(calls) == 4
    with pytest.raises(ConfigError, match="bf16 or fp32"):
        Adversary(task, replace(CONFIG, precision="fp16"), None)


def test_a_signal_ends_the_measurement_with_an_error():
    with pytest.raises(TrainingError, match="stopped"):
        measure_throughput(TinyTask(stop_at=2), CONFIG, 3)


def test_waiting_for_batches_is_counted(monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(runtime.time, "perf_counter", lambda: float(next(ticks)))
    with Prefetcher(lambda index: index, 5) as batches:
        assert [batches.next() for _ in range(3)] == [5, 6, 7]
    assert batches.waited == 3


def test_the_utilisation_of_the_gpu_is_polled(monkeypatch):
    monkeypatch.setattr(throughput, "_POLL_SECONDS", 0.001)
    monkeypatch.setattr(torch.cuda, "utilization", lambda device: 70)
    with throughput._gpu_busy(torch.device("cuda")) as busy:
        while len(busy) < 2:
            pass
    assert set(busy) == {0.7}

    def missing(device):
        raise ModuleNotFoundError("pynvml")

    monkeypatch.setattr(torch.cuda, "utilization", missing)
    with throughput._gpu_busy(torch.device("cuda")) as busy:
        pass
    assert busy == []


def test_throughput_is_formatted():
    text = str(Throughput(10, 240, 1.5, 1.2, 0.1, 0.004, 0.93))
    assert "16.0 items/s" in text
    assert "reaches 80% of it" in text
    assert "0.4% of its time" in text
    assert "93% busy" in text


def test_the_command_profiles_and_leaves_nothing(config, tmp_path, capsys):  # noqa: F811
    from audiosep.cli.train import app

    app([str(config), "--out", str(tmp_path / "run"), "--profile", "2", "--json", "--quiet"], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    assert found["steps"] == 2
    assert found["share"] > 0
    assert not (tmp_path / "run").exists()
