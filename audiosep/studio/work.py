"""What the studio does for a page, one request at a time: open a recording, listen to it, separate it."""

from __future__ import annotations

import functools
import logging
import os
import re
import secrets
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from audiosep.errors import AudioSepError, Cancelled, InputError, ModelError
from audiosep.inference.devices import free_cache
from audiosep.inference.threads import threads_for, use_threads
from audiosep.studio.recording import Recording, open_recording, safe_suffix
from audiosep.studio.session import CANCELLED, Session
from audiosep.studio.sessions import Sessions
from audiosep.studio.stages import asked_of, separate_stage, stages_of, tracks_of
from audiosep.studio.studio_limits import Limits
from audiosep.studio.wanted import Message, number_in, query_of, text_in

if TYPE_CHECKING:
    from audiosep.hearing.description import HeardSound
    from audiosep.separator import Separator

logger = logging.getLogger(__name__)

_MOST_HEARD = 10

Answer = TypeVar("Answer")


class Work:
    """Answers the requests of pages. What runs a model is done by `compute`, which the caller sees to.

    Args:
        sessions: of the pages.
        models: name -> loads a separator, which is kept until another one is wanted.
        threads: that models compute with; None for as many as CPUs are free, which is looked up before each request.
    """

    def __init__(
        self, sessions: Sessions, models: Mapping[str, Callable[[], Separator]], threads: int | None = None
    ) -> None:
        import torch

        self.sessions = sessions
        self.models = dict(models)
        self._threads, self._most = threads, torch.get_num_threads()
        self._loaded: tuple[str, Separator] | None = None
        # torch keeps some 70 MiB for each thread that has run the network, and Gradio calls from any of forty. And the
        # threads that compute for them wait asleep where there are more of them than CPUs: slower by a fifth.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="audiosep-studio")

    def compute(self, work: Callable[[], Answer]) -> Answer:
        """Do something in the one thread that runs models, after what was asked before.

        Args:
            work: to do.

        Returns:
            What it returns.
        """

        def work_with_threads() -> Answer:
            use_threads(self._threads or threads_for(self._most))
            return work()

        return self._thread.submit(work_with_threads).result()

    @property
    def limits(self) -> Limits:
        """Of the studio."""
        return self.sessions.limits

    def separator(self, name: str = "") -> Separator:
        """The separator of a name.

        Args:
            name: one of the models; "" for the first.

        Raises:
            ModelError: there is none of that name, or it cannot be loaded.
        """
        name = name or next(iter(self.models))
        if name not in self.models:
            raise ModelError(f"the studio has no model {name!r}; it has {', '.join(self.models)}")
        if self._loaded is None or self._loaded[0] != name:
            self._loaded = None  # its memory is free before another model is loaded
            self._loaded = (name, self.models[name]())
        return self._loaded[1]

    def open(self, session: Session, request: str, upload: Path, name: str) -> None:
        """Take an uploaded file into the session.

        Args:
            session: of the page.
            request: that was accepted.
            upload: the file, in a folder of its own below the folder of uploads.
            name: that the user's file had.

        Raises:
            InputError: no such upload, or nothing that can be separated.
            AudioError: no recording.
            Cancelled: by the page.
        """
        source = self.uploaded(upload)

        def take(path: Path) -> None:
            try:
                shutil.move(source, path)  # nothing beside it: pages that upload the same file share its folder
            except OSError as error:  # which has the user's name for the file, not to be logged
                raise InputError(f"the upload cannot be taken ({error.strerror}): upload it again") from None

        self._open(session, request, take, name, safe_suffix(name))

    def open_track(self, session: Session, request: str, track: int) -> None:
        """Open the file of the recording again, with another of its audio tracks.

        Args:
            session: of the page.
            request: that was accepted.
            track: number of the audio track, from 1 on.

        Raises:
            InputError: no recording, no such track, or nothing that can be separated.
            AudioError: the track cannot be read.
            Cancelled: by the page.
        """
        shown = session.opened()
        take = functools.partial(os.link, shown.path)
        self._open(session, request, take, shown.name, shown.path.suffix, track)

    def _open(
        self,
        session: Session,
        request: str,
        take: Callable[[Path], object],
        name: str,
        suffix: str,
        track: int | None = None,
    ) -> None:
        """Show a recording whose file `take` puts where it is told."""
        session.begin(request, "Opening the recording", "opening")
        folder = session.folder / secrets.token_hex(8)
        folder.mkdir()
        path = folder / f"recording{suffix}"
        try:
            take(path)
            recording = open_recording(path, name, self.limits, functools.partial(session.advance, request), track)
            session.replace_recording(recording, request)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def uploaded(self, path: Path) -> Path:
        """An uploaded file: nothing but a regular file below the folder of uploads.

        Args:
            path: as a page or a program names it.

        Raises:
            InputError: something else.
        """
        root = self.sessions.uploads
        try:
            resolved = path.resolve(strict=True)
            fine = resolved == path.absolute() and resolved.is_relative_to(root) and resolved.is_file()
        except (OSError, ValueError, RuntimeError):
            fine = False
        if not fine or resolved.parent == root:
            raise InputError("there is no such upload: upload the file again")
        return resolved

    def listen(self, session: Session, request: str, model: str = "") -> None:
        """Find what is heard in the recording.

        Args:
            session: of the page.
            request: that was accepted.
            model: one of the models; "" for the first.

        Raises:
            InputError: no recording.
            ModelError: no such model.
            Cancelled: by the page.
        """
        recording = session.opened()
        session.begin(request, "Listening for what there is", "listening")
        heard = hear(self.separator(model), recording, functools.partial(session.advance, request))
        session.put_heard(heard, recording)

    def separate(self, session: Session, request: str, wanted: Message) -> str | None:
        """Separate a sound or the stems: a preview of long recordings first.

        Args:
            session: of the page.
            request: that was accepted.
            wanted: "stems": true, or "text", "spans" and "not" of a query; "model"; "from", the second at which a
                preview begins.

        Returns:
            The id of a track that answers it already, so that no other one comes; else None.

        Raises:
            InputError: no recording, too many tracks, or no such query.
            QueryError: a query that the model cannot take.
            Cancelled: by the page.
        """
        recording = session.opened()
        stems, query = bool(wanted.get("stems")), query_of(wanted)
        start = number_in(wanted, "from", recording.start)
        if stems == (query is not None):
            raise InputError("ask for the stems, or for one sound: by words, by a marked stretch, or both")
        label = "Four stems" if query is None else query.label
        session.begin(request, label, "preview")
        separator = self.separator(text_in(wanted, "model"))
        asked = asked_of(separator, text_in(wanted, "model"), query)
        there = {track.asked: id for id, track in list(session.tracks.items()) if query or track.origin == "stems"}
        if asked and all(one in there for one in asked):
            return there[asked[0]]
        names = separator.stem_names if query is None else (query.label,)
        if len(session.tracks) + len(names) > self.limits.tracks:
            raise InputError(f"a page has up to {self.limits.tracks} tracks: remove some")
        ids = [secrets.token_hex(8) for _ in names]
        origin = "stems" if query is None else "spans" if query.anchored else "words"
        made: list[str] = []

        def wanted_still(fraction: float) -> bool:
            kept = not made or any(id in session.tracks for id in made)  # the user may have removed the previews
            return session.advance(request, fraction) and kept

        try:
            for stage in stages_of(recording, start):
                session.begin(request, label, stage.name)
                out = recording.path.parent / f"{ids[0]}-{stage.name}"
                result = separate_stage(separator, recording, query, out, stage, wanted_still)
                if not wanted_still(1.0):
                    raise Cancelled("cancelled")
                for track in tracks_of(result, ids, asked, origin, separator.name, stage, recording):
                    if made and track.id not in session.tracks:
                        track.path.unlink(missing_ok=True)
                    else:
                        session.put(track, recording)
                made = ids
        except BaseException as error:
            for id in made:  # previews of what will not come
                session.remove(id)
            if isinstance(error, OSError | AudioSepError) and not wanted_still(1.0):
                raise Cancelled("cancelled") from error  # its files went with its page
            raise
        finally:
            free_cache(separator.device)  # the heaps of a server's threads grow with every request otherwise
        return None


def hear(separator: Separator, recording: Recording, progress: Callable[[float], bool]) -> tuple[HeardSound, ...]:
    """What is heard in a recording; nothing by a model that cannot tell.

    Args:
        separator: that listens.
        recording: of a page.
        progress: called with the fraction that is done; returning False cancels.

    Raises:
        Cancelled: by `progress`.
    """
    try:
        return separator.describe(recording.mix, most=_MOST_HEARD, quick=True, progress=progress).sounds
    except ModelError as error:
        logger.info("nothing is suggested: %s", error)
        return ()


def answer(session: Session, request: str, work: Callable[[], object]) -> None:
    """Do something for a page, and tell it what became of it.

    Args:
        session: of the page.
        request: that was accepted.
        work: to do; returns what the page is answered, as JSON can say it.
    """
    try:
        found = work()
    except Exception as error:  # the page must hear of it, and the next request go on
        if isinstance(error, Cancelled) or not session.wants(request):  # its files went with its recording or page
            session.finish(request, CANCELLED)
        elif isinstance(error, AudioSepError):
            session.finish(request, without_paths(str(error), session))
        else:
            logger.exception("a request of the studio failed")
            session.finish(request, f"something went wrong ({type(error).__name__}): the log of the studio has more")
    else:
        session.finish(request, answer=found)


def without_paths(message: str, session: Session) -> str:
    """A message without the place of the session's files on this machine.

    Args:
        message: for the user.
        session: of the page.
    """
    recording = session.recording
    if recording is not None:
        message = message.replace(str(recording.path), recording.name)
    return re.sub(rf"{re.escape(str(session.folder))}([\\/][\w.-]+)*", "the recording", message)
