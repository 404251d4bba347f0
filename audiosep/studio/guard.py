"""Who may speak to the studio: its own pages, on this machine or with the token, and nobody for another site."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from audiosep.studio.clients import UploadShares, client_of
from audiosep.studio.studio_limits import Limits

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

_FORM = 2**20  # bytes of a request around an uploaded file
_SMALL = 2**16  # bytes of a request that is not counted, unless it is an upload, which counts for so many at least
_UPLOAD = re.compile("/upload/*$")  # where Gradio takes files, which it keeps
# Parts of Gradio that reach other servers, or tell of other users.
_CLOSED = ("/proxy=", "/monitoring", "/reset", "/vibe", "/watchfn")
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors {frames}"
)


class Guard:
    """Refuses what no page of the studio would ask for, and lets browsers fetch nothing from elsewhere.

    Args:
        app: what answers.
        hosts: names of this server; others are refused, so that no foreign name can be made to mean this machine.
            None for any.
        token: that must be shown: as a cookie, which a visit with `?token=` sets, or as `Authorization: Bearer`. None
            for none.
        limits: of the studio.
        frames: sites that may show the page in a frame, in the terms of Content-Security-Policy.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Iterable[str] | None,
        token: str | None,
        limits: Limits,
        frames: str = "'none'",
    ) -> None:
        self._app = app
        self._hosts = None if hosts is None else frozenset(hosts)
        self._token = token
        self._most, self._shares = limits.upload_bytes + _FORM, UploadShares(limits)
        self._policy = _POLICY.format(frames=frames)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # the page uses no web sockets
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                out["Content-Security-Policy"] = self._policy
                out["X-Content-Type-Options"] = "nosniff"
                out["Referrer-Policy"] = "no-referrer"
                out["Cross-Origin-Resource-Policy"] = "same-origin"
            await send(message)

        await self._app(scope, receive, guarded)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer to a request that goes no further."""
        host = headers.get("host", "")
        if self._hosts is not None and _name(host) not in self._hosts:
            return PlainTextResponse(f"this studio is not called {host!r}", 421)
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return PlainTextResponse("requests of other sites are refused", 403)
        visited = scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not visited:
            return PlainTextResponse("requests of other sites are refused", 403)
        path = scope["path"]
        if any(part in path for part in _CLOSED):
            return PlainTextResponse("there is nothing here", 404)
        if "transfer-encoding" in headers:
            return PlainTextResponse("requests state their length", 411)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._most:
            return PlainTextResponse(f"uploads have up to {self._most - _FORM} bytes", 413)
        unknown = None if self._token is None else self._unknown(scope, headers, self._token)
        if unknown is not None or (int(length) <= _SMALL and not _UPLOAD.search(path)):
            return unknown
        # The smallest file takes a block of the disk, and a folder.
        over = self._shares.take(client_of(HTTPConnection(scope)), max(int(length), _SMALL))
        return None if over is None else PlainTextResponse(over, 429)

    @staticmethod
    def _unknown(scope: Scope, headers: Headers, token: str) -> Response | None:
        """The answer to a request without the token, or to the visit that brings it."""
        pairs = parse_qsl(scope["query_string"].decode("latin-1"))
        given = dict(pairs).get("token")
        if given is not None and secrets.compare_digest(given.encode(), token.encode()):
            rest = urlencode([pair for pair in pairs if pair[0] != "token"])
            answer = RedirectResponse(f"{scope.get('root_path', '')}{scope['path']}{'?' if rest else ''}{rest}", 303)
            # A strict one would not come with the visit that follows, where a link of another site brought the token.
            answer.set_cookie(_cookie_name(token), token, httponly=True, samesite="lax")
            return answer
        shown = [headers.get("authorization", "").removeprefix("Bearer "), _cookie(headers, _cookie_name(token))]
        if any(secrets.compare_digest(one.encode(), token.encode()) for one in shown):
            return None
        return PlainTextResponse("this studio needs its token: open the address that it printed when it started", 401)


def _name(host: str) -> str:
    """The name in a Host header, without the port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _cookie_name(token: str) -> str:
    """The name of the cookie: cookies are of a host, at another port of which another studio may listen."""
    return f"audiosep_studio_{hashlib.sha256(token.encode()).hexdigest()[:16]}"


def _cookie(headers: Headers, name: str) -> str:
    jar: SimpleCookie = SimpleCookie()
    try:
        jar.load(headers.get("cookie", ""))
    except CookieError:
        return ""
    return jar[name].value if name in jar else ""
