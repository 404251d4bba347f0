"""The studio as a space of the Hugging Face hub, or on any other server behind a proxy with HTTPS.

A new space of the kind Gradio needs this file, `requirements.txt`, the wheel that it names, and `README.md`, whose head
says which file runs and whose text how the wheel is made. The hub's proxy brings visitors to port 7860; what they
upload is deleted as on any other machine. To try it here:

    python examples/space/app.py
"""

from __future__ import annotations

import os

import audiosep
from audiosep.inference.heap import share_heaps
from audiosep.studio.app import Studio
from audiosep.studio.server import listen_on, make_server, serve
from audiosep.studio.studio_limits import Limits

# Less than on a machine of one's own: visitors share two cores and a small disk. The address of all of them is that of
# the hub's proxy, so that one visitor cannot be told from another: limits of a client are those of all.
LIMITS = Limits(
    upload_bytes=100 * 2**20, seconds=600, decoded_bytes=2**29, tracks=8,
    pages=20, client_pages=20, queue=10, client_requests=20, waiting=2,
)  # fmt: skip
HUB = "https://huggingface.co https://*.huggingface.co"  # shows the page of a space in a frame


def main() -> None:
    """Serve the studio until the space is stopped."""
    share_heaps()  # otherwise the server grows by megabytes a minute for hours
    studio = Studio({"mini": lambda: audiosep.load("mini", sounds=False)}, limits=LIMITS, frames=HUB, mcp=True)
    studio.work.separator()  # the first visitor need not wait for the model
    listening = listen_on("0.0.0.0", int(os.environ.get("PORT", "7860")))
    serve(studio, make_server(studio), listening)


if __name__ == "__main__":
    main()
