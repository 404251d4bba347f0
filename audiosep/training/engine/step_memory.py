"""How much memory a training step takes, measured before a run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from audiosep.errors import counted
from audiosep.training.engine.runtime import step_seed
from audiosep.training.engine.task import Task, set_train_mode
from audiosep.training.engine.trainer_config import TrainerConfig


@dataclass(frozen=True)
class StepMemory:
    """Memory of one training step, bytes.

    Attributes:
        parameters: number of weights that are trained.
        state: weights and their average, and of trained weights gradients and both moments of AdamW, all float32.
        activations: tensors that the forward pass keeps for the backward pass.
        items: training items (queries) of the measured batch.
    """

    parameters: int
    state: int
    activations: int
    items: int

    def __str__(self) -> str:
        total = (self.state + self.activations) / 1e9
        return (
            f"{total:.2f} GB a step: {self.state / 1e9:.2f} GB weights, gradients, optimizer and average, "
            f"{self.activations / 1e9:.2f} GB activations for {counted(self.items, 'query', 'queries')}"
        )


def step_memory(task: Task, config: TrainerConfig) -> StepMemory:
    """Run the forward pass of a task's first batch on the CPU and count the tensors it keeps.

    A GPU needs the same and some workspace; leave a quarter of its memory free.

    Args:
        task: the task.
        config: for the precision and the seed.
    """
    model = task.model
    kept: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.no_grad():
        batch = task.batch(0, 0, 1)
    torch.manual_seed(step_seed(config.seed, 0, 0))
    dtype = {"bf16": torch.bfloat16, "fp16": torch.bfloat16}.get(config.precision)
    set_train_mode(task, model)
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", dtype=dtype, enabled=dtype is not None),
    ):
        loss, metrics = task.loss(model, batch)
    del loss
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    return StepMemory(trained, 4 * (5 * trained + 2 * frozen), sum(kept.values()), int(metrics.get("items", 1)))
