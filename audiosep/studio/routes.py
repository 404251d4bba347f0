"""What the page asks for beside its queued requests: its state, samples to play, pictures, files to download.

Nothing in an address is a path: sessions, tracks and files are looked up by their names in memory.
"""

from __future__ import annotations

import math
import mimetypes
import secrets
from collections.abc import Awaitable, Callable
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import soundfile
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from audiosep.audio import FORMATS
from audiosep.audio.stem_file import STEM_FILE
from audiosep.errors import AudioSepError, InputError
from audiosep.output.names import TEMPLATE
from audiosep.query.query import unique_names
from audiosep.studio.clients import client_of
from audiosep.studio.mixdown import (
    MIXED,
    download_name,
    view_of_rest,
    weights_of,
    write_all,
    write_mix,
    write_stem_file,
    write_track,
)
from audiosep.studio.recording import remarks
from audiosep.studio.session import MIX, REST, Session, Track
from audiosep.studio.sessions import Sessions
from audiosep.studio.work import Work, without_paths

PREFIX = "/studio"

_ASSETS = ("mixer.js", "player.js", "drawing.js", "server.js", "mixer.css")
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
        if track == MIX:
            return JSONResponse(session.opened().view.document())
        if track == REST:
            found = await run_in_threadpool(view_of_rest, session.opened(), list(session.tracks.values()))
            return JSONResponse(found.document())
        return JSONResponse(_track(session, track).view.document())

    async def samples(request: Request) -> Response:
        session, track = _session(sessions, request), request.path_params["track"]
        session.use()
        path = session.opened().mix if track == MIX else _track(session, track).path
        start, count = (_whole(request, name) for name in ("start", "count"))
        data = await run_in_threadpool(_read, path, start, count)
        return Response(data, media_type="application/octet-stream", headers={"Cache-Control": "no-store"})

    async def prepare(request: Request) -> Response:
        session = _session(sessions, request)
        session.use()
        wanted = await _body(request)
        try:
            return JSONResponse(await run_in_threadpool(_prepare, session, wanted))
        except AudioSepError as error:
            raise InputError(without_paths(str(error), session)) from error

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
        Route(f"{of}/files", _told(prepare), methods=["POST"]),
        Route(f"{of}/files/{{key}}", _told(download), methods=["GET"]),
    ]


async def _asset(request: Request) -> Response:
    """A script or style sheet of the page."""
    name = request.path_params["name"]
    if name not in _ASSETS:
        return Response(status_code=404)
    content = resources.files("audiosep.studio").joinpath("assets", name).read_bytes()
    kind = "text/javascript" if name.endswith(".js") else "text/css"
    return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})


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


def _track(session: Session, id: str) -> Track:
    if id not in session.tracks:
        raise InputError("there is no such track any more: reload the page")
    return session.tracks[id]


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


def _prepare(session: Session, wanted: dict[str, Any]) -> dict[str, object]:
    """Make what the page wants to download: the key of the file, and remarks on it."""
    recording, kind, format = session.opened(), wanted.get("kind"), str(wanted.get("format", "wav"))
    if format not in FORMATS:
        raise InputError(f"the format of a download is one of {', '.join(FORMATS)}")
    tracks = list(session.tracks.values())
    ending, template = format, TEMPLATE
    if kind == "track":
        track = _track(session, str(wanted.get("track")))
        name = dict(zip(session.tracks, unique_names([one.name for one in tracks]), strict=True))[track.id]
    elif kind == "all":
        name, ending = "tracks", "zip"
    elif kind == "stems":
        name, ending, template = "stems", STEM_FILE, "{file}.{ext}"
    elif kind == "mix":
        name = MIXED
    elif kind == "video":
        name, ending = MIXED, recording.path.suffix[1:]
    else:
        raise InputError("a download is a track, all, stems, mix or video")
    shown = download_name(recording, name, ending, template)
    if kind == "track" and format == "wav":
        return {"key": session.offer(track.path, shown, made=False), "remarks": []}
    path = recording.path.parent / f"{secrets.token_hex(8)}.{ending}"
    with remarks() as told:
        if kind == "track":
            write_track(path, recording, track, format)
        elif kind == "all":
            write_all(path, recording, tracks, format)
        elif kind == "stems":
            write_stem_file(path, recording, tracks)
        else:
            weights = weights_of(*_levels(wanted), tracks)
            gain = write_mix(path, recording, tracks, weights, format=format, video=kind == "video")
            if gain < 1:
                told.append(f"the mix is {-20 * math.log10(gain):.1f} dB softer than set, so that it does not clip")
    return {"key": session.offer(path, shown), "remarks": told}


def _levels(wanted: dict[str, Any]) -> tuple[float, dict[str, float]]:
    """The gain of the rest, and those of the tracks."""
    gains, rest = wanted.get("gains"), wanted.get("rest")
    if not isinstance(gains, dict) or not isinstance(rest, int | float):
        raise InputError("a mix has a gain of the rest and a gain for each track: reload the page")
    return rest, gains
