"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import sys
import tempfile
import weakref
from pathlib import Path
from typing import BinaryIO

from audiosep.errors import AudioError


class PartialFile:
    """A temporary file beside its target, which it replaces when it is complete.

    It is deleted by `discard`, and also when the object or the interpreter goes away without `commit`.

    Args:
        path: the target; `-`: standard output, which receives everything at `commit`.
        overwrite: whether a file that lies there already may be replaced.

    Raises:
        AudioError: the target exists, is no regular file, or its folder is missing or not writable.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        self._stdout = str(path) == "-"
        self.path = Path(path)
        self._overwrite = overwrite
        self._check_target()
        folder = Path(tempfile.gettempdir()) if self._stdout else self.path.parent
        temporary = folder / f".audiosep-{secrets.token_hex(8)}.part"
        try:
            # Not tempfile: its files are private to the user, and an output should have the usual permissions.
            self.file: BinaryIO = temporary.open("x+b")
        except OSError as error:
            raise AudioError(f"{path} cannot be written: {error.strerror}: choose another folder") from error
        self._discard = weakref.finalize(self, _delete, self.file, temporary)
        self._temporary = temporary

    def _check_target(self) -> None:
        if self._stdout:
            return
        if not self.path.parent.is_dir():
            raise AudioError(f"the folder {self.path.parent} does not exist: create it first")
        try:
            mode = self.path.stat().st_mode
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            # Names longer than the system allows, or with a NUL in them.
            raise AudioError(f"{str(self.path)!r} cannot be written: {error}: choose another name") from error
        if not stat.S_ISREG(mode):
            raise AudioError(f"{self.path} is a folder or a device: choose another name")
        if not self._overwrite:
            raise AudioError(f"{self.path} exists already: choose another name, or allow overwrite")

    def commit(self) -> None:
        """Put the file in its place.

        Raises:
            AudioError: the disk is full, or the target has appeared meanwhile.
        """
        try:
            self.file.flush()
            self._check_target()
            if self._stdout:
                self.file.seek(0)
                shutil.copyfileobj(self.file, sys.stdout.buffer)
                sys.stdout.buffer.flush()
            else:
                self.file.close()
                self._temporary.replace(self.path)
        except BrokenPipeError as error:
            # Python would try to write the rest when it ends, and complain again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise AudioError("the program that reads standard output has ended before all was written to it") from error
        except OSError as error:
            raise AudioError(
                f"{self.path} cannot be written: {error.strerror}: free space or choose another folder"
            ) from error
        finally:
            self.discard()

    def discard(self) -> None:
        """Delete the temporary file; no effect after `commit`. Idempotent."""
        self._discard()


def _delete(file: BinaryIO, temporary: Path) -> None:
    # On a full disk closing fails too, for data that is not wanted any more.
    with contextlib.suppress(OSError):
        file.close()
    temporary.unlink(missing_ok=True)
