"""Convolutions on CPUs that write their leaky ReLU at once, or that keep their weights in oneDNN's own order.

torch's compiler uses these functions of oneDNN; no public function of torch offers them, so they are tried out before
they are used.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FUSED: Any = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
REORDER: Any = getattr(torch._C._nn, "mkldnn_reorder_conv2d_weight", None)
_KEPT = 2


class PackedConv2d(nn.Conv2d):
    """A convolution that at inference on a CPU keeps its weights in the order that oneDNN computes with.

    Otherwise they are brought into it for each call, which for a second of sound takes as long as the convolution. The
    order depends on the size of the input: the last two new ones are kept. Zero padding only, in numbers.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._packed: dict[tuple[object, ...], tuple[Tensor, Tensor | None]] = {}

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, height, width) -> (batch, outputs, height, width)."""
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        # A weight that is computed, as training an adapter does, would be another one in the same place of memory.
        plain = x.device.type != "cpu" or not isinstance(self.weight, nn.Parameter)
        if plain or not _only_infers() or not _packs(dtype):
            return super().forward(x)
        weight, bias = self._pack(x.shape, dtype)
        out: Tensor = FUSED(x.to(dtype), weight, bias, *self._how, "none", [], "")
        return out

    @property
    def _how(self) -> tuple[object, ...]:
        return [*self.padding], [*self.stride], [*self.dilation], self.groups

    def _pack(self, size: torch.Size, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        weight = self.weight.detach()
        use = (size, dtype, weight.data_ptr(), 0 if weight.is_inference() else self.weight._version)
        packed = self._packed.get(use)
        if packed is None:
            bias = None if self.bias is None else self.bias.detach().to(dtype)
            packed = _reordered(weight.to(dtype), size, self._how), bias
            self._packed = dict([*self._packed.items(), (use, packed)][-_KEPT:])
        return packed

    def train(self, mode: bool = True) -> PackedConv2d:
        """As of any module; what is kept is forgotten."""
        self._packed = {}
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": {}}  # such weights cannot be copied


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
    return x.device.type == "cpu" and x.dtype == torch.bfloat16 and _only_infers() and _works()


def _only_infers() -> bool:
    """Whether nothing is learnt or recorded; a compiler fuses by itself."""
    recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return not (recorded or torch.is_grad_enabled())


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


def _reordered(weight: Tensor, size: torch.Size, how: tuple[object, ...]) -> Tensor:
    out: Tensor = REORDER(weight.to_mkldnn(), *how, list(size))
    return out


@lru_cache
def _packs(dtype: torch.dtype) -> bool:
    """Whether this torch packs weights of this type, and then gets the same."""
    if FUSED is None or REORDER is None:
        return False
    weight, bias = torch.linspace(-0.5, 0.5, 216).view(6, 4, 3, 3).to(dtype), torch.linspace(-1, 1, 6).to(dtype)
    how = ([1, 1], [1, 1], [1, 1], 1)
    x = torch.linspace(-1, 1, 320).view(2, 4, 5, 8).to(dtype).contiguous(memory_format=torch.channels_last)
    try:
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            packed = FUSED(x, _reordered(weight, x.shape, how), bias, *how, "none", [], "")
            plain = F.conv2d(x.float(), weight.float(), bias.float(), padding=1)
            torch.testing.assert_close(packed.float(), plain, rtol=0.02, atol=0.02)
    except Exception:  # whatever a later torch makes of it, there is the usual way
        return False
    return True
