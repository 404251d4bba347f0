"""The studio for programs: functions that Gradio offers over HTTP and the Model Context Protocol."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from audiosep.audio import AudioReader
from audiosep.errors import AudioError, AudioSepError, InputError
from audiosep.output.names import plan_outputs
from audiosep.output.output_options import OutputOptions
from audiosep.studio.recording import checked_blocks, safe_suffix, shown_name
from audiosep.studio.stages import SEPARATING
from audiosep.studio.studio_limits import check_upload
from audiosep.studio.work import Answer, Work

logger = logging.getLogger(__name__)

_MOST_SOUNDS = 8


class Interface:
    """Answers programs.

    Args:
        work: of the studio.
        error: makes of a message what Gradio tells a program of a failure.
    """

    def __init__(self, work: Work, error: Callable[[str], Exception]) -> None:
        self._work = work
        self._error = error

    def offer(self, gradio: Any) -> None:
        """Put the functions into the page that is being built.

        Args:
            gradio: the package.
        """
        with gradio.Row(visible=False):
            file = gradio.File(label="Recording", type="filepath")
            file.async_move_resource_to_block_cache = self._uploaded_only(file.async_move_resource_to_block_cache)
            sounds = gradio.Textbox(label="Sounds, one a line")
            files = gradio.File(label="Separated", file_count="multiple")
            heard = gradio.JSON(label="Heard")
            one_at_a_time = {"concurrency_id": "model", "concurrency_limit": 1}
            run = gradio.Button("Run")
            run.click(self.separate, [file, sounds], files, api_name="separate", **one_at_a_time)
            run.click(self.stems, file, files, api_name="stems", **one_at_a_time)
            run.click(self.describe, file, heard, api_name="describe", **one_at_a_time)

    def _uploaded_only(self, take: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
        """How Gradio takes a file of a request, if it was uploaded, and without fetching it from an address.

        Gradio itself checks that in applications alone that it has launched, and this one is mounted.
        """

        async def taken(place: Any) -> Any:
            if isinstance(place, str) and "://" in place:
                logger.warning("refused: an address in the place of an upload")
                raise self._error("upload the recording: the studio fetches nothing from other servers")
            try:
                return await take(str(self._work.uploaded(Path(place))))
            except InputError as error:
                logger.warning("refused: a file that was not uploaded")
                raise self._error(str(error)) from None

        return taken

    def separate(self, file: str, sounds: str) -> list[str]:
        """Separate sounds out of a recording.

        Args:
            file: the recording, an audio file or a video.
            sounds: what to separate, in words, one sound a line, such as "piano" or "dog barking".

        Returns:
            A wav file for each sound, and one with the rest.
        """
        names = [name.strip() for name in str(sounds or "").splitlines() if name.strip()]
        if not 1 <= len(names) <= _MOST_SOUNDS:
            raise self._error(f"name 1 to {_MOST_SOUNDS} sounds, one a line")
        return self._told(lambda: self._separated(file, names))

    def stems(self, file: str) -> list[str]:
        """Split a song into vocals, drums, bass and other.

        Args:
            file: the song, an audio file or a video.

        Returns:
            A wav file for each stem.
        """
        return self._told(lambda: self._separated(file, None))

    def describe(self, file: str) -> list[dict[str, Any]]:
        """Say what is heard in a recording, how sure that is, and when.

        Args:
            file: the recording, an audio file or a video.

        Returns:
            Sounds with "name", "score" (0 to 1) and "spans" (pairs of seconds), the surest first.
        """

        def work() -> list[dict[str, Any]]:
            with self._taken(file) as path:
                found = self._work.separator().describe(path, quick=True)
            return [
                {"name": one.name, "score": one.score, "spans": [list(span) for span in one.spans]} for one in found
            ]

        return self._told(work)

    def _separated(self, file: str, names: list[str] | None) -> list[str]:
        out = self._work.sessions.uploads / secrets.token_hex(8)  # from which Gradio serves, and which is swept
        output = OutputOptions(max_seconds=self._work.limits.seconds)
        with self._work.sessions.keeping(out), self._taken(file) as path:
            report = self._work.separator().separate_files(path, names, out, output=output, options=SEPARATING)
            for error in report.failures.values():
                raise error
            outputs = report.results[0].outputs
            named = plan_outputs(out, list(outputs), file=Path(file).stem, format="wav")
            return [str(outputs[name].rename(place)) for name, place in named.items()]

    @contextlib.contextmanager
    def _taken(self, file: str | None) -> Iterator[Path]:
        """An upload under a name of ours, as messages about it go to the server's log."""
        if not file:
            raise InputError("send a recording")
        upload, folder = Path(file), self._work.sessions.uploads / secrets.token_hex(8)
        path = folder / f"recording{safe_suffix(upload.name)}"
        folder.mkdir()
        try:
            try:
                os.link(upload, path)
            except OSError:
                raise InputError("there is no such upload: upload the file again") from None
            logger.info("upload %s: %d bytes", folder.name, path.stat().st_size)
            self._check(path)
            with self._work.sessions.keeping(folder):
                yield path
        except (AudioError, InputError) as error:
            logger.warning("refused: %s", error)
            raise type(error)(str(error).replace(str(path), shown_name(upload.name))) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _check(self, path: Path) -> None:
        """Refuse an upload that a page would refuse.

        Raises:
            InputError: too large or long, also when it is decoded, or nothing that can be separated.
            AudioError: no recording.
        """
        limits = self._work.limits
        info = check_upload(path, limits)
        with AudioReader(path, max_seconds=limits.seconds, track=info.track) as reader:
            for _ in checked_blocks(reader, limits):
                pass

    def _told(self, work: Callable[[], Answer]) -> Answer:
        """The answer, or an error without the place of the files on this machine."""
        try:
            return self._work.compute(work)
        except AudioSepError as error:
            message = str(error).replace(str(self._work.sessions.root), "")
            raise self._error(message) from None
