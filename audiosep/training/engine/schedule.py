"""The learning rate over a run, and which intervals of steps or minutes are due."""

from __future__ import annotations

import math
from dataclasses import dataclass

from audiosep.training.engine.trainer_config import TrainerConfig

LAST_SHARE = 0.02  # last learning rate relative to the peak


@dataclass(frozen=True)
class Clock:
    """How far a run is.

    Attributes:
        step: optimizer steps done.
        minutes: minutes of training done, over all its resumes.
    """

    step: int = 0
    minutes: float = 0.0


def progress(config: TrainerConfig, clock: Clock) -> float:
    """Share of the run that is done, 0..1: the larger of the shares of steps and minutes."""
    shares = [0.0]
    if config.steps is not None:
        shares.append(clock.step / config.steps)
    if config.minutes is not None:
        shares.append(clock.minutes / config.minutes)
    return min(1.0, max(shares))


def learning_rate(config: TrainerConfig, clock: Clock) -> float:
    """Linear warm-up by steps, a constant share of the run, half a cosine (Loshchilov and Hutter, 2017, no restarts).

    peak * min(1, (step + 1) / warmup) * (last + (1 - last) * (1 + cos(pi * p)) / 2) with last = `LAST_SHARE`, where p
    goes from 0 to 1 over the part of the run that is not constant.
    """
    warm = min(1.0, (clock.step + 1) / config.warmup) if config.warmup else 1.0
    falling = max(0.0, progress(config, clock) - config.constant) / (1.0 - config.constant)
    cosine = 0.5 * (1.0 + math.cos(math.pi * falling))
    return config.learning_rate * warm * (LAST_SHARE + (1.0 - LAST_SHARE) * cosine)


def due(before: Clock, after: Clock, *, steps: int | None, minutes: float | None) -> bool:
    """Whether a multiple of the interval lies between two moments; there is no state that a resume could lose.

    Args:
        before: the clock before the step.
        after: the clock after it.
        steps: interval in steps, or None.
        minutes: interval in minutes, or None.
    """
    by_steps = steps is not None and after.step // steps > before.step // steps
    by_minutes = minutes is not None and int(after.minutes / minutes) > int(before.minutes / minutes)
    return by_steps or by_minutes
