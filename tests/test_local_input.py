"""A playlist that names an address makes no reader of files ask for it."""

from __future__ import annotations

import contextlib
import http.server
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from audiosep.audio import attached, chapters, video
from audiosep.audio.ffmpeg import FFmpegSource
from audiosep.audio.pyav import AvSource
from audiosep.audio.source import Unreadable

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="there is no ffmpeg on PATH")


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """The address of a server of this machine, and the paths that it was asked for."""
    paths: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", paths
        server.shutdown()


def playlist(folder: Path, address: str) -> Path:
    path = folder / "list.m3u8"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{address}/part.ts\n#EXT-X-ENDLIST\n")
    return path


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(FFmpegSource, marks=needs_ffmpeg),
        AvSource,
        attached._by_pyav,
        pytest.param(attached._by_program, marks=needs_ffmpeg),
        chapters._by_pyav,
        pytest.param(chapters._by_program, marks=needs_ffmpeg),
        pytest.param(video._begins, marks=needs_ffmpeg),
        pytest.param(video._first, marks=needs_ffmpeg),
    ],
)
def test_no_address_is_asked(read: Callable[[Path], object], asked: tuple[str, list[str]], tmp_path: Path) -> None:
    pytest.importorskip("av")
    address, paths = asked
    with contextlib.suppress(Unreadable):
        read(playlist(tmp_path, address))
    assert paths == []


@needs_ffmpeg
def test_without_the_guard_it_would_be_asked(asked: tuple[str, list[str]], tmp_path: Path) -> None:
    address, paths = asked
    command = ["ffmpeg", "-v", "quiet", "-nostdin", "-protocol_whitelist", "file,http,tcp"]
    command += ["-i", str(playlist(tmp_path, address)), "-f", "null", "-"]
    subprocess.run(command, timeout=60, check=False)
    assert "/part.ts" in paths
