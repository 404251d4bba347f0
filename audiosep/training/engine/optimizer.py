"""The optimizer of a run: AdamW or Muon, without weight decay for vectors."""

from __future__ import annotations

import torch
from torch import nn

from audiosep.errors import ConfigError
from audiosep.training.engine.muon import Muon, is_matrix
from audiosep.training.engine.trainer_config import TrainerConfig

BETAS = (0.9, 0.98)


def build_optimizer(model: nn.Module, config: TrainerConfig, device: torch.device) -> torch.optim.Optimizer:
    """Build the optimizer of the parameters that need gradients.

    Args:
        model: its parameters are on `device`.
        config: the run's.
        device: where training runs.

    Raises:
        ConfigError: no parameter needs a gradient.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise ConfigError("the task's model has no weights to train")
    matrices = {p for p in trained if is_matrix(p)} if config.optimizer == "muon" else set()
    groups = [
        {"params": [p for p in trained if p in matrices], "weight_decay": config.weight_decay, "matrix": True},
        {"params": [p for p in trained if p.ndim > 1 and p not in matrices], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    fused = device.type in ("cpu", "cuda") and config.precision != "fp16"
    optimizer = Muon if config.optimizer == "muon" else torch.optim.AdamW
    return optimizer([g for g in groups if g["params"]], config.learning_rate, betas=BETAS, fused=fused)
