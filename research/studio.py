"""The studio under random clicks and hostile files, and how long it takes from a click to the sound.

    python -m research.studio clicks --seconds 3600 --seed 1
    python -m research.studio speed --song examples/audio/song.flac --length 180
    python -m research.studio pictures docs/assets

A real server in its own process, and a real Chromium. `clicks` fails when the server ends, its memory grows, a page
breaks, or a file is left.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from audiosep.audio import read_audio, write_audio

AUDIO = Path("examples/audio")
HOSTILE = 50
_NAMES = (
    "../../etc/passwd",
    "a\nb.wav",
    "<script>alert(1)</script>.flac",
    "x" * 200 + ".mp3",
    "con.wav",
    ".hidden.wav",
)
_SOUNDS = (
    "piano",
    "dog barking",
    "speech",
    "a man singing",
    "drums",
    "",
    "  ",
    "x" * 500,
    "<b>bold</b>",
    "../../etc/passwd",
)
_PLAYER = "document.querySelector('.studio').mixer.player"
_GROWTH = 200.0  # MiB by which the server may be larger in the second half than in the first


@dataclass
class Server:
    """A studio that runs.

    Args:
        process: of it.
        address: of its page.
        temporary: its folder for temporary files.
        sizes: resident memory, bytes, each time that it was measured.
    """

    process: subprocess.Popen[str]
    address: str
    temporary: Path
    sizes: list[int] = field(default_factory=list)

    def measure(self) -> None:
        """Note the resident memory, in bytes.

        Raises:
            SystemExit: the server has ended.
        """
        if self.process.poll() is not None:
            raise SystemExit(f"the server ended with {self.process.returncode}")
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        self.sizes.append(1024 * int(re.findall(r"VmRSS:\s+(\d+)", status)[0]))


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A studio in a process of its own, which is ended as by Ctrl-C.

    Raises:
        SystemExit: it did not end well, or has left files.
    """
    with tempfile.TemporaryDirectory() as name:
        temporary = Path(name)
        command = [sys.executable, "-m", "audiosep", "studio", "--port", "0", "--no-browser"]
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": name}, start_new_session=True
        )
        assert process.stderr is not None
        address = next(found[0] for line in process.stderr if (found := re.findall(r"http://\S+", line)))
        server = Server(process, address, temporary)
        log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - until the process has ended
        reader = subprocess.Popen(["cat"], stdin=process.stderr, stdout=log)
        try:
            yield server
            server.measure()
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(60)
            reader.wait(10)
            log.seek(0)
            print(log.read()[-2000:])
        if code or (left := list(temporary.glob("audiosep-studio-*"))):
            raise SystemExit(f"the server ended with {code}, and left {left if not code else 'perhaps files'}")


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Debian's Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        flags = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--mute-audio"]
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        yield browser
        browser.close()


def hostile_files(folder: Path, dice: random.Random, count: int) -> list[dict[str, Any]]:
    """Uploads that are no good recordings: cut, flipped, joined, renamed, playlists, empty, with hostile names."""
    good = [path.read_bytes() for path in sorted(AUDIO.glob("*.flac"))]
    wav = folder / "good.wav"
    write_audio(wav, np.zeros((2, 16000), np.float32), 16000)
    good.append(wav.read_bytes())

    def flipped(data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(dice.randrange(1, 200)):
            changed[dice.randrange(min(len(changed), 4000))] ^= 1 << dice.randrange(8)
        return bytes(changed)

    kinds: tuple[Callable[[], bytes], ...] = (
        lambda: dice.choice(good)[: dice.randrange(1, 20_000)],
        lambda: flipped(dice.choice(good)),
        lambda: dice.choice(good)[:5000] + dice.choice(good)[2000:9000],
        lambda: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        lambda: b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        lambda: b"<html><script>alert(1)</script></html>",
        lambda: b"PK\3\4" + dice.randbytes(5000),
        lambda: b"",
        lambda: dice.randbytes(dice.randrange(1, 50_000)),
        lambda: b"RIFF\xff\xff\xff\xffWAVEfmt " + dice.randbytes(200),
    )
    endings = (".wav", ".mp3", ".flac", ".mp4", ".mkv", "")
    return [
        {
            "name": dice.choice((*_NAMES, f"file {number}{dice.choice(endings)}")).replace("/", "_"),
            "mimeType": "application/octet-stream",
            "buffer": kinds[number % len(kinds)](),
        }
        for number in range(count)
    ]


def clicks(seconds: float, seed: int) -> None:
    """Click at random.

    Args:
        seconds: how long.
        seed: of the choices.

    Raises:
        SystemExit: something broke.
    """
    dice = random.Random(seed)
    errors: list[str] = []
    counts: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as name, serving() as server, chromium() as browser:
        uploads = hostile_files(Path(name), dice, HOSTILE)
        pages = [_page(browser, server.address, errors) for _ in range(2)]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            page = dice.choice(pages)
            what = dice.choices(*zip(*_ACTIONS.items(), strict=True))[0]
            counts[what] = counts.get(what, 0) + 1
            if what == "hostile":
                page.set_input_files(".studio-file", uploads[counts[what] % len(uploads)])
            elif what == "good":
                page.set_input_files(".studio-file", dice.choice(sorted(AUDIO.glob("*.flac"))))
            elif what == "reload":
                page.goto(server.address)
                page.wait_for_selector(".studio[data-ready]")
            elif what == "words" and page.is_visible(".studio-text"):
                page.fill(".studio-text", dice.choice(_SOUNDS))
                page.click(".studio-separate")
            elif what == "key":
                page.keyboard.press(dice.choice([*"msal129+-0zio", "Space", "ArrowLeft", "ArrowRight"]))
            elif what == "drag" and page.is_visible(".studio-main"):
                _drag(page, dice)
            elif what == "button":
                with contextlib.suppress(Exception):  # it went away before the click
                    _press(page, dice)
            page.wait_for_timeout(dice.randrange(300))
            server.measure()
    parts = [max(part) / 2**20 for part in np.array_split(np.array(server.sizes), min(10, len(server.sizes)))]
    print(f"{sum(counts.values())} actions ({counts}), {len(errors)} errors of pages, no file is left")
    print(f"resident memory at most in each tenth, MiB: {', '.join(f'{part:.0f}' for part in parts)}")
    before, after = max(parts[: len(parts) // 2]), max(parts[len(parts) // 2 :])
    if errors or after - before > _GROWTH:
        raise SystemExit("\n".join(errors) or "the server's memory grows")


_ACTIONS = {"hostile": 2, "good": 1, "reload": 0.3, "words": 2, "key": 4, "drag": 2, "button": 5}


def _page(browser: Any, address: str, errors: list[str]) -> Any:
    page = browser.new_page(accept_downloads=True)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    page.wait_for_selector(".studio[data-ready]")
    return page


def _press(page: Any, dice: random.Random) -> None:
    buttons = page.query_selector_all(".studio button")
    shown = [one for one in buttons if one.is_visible() and one.is_enabled()]
    if shown:
        dice.choice(shown).click(timeout=1000, no_wait_after=True)


def _drag(page: Any, dice: random.Random) -> None:
    page.locator(".studio-main").scroll_into_view_if_needed()
    box = page.locator(".studio-main").bounding_box()
    places = [box["x"] + dice.random() * box["width"] for _ in range(2)]
    page.mouse.move(places[0], box["y"] + 20)
    page.mouse.down()
    page.mouse.move(places[1], box["y"] + 20, steps=3)
    page.mouse.up()


def speed(song: Path, length: float) -> None:
    """Seconds from the click on a query to the first sound of its preview, and to the whole.

    Args:
        song: repeated until it is long enough.
        length: seconds.
    """
    samples, rate = read_audio(song)
    wanted = round(length * rate)
    with tempfile.TemporaryDirectory() as name, serving() as server, chromium() as browser:
        path = Path(name) / "long.wav"
        write_audio(path, np.tile(samples, -(-wanted // samples.shape[1]))[:, :wanted], rate)
        page = _page(browser, server.address, [])
        began = time.perf_counter()
        page.set_input_files(".studio-file", path)
        page.wait_for_selector(".studio-main", state="visible", timeout=120_000)
        print(f"{length:.0f} s of {song.name}: shown after {time.perf_counter() - began:.1f} s", end=", ")
        page.wait_for_selector("[data-sound]", timeout=300_000)
        print(f"what is heard after {time.perf_counter() - began:.1f} s")
        for sound in ("piano", "a man singing", "drum kit"):
            known = page.locator(".studio-track").count()
            page.fill(".studio-text", sound)
            began = time.perf_counter()
            page.click(".studio-separate")
            row = f".studio-track >> nth={known - 1}"  # before the rest
            page.wait_for_function(
                "count => document.querySelectorAll('.studio-track').length > count", arg=known, timeout=300_000
            )
            page.click(f"{row} >> .studio-solo")
            page.evaluate(f"void {_PLAYER}.play()")  # its promise ends with the song
            page.wait_for_function(f"{_PLAYER}.level() > -80", timeout=300_000)
            heard = time.perf_counter() - began
            page.wait_for_function(
                "row => document.querySelectorAll('.studio-track')[row].dataset.complete === 'true'",
                arg=known - 1,
                timeout=300_000,
            )
            print(f"{sound}: heard after {heard:.1f} s, whole after {time.perf_counter() - began:.1f} s")
            page.click(f"{row} >> .studio-solo")
            page.evaluate(f"{_PLAYER}.pause()")


def pictures(folder: Path) -> None:
    """Pictures of the page for the docs.

    Args:
        folder: of them.
    """
    with serving() as server, chromium() as browser:
        for name, size, scheme in (("studio", (1180, 1100), "light"), ("studio-phone", (390, 1720), "dark")):
            context = browser.new_context(
                viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, device_scale_factor=1
            )
            page = context.new_page()
            page.goto(server.address)
            page.wait_for_selector(".studio[data-ready]")
            page.set_input_files(".studio-file", AUDIO / "song.flac")
            page.wait_for_selector("[data-sound]", timeout=300_000)
            for number in range(2):
                page.locator("[data-sound]").nth(number).click()
                page.wait_for_function(
                    "count => document.querySelectorAll('[data-complete=true]').length === count",
                    arg=number + 1,
                    timeout=300_000,
                )
            page.fill(".studio-from", "2.5")
            page.fill(".studio-to", "4")
            page.click(".studio-this")
            page.evaluate(f"{_PLAYER}.seek(3)")
            page.wait_for_timeout(1000)
            page.screenshot(path=folder / f"{name}.png", full_page=True)
            context.close()


def main() -> None:
    """Run one of the three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    clicking = verbs.add_parser("clicks")
    clicking.add_argument("--seconds", type=float, default=3600)
    clicking.add_argument("--seed", type=int, default=1)
    timing = verbs.add_parser("speed")
    timing.add_argument("--song", type=Path, default=AUDIO / "song.flac")
    timing.add_argument("--length", type=float, default=180)
    drawing = verbs.add_parser("pictures")
    drawing.add_argument("folder", type=Path)
    given = parser.parse_args()
    if given.verb == "clicks":
        clicks(given.seconds, given.seed)
    elif given.verb == "speed":
        speed(given.song, given.length)
    else:
        pictures(given.folder)


if __name__ == "__main__":
    main()
