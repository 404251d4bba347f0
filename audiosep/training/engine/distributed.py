"""Sharing work between the processes of a run; with one process every function returns its input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

T = TypeVar("T")


def rank() -> int:
    """Return the number of this process in the run, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world() -> int:
    """Return the number of processes of the run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def share(items: Sequence[T]) -> list[T]:
    """Return this process's part of `items`: every world-th, starting with its rank."""
    return list(items[rank() :: world()])


def gather(rows: Sequence[T]) -> list[T]:
    """Collect the results of all processes.

    Args:
        rows: one result for each item that `share` gave to this process.

    Returns:
        The results in the order of the sequence that `share` divided; the same list on every process.
    """
    if world() == 1:
        return list(rows)
    parts: list[Any] = [None] * world()
    dist.all_gather_object(parts, list(rows))
    longest = max(len(part) for part in parts)
    return [part[i] for i in range(longest) for part in parts if i < len(part)]


def agree(values: Sequence[float], device: torch.device) -> list[float]:
    """Return rank 0's values on every rank, so that all make the same decisions by the clock."""
    if world() == 1:
        return list(values)
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    dist.broadcast(tensor, 0)
    return [float(v) for v in tensor.tolist()]


def any_rank(flag: bool, device: torch.device) -> bool:
    """Return whether `flag` is set on at least one rank."""
    if world() == 1:
        return flag
    tensor = torch.tensor([int(flag)], device=device)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return bool(tensor.item())


@torch.no_grad()
def same_buffers(model: nn.Module) -> None:
    """Copy rank 0's buffers (batch statistics) to every rank: between steps each process has its own."""
    if world() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
