"""When things happen in a run: the learning rate, and what is due every so many steps or minutes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from audiosep.training.engine.trainer_config import TrainerConfig


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
    """Share of the run that is done, 0..1: the larger of the steps' and the minutes' share."""
    shares = [0.0]
    if config.steps is not None:
        shares.append(clock.step / config.steps)
    if config.minutes is not None:
        shares.append(clock.minutes / config.minutes)
    return min(1.0, max(shares))


def learning_rate(config: TrainerConfig, clock: Clock) -> float:
    """Linear warm-up by steps times half a cosine over the run (Loshchilov and Hutter 2017, without restarts).

    peak * min(1, (step + 1) / warmup) * (floor + (1 - floor) * (1 + cos(pi * progress)) / 2)
    """
    warm = min(1.0, (clock.step + 1) / config.warmup) if config.warmup else 1.0
    cosine = 0.5 * (1.0 + math.cos(math.pi * progress(config, clock)))
    return config.learning_rate * warm * (config.floor + (1.0 - config.floor) * cosine)


def due(before: Clock, after: Clock, *, steps: int | None, minutes: float | None) -> bool:
    """Whether a multiple of the interval was passed between two moments; it keeps no state, so resuming cannot lose it.

    Args:
        before: the clock before the step. after: the clock after it.
        steps: interval in steps, or None.
        minutes: interval in minutes, or None.
    """
    by_steps = steps is not None and after.step // steps > before.step // steps
    by_minutes = minutes is not None and int(after.minutes / minutes) > int(before.minutes / minutes)
    return by_steps or by_minutes
