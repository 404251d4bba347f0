"""The arrays of users (numpy or torch, 1-d or 2-d, floats or integers) as float32 (channels, samples), and back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from audiosep.audio.inputs import is_opened
from audiosep.audio.limits import MAX_CHANNELS, check_channels
from audiosep.audio.samples import Array, check_finite
from audiosep.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

AnyArray = TypeVar("AnyArray", Array, "Tensor")
"""The kind of array that goes in and comes out, as in `typing.AnyStr`: numpy float32, or torch."""

# Integer samples are fractions of this full scale, as in the PCM formats.
_FULL_SCALE = {np.dtype(np.int16): 2.0**15, np.dtype(np.int32): 2.0**31}


def as_array(mix: Any, *, empty: bool = False, copy: bool = False) -> tuple[Array, Callable[[Array], Any]]:
    """A recording in memory as float32 (channels, samples), with a function that restores the caller's kind of array.

    Without `copy` the result may share memory with `mix`: it must not be written to.

    Args:
        mix: numpy array or torch tensor, (samples,) or (channels, samples), 1 to 8 channels; floating point, or
            int16/int32, whose full scale becomes 1.0.
        empty: whether an array without samples is allowed, as a block of a stream.
        copy: whether the result has memory of its own, so that the caller may write to `mix` meanwhile.

    Returns:
        array: float32 (channels, samples).
        restore: takes (..., channels, samples) and gives the same numbers as the kind of `mix`: numpy or torch on
            the device of `mix`, without the channel axis where `mix` had none. Always float32.

    Raises:
        InputError: another type, shape or dtype, no samples, NaN or infinity.
    """
    # A tensor cannot exist before torch is imported, so for numpy arrays torch need not be imported here.
    torch = sys.modules.get("torch")
    device = None
    if torch is not None and isinstance(mix, torch.Tensor):
        device = mix.device
        array = _tensor_to_numpy(torch, mix)
    elif isinstance(mix, np.ma.MaskedArray):
        raise InputError("audio must not be a masked array: fill what is masked first, for example with mix.filled(0)")
    elif isinstance(mix, np.ndarray):
        array = np.asarray(mix)
    else:
        remedy = "use numpy.asarray(...) for a sequence, audiosep.separate(path, ...) for a file"
        if is_opened(mix):
            remedy = "read it with soundfile.read(file), and pass the transpose with the sample rate"
        raise InputError(f"audio must be a numpy array or a torch tensor, got {type(mix).__name__}: {remedy}")
    flat, given = array.ndim == 1, array
    array = _to_float(_check_shape(array[np.newaxis] if flat else array, empty))
    check_finite(array)
    if copy and np.may_share_memory(array, given):
        array = array.copy()

    def restore(result: Array) -> Any:
        result = result[..., 0, :] if flat else result
        if device is None or torch is None:
            return result
        return torch.from_numpy(np.ascontiguousarray(result)).to(device)

    return array, restore


def _tensor_to_numpy(torch: Any, tensor: Any) -> np.ndarray[Any, Any]:
    try:
        tensor = tensor.detach().cpu()
        if tensor.dtype == torch.bfloat16:
            # numpy has no such dtype.
            tensor = tensor.float()
        array: np.ndarray[Any, Any] = tensor.numpy()
    except (RuntimeError, TypeError, NotImplementedError) as error:  # sparse, quantized, without data, ...
        raise InputError(f"audio must be a dense tensor of numbers, with data: {error}") from error
    return array


def _check_shape(array: np.ndarray[Any, Any], empty: bool) -> np.ndarray[Any, Any]:
    """The array if it is (channels, samples), else an InputError that names what the shape looks like."""
    if array.ndim != 2:
        raise InputError(
            f"audio must have shape (samples,) or (channels, samples), got {array.shape}: "
            "separate the recordings of a batch one by one"
        )
    channels, samples = array.shape
    if channels == 0 or (samples == 0 and not empty):
        raise InputError(f"the audio holds no samples: its shape is {array.shape}")
    if channels > MAX_CHANNELS >= samples:
        raise InputError(
            f"audio of shape {array.shape} looks like (samples, channels), but channels come first: pass its transpose"
        )
    check_channels(channels)
    return array


def _to_float(array: np.ndarray[Any, Any]) -> Array:
    whole = array.dtype.newbyteorder("=")
    if whole in _FULL_SCALE:
        return array.astype(np.float32) / np.float32(_FULL_SCALE[whole])
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(
            f"audio samples must be floating point, int16 or int32, got {array.dtype}: "
            "convert them to floats between -1 and 1"
        )
    # Beyond float32 a float64 becomes infinite, which check_finite then refuses.
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=np.float32)
