"""Devices and precisions: choosing them, copying between them and the CPU, and their memory."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import get_args

import torch
from torch import Tensor

from audiosep.errors import InputError
from audiosep.inference.heap import give_back
from audiosep.inference.options import Engine

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_CUDNN = threading.RLock()
_SHARE = 0.7  # of the free memory; the rest is for other programs and for fragmentation


def check_torch_defaults() -> None:
    """Refuse to compute while torch makes tensors of another kind than it does by itself.

    Raises:
        InputError: the program has set another default dtype than float32, or another default device than the CPU.
    """
    if torch.get_default_dtype() != torch.float32:
        raise InputError(
            f"this program has set torch's default dtype to {torch.get_default_dtype()}, in which the networks cannot "
            "compute: call torch.set_default_dtype(torch.float32) first, and set your own again behind it"
        )
    if torch.get_default_device().type != "cpu":
        raise InputError(
            f"this program has set torch's default device to {torch.get_default_device()}, where waveforms are not: "
            'call audiosep in a block `with torch.device("cpu"):`; the model stays on its own device'
        )


def device_of_engine(device: str | torch.device, engine: Engine) -> str | torch.device:
    """A device as it was asked for, but the CPU for "auto" with an engine that computes nowhere else.

    Args:
        device: "auto", or a device of torch.
        engine: that computes on it.
    """
    return "cpu" if engine == "openvino" and str(device) == "auto" else device


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """The device of a name.

    Args:
        device: "auto" (cuda if there is one, else mps, else cpu), or a device of torch.

    Returns:
        The device.

    Raises:
        InputError: an unknown device, or one that this machine or this torch does not have.
    """
    if str(device) == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if device in get_args(Engine):
        raise InputError(
            f"{device} is an engine and no device: use engine={device!r} (on the command line --engine {device})"
        )
    try:
        picked = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"unknown device {device!r}; use auto, cpu, cuda, cuda:1 or mps") from error
    have = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not have.get(picked.type, False) or (picked.type == "cuda" and (picked.index or 0) >= torch.cuda.device_count()):
        raise InputError(f"this machine or this torch has no device {str(device)!r}; use device='auto' or device='cpu'")
    return picked


def pick_precision(precision: str, device: torch.device, *, needs_fp32: bool = False) -> str:
    """The precision of the network's layers; spectra and everything outside the network stay in fp32.

    Args:
        precision: a key of PRECISIONS, or "auto" for the fastest that the device computes in hardware.
        device: where the network runs.
        needs_fp32: of the network.

    Returns:
        A key of PRECISIONS.

    Raises:
        InputError: an unknown precision, fp16 on a CPU, or another one than the network needs.
    """
    if precision == "auto":
        return "fp32" if needs_fp32 else _fastest(device)
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}; use auto, {', '.join(PRECISIONS)}")
    if needs_fp32 and precision != "fp32":
        raise InputError(f"this model computes in fp32 only, not in {precision}: use precision='fp32'")
    if precision == "fp16" and device.type == "cpu":
        raise InputError("a CPU has no fp16 convolutions; use precision='bf16' or precision='fp32'")
    return precision


def _fastest(device: torch.device) -> str:
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16"
        return "fp16" if torch.cuda.get_device_capability(device) >= (7, 0) else "fp32"
    if device.type == "cpu":
        able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}  # older torch cannot tell
        # docs/bench.md: Intel's processors without AMX take 1.4 to 1.5 times as long as in fp32, Zen 4 0.6 times.
        quick = able.get("avx512_bf16") and not str(able.get("cpu_name", "")).startswith("Intel")
        return "bf16" if able.get("amx_bf16") or quick else "fp32"
    return "fp32"


@contextlib.contextmanager
def running(device: torch.device, precision: str) -> Iterator[None]:
    """Context for inference: no gradients, the given precision, algorithms that give the same bytes each time.

    It nests. torch has the settings of cuDNN for the whole process: on a GPU one thread at a time is in this context,
    and the settings of the caller come back behind it.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        if device.type == "cuda":
            stack.enter_context(_CUDNN)
            tf32 = precision != "fp32"
            stack.enter_context(
                torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32)
            )
        # In fp32, too: the caller may be within another precision.
        stack.enter_context(torch.autocast(device.type, PRECISIONS[precision], enabled=precision != "fp32"))
        yield


@contextlib.contextmanager
def without_autocast() -> Iterator[None]:
    """Context or decorator for what is computed in fp32, and perhaps kept, also within the caller's autocast."""
    with contextlib.ExitStack() as stack:
        for kind in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the CPU to the device; a CUDA device copies it while it computes what was enqueued before."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


def host_buffer(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """An empty tensor on the CPU, in pinned memory where the device is CUDA: it can copy into it while it computes."""
    return torch.empty(shape, pin_memory=device.type == "cuda")


def enqueued(device: torch.device) -> Callable[[], None]:
    """A function that waits until the device has done all work that is enqueued now."""
    if device.type == "cuda":
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(device))
        return event.synchronize
    if device.type == "mps":
        torch.mps.synchronize()
    return lambda: None


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that an allocation failed; only CUDA has an error class for it."""
    says = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or any(
        words in says for words in ("out of memory", "not enough memory", "can't allocate memory")
    )


def free_cache(device: torch.device) -> None:
    """Give memory back that is kept for later use: by torch on a GPU, by the C library of Linux on the CPU."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
    give_back()


class FreedMemory:
    """Gives freed memory back now and then: the heap is that of the whole process, whichever threads compute.

    Args:
        every: seconds of targets that are computed before it.
    """

    def __init__(self, every: float) -> None:
        self._every, self._computed, self._lock = every, 0.0, threading.Lock()

    def after(self, seconds: float, device: torch.device) -> None:
        """Count what has been computed, and give memory back where it is enough.

        Args:
            seconds: of targets.
            device: that computed them.
        """
        with self._lock:
            self._computed += seconds
            if self._computed < self._every:
                return
            self._computed = 0.0
        free_cache(device)


def windows_at_once(device: torch.device, run: Callable[[], object], most: int) -> int:
    """The number of windows in a batch, so that it fits into most of a CUDA device's free memory.

    On a CPU it is 1, because more are not faster, and on MPS, whose memory is that of the whole machine.

    Args:
        device: where windows are computed.
        run: computes one window, to measure its memory.
        most: upper limit; larger batches are not faster.
    """
    if device.type != "cuda":
        return 1
    with torch.cuda.device(device):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        takes = torch.cuda.max_memory_allocated() - before
        free, _ = torch.cuda.mem_get_info()
        free += torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return max(1, min(most, int(_SHARE * free) // max(1, takes)))
