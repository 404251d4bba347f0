"""Who asks the studio: clients by their addresses, and the share of the queue that each of them gets."""

from __future__ import annotations

import ipaddress
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from starlette.requests import HTTPConnection

from audiosep.studio.studio_limits import Limits

_NETWORK = 64  # bits of an address of IPv6 that a provider gives to one customer


def client_of(connection: HTTPConnection) -> str:
    """Where a request comes from: the address, of IPv6 the network of the customer.

    Args:
        connection: the request.

    Returns:
        A name that requests of one client share. Behind a proxy that the server does not trust it is that of the proxy.
    """
    host = "" if connection.client is None else connection.client.host
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), _NETWORK), strict=False))


class UploadShares:
    """How much each client has uploaded of late: what no page opens stays on the disk as long as that.

    Args:
        limits: of the studio.
        clock: seconds.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._seconds = limits.client_uploads * limits.upload_bytes, limits.idle
        self._clock = clock
        self._uploads: dict[str, deque[tuple[float, int]]] = {}

    def take(self, client: str, size: int) -> str | None:
        """Count an upload.

        Args:
            client: from `client_of`.
            size: of the upload, bytes.

        Returns:
            Why it is refused; None where it is not.
        """
        now = self._clock()
        for name, uploads in list(self._uploads.items()):
            while uploads and uploads[0][0] <= now - self._seconds:
                uploads.popleft()
            if not uploads:
                del self._uploads[name]
        own = self._uploads.get(client, deque())
        if sum(one for _, one in own) + size > self._most:
            return (
                f"your address has uploaded {self._most / 2**30:.0f} GiB within {self._seconds / 60:.0f} minutes: "
                "wait, or start the studio with a larger --max-upload"
            )
        own.append((now, size))
        self._uploads[client] = own
        return None


def share_queue(queue: Any, limits: Limits) -> None:
    """Let no client have all places of Gradio's queue, neither with pages nor with programs.

    Args:
        queue: of Gradio.
        limits: of the studio.
    """
    push = queue.push

    async def shared(*, body: Any, request: HTTPConnection, username: str | None) -> tuple[bool, Any, str]:
        waiting = [event for one in queue.event_queue_per_concurrency_id.values() for event in one.queue]
        running = [event for job in queue.active_jobs for event in job or ()]
        client = client_of(request)
        if sum(client_of(event.request) == client for event in waiting + running) >= limits.client_requests:
            refusal = f"{limits.client_requests} requests of your address wait already: try again later"
            return False, refusal, "queue_full"
        answer: tuple[bool, Any, str] = await push(body=body, request=request, username=username)
        return answer

    queue.push = shared
