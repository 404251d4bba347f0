"""Files and folders that appear whole or not at all.

What is written lies under a hidden name, `.audiosep-*.part`, in the folder where it belongs, and is renamed when it is
complete. If writing fails or is interrupted, it is deleted and an earlier file or folder of that name stays. Only a
process that is killed leaves a `.part` behind; `remove_leftovers` deletes those.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import shutil
import stat
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from audiosep.errors import AudioSepError

logger = logging.getLogger(__name__)

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


class PendingFile:
    """A temporary file beside its target, which it replaces at `commit`.

    It is deleted by `discard`, and also when the object or the interpreter goes away without `commit`.

    Args:
        path: the target, in an existing folder.
        overwrite: whether a file that exists already may be replaced.
        durable: flush the content to the disk before it replaces the target, so that the target is whole also after a
            power cut. This waits for the disk.
        error: the class of the errors that are raised.

    Attributes:
        file: open for reading and writing.

    Raises:
        AudioSepError: the target exists, is no regular file, or its folder is missing or not writable.
    """

    def __init__(
        self,
        path: Path,
        *,
        overwrite: bool,
        durable: bool,
        error: type[AudioSepError] = AudioSepError,
    ) -> None:
        self.path = path
        self._overwrite, self._durable, self._error = overwrite, durable, error
        self._check_target()
        temporary = _hidden(path)
        try:
            # Not tempfile: its files are private to the user, and these should have the usual permissions.
            self.file: BinaryIO = temporary.open("x+b")
        except OSError as problem:
            raise error(_cannot_write(path, problem)) from problem
        self._discard = weakref.finalize(self, _delete, self.file, temporary)
        self._temporary = temporary

    def _check_target(self) -> None:
        if not self.path.parent.is_dir():
            raise self._error(f"the folder {self.path.parent} does not exist: create it first")
        try:
            mode = self.path.stat().st_mode
        except FileNotFoundError:
            return
        except (OSError, ValueError) as problem:
            # Names longer than the system allows, or with a NUL in them.
            raise self._error(f"{str(self.path)!r} cannot be written: {problem}: choose another name") from problem
        if not stat.S_ISREG(mode):
            raise self._error(f"{self.path} is a folder or a device: choose another name")
        if not self._overwrite:
            raise self._error(f"{self.path} exists already: choose another name, or allow overwrite")

    def commit(self) -> None:
        """Put the file in its place.

        Raises:
            AudioSepError: the disk is full, or the target has appeared meanwhile.
        """
        try:
            self.file.flush()
            if self._durable:
                os.fsync(self.file.fileno())
            self._check_target()
            self.file.close()
            self._temporary.replace(self.path)
        except OSError as problem:
            raise self._error(_cannot_write(self.path, problem)) from problem
        finally:
            self.discard()

    def discard(self) -> None:
        """Delete the temporary file; no effect after `commit`. Idempotent."""
        self._discard()


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write or replace a file, flushed to the disk; missing folders above it are made.

    Args:
        path: the file.
        content: all of it.

    Raises:
        AudioSepError: the disk is full, or the folder is not writable.
    """
    path = Path(path)
    make_folder(path.parent)
    pending = PendingFile(path, overwrite=True, durable=True)
    try:
        pending.file.write(content)
        pending.commit()
    except OSError as problem:
        raise AudioSepError(_cannot_write(path, problem)) from problem
    finally:
        pending.discard()


def write_text(path: str | Path, text: str) -> None:
    """Write or replace a file in UTF-8, as `write_bytes` does.

    Args:
        path: the file.
        text: all of it.

    Raises:
        AudioSepError: the disk is full, or the folder is not writable.
    """
    write_bytes(path, text.encode())


@contextlib.contextmanager
def fill_folder(path: str | Path) -> Iterator[Path]:
    """A new folder to fill, which takes the place of `path` when the block ends well and is deleted when it does not.

    A folder that exists at `path` is deleted after the new one is in its place; the new one has none of its files.

    Args:
        path: the folder to make or replace; missing folders above it are made.

    Yields:
        The folder to fill.

    Raises:
        AudioSepError: the disk is full, or the folder above `path` is not writable.
    """
    path = Path(path)
    make_folder(path.parent)
    if path.exists() and not path.is_dir():
        raise AudioSepError(f"{path} is a file, but a folder goes there: choose another name")
    temporary, old = _hidden(path), _hidden(path)
    try:
        temporary.mkdir()
    except OSError as problem:
        raise AudioSepError(_cannot_write(path, problem)) from problem
    try:
        yield temporary
        _flush(temporary)
        if path.exists():
            path.rename(old)
        temporary.rename(path)
    except OSError as problem:
        if problem.errno not in _DISK_ERRORS:  # not about this folder, such as an input that cannot be read
            raise
        raise AudioSepError(_cannot_write(path, problem)) from problem
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        for folder in (temporary, old):
            shutil.rmtree(folder, ignore_errors=True)


class OldFiles:
    """Files that are kept, as `.audiosep-*.old` beside their places, until all of several files have been replaced.

    Args:
        error: the class of the errors that are raised.
    """

    def __init__(self, error: type[AudioSepError] = AudioSepError) -> None:
        self._error = error
        self._kept: dict[Path, Path] = {}

    def keep(self, path: Path) -> None:
        """Keep a file. It stays in its place as well, except on file systems without hard links.

        Args:
            path: the file.

        Raises:
            AudioSepError: it cannot be renamed.
        """
        old = self._kept[path] = _hidden(path, "old")  # first, so that an interruption loses no file
        try:
            try:
                os.link(path, old, follow_symlinks=False)
            except (OSError, NotImplementedError):
                path.rename(old)
        except OSError as problem:
            raise self._error(f"{path} cannot be replaced ({problem.strerror}): choose another folder") from problem

    def settle(self, *, back: bool) -> None:
        """Delete the files, or put them back; a failure is logged.

        Args:
            back: whether to put them back.
        """
        for path, old in self._kept.items():
            try:
                if back and old.exists():
                    old.replace(path)
                old.unlink(missing_ok=True)  # two links to one file do not replace each other
            except OSError as problem:
                logger.warning("%s is still there as %s (%s): rename or delete it by hand", path, old, problem)


def make_folder(folder: Path, error: type[AudioSepError] = AudioSepError) -> None:
    """Make a folder where there is none, with those above it.

    Args:
        folder: the folder.
        error: the class of the error that is raised.

    Raises:
        AudioSepError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise error(f"the folder {folder} cannot be made ({problem.strerror}): choose another one") from problem


def remove_leftovers(folder: Path) -> None:
    """Delete what killed processes left in a folder that no other process writes to.

    Args:
        folder: where the leftovers lie; those in folders below it stay.
    """
    for path in folder.glob(".audiosep-*.part"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _hidden(path: Path, suffix: str = "part") -> Path:
    return path.with_name(f".audiosep-{secrets.token_hex(8)}.{suffix}")


def _cannot_write(path: Path, problem: OSError) -> str:
    reason = problem.strerror or problem
    return f"{path} cannot be written: {reason}: free space or choose another folder"


def _flush(folder: Path) -> None:
    for path in folder.rglob("*"):
        # Windows flushes only files that are open for writing; copies of read-only files are not.
        if path.is_file() and os.access(path, os.W_OK):
            with path.open("rb+") as file:
                os.fsync(file.fileno())


def _delete(file: BinaryIO, temporary: Path) -> None:
    # On a full disk closing fails too, for data that is not wanted any more.
    with contextlib.suppress(OSError):
        file.close()
    temporary.unlink(missing_ok=True)
