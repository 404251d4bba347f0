"""One trainer for everything: the task says what a batch, a loss and a validation are, the trainer does the rest."""

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
from audiosep.training.engine.curves import draw_curves
from audiosep.training.engine.dead_channels import Health
from audiosep.training.engine.muon import Muon, is_matrix
from audiosep.training.engine.run_state import (
    Progress,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
    warm_start,
)
from audiosep.training.engine.runlog import Meter, RunLog, brief, headline, last_validation
from audiosep.training.engine.runtime import (
    Prefetcher,
    accelerator,
    compile_parts,
    denormals_flushed,
    send_to_device,
    step_seed,
    stopping,
)
from audiosep.training.engine.schedule import Clock, due, learning_rate, progress
from audiosep.training.engine.task import StepModule, Task
from audiosep.training.engine.trackers import Sample, log_samples, start_trackers
from audiosep.training.engine.trainer_config import TrainerConfig
from audiosep.training.engine.weight_average import average_weights, restore_buffers, update_average
from audiosep.weights import configs

logger = logging.getLogger(__name__)

TOO_MANY_SKIPS = 20


@dataclass(frozen=True)
class FitResult:
    """How a run ended.

    Attributes:
        step: optimizer steps done. minutes: minutes of training done.
        metrics: the last validation, empty if there was none.
        best: best value of the monitored number, if it was ever measured.
        interrupted: ended by a signal, with a checkpoint to resume from.
    """

    step: int
    minutes: float
    metrics: dict[str, float]
    best: float | None
    interrupted: bool


class Trainer:
    """Train a task into a run folder; started again with the same folder, it goes on where it stopped.

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
        self._stop = False
        self._saved = (-1, -1)
        self._drawn = time.monotonic()
        self._metrics: dict[str, float] = {}

    def fit(self) -> FitResult:
        """Train until the configuration, the patience or a signal ends the run.

        SIGTERM and the first Ctrl-C write a checkpoint after the current step and return.

        Raises:
            ConfigError: the configuration does not fit the task or the checkpoint in the run folder.
            TrainingError: the gradient was not finite 20 times in a row, or the device ran out of memory.
        """
        self._prepare()
        with denormals_flushed(self.device):
            self._loop()
            return self._end()

    def _loop(self) -> None:
        start = self.progress.step * self.config.accumulation
        with stopping(self._ask_to_stop), Prefetcher(self._batch, start, self.device) as self._batches:
            self._interval = self._now()
            while not self._finished() and not self._stop:
                before = self.progress.clock
                try:
                    self._train_step()
                except torch.OutOfMemoryError as error:
                    raise TrainingError(
                        "the device ran out of memory: lower sampling.mixtures and raise trainer.accumulation, "
                        f"or choose a smaller preset ({str(error).splitlines()[0]})"
                    ) from error
                if self._due("validate", before):
                    self._validate()
                if self._due("checkpoint", before):
                    self._checkpoint()

    def _prepare(self) -> None:
        """Weights, optimizer and counters: of the newest checkpoint, else of `init`, else fresh."""
        config, model = self.config, self.model
        checkpoint = latest_checkpoint(self.run_dir / "checkpoints")
        self.progress, average, training = Progress(), None, None
        if checkpoint is not None:
            average, training, self.progress = load_checkpoint(checkpoint, model)
            logger.info("resuming from %s", checkpoint)
        elif config.init:
            warm_start(model, Path(config.init))
        if config.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch types it for tensors
        model.to(self.device)
        prepare: Callable[[torch.device], None] | None = getattr(self.task, "prepare", None)
        if prepare is not None:
            prepare(self.device)
        if config.compile:
            compile_parts(model)
        optimizer = self._optimizer()
        self._train_mode()  # what is frozen is no business of DDP and of the average
        self.step_module, self.optimizer = self.accelerator.prepare(StepModule(self.task), optimizer)
        self.average = average_weights(model, config.ema)
        if average is not None and training is not None:
            self.average.module.load_state_dict(average)
            self.optimizer.load_state_dict(training["optimizer"])
            if self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(training["scaler"])
        self.meter = Meter()
        self._silent: set[str] = set()  # layers that were warned about
        self._describe()

    def _optimizer(self) -> torch.optim.Optimizer:
        trained = [p for p in self.model.parameters() if p.requires_grad]
        if not trained:
            raise ConfigError("the task's model has no weights to train")
        config = self.config
        matrices = {p for p in trained if is_matrix(p)} if config.optimizer == "muon" else set()
        groups = [
            {"params": [p for p in trained if p in matrices], "weight_decay": config.weight_decay, "matrix": True},
            {"params": [p for p in trained if p.ndim > 1 and p not in matrices], "weight_decay": config.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        fused = self.device.type in ("cpu", "cuda") and config.precision != "fp16"
        kind = Muon if config.optimizer == "muon" else torch.optim.AdamW
        return kind([g for g in groups if g["params"]], config.learning_rate, betas=config.betas, fused=fused)

    def _describe(self) -> None:
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
        started, config, state = time.perf_counter(), self.config, self.progress
        rate = learning_rate(config, state.clock)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self._train_mode()
        for part in range(config.accumulation):
            index = state.step * config.accumulation + part
            batch = send_to_device(self._batches.next(), self.device)
            torch.manual_seed(step_seed(config.seed, index, distributed.rank()))
            last = part == config.accumulation - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.step_module):
                with self.accelerator.autocast():
                    loss, metrics = self.step_module(batch)
                self.accelerator.backward(loss / config.accumulation)
            items = int(metrics.pop("items", 1)) * distributed.world()
            state.items += items
            self.meter.add({"loss": loss, **metrics})
        norm = self.accelerator.clip_grad_norm_(self._trained(), config.clip or math.inf)
        self._update(norm)
        minutes, stop = state.minutes + (time.perf_counter() - started) / 60, self._stop
        (state.minutes,) = distributed.agree([minutes], self.device)
        self._stop = distributed.any_rank(stop, self.device) or self._stop
        if state.step % config.log_every == 0:
            self._log_step(rate, float(norm))

    def _update(self, norm: Tensor) -> None:
        """Step the optimizer, or throw the step away when its gradient is not finite."""
        state = self.progress
        good = bool(torch.isfinite(norm))
        # With fp16 the scaler itself skips the step, and has to see it to lower its scale.
        if good or self.accelerator.scaler is not None:
            self.optimizer.step()
        if good:
            update_average(self.average, self.model, state.step)
            state.skipped = 0
        else:
            restore_buffers(self.model, self.average)
            state.skipped += 1
            logger.warning("step %d: the gradient is not finite; the step is skipped", state.step)
        self.optimizer.zero_grad(set_to_none=True)
        state.step += 1
        if state.skipped >= TOO_MANY_SKIPS:
            raise TrainingError(
                f"the gradient was not finite for {TOO_MANY_SKIPS} steps in a row at step {state.step}: "
                "lower trainer.learning_rate, or check the data with `audiosep data check`"
            )

    def _log_step(self, rate: float, norm: float) -> None:
        state, means, before = self.progress, self.meter.means(), self._interval
        self._interval = self._now()
        seconds, items, waited = (b - a for a, b in zip(before, self._interval, strict=True))
        values = {
            **means, "learning_rate": rate, "grad_norm": norm, "minutes": state.minutes, "items": float(state.items),
            "items_per_second": items / seconds, "waiting": waited / seconds,
        }  # fmt: skip
        if self.main:
            self.log.write("train", state.step, values)
            logger.info(
                "step %d  %.1f min  %s",
                state.step,
                state.minutes,
                brief(means | {"items/s": values["items_per_second"], "waiting": values["waiting"], "lr": rate}),
            )
        self.accelerator.log({f"train/{k}": v for k, v in values.items()}, step=state.step)

    def _now(self) -> tuple[float, int, float]:
        """Time, items and seconds waited for batches so far: the next log line speaks of what came since."""
        return time.perf_counter(), self.progress.items, self._batches.waited

    def _validate(self) -> None:
        """Measure the averaged weights, keep them in `best/` if they are the best so far."""
        state, monitor = self.progress, self.config.monitor
        started = time.perf_counter()
        self._metrics = metrics = self._measure()
        if monitor not in metrics and (metrics or self.config.patience):
            problem = f"trainer.monitor: validation gives no {monitor!r}, only {', '.join(headline(metrics))}"
            if self.config.patience:
                raise ConfigError(problem)
            logger.warning("%s; there will be no best/", problem)
        value = metrics.get(monitor, math.nan)
        if math.isfinite(value) and (state.best is None or value > state.best):
            state.best, state.best_step, state.stale = value, state.step, 0
            self._export(self.run_dir / "best")
        else:
            state.stale += 1
        self._show()
        state.validated = state.step
        if self.main:
            seconds = time.perf_counter() - started
            self.log.write("validation", state.step, {**self._metrics, "minutes": state.minutes, "seconds": seconds})
            logger.info("step %d validation (%.0f s)  %s", state.step, seconds, brief(headline(self._metrics)))
            self._draw(every=60.0)
        self.accelerator.log(self._metrics, step=state.step)
        self._interval = self._now()

    def _draw(self, every: float = 0.0) -> None:
        """`curves.png`, unless it is younger than `every` seconds."""
        if self.main and time.monotonic() - self._drawn >= every:
            draw_curves(self.log.path, self.run_dir / "curves.png")
            self._drawn = time.monotonic()

    def _show(self) -> None:
        """Give the task's sounds and pictures to the trackers."""
        samples: Callable[[nn.Module], list[Sample]] | None = getattr(self.task, "samples", None)
        if samples is not None and self.main and self.accelerator.trackers:
            with _eager(), torch.no_grad(), self.accelerator.autocast():
                log_samples(self.accelerator.trackers, samples(self.average.module), self.progress.step)

    def _measure(self) -> dict[str, float]:
        model: nn.Module = self.average.module.eval()
        distributed.same_buffers(model)
        with _eager(), torch.no_grad(), self.accelerator.autocast(), Health(model) as health:
            metrics = self.task.validate(model)
        health.join(distributed.gather([health.awake()]))
        silent = [name for name in health.silent if name not in self._silent]
        self._silent.update(silent)
        if silent and self.main:
            logger.warning(
                "step %d: nothing but zeros reached %s in this validation; such parts cannot learn. Where a ReLU or a "
                "weight has died, go back to a checkpoint before it with a lower trainer.learning_rate or more "
                "trainer.weight_decay",
                self.progress.step,
                ", ".join(silent[:5]) + (f" and {len(silent) - 5} more" if len(silent) > 5 else ""),
            )
        return metrics | {"val/dead_channels": health.dead} if metrics else metrics

    def _export(self, folder: Path) -> None:
        if self.main:
            with fill_folder(folder) as part:
                self.task.export(self.average.module.eval(), part)
        self.accelerator.wait_for_everyone()

    def _checkpoint(self) -> None:
        if self.main:
            scaler = self.accelerator.scaler
            training = {
                "optimizer": self.optimizer.state_dict(),
                "scaler": scaler.state_dict() if scaler is not None else {},
            }
            folder = self.run_dir / "checkpoints"
            path = save_checkpoint(
                folder, self.model, self.average.module.state_dict(), training, self.progress, self.config.keep
            )
            logger.info("saved %s", path)
        self.accelerator.wait_for_everyone()
        self._saved = (self.progress.step, self.progress.validated)
        self._interval = self._now()

    def _end(self) -> FitResult:
        state, interrupted = self.progress, not self._finished()
        if not interrupted and state.validated != state.step:
            self._validate()
        if not self._metrics and state.validated == state.step:  # by an earlier process
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

    def _train_mode(self) -> None:
        mode: Callable[[nn.Module], None] | None = getattr(self.task, "train_mode", None)
        if mode is not None:
            mode(self.model)
        else:
            self.model.train()

    def _ask_to_stop(self) -> bool:
        before, self._stop = self._stop, True
        return before


def _eager() -> contextlib.AbstractContextManager[None]:
    """Without compiling: validation meets many lengths once each, which would cost more than it saves."""
    stance: contextlib.AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance
