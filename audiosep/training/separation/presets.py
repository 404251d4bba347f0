"""Sizes of model and batch for a memory size; values in the configuration take precedence.

Activations were measured with `audiosep train CONFIG --preset SIZE --check` and leave at least a quarter of the memory
for the corpus, the optimizer and the workspace.
"""

from __future__ import annotations

from typing import Any

import torch

from audiosep.errors import ConfigError

PRESETS: dict[str, dict[str, Any]] = {
    "cpu": {"model": {"widths": [48, 96, 160, 224]}, "sampling": {"mixtures": 12, "seconds": 3.0}},
    "8": {"model": {"widths": [48, 96, 160, 224]}, "sampling": {"mixtures": 64, "seconds": 4.0}},
    "16": {"model": {"widths": [64, 128, 256, 384], "features": 384}, "sampling": {"mixtures": 96, "seconds": 4.0}},
    "24": {"model": {"widths": [96, 192, 320, 448], "features": 384}, "sampling": {"mixtures": 96, "seconds": 5.0}},
    "80": {"model": {"widths": [128, 256, 448, 640], "features": 512}, "sampling": {"mixtures": 192, "seconds": 6.0}},
    "140": {"model": {"widths": [128, 256, 512, 768], "features": 512}, "sampling": {"mixtures": 224, "seconds": 8.0}},
}


def preset(task: str, size: str) -> dict[str, Any]:
    """Return the part of a configuration that depends on memory.

    Args:
        task: name of the task; only separation has presets.
        size: "cpu", "8", "16", "24", "80", "140" (GB of GPU memory), or "auto" for this machine.

    Returns:
        JSON data with `model` and `sampling`.

    Raises:
        ConfigError: no such preset, or a GPU too small for any.
    """
    if task != "separation":
        raise ConfigError(f"preset: the task {task!r} has none; set sampling.mixtures yourself")
    size = _available_size() if size == "auto" else size
    if size not in PRESETS:
        raise ConfigError(f"preset: {size!r} is not one of auto, {', '.join(PRESETS)}")
    return {key: dict(values) for key, values in PRESETS[size].items()}


def _available_size() -> str:
    if not torch.cuda.is_available():
        return "cpu"
    memory = torch.cuda.get_device_properties(0).total_memory / 1e9
    # A card sold as 24 GB may report a little less.
    fitting = [size for size in PRESETS if size.isdigit() and int(size) <= 1.05 * memory]
    if not fitting:
        raise ConfigError(f"preset: auto has no size for a GPU of {memory:.1f} GB; use a smaller sampling.mixtures")
    return fitting[-1]
