"""A part of a file as a file, with other bytes in some places; for libsndfile."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class FileView(io.RawIOBase):
    """Reads a part of a file.

    Args:
        path: of the file.
        start: first byte.
        end: byte after the last one; None: the end of the file.
        patches: position in the view -> bytes that are read there instead.
    """

    def __init__(
        self, path: Path, start: int = 0, end: int | None = None, patches: Mapping[int, bytes] | None = None
    ) -> None:
        self._file = path.open("rb")
        self._start, self._end = start, path.stat().st_size if end is None else end
        self._patches = dict(patches or {})
        self.seek(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: self._start, io.SEEK_CUR: self._file.tell(), io.SEEK_END: self._end}[whence]
        return self._file.seek(max(self._start, base + offset)) - self._start

    def tell(self) -> int:
        return self._file.tell() - self._start

    def readinto(self, buffer: Any, /) -> int:
        at = self.tell()
        data = bytearray(self._file.read(max(0, min(len(buffer), self._end - self._start - at))))
        for position, octets in self._patches.items():
            for i, octet in enumerate(octets, position - at):
                if 0 <= i < len(data):
                    data[i] = octet
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
