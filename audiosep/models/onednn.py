"""Convolutions that write their leaky ReLU at once, which saves a pass over memory.

torch's compiler uses these functions of oneDNN on CPUs; no public function of torch offers them, so they are tried out
before they are used.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

FUSED: Any = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)


def leaky_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    slope: float,
    *,
    padding: tuple[int, int] = (0, 0),
    groups: int = 1,
) -> Tensor:
    """`leaky_relu(conv2d(x, weight, bias, padding=padding, groups=groups), slope)`, in one pass where `fuses(x)`."""
    if fuses(x):
        return _fused(x, weight, bias, slope, padding, groups)
    return F.leaky_relu_(F.conv2d(x, weight, bias, padding=padding, groups=groups), slope)


def fuses(x: Tensor) -> bool:
    """Whether this is computed in one pass: for inference in bf16 on a CPU that has it (in fp32 it gains nothing)."""
    plain = x.device.type != "cpu" or x.dtype != torch.bfloat16 or torch.is_grad_enabled()
    return not plain and not torch.compiler.is_compiling() and _works()  # a compiler fuses by itself


def _fused(x: Tensor, weight: Tensor, bias: Tensor, slope: float, padding: tuple[int, int], groups: int) -> Tensor:
    out: Tensor = FUSED(x, weight, bias, list(padding), [1, 1], [1, 1], groups, "leaky_relu", [slope], "")
    return out


@lru_cache(maxsize=1)
def _works() -> bool:
    """Whether this torch has the function, with the arguments and the results that are expected."""
    if FUSED is None:
        return False
    x = torch.linspace(-1, 1, 64).view(1, 4, 4, 4).bfloat16().contiguous(memory_format=torch.channels_last)
    bias = torch.tensor([-0.5, 0.0, 0.25, 1.0])
    try:
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            for groups, padding in ((1, (0, 1)), (4, (0, 0))):
                weight = torch.linspace(-0.5, 0.5, 4 * 4 // groups * 9).view(4, 4 // groups, 3, 3).bfloat16()
                plain = F.leaky_relu(F.conv2d(x.float(), weight.float(), bias, padding=padding, groups=groups), 0.1)
                fused = _fused(x, weight, bias, 0.1, padding, groups)
                torch.testing.assert_close(fused.float(), plain, rtol=0.02, atol=0.02)
    except Exception:  # whatever a later torch makes of it, there is the usual way
        return False
    return True
