"""Sharing work between the processes of a run; with one process everything here is the identity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

T = TypeVar("T")


def rank() -> int:
    """Number of this process among those of the run, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def share(items: Sequence[T]) -> list[T]:
    """This process's part of `items`: every world-th, from its rank on."""
    return list(items[rank() :: world()])


def gather(rows: Sequence[T]) -> list[T]:
    """The rows of all processes in the order of the sequence that `share` divided; the same list everywhere.

    Args:
        rows: one result for each item that `share` gave to this process.
    """
    if world() == 1:
        return list(rows)
    parts: list[Any] = [None] * world()
    dist.all_gather_object(parts, list(rows))
    longest = max(len(part) for part in parts)
    return [part[i] for i in range(longest) for part in parts if i < len(part)]


def agree(values: Sequence[float], device: torch.device) -> list[float]:
    """Rank 0's values on every rank, so that decisions by the clock are the same everywhere."""
    if world() == 1:
        return list(values)
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    dist.broadcast(tensor, 0)
    return [float(v) for v in tensor.tolist()]


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether `flag` is set on at least one rank."""
    if world() == 1:
        return flag
    tensor = torch.tensor([int(flag)], device=device)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return bool(tensor.item())


@torch.no_grad()
def same_buffers(model: nn.Module) -> None:
    """Rank 0's buffers (batch statistics) on every rank: between steps each process has its own."""
    if world() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
