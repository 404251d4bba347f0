"""The trainer: the task defines batch, loss and validation, the trainer does everything else."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audiosep.atomic import fill_folder, write_text
from audiosep.errors import ConfigError, TrainingError
from audiosep.inference.environment import environment
from audiosep.training.engine import distributed
from audiosep.training.engine.adversary import LARGEST_GRADIENT_NORM, Adversary
from audiosep.training.engine.curves import draw_curves
from audiosep.training.engine.optimizer import build_optimizer
from audiosep.training.engine.run_log import MetricMeans, RunLog, format_values, last_validation, without_labels
from audiosep.training.engine.run_state import RunProgress, latest_checkpoint, load_checkpoint, save_checkpoint
from audiosep.training.engine.runtime import (
    Prefetcher,
    accelerator,
    compile_parts,
    denormals_flushed,
    only_process,
    send_to_device,
    step_seed,
    stopping,
)
from audiosep.training.engine.schedule import Clock, due, learning_rate, progress
from audiosep.training.engine.task import StepModule, Task, set_train_mode
from audiosep.training.engine.trackers import start_trackers
from audiosep.training.engine.trainer_config import TrainerConfig
from audiosep.training.engine.validation import Validator
from audiosep.training.engine.warm_start import warm_start
from audiosep.training.engine.weight_average import average_weights, restore_buffers, update_average
from audiosep.weights import configs

logger = logging.getLogger(__name__)

MAX_SKIPPED_STEPS = 20


@dataclass(frozen=True)
class FitResult:
    """How a run ended.

    Attributes:
        step: optimizer steps done.
        minutes: minutes of training done.
        metrics: the last validation, empty if there was none.
        best: best value of the monitored number, if it was ever measured.
        interrupted: whether a signal ended it, with a checkpoint to resume from.
    """

    step: int
    minutes: float
    metrics: dict[str, float]
    best: float | None
    interrupted: bool


class Trainer:
    """Trains a task into a run folder; started again with the same folder, it resumes.

    The folder holds `config.json` (configuration and environment), `log.jsonl`, `curves.png`, `checkpoints/`, `model/`
    (the last averaged weights, as the task exports them) and `best/` (the best by `monitor`).

    Args:
        task: what is trained.
        config: how.
        run_dir: the run folder; made if missing.
        about: further facts for the run's config.json.
    """

    def __init__(
        self, task: Task, config: TrainerConfig, run_dir: Path | str, about: Mapping[str, Any] | None = None
    ) -> None:
        self.task = task
        self.about = dict(about or {})
        self.config = config
        self.run_dir = Path(run_dir)
        self.accelerator = accelerator(config, self.run_dir)
        self.device: torch.device = self.accelerator.device
        self.main: bool = self.accelerator.is_main_process
        self.model = task.model
        self.validator = Validator(task, self.accelerator)
        self._asked = self._stop = False  # by a signal to this process; by one to any of the processes
        self._saved = (-1, -1)  # step and validated step of the newest checkpoint
        self._drawn = time.monotonic()
        self._metrics: dict[str, float] = {}

    def fit(self) -> FitResult:
        """Train until the configuration, the patience or a signal ends the run.

        SIGTERM and the first Ctrl-C write a checkpoint after the current step and return.

        Returns:
            How the run ended.

        Raises:
            ConfigError: the configuration does not fit the task or the checkpoint in the run folder.
            TrainingError: another process trains in the run folder, the gradient was not finite 20 times in a row, or
                the device ran out of memory.
        """
        with only_process(self.run_dir) if self.main else contextlib.nullcontext(), denormals_flushed(self.device):
            self._prepare()
            self._loop()
            return self._finish()

    def _loop(self) -> None:
        start = self.progress.step * self.config.accumulation
        with stopping(self._request_stop), Prefetcher(self._batch, start, self.device) as self._batches:
            self._interval = self._totals()
            while not self._finished() and not self._stop:
                before = self.progress.clock
                try:
                    self._train_step()
                except torch.OutOfMemoryError as error:
                    raise TrainingError(
                        "the device ran out of memory: lower the batch size and raise trainer.accumulation, "
                        f"or choose a smaller preset ({str(error).splitlines()[0]})"
                    ) from error
                if self._due("validate", before):
                    if self._stop:  # what stops the run may not wait until a validation is over
                        self._checkpoint()
                    self._validate()
                if self._due("checkpoint", before):
                    self._checkpoint()

    def _prepare(self) -> None:
        """Set weights, optimizer and counters: from the newest checkpoint, else from `init`, else initial ones."""
        config, model = self.config, self.model
        checkpoint = latest_checkpoint(self.run_dir / "checkpoints")
        self.progress, average, training = RunProgress(), None, None
        if checkpoint is not None:
            average, training, self.progress = load_checkpoint(checkpoint, model)
            logger.info("resuming from %s", checkpoint)
        else:
            if (self.run_dir / "config.json").is_file():
                logger.warning("%s was stopped before its first checkpoint: it begins anew", self.run_dir)
            if config.init:
                warm_start(model, Path(config.init))
        if config.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch types it for tensors
        model.to(self.device)
        prepare: Callable[[torch.device], None] | None = getattr(self.task, "prepare", None)
        if prepare is not None:
            prepare(self.device)
        if config.compile:
            compile_parts(model)
        optimizer = build_optimizer(model, config, self.device)
        set_train_mode(self.task, model)  # DDP must see which weights are frozen
        self.step_module, self.optimizer = self.accelerator.prepare(StepModule(self.task), optimizer)
        self.adversary: Adversary | None = None
        if getattr(self.task, "adversary", None) is not None:
            saved = None if training is None else training["adversary"]
            self.adversary = Adversary(self.task, config, self.accelerator, saved)
        self.average = average_weights(model, config.ema)
        if average is not None and training is not None:
            self.average.module.load_state_dict(average)
            self.optimizer.load_state_dict(training["optimizer"])
            if self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(training["scaler"])
        self.means = MetricMeans()
        self._write_config()

    def _write_config(self) -> None:
        """Write config.json and start the log and the trackers."""
        if self.config.trackers:
            start_trackers(self.accelerator, self.run_dir, configs.to_dict(self.config))
        if not self.main:
            return
        self.log = RunLog(self.run_dir / "log.jsonl", self.progress.step)
        facts = asdict(environment()) | {"processes": distributed.world(), "arguments": sys.argv[1:]}
        describe: Callable[[], Mapping[str, Any]] | None = getattr(self.task, "describe", None)
        about = self.about | (dict(describe()) if describe else {})
        trained = sum(p.numel() for p in self._trained())
        record = {**about, "trainer": configs.to_dict(self.config), "parameters": trained, "environment": facts}
        write_text(self.run_dir / "config.json", json.dumps(record, indent=2) + "\n")
        self.log.write("start", self.progress.step, {"device": str(self.device), "environment": facts})
        logger.info("training %.2f M parameters on %s (%s)", trained / 1e6, self.device, self.config.precision)

    def _batch(self, index: int) -> Any:
        with torch.no_grad():
            return self.task.batch(index, distributed.rank(), distributed.world())

    def _train_step(self) -> None:
        """One optimizer step: `accumulation` batches forward and backward, clip, update, average."""
        config, state = self.config, self.progress
        clock = time.process_time if config.clock == "processor" else time.perf_counter
        started = clock()
        rate = learning_rate(config, state.clock)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        set_train_mode(self.task, self.model)
        for part in range(config.accumulation):
            index = state.step * config.accumulation + part
            batch = send_to_device(self._batches.next(), self.device)
            torch.manual_seed(step_seed(config.seed, index, distributed.rank()))
            last = part == config.accumulation - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.step_module):
                with self.accelerator.autocast():
                    loss, metrics = self.step_module(batch)
                self.accelerator.backward(loss / config.accumulation)
            if self.adversary is not None:
                metrics |= self.adversary.backward(batch)
            state.items += int(metrics.pop("items", 1)) * distributed.world()
            self.means.add({"loss": loss, **metrics})
        norm = self.accelerator.clip_grad_norm_(self._trained(), LARGEST_GRADIENT_NORM)
        self._update(norm)
        if self.adversary is not None:
            self.adversary.update(rate)
        (state.minutes,) = distributed.agree([state.minutes + (clock() - started) / 60], self.device)
        self._stop = distributed.any_rank(self._asked, self.device)
        if state.step % config.log_every == 0:
            self._log_step(rate, float(norm))

    def _update(self, norm: Tensor) -> None:
        """Step the optimizer, or skip the step if its gradient is not finite."""
        state = self.progress
        finite = bool(torch.isfinite(norm))
        # With fp16 the scaler itself skips the step, and has to see it to lower its scale.
        if finite or self.accelerator.scaler is not None:
            self.optimizer.step()
        if finite:
            update_average(self.average, self.model, state.step)
            state.skipped = 0
        else:
            restore_buffers(self.model, self.average)
            state.skipped += 1
            logger.warning("step %d: the gradient is not finite; the step is skipped", state.step)
        self.optimizer.zero_grad(set_to_none=True)
        state.step += 1
        if state.skipped >= MAX_SKIPPED_STEPS:
            raise TrainingError(
                f"the gradient was not finite for {MAX_SKIPPED_STEPS} steps in a row at step {state.step}: "
                "lower trainer.learning_rate, or check the data with `audiosep data check`"
            )

    def _log_step(self, rate: float, norm: float) -> None:
        state, means, before = self.progress, self.means.collect(), self._interval
        self._interval = self._totals()
        seconds, items, waited = (b - a for a, b in zip(before, self._interval, strict=True))
        values = {
            **means, "learning_rate": rate, "grad_norm": norm, "minutes": state.minutes, "items": float(state.items),
            "items_per_second": items / seconds, "waiting": waited / seconds,
        }  # fmt: skip
        if self.main:
            self.log.write("train", state.step, values)
            speed = {"items/s": values["items_per_second"], "waiting": values["waiting"], "lr": rate}
            logger.info("step %d  %.1f min  %s", state.step, state.minutes, format_values(means | speed))
        self.accelerator.log({f"train/{k}": v for k, v in values.items()}, step=state.step)

    def _totals(self) -> tuple[float, int, float]:
        """Time, items and seconds waited for batches so far; a log line reports the differences to the last one."""
        return time.perf_counter(), self.progress.items, self._batches.waited

    def _validate(self) -> None:
        """Measure the averaged weights; export them to `best/` if they are the best so far."""
        state, started = self.progress, time.perf_counter()
        model: nn.Module = self.average.module
        self._metrics = self.validator(model, state.step)
        value = self._monitored(self._metrics)
        if math.isfinite(value) and (state.best is None or value > state.best):
            state.best, state.best_step, state.stale = value, state.step, 0
            self._export(self.run_dir / "best")
        else:
            state.stale += 1
        self.validator.log_samples(model, state.step)
        state.validated = state.step
        if self.main:
            seconds = time.perf_counter() - started
            self.log.write("validation", state.step, {**self._metrics, "minutes": state.minutes, "seconds": seconds})
            shown = format_values(without_labels(self._metrics))
            logger.info("step %d validation (%.0f s)  %s", state.step, seconds, shown)
            self._draw(every=60.0)
        self.accelerator.log(self._metrics, step=state.step)
        self._interval = self._totals()

    def _monitored(self, metrics: Mapping[str, float]) -> float:
        """The number that decides which model is the best; NaN if the validation does not give it.

        Raises:
            ConfigError: it is missing, and `patience` needs it.
        """
        monitor, patience = self.config.monitor, self.config.patience
        if monitor not in metrics and (metrics or patience):
            problem = f"trainer.monitor: validation gives no {monitor!r}, only {', '.join(without_labels(metrics))}"
            if patience:
                raise ConfigError(problem)
            logger.warning("%s; there will be no best/", problem)
        elif metrics and not math.isfinite(metrics[monitor]):
            logger.warning("trainer.monitor: %s is %s and counts as no improvement", monitor, metrics[monitor])
        return metrics.get(monitor, math.nan)

    def _draw(self, every: float = 0.0) -> None:
        """Write `curves.png`, unless it is younger than `every` seconds."""
        if self.main and time.monotonic() - self._drawn >= every:
            draw_curves(self.log.path, self.run_dir / "curves.png")
            self._drawn = time.monotonic()

    def _export(self, folder: Path) -> None:
        if self.main:
            with fill_folder(folder) as part:
                self.task.export(self.average.module.eval(), part)
        self.accelerator.wait_for_everyone()

    def _checkpoint(self) -> None:
        if self.main:
            scaler, average = self.accelerator.scaler, self.average.module.state_dict()
            training = {
                "optimizer": self.optimizer.state_dict(),
                "scaler": scaler.state_dict() if scaler is not None else {},
                "adversary": None if self.adversary is None else self.adversary.state(),
            }
            folder = self.run_dir / "checkpoints"
            path = save_checkpoint(folder, self.model, average, training, self.progress, self.config.keep)
            logger.info("saved %s", path)
        self.accelerator.wait_for_everyone()
        self._saved = (self.progress.step, self.progress.validated)
        self._interval = self._totals()

    def _finish(self) -> FitResult:
        """Validate, write the last checkpoint and export, unless an earlier process of the run did."""
        state, interrupted = self.progress, not self._finished()
        if not interrupted and state.validated != state.step:
            if self._saved[0] != state.step:
                self._checkpoint()  # signals are no longer waited for
            self._validate()
        if not self._metrics and state.validated == state.step:
            self._metrics = last_validation(self.run_dir / "log.jsonl")
        if self._saved != (state.step, state.validated):
            self._checkpoint()
        self._draw()
        self._export(self.run_dir / "model")
        self.accelerator.end_training()
        return FitResult(state.step, state.minutes, self._metrics, state.best, interrupted)

    def _due(self, what: str, before: Clock) -> bool:
        steps, minutes = (getattr(self.config, f"{what}_{unit}") for unit in ("steps", "minutes"))
        return due(before, self.progress.clock, steps=steps, minutes=minutes)

    def _finished(self) -> bool:
        patience = self.config.patience
        return progress(self.config, self.progress.clock) >= 1.0 or (patience > 0 and self.progress.stale >= patience)

    def _trained(self) -> list[nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]

    def _request_stop(self) -> bool:
        """End the run after the current step; returns whether that was already requested."""
        before, self._asked = self._asked, True
        return before
