"""Reading published checkpoints without letting them run code.

A pickle is a program: it names functions and calls them. Here it may name only those that build tensors, containers and
NumPy numbers; any other name is an error before anything is called.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audiosep.errors import ModelError, missing_file

_SCALAR: Any = np.float64(0).__reduce__()[0]
# Trainers store NumPy numbers among their counters; the module's name depends on NumPy's major version.
_ALLOWED: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    np.dtype,
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "u1", "?")),
]


def read_pickle(path: Path) -> Any:
    """Read a file of `torch.save`; tensors stay on the disk until they are used.

    Args:
        path: the file.

    Returns:
        What was saved.

    Raises:
        ModelError: the file is missing or damaged, or names a function that is not allowed; nothing was run.
    """
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except FileNotFoundError as error:
        raise ModelError(missing_file(path)) from error
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)|function ([\w.]+)|class ([\w.]+)", str(error))
        if named:
            name = next(part for part in named.groups() if part)
            raise ModelError(
                f"{path} was refused, and nothing in it was run: it uses {name}, which is none of the tensors, "
                "containers and numbers that weights are made of; get the weights from their authors again"
            ) from error
        raise ModelError(f"{path} is no checkpoint of PyTorch, or is damaged; download it again") from error
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ModelError(f"{path} is damaged or no checkpoint ({reason}); download it again") from error
    except (EOFError, ValueError, LookupError, TypeError, AttributeError) as error:  # of bytes taken for a pickle
        raise ModelError(f"{path} is no checkpoint of PyTorch, or is damaged; download it again") from error


def state_dict(content: Any, path: Path) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint: itself, or its "state_dict" entry; "module." of parallel training is cut.

    Args:
        content: from `read_pickle`.
        path: for messages.

    Raises:
        ModelError: it holds no weights.
    """
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not any(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(f"{path} holds no weights: neither it nor its 'state_dict' maps names to tensors")
    other = [key for key, value in state.items() if not (isinstance(key, str) and isinstance(value, torch.Tensor))]
    if other:
        raise ModelError(f"{path}: {other[0]!r} is no tensor")
    return {key.removeprefix("module."): value for key, value in state.items()}
