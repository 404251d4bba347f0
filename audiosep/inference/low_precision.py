"""Whether layers in bf16 are right in this process: compared once with the same layers in fp32.

bf16 goes other ways through torch and the processor than fp32, and variables of the environment can break them: with
`OMP_DYNAMIC=true` a layer that oneDNN has shared out among some threads is computed by fewer of them once the machine
is busy, the rest of it is left undone, and stems are wrong without an error. The package switches that off, which comes
too late where torch was loaded before it, so OpenMP itself is asked. The answer is not kept for other processes of the
machine, whose environment may differ.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from audiosep.inference.devices import without_autocast
from audiosep.inference.openmp import threads_may_vary

_MOST_ERROR = 0.03  # of the largest value; bf16 has 8 bits: 0.004 for each number


def bf16_problem(device: str) -> str | None:
    """Why bf16 should not be used in this process; None where it may be.

    Args:
        device: type of the device, as in torch.
    """
    if device == "cpu" and threads_may_vary():
        return "torch was loaded with OMP_DYNAMIC=true, with which layers in bf16 stay undone in part on a busy machine"
    if not bf16_is_right(device):
        return "bf16 gives wrong results in this process (a layer was compared with fp32)"
    return None


@functools.cache
def bf16_is_right(device: str) -> bool:
    """Compare a convolution, a transposed one and a matrix product in bf16 with fp32; the answer is kept.

    Args:
        device: type of the device, as in torch.
    """
    draw = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(size, generator=draw).to(device) for size in ((1, 32, 48, 48), (32, 32, 3, 3)))
    with torch.inference_mode():
        with without_autocast():
            right = _layers(x, weight)
        with torch.autocast(device, torch.bfloat16):
            tried = _layers(x, weight)
        pairs = zip(tried, right, strict=True)
        return all(bool((low.float() - high).abs().max() < _MOST_ERROR * high.abs().max()) for low, high in pairs)


def _layers(x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    return (
        F.conv2d(x.contiguous(memory_format=torch.channels_last), weight, padding=1),
        F.conv_transpose2d(x, weight[..., :2, :2], stride=2),
        F.linear(x.flatten(2).mT, weight.flatten(1)[:, :32]),
    )
