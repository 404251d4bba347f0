"""The studio as a web application: Gradio's page, queue, uploads and interface, and the routes of the page."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiosep.audio import FORMATS
from audiosep.errors import AudioSepError, DependencyError, install_extra
from audiosep.studio.downloads import write_download
from audiosep.studio.interface import Interface
from audiosep.studio.sessions import Sessions
from audiosep.studio.studio_limits import Limits
from audiosep.studio.work import Work, answer

if TYPE_CHECKING:
    from audiosep.separator import Separator

TITLE = "audiosep studio"
# Gradio keeps a copy of the page for so many visitors, by default for 10,000. Ours keep nothing there: a page that
# comes back after others took its place goes on.
_GRADIO_SESSIONS = 32

_START = """
const at = (name) => new URL(`studio/assets/${name}`, new URL(".", document.baseURI)).href;
import(at("mixer.js")).then((mixer) => mixer.start(element, at("mixer.css")));
"""
_ABOUT = "The page needs JavaScript."


class Studio:
    """A web application, and the files of its pages, which `close` deletes.

    Args:
        models: name -> loads a separator; the first is the one that pages begin with.
        limits: of the studio.
        hosts: as in `Guard`.
        token: as in `Guard`.
        frames: as in `Guard`.
        mcp: whether the interface is also a server of the Model Context Protocol.
        threads: as in `Work`.

    Attributes:
        asgi: the application, for a server of ASGI.
        work: what answers the pages.

    Raises:
        DependencyError: Gradio is not installed.
    """

    def __init__(
        self,
        models: Mapping[str, Callable[[], Separator]],
        *,
        limits: Limits = Limits(),
        hosts: Iterable[str] | None = None,
        token: str | None = None,
        frames: str = "'none'",
        mcp: bool = False,
        threads: int | None = None,
    ) -> None:
        self._sessions = Sessions(limits)
        _quiet_gradio(self._sessions.uploads)
        try:
            import fastapi
            import gradio
        except ImportError as error:
            self._sessions.close()
            raise DependencyError(f"the studio needs Gradio ({error}): {install_extra('studio')}") from error
        from audiosep.studio.clients import share_queue
        from audiosep.studio.guard import Guard
        from audiosep.studio.routes import routes

        self.work = Work(self._sessions, models, threads)

        @contextlib.asynccontextmanager
        async def lifespan(app: Any) -> AsyncIterator[None]:
            self._sessions.sweep_until_closed()
            try:
                yield
            finally:
                self._sessions.close()

        app = fastapi.FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
        app.router.routes.extend(routes(self.work, self._about()))
        blocks = self._blocks(gradio)
        share_queue(blocks._queue, limits)
        mounted = gradio.mount_gradio_app(
            app,
            blocks,
            "/",
            footer_links=["api"],
            max_file_size=limits.upload_bytes,
            ssr_mode=False,
            mcp_server=mcp,
            theme=gradio.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        )
        self.asgi = Guard(mounted, hosts=hosts, token=token, limits=limits, frames=frames)

    def close(self) -> None:
        """Delete all files. Idempotent."""
        self._sessions.close()

    def _about(self) -> dict[str, object]:
        limits = self._sessions.limits
        return {
            "models": list(self.work.models),
            "formats": [name for name in FORMATS if name != "m4a" or importlib.util.find_spec("av")],  # PyAV writes it
            "limits": {"upload_bytes": limits.upload_bytes, "seconds": limits.seconds, "tracks": limits.tracks},
        }

    def _blocks(self, gradio: Any) -> Any:
        """The page, and what it asks for through the queue."""
        assets = resources.files("audiosep.studio").joinpath("assets")
        with gradio.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as blocks:
            blocks.state_session_capacity = _GRADIO_SESSIONS
            gradio.HTML(
                _ABOUT,
                html_template=assets.joinpath("mixer.html").read_text(encoding="utf-8"),
                js_on_load=_START,
                apply_default_css=False,
                container=False,
                elem_id="studio",
            )
            # What is refused is no defect of this program, of which the log would need a traceback.
            Interface(self.work, partial(gradio.Error, print_exception=False)).offer(gradio)
            page = {"api_visibility": "undocumented"}
            opening = {"concurrency_id": "open", "concurrency_limit": 2}
            gradio.api(self._open, api_name="page_open", **opening, **page)
            gradio.api(self._open_track, api_name="page_open_track", **opening, **page)
            model = {"concurrency_id": "model", "concurrency_limit": 1}  # one worker computes
            gradio.api(self._listen, api_name="page_listen", **model, **page)
            gradio.api(self._separate, api_name="page_separate", **model, **page)
            writing = {"concurrency_id": "write", "concurrency_limit": 2}
            gradio.api(self._write, api_name="page_write", **writing, **page)
        blocks.queue(max_size=self._sessions.limits.queue, api_open=False)  # nothing is answered beside the queue
        return blocks

    def _open(self, session: str, request: str, path: str, name: str) -> str:
        return self._answer(session, request, lambda at: self.work.open(at, request, Path(path), str(name)))

    def _open_track(self, session: str, request: str, track: int) -> str:
        return self._answer(session, request, lambda at: self.work.open_track(at, request, track))

    def _listen(self, session: str, request: str, model: str) -> str:
        return self._computed(session, request, lambda at: self.work.listen(at, request, str(model)))

    def _separate(self, session: str, request: str, wanted: str) -> str:
        return self._computed(session, request, lambda at: self.work.separate(at, request, _object(wanted)))

    def _write(self, session: str, request: str, wanted: str) -> str:
        return self._answer(session, request, lambda at: write_download(at, request, _object(wanted)))

    def _computed(self, session: str, request: str, work: Callable[[Any], object]) -> str:
        return self.work.compute(lambda: self._answer(session, request, work))

    def _answer(self, session: str, request: str, work: Callable[[Any], object]) -> str:
        try:
            found = self._sessions.get(session)
        except AudioSepError as error:
            return str(error)
        answer(found, request, lambda: work(found))
        return ""


def _object(text: str) -> dict[str, object]:
    """A JSON object; an empty one for anything else, which is then refused for what it lacks."""
    try:
        document = json.loads(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _quiet_gradio(uploads: Path) -> None:
    """Let Gradio send nothing to its makers, keep no record of runs, and put uploads where the studio deletes them.

    Gradio reads these variables of the environment when it is imported and when it is used.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_RUN_HISTORY"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
