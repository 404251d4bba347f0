"""Files and folders that appear whole or not at all.

What is written lies under a hidden name, `.audiosep-*.part`, in the folder where it belongs, and is renamed when it is
complete. If writing fails or is interrupted, it is deleted and an earlier file or folder of that name stays. Only a
process that is killed leaves a `.part` behind; `remove_leftovers` deletes those. Files that are in use are locked, so
that no other process takes them for leftovers; where a file system has no locks, leftovers stay. Symbolic links stay,
and what they point to is written.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import shutil
import stat
import sys
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from audiosep.errors import AudioSepError

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger(__name__)

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


class PendingFile:
    """A temporary file beside its target, which it replaces at `commit`.

    It is deleted by `discard`, and also when the object or the interpreter goes away without `commit`.

    Args:
        path: the target, in an existing folder. Of a symbolic link, what it points to is the target.
        overwrite: whether a file that exists already may be replaced.
        durable: flush the content to the disk before it replaces the target, so that the target is whole also after a
            power cut. This waits for the disk.
        error: the class of the errors that are raised.

    Attributes:
        file: open for reading and writing.
        temporary: its path, for another program that writes it.

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
        self.path = linked(path)
        self._overwrite, self._durable, self._error = overwrite, durable, error
        self._check_target()
        try:
            temporary, self.file = _new_file(self.path)
        except OSError as problem:
            raise error(_cannot_write(path, problem)) from problem
        self._discard = weakref.finalize(self, _delete, self.file, temporary)
        self.temporary = temporary

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
            raise self._error(f"{self.path} exists already: choose another name, or overwrite=True")

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
            self.temporary.replace(self.path)
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
def writing(path: str | Path) -> Iterator[None]:
    """Errors of the disk in the block say what could not be written; Python's own often do not name it.

    Args:
        path: the file or folder that the block writes to.

    Raises:
        AudioSepError: the disk is full or cannot be written to.
    """
    try:
        yield
    except OSError as problem:
        if problem.errno not in _DISK_ERRORS:  # not about this place, such as an input that cannot be read
            raise
        raise AudioSepError(_cannot_write(Path(path), problem)) from problem


@contextlib.contextmanager
def fill_folder(path: str | Path) -> Iterator[Path]:
    """A new folder to fill, which takes the place of `path` when the block ends well and is deleted when it does not.

    A folder that exists at `path` is deleted after the new one is in its place; the new one has none of its files.

    Args:
        path: the folder to make or replace, or a symbolic link to it; missing folders above it are made.

    Yields:
        The folder to fill.

    Raises:
        AudioSepError: the disk is full, or the folder above `path` is not writable.
    """
    path = linked(Path(path))
    make_folder(path.parent)
    if path.exists() and not path.is_dir():
        raise AudioSepError(f"{path} is a file, but a folder goes there: choose another name")
    temporary, old = _hidden(path), _hidden(path)
    try:
        temporary.mkdir()
    except OSError as problem:
        raise AudioSepError(_cannot_write(path, problem)) from problem
    try:
        with writing(path):
            yield temporary
            _flush(temporary)
            if path.exists():
                path.rename(old)
            temporary.rename(path)
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
        self._in_use: list[BinaryIO] = []

    def keep(self, path: Path) -> None:
        """Keep a file. It stays in its place as well, except on file systems without hard links.

        Args:
            path: the file.

        Raises:
            AudioSepError: it cannot be renamed.
        """
        path = linked(path)
        old = self._kept[path] = _hidden(path, "old")  # first, so that an interruption loses no file
        try:
            try:
                os.link(path, old)
            except OSError:
                path.rename(old)
            if sys.platform != "win32":  # where an open file could not be renamed back
                with contextlib.suppress(PermissionError):
                    self._in_use.append(_open_for_lock(old))
                    _lock(self._in_use[-1])
        except OSError as problem:
            raise self._error(f"{path} cannot be replaced ({problem.strerror}): choose another folder") from problem

    def settle(self, *, back: bool) -> None:
        """Delete the files, or put them back; a failure is logged.

        Args:
            back: whether to put them back.
        """
        for file in self._in_use:
            file.close()
        for path, old in self._kept.items():
            try:
                if back and old.exists():
                    old.replace(path)
                old.unlink(missing_ok=True)  # two links to one file do not replace each other
            except OSError as problem:
                logger.warning("%s is still there as %s (%s): rename or delete it by hand", path, old, problem)


@contextlib.contextmanager
def no_empty_folders(folders: Iterable[Path]) -> Iterator[None]:
    """Delete folders that the block has made and put nothing into.

    Args:
        folders: that may be made, with those above them.
    """
    missing = {place for folder in folders for place in (folder, *folder.parents) if not place.exists()}
    try:
        yield
    finally:
        for place in sorted(missing, key=lambda place: len(place.parts), reverse=True):
            with contextlib.suppress(OSError):  # it was not made, or has files
                place.rmdir()


def linked(path: Path) -> Path:
    """What a symbolic link points to, and any other path as it is.

    Args:
        path: of a file or folder that need not exist.
    """
    # Not Path.is_symlink, which raises of names that are too long; what opens the path says that.
    return Path(os.path.realpath(path)) if os.path.islink(path) else path  # noqa: PTH114


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


def remove_leftovers(folder: Path, *, folders: bool = False) -> None:
    """Delete what killed processes left: unfinished files, and old files that they were replacing.

    Args:
        folder: where the leftovers lie; those in folders below it stay.
        folders: whether to delete unfinished folders too; only where no other process writes.
    """
    with contextlib.suppress(OSError):  # the folder is missing, or another process was quicker
        for path in folder.glob(".audiosep-*"):
            if path.is_dir() and not path.is_symlink():
                if folders and path.suffix == ".part":
                    shutil.rmtree(path, ignore_errors=True)
            elif path.suffix in (".part", ".old") and (path.is_symlink() or _is_left_over(path)):
                path.unlink(missing_ok=True)


def _new_file(path: Path) -> tuple[Path, BinaryIO]:
    """A hidden file beside `path`, locked as long as it is open."""
    while True:
        temporary = _hidden(path)
        # Not tempfile: its files are private to the user, and these should have the usual permissions.
        file = temporary.open("x+b")
        # Else another process took it for a leftover before it was locked.
        if _lock(file) is not False and temporary.exists():
            return temporary, file
        file.close()


def _is_left_over(path: Path) -> bool:
    """Whether it is certain that no process uses a file. In Windows files in use cannot be deleted anyway."""
    try:
        with _open_for_lock(path) as file:
            return _lock(file) is True
    except OSError:
        return False


def _open_for_lock(path: Path) -> BinaryIO:
    """Open a file for writing, as NFS wants for a lock; one that is only for reading, for reading."""
    try:
        return path.open("r+b")
    except PermissionError:
        return path.open("rb")


def _lock(file: BinaryIO) -> bool | None:
    """Lock an open file; False if another process holds the lock, None if the file system cannot lock it."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


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
