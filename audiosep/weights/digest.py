"""Digests of models on disk, by which stored results recognise the model that they were made with."""

from __future__ import annotations

import hashlib
from pathlib import Path

_LARGE_FILE = 1 << 28


def folder_digest(folder: Path) -> str:
    """A digest of the names and contents of all files in a folder and its subfolders.

    Args:
        folder: of a model.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(content_digest(path))
    return digest.hexdigest()


def content_digest(path: Path) -> bytes:
    """The digest of a file; from 256 MB on only its size and modification time, which is faster.

    Args:
        path: of the file.
    """
    status = path.stat()
    if status.st_size > _LARGE_FILE:
        return repr((status.st_size, status.st_mtime_ns)).encode()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
