"""The trainer: exact resume, warm start, skipped steps, stopping, and what a run folder holds."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import Run
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from audiosep.errors import ConfigError, DependencyError, ModelError, TrainingError
from audiosep.training.engine import distributed
from audiosep.training.engine.curves import draw_curves
from audiosep.training.engine.muon import Muon, is_matrix, orthogonal
from audiosep.training.engine.run_log import RunLog, read_log
from audiosep.training.engine.run_state import TRAINER, latest_checkpoint
from audiosep.training.engine.runtime import check_start, only_process
from audiosep.training.engine.schedule import Clock, due, learning_rate, progress
from audiosep.training.engine.trackers import comparison_samples, log_samples
from audiosep.training.engine.trainer import Trainer
from audiosep.training.engine.trainer_config import TrainerConfig
from audiosep.training.engine.warm_start import warm_start
from audiosep.training.engine.weight_average import average_weights, update_average


class TinyTask:
    """Denoise a sine with a small convolution net; dropout and batch norm make it depend on all of the state."""

    def __init__(self, width: int = 8, poison: frozenset[int] = frozenset(), stop_at: int | None = None) -> None:
        generator = torch.Generator().manual_seed(3)
        self.model = nn.Sequential(
            nn.Conv1d(1, width, 9, padding=4), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.1),
            nn.Conv1d(width, width, 9, padding=4), nn.ReLU(), nn.Conv1d(width, 1, 9, padding=4),
        )  # fmt: skip
        for parameter in self.model.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
        self.poison, self.stop_at = poison, stop_at
        self.validations = 0

    def batch(self, step: int, rank: int, world: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(1000 * step + rank)
        phase = torch.rand(4, 1, 1, generator=generator) * 6.28
        clean = torch.sin(torch.arange(256.0) * 0.2 + phase)
        if step in self.poison:
            clean = clean * float("nan")
        if step == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return clean + torch.randn(clean.shape, generator=generator) * 0.3, clean

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        noisy, clean = batch
        error = (model(noisy).float() - clean).square().mean()
        return error, {"items": torch.tensor(len(noisy)), "error": error.detach()}

    def validate(self, model: nn.Module) -> dict[str, float]:
        assert not model.training
        self.validations += 1
        errors = []
        for index in distributed.share(range(6)):
            noisy, clean = TinyTask().batch(index, 99, 1)
            errors.append(float((model(noisy) - clean).square().mean()))
        rows = distributed.gather(errors)
        return {"val/si_sdri": -sum(rows) / len(rows)}

    def export(self, model: nn.Module, folder: Path) -> None:
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors")


CONFIG = TrainerConfig(
    steps=12, warmup=2, precision="fp32", device="cpu", log_every=1, checkpoint_minutes=None, checkpoint_steps=5
)


def losses(run: Path) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in read_log(run / "log.jsonl") if line["event"] == "train"}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path, precision, accumulation, optimizer):
    config = replace(CONFIG, precision=precision, accumulation=accumulation, optimizer=optimizer)
    whole = Trainer(TinyTask(16), config, tmp_path / "whole").fit()
    interrupted = Trainer(TinyTask(16, stop_at=7 * accumulation), config, tmp_path / "parts").fit()
    assert interrupted.interrupted
    assert interrupted.step < 12
    resumed = Trainer(TinyTask(16), config, tmp_path / "parts").fit()
    assert (resumed.step, resumed.interrupted) == (12, False)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert sorted(losses(tmp_path / "whole")) == list(range(1, 13))
    assert resumed.metrics == whole.metrics
    for folder in ("model/model.safetensors", "checkpoints/step-00000012/model.safetensors"):
        a, b = load_file(tmp_path / "whole" / folder), load_file(tmp_path / "parts" / folder)
        assert all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("ends", ["by a signal", "with the last step"])
def test_what_ends_a_process_within_a_validation_loses_no_step(tmp_path, monkeypatch, ends):
    """What stops a run leaves little time, and a validation may take minutes."""
    signalled, task = ends == "by a signal", TinyTask()
    train = task.loss

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        if signalled:
            os.kill(os.getpid(), signal.SIGTERM)
        return train(model, batch)

    def killed(model: nn.Module) -> dict[str, float]:
        raise KeyboardInterrupt

    monkeypatch.setattr(task, "loss", loss)
    monkeypatch.setattr(task, "validate", killed)
    config = replace(CONFIG, checkpoint_steps=None, validate_steps=1 if signalled else None)
    with pytest.raises(KeyboardInterrupt):
        Trainer(task, config, tmp_path).fit()
    assert latest_checkpoint(tmp_path / "checkpoints") == tmp_path / f"checkpoints/step-{1 if signalled else 12:08d}"
    resumed = Trainer(TinyTask(), config, tmp_path).fit()
    assert resumed.step == 12
    assert resumed.metrics


def test_two_processes_do_not_train_in_one_run_folder(tmp_path):
    with only_process(tmp_path), pytest.raises(TrainingError, match="another process trains in"):
        Trainer(TinyTask(), CONFIG, tmp_path).fit()
    assert not (tmp_path / "log.jsonl").exists()
    assert Trainer(TinyTask(), CONFIG, tmp_path).fit().step == 12


def test_muon_orthogonalises_steps_of_matrices_and_leaves_vectors_to_adamw():
    torch.manual_seed(0)
    tall = torch.randn(96, 32) @ torch.diag(torch.logspace(-2, 1, 32))
    for matrix in (tall, tall.T):
        values = torch.linalg.svdvals(orthogonal(matrix).float())
        assert values[:-6].min() > 0.5  # the weakest, a thousand times below the strongest, grow but not to one
        assert values.max() < 1.3
    weights = [nn.Parameter(torch.randn(shape)) for shape in ((32, 16, 3, 3), (20,), (4, 16))]
    before = [weight.detach().clone() for weight in weights]
    assert [is_matrix(weight) for weight in weights] == [True, False, False]
    for weight in weights:
        weight.grad = torch.randn(weight.shape)
    plain = [nn.Parameter(weight.detach().clone()) for weight in weights[1:]]
    for weight, same in zip(weights[1:], plain, strict=True):
        same.grad = weight.grad.clone()
    Muon([{"params": weights[:1], "matrix": True}, {"params": weights[1:]}], 0.01, (0.9, 0.98)).step()
    torch.optim.AdamW(plain, 0.01, betas=(0.9, 0.98)).step()
    assert all(torch.allclose(a, b) for a, b in zip(weights[1:], plain, strict=True))
    moved = (weights[0].detach() - before[0] * (1 - 0.01 * 0.01)).square().mean().sqrt()
    assert 0.7 < float(moved) / (0.01 * 0.2) < 1.3


def test_training_learns_and_writes_a_complete_run_folder(tmp_path):
    result = Trainer(TinyTask(), replace(CONFIG, steps=60, validate_steps=20, log_every=10), tmp_path).fit()
    log = read_log(tmp_path / "log.jsonl")
    train = [line for line in log if line["event"] == "train"]
    assert train[-1]["loss"] < train[0]["loss"]
    assert train[-1]["items"] == 60 * 4
    assert train[-1]["items_per_second"] > 0
    assert [line["step"] for line in log if line["event"] == "validation"] == [20, 40, 60]
    assert result.best == max(line["val/si_sdri"] for line in log if line["event"] == "validation")
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "latest", "step-00000050", "step-00000055", "step-00000060",
    ]  # fmt: skip
    assert latest_checkpoint(tmp_path / "checkpoints").name == "step-00000060"
    for name in ("config.json", "best/model.safetensors", "model/model.safetensors", "curves.png"):
        assert (tmp_path / name).is_file()
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["trainer"]["steps"] == 60
    assert {"git", "versions", "cpus", "processes"} <= set(config["environment"])


def test_curves_are_named_where_the_title_does_not_name_them(tmp_path, monkeypatch):
    log = RunLog(tmp_path / "log.jsonl", 0)
    log.write("train", 1, {"loss": 1.0})
    log.write("validation", 1, {"val/si_sdri": 1.0, "val/a/sdri": 2.0, "val/b/sir": 3.0, "val/sir": 4.0})
    figures = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, *rest, **options: figures.append(figure))
    assert draw_curves(tmp_path / "log.jsonl", tmp_path / "curves.png")
    legends = {axes.get_title(): axes.get_legend() for axes in figures[0].axes}
    names = {title: legend and [text.get_text() for text in legend.get_texts()] for title, legend in legends.items()}
    assert names == {
        "loss": None, "validation si_sdri": None, "validation sdri": ["val/a"], "validation sir": ["val/b", "val"],
    }  # fmt: skip


def test_trackers_get_numbers_sounds_and_pictures(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    task = TinyTask()
    sound = torch.sin(torch.arange(8000.0) * 0.1)[None]
    task.samples = lambda model: comparison_samples("a", 8000, {"sine": sound})
    Trainer(task, replace(CONFIG, steps=2, trackers=("tensorboard",)), tmp_path).fit()
    found = events.EventAccumulator(str(tmp_path / "audiosep")).Reload()
    assert "train/loss" in found.Tags()["scalars"]
    assert "val/si_sdri" in found.Tags()["scalars"]
    assert found.Audio("a/sine")[0].sample_rate == 8000
    assert found.Images("a/sine")[0].height == 128


@pytest.mark.parametrize("library", ["wandb", "trackio"])
def test_other_trackers_get_arrays_in_their_own_layout(library, monkeypatch):
    logged = {}
    module = types.SimpleNamespace(
        Audio=lambda data, sample_rate: ("audio", data.shape, sample_rate), Image=lambda data: ("image", data.shape)
    )
    monkeypatch.setitem(sys.modules, library, module)
    tracker = types.SimpleNamespace(name=library, log=lambda values, step: logged.update(values, step=step))
    sound = torch.zeros(2, 4000)
    log_samples([tracker], comparison_samples("a", 8000, {"silence": sound}), 7)
    assert logged == {
        "a/silence": ("audio", (4000, 2), 8000), "a/silence picture": ("image", (128, 400, 3)), "step": 7
    }  # fmt: skip


def test_a_tracker_that_is_not_installed_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DependencyError, match="pip install wandb"):
        Trainer(TinyTask(), replace(CONFIG, trackers=("wandb",)), tmp_path)


def test_steps_whose_gradient_is_not_finite_are_skipped(tmp_path):
    task = TinyTask(poison=frozenset({4}))
    Trainer(task, CONFIG, tmp_path).fit()
    assert all(torch.isfinite(v).all() for v in task.model.state_dict().values())
    with pytest.raises(TrainingError, match="20 steps in a row"):
        Trainer(TinyTask(poison=frozenset(range(100))), replace(CONFIG, steps=50), tmp_path / "bad").fit()


def test_the_average_starts_fast_and_frozen_weights_stay():
    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    model[0].bias.requires_grad_(False)
    nn.init.zeros_(model[0].weight)
    average = average_weights(model, 0.5)
    expected = 0.0
    for step, decay in enumerate((1 / 20, 2 / 21, 3 / 22)):
        nn.init.constant_(model[0].weight, step + 1.0)
        update_average(average, model, step)
        expected = decay * expected + (1 - decay) * (step + 1.0)
        assert float(average.module[0].weight.detach()) == pytest.approx(expected)
    update_average(average, model, 10_000)
    assert float(average.module[0].weight.detach()) == pytest.approx((expected + 3.0) / 2)
    assert torch.equal(average.module[0].bias, model[0].bias)


def test_the_exported_model_has_averaged_weights_and_the_latest_buffers(tmp_path):
    task = TinyTask()
    Trainer(task, replace(CONFIG, ema=0.9), tmp_path).fit()
    exported, trained = load_file(tmp_path / "model/model.safetensors"), task.model.state_dict()
    buffers = {name for name, _ in task.model.named_buffers()}
    assert buffers
    for name, value in trained.items():
        assert torch.equal(exported[name], value) == (name in buffers), name


def test_patience_ends_a_run_that_no_longer_improves(tmp_path):
    task = TinyTask()
    task.validate = lambda model: {"val/si_sdri": 1.0}
    result = Trainer(task, replace(CONFIG, steps=100, validate_steps=2, patience=3), tmp_path).fit()
    assert result.step == 8


def test_a_monitored_number_that_is_missing_is_reported(tmp_path, caplog):
    Trainer(TinyTask(), replace(CONFIG, steps=1, monitor="val/top1"), tmp_path / "a").fit()
    assert "no 'val/top1', only val/si_sdri" in caplog.text
    assert not (tmp_path / "a/best").exists()
    impatient = replace(CONFIG, steps=2, monitor="val/top1", validate_steps=1, patience=1)
    with pytest.raises(ConfigError, match="val/top1"):
        Trainer(TinyTask(), impatient, tmp_path / "b").fit()


def test_minutes_end_a_run(tmp_path):
    result = Trainer(TinyTask(), replace(CONFIG, steps=None, minutes=0.005), tmp_path).fit()
    assert 0.005 <= result.minutes < 0.05


def test_a_finished_run_returns_its_metrics_again(tmp_path):
    first = Trainer(TinyTask(), CONFIG, tmp_path / "run").fit()
    again = Trainer(TinyTask(), CONFIG, tmp_path / "run").fit()
    assert again.metrics == first.metrics != {}


def test_warm_start_copies_what_fits_and_grows_the_rest(tmp_path):
    narrow, wide = TinyTask(8).model, TinyTask(12).model
    save_file(dict(narrow.state_dict()), tmp_path / "narrow.safetensors")
    before = wide[0].weight.clone()
    report = warm_start(wide, tmp_path / "narrow.safetensors")
    assert torch.equal(wide[0].weight[:8], narrow[0].weight)
    assert torch.equal(wide[0].weight[8:], before[8:])
    assert "6.bias" in report.copied
    assert "0.weight" in report.grown
    assert not report.fresh
    save_file({"other": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="not one of its 1 weights fits"):
        warm_start(wide, tmp_path / "other.safetensors")


def test_a_run_starts_from_another_runs_weights(tmp_path):
    Trainer(TinyTask(), replace(CONFIG, steps=3), tmp_path / "a").fit()
    task = TinyTask()
    Trainer(task, replace(CONFIG, steps=1, learning_rate=1e-12, init=str(tmp_path / "a")), tmp_path / "b").fit()
    a = load_file(tmp_path / "a/model/model.safetensors")
    assert torch.allclose(task.model[0].weight, a["0.weight"], atol=1e-9)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    Trainer(TinyTask(), replace(CONFIG, steps=1), tmp_path).fit()
    with pytest.raises(ConfigError, match=r"new run folder.*first of \d differences: size mismatch") as refused:
        Trainer(TinyTask(width=9), CONFIG, tmp_path).fit()
    assert "\n" not in str(refused.value)


def test_a_run_without_a_checkpoint_says_that_it_begins_anew(tmp_path, caplog):
    Trainer(TinyTask(), replace(CONFIG, steps=1), tmp_path).fit()
    assert "begins anew" not in caplog.text
    shutil.rmtree(tmp_path / "checkpoints")
    Trainer(TinyTask(), replace(CONFIG, steps=1), tmp_path).fit()
    assert "begins anew" in caplog.text


def test_impossible_configurations_are_refused():
    for wrong in (
        {"steps": None, "minutes": None}, {"steps": 0}, {"learning_rate": -1.0}, {"constant": 1.0}, {"ema": 1.0},
        {"trackers": ("mlflow",)}, {"patience": 2}, {"precision": "fp16", "device": "cpu"}, {"keep": 0},
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="trainer"):
            TrainerConfig(**({"steps": 5} | wrong))


def test_compile_needs_a_model_that_names_its_parts(tmp_path):
    with pytest.raises(ConfigError, match="compilable"):
        Trainer(TinyTask(), replace(CONFIG, compile=True), tmp_path).fit()


def test_schedule():
    config = TrainerConfig(steps=1000, warmup=10, learning_rate=1.0, device="cpu")
    rates = [learning_rate(config, Clock(step)) for step in range(1001)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0, abs=1e-3)
    assert rates[1000] == pytest.approx(0.02)
    assert rates[500] == pytest.approx(0.51)
    assert progress(replace(config, minutes=2.0), Clock(100, 1.0)) == 0.5
    assert [due(Clock(s), Clock(s + 1), steps=3, minutes=None) for s in range(4)] == [False, False, True, False]
    assert due(Clock(0, 0.9), Clock(1, 1.1), steps=None, minutes=0.5)


def test_a_run_in_its_constant_part_may_be_made_longer():
    config = TrainerConfig(steps=100, warmup=10, learning_rate=1.0, constant=0.8, device="cpu")
    rates = [learning_rate(config, Clock(step)) for step in range(101)]
    assert rates[10:80] == [1.0] * 70
    assert rates[90] == pytest.approx(0.51)
    assert rates[100] == pytest.approx(0.02)
    longer = replace(config, steps=1000)
    assert [learning_rate(longer, Clock(step)) for step in range(80)] == rates[:80]


def _process(rank: int, port: int, folder: Path) -> None:
    process(rank, port)
    task = TinyTask()
    result = Trainer(task, replace(CONFIG, steps=30, validate_steps=15), folder).fit()
    torch.save((result.metrics, task.model.state_dict()), folder / f"rank{rank}.pt")


def in_two_processes(target: Callable[..., None], *arguments: object) -> None:
    """`target(rank, port, *arguments)` on both ranks, each in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=target, args=(rank, port, *arguments)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(240)
        assert worker.exitcode == 0


def process(rank: int, port: int) -> None:
    """Make this process one of two."""
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
    }  # fmt: skip


@pytest.mark.slow
def test_two_processes_train_one_model_and_measure_the_same_as_one(tmp_path):
    in_two_processes(_process, tmp_path)
    (first, one), (second, other) = (torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2))
    assert first == second
    # Batch statistics are each process's own during a step; everything trained is the same.
    assert all(torch.equal(one[k], other[k]) for k in one if "running" not in k)
    train = [line for line in read_log(tmp_path / "log.jsonl") if line["event"] == "train"]
    assert train[-1]["loss"] < train[0]["loss"]
    assert train[-1]["items"] == 2 * 4 * 30
    task = TinyTask()
    task.model.load_state_dict(load_file(tmp_path / "model/model.safetensors"))
    with torch.no_grad():
        alone = task.validate(task.model.eval())
    assert alone["val/si_sdri"] == pytest.approx(first["val/si_sdri"], abs=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_on_a_gpu_learns_and_resumes(tmp_path, precision):
    config = replace(CONFIG, precision=precision, device="cuda", steps=30)
    Trainer(TinyTask(), config, tmp_path / "whole").fit()
    Trainer(TinyTask(), replace(config, steps=15), tmp_path / "parts").fit()
    state = torch.load(tmp_path / "parts/checkpoints/step-00000015/optimizer.pt", weights_only=True, map_location="cpu")
    assert ("scale" in state["scaler"]) == (precision == "fp16")
    Trainer(TinyTask(), config, tmp_path / "parts").fit()
    whole, parts = losses(tmp_path / "whole"), losses(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert whole[30] < whole[1]
    assert parts[16] < parts[1]


def test_weights_to_begin_with_are_looked_for_before_data_are_read_and_not_by_a_run_that_goes_on(
    tmp_path: Path, run: Run
) -> None:
    config = {"task": "separation", "trainer": {"steps": 1, "init": str(tmp_path / "nowhere"), "device": "cpu"}}
    (tmp_path / "run.json").write_text(json.dumps(config))
    code, _, err = run("train", tmp_path / "run.json", "-o", tmp_path / "run")
    assert (code, "no weights here" in err) == (1, True), err
    checkpoint = tmp_path / "run" / "checkpoints" / "step-00000001"
    checkpoint.mkdir(parents=True)
    (checkpoint / TRAINER).touch()
    check_start(TrainerConfig(steps=1, init=str(tmp_path / "nowhere"), device="cpu"), tmp_path / "run")
