"""Who asks the studio: clients by their addresses, and the share of the queue that each of them gets."""

from __future__ import annotations

import ipaddress
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
