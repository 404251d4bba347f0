"""Samples that wait on the disk, where how they are written is known only at the end of a recording."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from audiosep.audio.samples import Array
from audiosep.errors import AudioError

_BLOCK = 65_536


class SampleSpool:
    """Samples in a temporary file without a name: appended block by block, then read from the start.

    Args:
        folder: on the disk that is used, where the outputs need the space anyway; None for that of temporary files.
        rows: of each block.

    Raises:
        AudioError: the folder cannot be written to.
    """

    def __init__(self, folder: Path | None, rows: int) -> None:
        self._rows = rows
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # open until `close`
        except OSError as error:
            place = "the folder of temporary files" if folder is None else folder
            raise AudioError(f"{place} cannot be written to ({error}): choose another folder") from error

    def append(self, block: Array) -> None:
        """Append (rows, n) samples.

        Raises:
            AudioError: the disk is full.
        """
        with _writing():
            self._file.write(np.ascontiguousarray(block.T, dtype=np.float32).data)

    def blocks(self) -> Iterator[Array]:
        """All samples from the start, (rows, n) in each block.

        Raises:
            AudioError: the disk is full.
        """
        with _writing():  # what is still in memory goes to the disk
            self._file.seek(0)
        while data := self._file.read(_BLOCK * self._rows * 4):
            yield np.frombuffer(data, np.float32).reshape(-1, self._rows).T

    def close(self) -> None:
        """Delete the samples. Idempotent."""
        with contextlib.suppress(OSError):  # on a full disk, for data that is not wanted any more
            self._file.close()


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AudioError(f"samples cannot be written to the disk of the outputs ({error}): free space") from error
