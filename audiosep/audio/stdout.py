"""A file for standard output, which receives it whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from typing import BinaryIO

from audiosep.errors import AudioError


class PendingStdout:
    """A temporary file that `commit` copies to standard output: encoders go back to the header, which a pipe cannot.

    Attributes:
        file: open for reading and writing.

    Raises:
        AudioError: standard output is closed, or the folder for temporary files is not writable.
    """

    def __init__(self) -> None:
        if sys.stdout is None:
            raise AudioError("standard output is closed: let a program or a file receive the sound, or name a folder")
        try:
            self.file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115  # open until `commit` or `discard`
        except OSError as error:
            raise AudioError(f"no temporary file can be made ({error}): set TMPDIR to a folder with space") from error

    def commit(self) -> None:
        """Copy the file to standard output.

        Raises:
            AudioError: the disk is full, or the program that reads standard output has ended.
        """
        try:
            self.file.flush()
            self.file.seek(0)
            shutil.copyfileobj(self.file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        except BrokenPipeError as error:
            # Python would try to write the rest when it ends, and complain again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise AudioError("the program that reads standard output has ended before all was written to it") from error
        except OSError as error:
            raise AudioError(f"standard output cannot be written ({error}): free space or write to a file") from error
        finally:
            self.discard()

    def discard(self) -> None:
        """Delete the temporary file. Idempotent."""
        # On a full disk closing fails too, for data that is not wanted any more.
        with contextlib.suppress(OSError):
            self.file.close()
