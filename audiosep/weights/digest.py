"""Digests of models on disk, by which stored results recognise the model that they were made with."""

from __future__ import annotations

import hashlib
from pathlib import Path

_LARGE_FILE = 1 << 28


def model_digest(folder: Path, adapter: Path | None = None) -> str:
    """A digest of a model and an adapter.

    Args:
        folder: of the model.
        adapter: a file; None for none.

    Returns:
        64 hexadecimal digits.
    """
    changed = b"" if adapter is None else content_digest(adapter)
    return hashlib.sha256(folder_digest(folder).encode() + changed).hexdigest()


def beside(model: str, specialist: str | None) -> str:
    """The digest of a model whose stems are those of another.

    Args:
        model: its digest.
        specialist: that of the other; None for none.
    """
    return model if specialist is None else hashlib.sha256(f"{model} {specialist}".encode()).hexdigest()


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
    return bytes.fromhex(file_sha256(path))


def file_sha256(path: Path) -> str:
    """The sha256 of a file, 64 hexadecimal digits.

    Args:
        path: of the file, of any size.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
