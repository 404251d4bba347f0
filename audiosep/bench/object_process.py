"""An object in a process of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from audiosep.errors import AudioSepError, ModelError
from audiosep.inference.memory import peak_memory


class ObjectProcess:
    """An object in a fresh process, so that its start-up time and its memory are measured alone.

    Args:
        make: the object's class.
        arguments: of the class.

    Raises:
        ModelError: the process died, usually because the memory ran out.
        AudioSepError: whatever the class raises.
    """

    def __init__(self, make: Callable[..., Any], *arguments: Any) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        self._submit(_make, make, arguments)

    def call(self, method: str) -> Any:
        """Call a method of the object.

        Args:
            method: its name.

        Returns:
            What the method returns.

        Raises:
            ModelError: the process died.
            AudioSepError: whatever the method raises.
        """
        return self._submit(_call, method)

    def memory(self) -> tuple[float | None, float | None]:
        """Peak memory of the process so far, see `memory_peaks`."""
        peaks: tuple[float | None, float | None] = self._submit(memory_peaks)
        return peaks

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown()

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return self._pool.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            self.close()
            raise ModelError("the measured process died, probably because the memory ran out") from error
        except AudioSepError:
            self.close()
            raise


def memory_peaks() -> tuple[float | None, float | None]:
    """Peak memory of this process so far.

    Returns:
        Resident set size and CUDA memory, MB (10^6 bytes); None where it is not reported or there is no CUDA.
    """
    import torch

    device = torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_initialized() else None
    peak = peak_memory()
    return None if peak is None else peak / 1e6, device


_object: Any = None  # the object of this process, when it is one that `ObjectProcess` started


def _make(make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    global _object
    _object = make(*arguments)


def _call(method: str) -> Any:
    return getattr(_object, method)()
