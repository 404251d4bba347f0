"""What the page asks for beside its queued requests: its state, samples to play, pictures, files to download.

Nothing in an address is a path: sessions, tracks and files are looked up by their names in memory.
"""

from __future__ import annotations

import math
import mimetypes
from collections.abc import Awaitable, Callable
from importlib import resources
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

import soundfile
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from audiosep.errors import AudioSepError, InputError
from audiosep.hearing.spans import Span
from audiosep.studio.clients import client_of
from audiosep.studio.session import Session
from audiosep.studio.sessions import Sessions
from audiosep.studio.track import MIX
from audiosep.studio.track_views import MOST_COLUMNS, picture_of
from audiosep.studio.work import Work

PREFIX = "/studio"

_KINDS = {".js": "text/javascript", ".css": "text/css"}
_MOST_SAMPLES = 2**22
_MOST_BYTES = 2**16  # of a request that is no upload

Endpoint = Callable[[Request], Awaitable[Response]]


def routes(work: Work, about: dict[str, object]) -> list[Route]:
    """The routes below `PREFIX`.

    Args:
        work: of the studio.
        about: what every page is told: models, limits.
    """
    sessions = work.sessions

    async def create(request: Request) -> Response:
        session = await run_in_threadpool(sessions.create, client_of(request))
        return JSONResponse({"session": session.id, **about})

    async def state(request: Request) -> Response:
        return JSONResponse(_session(sessions, request).document())

    async def accept(request: Request) -> Response:
        wanted = await _body(request)
        _session(sessions, request).accept(str(wanted.get("request")), sessions.limits)
        return JSONResponse({})

    async def cancel(request: Request) -> Response:
        wanted = await _body(request)
        name = wanted.get("request")
        _session(sessions, request).drop(name if isinstance(name, str) else None)
        return JSONResponse({})

    async def leave(request: Request) -> Response:
        _session(sessions, request).leave(sessions.limits)
        return JSONResponse({})

    async def remove(request: Request) -> Response:
        wanted = await _body(request)
        _session(sessions, request).remove(str(wanted.get("track")))
        return JSONResponse({})

    async def view(request: Request) -> Response:
        session, track = _session(sessions, request), request.path_params["track"]
        session.use()
        columns = _whole(request, "columns")
        if not 2 <= columns <= MOST_COLUMNS:
            raise InputError(f"a picture has 2 to {MOST_COLUMNS} columns")
        span = Span(_seconds(request, "from"), _seconds(request, "to"))
        found = await run_in_threadpool(picture_of, session, track, span, columns)
        return JSONResponse(found.document())

    async def samples(request: Request) -> Response:
        session, track = _session(sessions, request), request.path_params["track"]
        session.use()
        path = session.opened().mix if track == MIX else session.track(track).path
        start, count = (_whole(request, name) for name in ("start", "count"))
        data = await run_in_threadpool(_read, path, start, count)
        return Response(data, media_type="application/octet-stream", headers={"Cache-Control": "no-store"})

    async def download(request: Request) -> Response:
        session = _session(sessions, request)
        session.use()
        found = session.files.get(request.path_params["key"])
        if found is None:
            raise InputError("there is no such file any more: ask for it again")
        path, name = found
        if not path.is_file():
            raise InputError("there is no such file any more: ask for it again")
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        disposition = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
        return FileResponse(path, media_type=kind, headers={"Content-Disposition": disposition})

    of = f"{PREFIX}/sessions/{{session}}"
    return [
        Route(f"{PREFIX}/assets/{{name}}", _asset, methods=["GET"]),
        Route(f"{PREFIX}/sessions", _told(create), methods=["POST"]),
        Route(of, _told(state), methods=["GET"]),
        Route(f"{of}/requests", _told(accept), methods=["POST"]),
        Route(f"{of}/cancel", _told(cancel), methods=["POST"]),
        Route(f"{of}/leave", _told(leave), methods=["POST"]),
        Route(f"{of}/remove", _told(remove), methods=["POST"]),
        Route(f"{of}/view/{{track}}", _told(view), methods=["GET"]),
        Route(f"{of}/samples/{{track}}", _told(samples), methods=["GET"]),
        Route(f"{of}/files/{{key}}", _told(download), methods=["GET"]),
    ]


async def _asset(request: Request) -> Response:
    """A script or style sheet of the page."""
    name = request.path_params["name"]
    assets = {file.name: file for file in resources.files("audiosep.studio").joinpath("assets").iterdir()}
    kind = _KINDS.get(PurePath(name).suffix)
    if kind is None or name not in assets:
        return Response(status_code=404)
    return Response(assets[name].read_bytes(), media_type=kind, headers={"Cache-Control": "no-cache"})


def _told(endpoint: Endpoint) -> Endpoint:
    """An endpoint whose errors are told to the page."""

    async def run(request: Request) -> Response:
        try:
            return await endpoint(request)
        except AudioSepError as error:
            return JSONResponse({"error": str(error)}, 400)

    return run


def _session(sessions: Sessions, request: Request) -> Session:
    return sessions.get(request.path_params["session"])


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object of a request."""
    if int(request.headers.get("content-length", "0")) > _MOST_BYTES:  # `Guard` takes no body without it
        raise InputError("the request is too long")
    try:
        document = await request.json()
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise InputError("the request is no JSON object")
    return document


def _whole(request: Request, name: str) -> int:
    text = request.query_params.get(name, "")
    if not text.isdecimal() or len(text) > 12:
        raise InputError(f"{name} must be a whole number")
    return int(text)


def _seconds(request: Request, name: str) -> float:
    try:
        found = float(request.query_params.get(name, ""))
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise InputError(f"{name} must be a number of seconds")
    return found


def _read(path: Path, start: int, count: int) -> bytes:
    """Samples of a wav file as interleaved 32-bit floats; of more than two channels their mean."""
    if count > _MOST_SAMPLES:
        raise InputError(f"ask for up to {_MOST_SAMPLES} samples at once")
    try:
        with soundfile.SoundFile(path) as file:
            file.seek(min(start, file.frames))
            block = file.read(count, dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise InputError("these samples are not there any more: reload the page") from error
    if block.shape[1] > 2:
        block = block.mean(1, keepdims=True)
    data: bytes = block.tobytes()
    return data
