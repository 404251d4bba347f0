"""Weights and sounds by formula, the same wherever NumPy runs: what golden figures are computed from.

NumPy freezes the stream of `RandomState` (NEP 19), so a seed means the same numbers in every version.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.random import RandomState

RATE = 32000


def state(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """Weights for a table of key -> shape, keys in sorted order, key number i drawn from seed + i.

    Convolutions and linear layers get variance 1 / fan-in (half of it in the last convolution of a residual branch,
    so that deep stacks do not explode; less still in the last layer, so that masks do not saturate), the query's
    shifts variance 1/4; normalisations stay near the identity.
    """
    return {key: np.asarray(_tensor(key, shapes[key], RandomState(seed + i))) for i, key in enumerate(sorted(shapes))}


def _tensor(key: str, shape: tuple[int, ...], random: RandomState) -> np.ndarray:
    if key.endswith(("num_batches_tracked", "position_ids", "relative_position_index")):
        return np.zeros(shape, dtype=np.int64)
    if key.endswith("running_var"):
        return random.uniform(0.5, 1.5, shape).astype(np.float32)
    x = random.standard_normal(shape) if shape else np.asarray(random.standard_normal())
    if key.endswith(("bias", "running_mean")) or len(shape) == 0:
        return (0.1 * x).astype(np.float32)
    if len(shape) == 1:
        return (1 + 0.1 * x).astype(np.float32)
    if key.startswith("film."):
        return (0.5 * x).astype(np.float32)
    transposed = ".decoder_block" in key and key.count("conv") == 1
    fan_in = shape[0] if transposed else int(np.prod(shape[1:]))
    gain = 0.06 if "after_conv" in key else 0.5 if "conv2" in key else 1.0
    return (x * np.sqrt(gain / fan_in)).astype(np.float32)


def sound(samples: int, seed: int, rate: int = RATE) -> np.ndarray:
    """(samples,) float32 in -1 ... 1: a sweep, a plucked chord and noise bursts, with a silent gap in the middle."""
    t = np.arange(samples) / rate
    seconds = samples / rate
    sweep = np.sin(2 * np.pi * (80 * t + (6000 - 80) / (2 * seconds) * t**2))
    chord = sum(np.sin(2 * np.pi * f * t) for f in (220.0, 277.18, 329.63)) * np.exp(-3 * (t % 0.4))
    bursts = RandomState(seed).standard_normal(samples) * (np.sin(2 * np.pi * 3.1 * t) > 0.3)
    x = 0.2 * sweep + 0.15 * chord + 0.1 * bursts
    x[int(0.45 * samples) : int(0.5 * samples)] = 0
    return np.clip(x, -1, 1).astype(np.float32)


def embeddings(queries: int, dimension: int, seed: int) -> np.ndarray:
    """(queries, dimension) float32 unit vectors."""
    x = RandomState(seed).standard_normal((queries, dimension))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def projections(x: np.ndarray, count: int = 8, seed: int = 7) -> list[float]:
    """Sums of the last axis under `count` random signs, divided by the square root of its length.

    Together with some samples and the energy they pin down a long signal in a few numbers.
    """
    signs = RandomState(seed).randint(0, 2, size=(count, x.shape[-1])) * 2.0 - 1
    return (signs @ x.astype(np.float64) / np.sqrt(x.shape[-1])).tolist()


def dumps(figures: dict[str, Any]) -> str:
    """JSON with one line a key, and one line an entry of a nested object."""
    lines = []
    for key, value in figures.items():
        if isinstance(value, dict):
            rows = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            lines.append(f" {json.dumps(key)}: {{\n{rows}\n }}")
        else:
            lines.append(f" {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
