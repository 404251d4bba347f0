"""Serving the studio on an address of this machine."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from typing import TYPE_CHECKING

from audiosep.errors import AudioSepError, InputError
from audiosep.studio.app import Studio
from audiosep.studio.guard import LOOPBACK

if TYPE_CHECKING:
    import uvicorn

_END = 3  # seconds that open requests get at the end


def listen_on(host: str, port: int) -> socket.socket:
    """A socket that waits for connections.

    Args:
        host: a name or address of this machine.
        port: from 0, which is any free one, to 65535.

    Raises:
        InputError: no such address here, or the port is taken or not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except (OSError, OverflowError) as error:
        found.close()
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        remedy = "choose another --port, or 0 for any that is free" if taken else "check --host and --port"
        raise InputError(f"the studio cannot listen on {host} port {port} ({error}): {remedy}") from error
    return found


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine reach an address; of names only that of this machine is known."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in LOOPBACK


def address_of(listening: socket.socket, host: str, token: str | None) -> str:
    """What to open in a browser.

    Args:
        listening: where the studio waits.
        host: as in `listen_on`.
        token: as in `Guard`.
    """
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host
    shown = f"[{name}]" if ":" in name else name
    return f"http://{shown}:{listening.getsockname()[1]}/{f'?token={token}' if token else ''}"


def make_server(studio: Studio) -> uvicorn.Server:
    """A server of the studio; its `should_exit` ends it.

    Args:
        studio: to serve.
    """
    import uvicorn

    # No logging of its own: to set that up closes the handlers of all libraries, and absl's closes standard error.
    config = uvicorn.Config(
        studio.asgi,
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_END,
        server_header=False,
    )
    return uvicorn.Server(config)


def serve(studio: Studio, server: uvicorn.Server, listening: socket.socket) -> None:
    """Answer until SIGINT or SIGTERM, or the end of the server.

    Args:
        studio: to serve.
        server: of it, from `make_server`.
        listening: from `listen_on`.

    Raises:
        AudioSepError: the studio could not start.
    """
    try:
        with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is how it is ended
            server.run(sockets=[listening])
        if not server.started:
            raise AudioSepError("the studio could not start: the log above says why")
    finally:
        listening.close()
        studio.close()
