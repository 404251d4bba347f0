"""The pages that are open, and what is deleted when they are gone."""

from __future__ import annotations

import contextlib
import logging
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from audiosep.errors import InputError
from audiosep.studio.session import Session
from audiosep.studio.studio_limits import Limits

logger = logging.getLogger(__name__)

_PAUSE = 5.0  # seconds between two sweeps


class Sessions:
    """All pages that are open. As a context manager it deletes their files at the end.

    Args:
        limits: of the studio.

    Attributes:
        root: the folder of all files.
        uploads: the folder in which files arrive.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._folder = tempfile.TemporaryDirectory(prefix="audiosep-studio-", ignore_cleanup_errors=True)
        self.root = Path(self._folder.name).resolve()
        self.uploads = self.root / "uploads"
        self.uploads.mkdir()
        self._sessions: dict[str, Session] = {}
        self._in_use: set[Path] = set()
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def create(self, client: str) -> Session:
        """A session for a page.

        Args:
            client: whose page it is, from `client_of`.

        Raises:
            InputError: too many are open, of all clients or of this one.
        """
        self.sweep()
        with self._lock:
            if len(self._sessions) >= self.limits.pages:
                raise InputError(f"{self.limits.pages} pages are open already: close one, or wait some minutes")
            own = sum(session.client == client for session in self._sessions.values())
            if own >= self.limits.client_pages:
                raise InputError(f"{own} pages of your address are open already: close one, or wait some minutes")
            folder = self.root / secrets.token_hex(8)
            folder.mkdir(mode=0o700)
            session = Session(folder, client)
            self._sessions[session.id] = session
            return session

    def get(self, id: str) -> Session:
        """The session of a page.

        Args:
            id: as of `Session`.

        Raises:
            InputError: there is none, or not any more.
        """
        session = self._sessions.get(id)
        if session is None:
            raise InputError(
                "the files of this page are deleted (it was left for too long, or the studio ended): reload it"
            )
        return session

    @contextlib.contextmanager
    def keeping(self, folder: Path) -> Iterator[None]:
        """Leave a folder where it is while a job works on it, which may take longer than files are kept.

        Args:
            folder: below `uploads`, which need not exist yet.
        """
        with self._lock:
            self._in_use.add(folder)
        try:
            yield
        finally:
            with self._lock:
                self._in_use.discard(folder)

    def sweep(self) -> None:
        """Delete what nobody uses any more."""
        with self._lock:
            over = [session for session in self._sessions.values() if session.is_over(self.limits)]
            for session in over:
                del self._sessions[session.id]
            # Also what a request wrote into the folder of a page that had just ended.
            used = {self.uploads, *(session.folder for session in self._sessions.values())}
            orphans = [path for path in _listed(self.root) if path not in used]
        for session in over:
            session.close()
        for path in orphans:
            _delete(path)
        with self._lock:
            waiting = [path for path in _listed(self.uploads) if path not in self._in_use]
        for path in waiting:
            with contextlib.suppress(FileNotFoundError):  # it has just been opened
                if time.time() - path.stat().st_mtime > self.limits.idle:
                    _delete(path)

    def sweep_until_closed(self) -> None:
        """Sweep now and then, in a thread."""

        def run() -> None:
            while not self._ended.wait(_PAUSE):
                try:
                    self.sweep()
                except OSError as error:  # another thread was quicker
                    logger.info("sweeping: %s", error)

        threading.Thread(target=run, name="audiosep-studio-sweep", daemon=True).start()

    def close(self) -> None:
        """End all sessions and delete all files."""
        self._ended.set()
        with self._lock:
            sessions, self._sessions = list(self._sessions.values()), {}
        for session in sessions:
            session.close()
        self._folder.cleanup()


def _listed(folder: Path) -> list[Path]:
    """What is in a folder; nothing when it is gone."""
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _delete(path: Path) -> None:
    """Delete a folder with its files, or a file: an upload that was cancelled lies in no folder of its own."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
