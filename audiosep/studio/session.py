"""An open page: what it has uploaded and separated, in a folder of its own that dies with it."""

from __future__ import annotations

import re
import secrets
import shutil
import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from pathlib import Path

from audiosep.errors import Cancelled, InputError
from audiosep.hearing.description import HeardSound
from audiosep.studio.overview import Overview
from audiosep.studio.recording import Recording
from audiosep.studio.studio_limits import Limits
from audiosep.studio.track import Track

CANCELLED = "cancelled"
"""What a request is answered with that the page did not want any more."""

_GRACE = 20.0  # seconds within which a page that was left may come back, as at a reload
_REMEMBERED = 64  # finished requests of a page
_DOWNLOADS = 4  # files made for downloads that a page keeps
_REQUEST = re.compile(r"[A-Za-z0-9_-]{1,40}")


@dataclass
class Running:
    """A request that is being answered.

    Attributes:
        request: its name, which the page gave it.
        what: is done, in words.
        stage: opening, listening, preview, full or writing.
        fraction: of the stage that is done.
        began: when the stage began, by `time.monotonic`.
    """

    request: str
    what: str
    stage: str
    fraction: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def document(self) -> dict[str, object]:
        """For JSON, with the seconds that are left where they can be told."""
        passed = time.monotonic() - self.began
        told = self.fraction > 0.02 and passed > 0.5
        left = passed * (1 - self.fraction) / self.fraction if told else None
        return {
            "request": self.request,
            "what": self.what,
            "stage": self.stage,
            "fraction": round(self.fraction, 4),
            "left": None if left is None else round(left, 1),
        }


class Session:
    """A page: its recording, tracks and requests. Its methods may be called from any thread.

    Args:
        folder: of its files, which exists.
        client: whose page it is.

    Attributes:
        id: the secret that its page names it by; not the folder's name, which goes into logs.
        folder: as above.
        client: as above.
        recording: that is open; None before the first.
        heard: what was heard in the recording; None until that is known.
        tracks: id -> track, in the order in which they came.
        rest: the ids of the tracks that were complete, and the picture of what they left; None before the first.
        drawing: held while that picture is made.
        files: key -> (path, name for the user) of files to download.
    """

    def __init__(self, folder: Path, client: str) -> None:
        self.id = secrets.token_urlsafe(24)
        self.folder = folder
        self.client = client
        self.recording: Recording | None = None
        self.heard: tuple[HeardSound, ...] | None = None
        self.tracks: dict[str, Track] = {}
        self.rest: tuple[tuple[str, ...], Overview] | None = None
        self.drawing = threading.Lock()
        self.files: dict[str, tuple[Path, str]] = {}
        self._running: dict[str, Running] = {}  # files are written, and recordings opened, beside what is computed
        self._finished: OrderedDict[str, dict[str, object]] = OrderedDict()
        self._waiting: list[str] = []
        self._dropped: set[str] = set()
        self._made: deque[str] = deque()
        self._seen = self._used = time.monotonic()
        self._lock = threading.RLock()
        self._closed = False

    # ---- requests ------------------------------------------------------------------------------------------------

    def accept(self, request: str, limits: Limits) -> None:
        """Note a request that will wait for its turn.

        Args:
            request: its name, which the page gave it.
            limits: of the studio.

        Raises:
            InputError: an impossible name, or too many wait already.
        """
        if not _REQUEST.fullmatch(request):
            raise InputError("a request is named by up to 40 letters, digits, - and _")
        with self._lock:
            if len(self._waiting) >= limits.waiting:
                raise InputError(f"{limits.waiting} requests of this page wait already: wait, or cancel them")
            self._waiting.append(request)
            self._used = time.monotonic()

    def begin(self, request: str, what: str, stage: str) -> None:
        """The turn of a request has come, or its next stage.

        Args:
            request: as for `accept`.
            what: is done, in words.
            stage: as of `Running`.

        Raises:
            Cancelled: it is not wanted any more.
        """
        with self._lock:
            if self._closed or request in self._dropped or request not in self._waiting:
                raise Cancelled("cancelled")
            self._running[request] = Running(request, what, stage)

    def advance(self, request: str, fraction: float) -> bool:
        """A running request has got so far.

        Args:
            request: as for `accept`.
            fraction: of its stage, 0 to 1.

        Returns:
            Whether it is still wanted.
        """
        with self._lock:
            running = self._running.get(request)
            if running is None or not self.wants(request):
                return False
            running.fraction = fraction
            self._used = time.monotonic()
            return True

    def wants(self, request: str) -> bool:
        """Whether a request is still wanted.

        Args:
            request: as for `accept`.
        """
        return not self._closed and request not in self._dropped

    def finish(self, request: str, error: str | None = None, answer: object = None) -> None:
        """A request was answered.

        Args:
            request: as for `accept`.
            error: what was wrong, in words for the user; None for nothing.
            answer: for the page, as JSON can say it.
        """
        with self._lock:
            self._running.pop(request, None)
            if request in self._waiting:
                self._waiting.remove(request)
            self._dropped.discard(request)
            self._finished[request] = {"error": error, "answer": answer}
            while len(self._finished) > _REMEMBERED:
                self._finished.popitem(last=False)
            self._used = time.monotonic()

    def drop(self, request: str | None = None) -> None:
        """Cancel a request, or all of them.

        Args:
            request: as for `accept`; None for all.
        """
        with self._lock:
            for one in [name for name in self._waiting if request in (None, name)]:
                if one in self._running:
                    self._dropped.add(one)
                else:
                    self.finish(one, CANCELLED)

    # ---- tracks and files ----------------------------------------------------------------------------------------

    def opened(self) -> Recording:
        """The recording.

        Raises:
            InputError: none is open yet.
        """
        if self.recording is None:
            raise InputError("open a recording first")
        return self.recording

    def track(self, id: str) -> Track:
        """A track.

        Args:
            id: of it.

        Raises:
            InputError: there is none, or not any more.
        """
        found = self.tracks.get(id)
        if found is None:
            raise InputError("there is no such track any more: reload the page")
        return found

    def replace_recording(self, recording: Recording, request: str) -> None:
        """Show another recording; the tracks of the one before are gone, and what was asked of it ends.

        Args:
            recording: in a folder of this session.
            request: that opened it; those accepted before it end, as one accepted later may open yet another.

        Raises:
            Cancelled: it is not wanted any more.
        """
        with self._lock:
            if not self.wants(request):
                raise Cancelled("cancelled")
            for one in self._waiting[: self._waiting.index(request)]:
                self.drop(one)
            before = self.recording
            self.recording, self.heard, self.tracks, self.files = recording, None, {}, {}
            self._made.clear()
        if before is not None:  # nothing else: the folder of a recording that is being opened stands beside it
            shutil.rmtree(before.path.parent, ignore_errors=True)

    def put(self, track: Track, recording: Recording) -> None:
        """Show a track, in the place of its preview or of a track that it makes superfluous, whose files are deleted.

        Args:
            track: to show.
            recording: that it is of.

        Raises:
            Cancelled: the page shows another recording by now.
        """
        with self._lock:
            self._check_shown(recording)
            same = [one.id for one in self.tracks.values() if track.complete and one.asked == track.asked]
            before = [self.tracks.pop(id) for id in same if id != track.id]
            before += [self.tracks[track.id]] if track.id in self.tracks else []
            self.tracks[track.id] = track
        for one in before:
            if one.path != track.path:
                one.path.unlink(missing_ok=True)

    def put_heard(self, heard: tuple[HeardSound, ...], recording: Recording) -> None:
        """Show what was heard.

        Args:
            heard: in the recording.
            recording: as for `put`.

        Raises:
            Cancelled: the page shows another recording by now.
        """
        with self._lock:
            self._check_shown(recording)
            self.heard = heard

    def _check_shown(self, recording: Recording) -> None:
        if self._closed or self.recording is not recording:
            raise Cancelled("the page shows another recording")

    def remove(self, track: str) -> None:
        """Delete a track and its file, if there is one.

        Args:
            track: its id.
        """
        with self._lock:
            found = self.tracks.pop(track, None)
        if found is not None:
            found.path.unlink(missing_ok=True)

    def offer(self, path: Path, name: str, *, made: bool = True) -> str:
        """Let a file be downloaded.

        Args:
            path: in the folder of this session.
            name: that the user's file gets.
            made: whether it was made for the download: then it is deleted after some further ones.

        Returns:
            Its key.
        """
        with self._lock:
            key = secrets.token_urlsafe(16)
            self.files[key] = (path, name)
            if made:
                self._made.append(key)
            over = [self.files.pop(self._made.popleft(), None) for _ in range(len(self._made) - _DOWNLOADS)]
        for pair in over:
            if pair is not None:
                pair[0].unlink(missing_ok=True)
        return key

    def document(self) -> dict[str, object]:
        """All that the page shows, for JSON; the page has given a sign of life."""
        with self._lock:
            self._seen = time.monotonic()
            recording, heard = self.recording, self.heard
            return {
                "recording": None
                if recording is None
                else {
                    "name": recording.name,
                    "version": recording.path.parent.name,
                    "seconds": recording.seconds,
                    "samples": recording.samples,
                    "rate": recording.info.sample_rate,
                    "channels": recording.info.channels,
                    "video": recording.is_video,
                    "remarks": list(recording.remarks),
                    "audio": [str(track) for track in recording.info.tracks],
                    "track": recording.info.track,
                },
                "heard": None
                if heard is None
                else [
                    {"name": sound.name, "score": round(sound.score, 3), "spans": [list(span) for span in sound.spans]}
                    for sound in heard
                ],
                "tracks": [track.document() for track in self.tracks.values()],
                "running": [one.document() for name, one in self._running.items() if name not in self._dropped],
                "waiting": [name for name in self._waiting if name not in self._running],
                "finished": dict(self._finished),
            }

    # ---- life ----------------------------------------------------------------------------------------------------

    def use(self) -> None:
        """Something was asked of the session."""
        self._seen = self._used = time.monotonic()

    def leave(self, limits: Limits) -> None:
        """The page was closed or is being loaded again: unless it comes back soon, its files are deleted.

        Args:
            limits: of the studio.
        """
        self._seen = time.monotonic() - limits.lease + _GRACE

    def is_over(self, limits: Limits) -> bool:
        """Whether nobody uses the session any more.

        Args:
            limits: of the studio.
        """
        now = time.monotonic()
        return now - self._seen > limits.lease or now - self._used > limits.idle

    def close(self) -> None:
        """Cancel its requests and delete its files."""
        with self._lock:
            self._closed = True
            self.tracks, self.files, self.recording = {}, {}, None
            self._made.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
