"""The trainer's configuration: one dataclass, checked before anything is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args, get_origin, get_type_hints

import torch

from audiosep.errors import ConfigError

TRACKERS = ("tensorboard", "wandb", "trackio")


@dataclass(frozen=True)
class TrainerConfig:
    """How to train, for all tasks.

    At least one of `steps` and `minutes` ends the run; with both, whichever comes first. Minutes are minutes of
    training steps: start-up, validation and saving do not count, and a resumed run continues the count.

    Attributes:
        steps: optimizer steps in all.
        minutes: minutes of training in all.
        clock: what minutes are measured by: the time that passes, or the processor time of the process, which makes
            runs on a busy machine comparable.
        learning_rate: peak of the schedule: linear warm-up, then half a cosine.
        constant: share of the run before that cosine in which the rate stays at its peak. A run that is there may be
            stopped and continued with more `minutes` or `steps`, as if they had been so many from the start.
        warmup: steps of warm-up.
        optimizer: "adamw", or "muon": orthogonalised momentum for matrices and convolutions, AdamW for the rest.
        weight_decay: of matrices and convolutions; vectors (biases, norms) are not decayed.
        accumulation: batches of one optimizer step.
        ema: decay of the averaged weights, which are validated and exported; 0 keeps no average.
        precision: of convolutions and matrix products (autocast); weights and optimizer stay float32.
        device: "auto" takes a GPU if there is one; under `accelerate launch` each process takes its own.
        channels_last: memory layout of convolution weights.
        compile: torch.compile for the parts that the model names in its attribute `compilable`.
        seed: with the step and the rank it determines every random number of the run.
        log_every: steps between log lines.
        validate_minutes: minutes between validations; without an interval only the end is validated.
        validate_steps: steps between validations.
        checkpoint_minutes: minutes between checkpoints; the last one is written at the end.
        checkpoint_steps: steps between checkpoints.
        keep: number of checkpoints that are kept.
        monitor: validation number by which the best model is kept in `best/`; higher is better.
        patience: stop after this many validations in a row without a new best; 0 never stops.
        init: weights to start from: a model folder, a run, a checkpoint or a .safetensors file. A smaller weight is
            copied into the corner of the larger one. A run that resumes ignores it.
        trackers: any of "tensorboard", "wandb", "trackio".
    """

    steps: int | None = None
    minutes: float | None = None
    clock: Literal["wall", "processor"] = "wall"
    learning_rate: float = 1.2e-3
    constant: float = 0.0
    warmup: int = 150
    optimizer: Literal["adamw", "muon"] = "adamw"
    weight_decay: float = 1e-2
    accumulation: int = 1
    ema: float = 0.998
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    channels_last: bool = True
    compile: bool = False
    seed: int = 0
    log_every: int = 50
    validate_minutes: float | None = None
    validate_steps: int | None = None
    checkpoint_minutes: float | None = 10.0
    checkpoint_steps: int | None = None
    keep: int = 3
    monitor: str = "val/si_sdri"
    patience: int = 0
    init: str | None = None
    trackers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise ConfigError("trainer: give steps, minutes or both, so that the run ends")
        for name in (
            "steps", "minutes", "validate_minutes", "validate_steps", "checkpoint_minutes", "checkpoint_steps",
            "learning_rate", "accumulation", "log_every", "keep",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"trainer.{name} must be a number greater than 0, got {value}")
        for name in ("warmup", "weight_decay", "patience", "seed"):
            if getattr(self, name) < 0:
                raise ConfigError(f"trainer.{name} must not be negative, got {getattr(self, name)}")
        for name, value in (("ema", self.ema), ("constant", self.constant)):
            if not 0 <= value < 1:
                raise ConfigError(f"trainer.{name} must lie in [0, 1), got {value}")
        if self.patience and self.validate_minutes is None and self.validate_steps is None:
            raise ConfigError("trainer.patience needs validation: set validate_minutes or validate_steps")
        unknown = sorted(set(self.trackers) - set(TRACKERS))
        if unknown:
            raise ConfigError(f"trainer.trackers: {unknown[0]!r} is not one of {', '.join(TRACKERS)}")
        for name, kind in get_type_hints(type(self)).items():
            if get_origin(kind) is Literal and (value := getattr(self, name)) not in get_args(kind):
                raise ConfigError(f"trainer.{name}: {value!r} is not one of {', '.join(get_args(kind))}")
        self._check_device()

    def _check_device(self) -> None:
        kind = resolve_device(self.device).type
        if self.precision == "fp16" and kind != "cuda":
            raise ConfigError(f"trainer.precision: fp16 needs a CUDA device, this one is {kind}; use bf16 or fp32")
        if self.precision == "bf16" and kind == "cuda" and not torch.cuda.is_bf16_supported():
            raise ConfigError("trainer.precision: this GPU has no bf16; use fp16 or fp32")


def resolve_device(name: str = "auto") -> torch.device:
    """Choose the device of a run.

    Args:
        name: "auto", "cpu", "cuda" or "mps".

    Raises:
        ConfigError: the machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("trainer.device: torch sees no CUDA device here; use device cpu, or run `audiosep doctor`")
    if name == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("trainer.device: torch sees no Apple GPU here; use device cpu")
    return torch.device(name)
