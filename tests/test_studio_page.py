"""The studio's page in a real browser: upload, queries, mixing by ear, downloads, other pages, wrong files."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import sounds
from doubles import FakeEncoder, TinyModel
from odd_files import Sound, container, tones
from torch import Tensor

from audiosep import query
from audiosep.api import load
from audiosep.audio import AudioWriter, read_audio, write_audio
from audiosep.models.families import FAMILIES
from audiosep.models.separation_model import Estimate
from audiosep.separator import Separator
from audiosep.studio.session import Session
from audiosep.studio.studio_limits import Limits
from audiosep.weights.checkpoint import save_model

pytest.importorskip("gradio", reason="Gradio is not installed: pip install 'audiosep[studio]'")

RATE = 16000
QUIET = -90.0  # dB
_PLAYER = "document.querySelector('.studio').mixer.player"


class HeldModel(TinyModel):
    """Takes its time until it is released, so that it can be cancelled."""

    released = threading.Event()

    def forward(self, mix: Tensor, embeddings: Tensor, negatives: Tensor | None = None) -> Estimate:
        self.released.wait(60)
        return super().forward(mix, embeddings, negatives)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkpoint of the tiny model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, "tiny", "doubles:TinyModel")
        patch.setitem(query.ENCODERS, "fake", "doubles:FakeEncoder")
        place = tmp_path_factory.mktemp("model") / "tiny"
        yield save_model(place, TinyModel(), query={"encoder": "fake"}, extra={"name": "tiny"})


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """A studio that runs."""
    from audiosep.studio.app import Studio
    from audiosep.studio.guard import LOOPBACK
    from audiosep.studio.server import address_of, listen_on, make_server, serve

    models: dict[str, Callable[[], Separator]] = {
        "tiny": lambda: load(folder, device="cpu", precision="fp32", sounds=False),
        "held": lambda: Separator(HeldModel(), FakeEncoder(), device="cpu", precision="fp32", name="held"),
        "mini": lambda: load("mini", device="cpu", precision="fp32", sounds=False),
    }
    listening = listen_on("127.0.0.1", 0)
    studio = Studio(
        models, hosts=LOOPBACK, limits=Limits(pages=32, client_pages=32)
    )  # those of tests linger for a while
    server = make_server(studio)
    root = studio.work.sessions.root
    thread = threading.Thread(target=serve, args=(studio, server, listening))
    thread.start()
    yield address_of(listening, "127.0.0.1", None)
    server.should_exit = True
    thread.join()
    assert not root.exists()


class Page:
    """A page of the studio, and what a user does there."""

    def __init__(self, page: Any, address: str) -> None:
        self.page, self._address = page, address
        page.set_default_timeout(120_000)
        self.errors: list[str] = []
        self.hosts: set[str] = set()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        self.load()

    def load(self) -> None:
        self.page.goto(self._address)
        self.page.wait_for_selector(".studio[data-ready]")

    def open(self, path: Path) -> None:
        self.page.set_input_files(".studio-file", path)
        self.page.wait_for_function(
            "name => document.querySelector('.studio-name').textContent.startsWith(name)", arg=path.name
        )

    def separate(self, text: str) -> str:
        """The id of the track when it is complete."""
        before = set(self.tracks())
        self.page.fill(".studio-text", text)
        self.page.click(".studio-separate")
        return self.new_track(before)

    def new_track(self, before: set[str] = frozenset()) -> str:  # type: ignore[assignment]
        self.page.wait_for_function(
            "before => [...document.querySelectorAll('.studio-track[data-complete=true]')]"
            ".some(row => !before.includes(row.dataset.track))",
            arg=list(before),
        )
        return next(track for track in self.tracks() if track not in before)

    def tracks(self) -> list[str]:
        rows = "[...document.querySelectorAll('.studio-track')].map(row => row.dataset.track)"
        return [track for track in self.page.evaluate(rows) if track != "rest"]

    def row(self, track: str, part: str) -> str:
        return f".studio-track[data-track='{track}'] .studio-{part}"

    def play(self) -> None:
        """Play in a loop, so that the end never comes."""
        self.page.click(".studio-loop")
        self.page.click(".studio-play")
        self.hears()

    def hears(self, track: str | None = None) -> None:
        """Wait until a track, or what all give, is heard."""
        self.page.wait_for_function(f"track => {_PLAYER}.level(track) > {QUIET}", arg=track)

    def hears_nothing_of(self, track: str | None = None) -> None:
        """Wait until a track, or what all give, is silent for half a second while others play."""
        self.page.wait_for_function(
            f"""track => new Promise((done) => {{
                let silent = 0;
                const look = () => {{
                  silent = {_PLAYER}.level(track) < {QUIET} ? silent + 1 : 0;
                  silent >= 10 ? done({_PLAYER}.playing) : setTimeout(look, 50);
                }};
                look();
            }})""",
            arg=track,
        )

    def download(self, selector: str) -> tuple[str, bytes]:
        with self.page.expect_download() as waiting:
            self.page.click(selector)
        return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


@pytest.fixture
def client(chromium: Any, address: str) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = Page(context.new_page(), address)
    yield page
    context.close()
    assert page.errors == []
    assert page.hosts <= {urlsplit(address).netloc, ""}  # blob: and data: have no host


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("songs") / "my song.wav"
    voice = sounds.voice(34.0, RATE, 1)
    write_audio(path, np.stack([voice, 0.5 * voice[::-1]]).astype(np.float32), RATE)
    return path


def test_tracks_are_heard_alone_muted_and_beside_the_original(client: Page, song: Path) -> None:
    client.open(song)
    track = client.separate("piano")
    client.play()
    client.hears(track)
    client.hears("rest")
    client.page.click(client.row(track, "solo"))
    client.hears_nothing_of("rest")
    client.page.wait_for_function(  # both at the same moment
        "track => { const { player } = document.querySelector('.studio').mixer;"
        "return Math.abs(player.level() - player.level(track)) < 3; }",
        arg=track,
    )
    client.page.click(client.row(track, "mute"))
    client.hears_nothing_of()
    client.page.keyboard.press("a")
    client.hears()  # the original
    client.page.keyboard.press("a")
    client.hears_nothing_of()
    client.page.click(client.row(track, "solo"))
    client.page.click(client.row(track, "mute"))
    # All tracks and the rest are the recording, sample by sample: turned over, it leaves nothing of them.
    client.page.evaluate(f"(p => {{ p.plain.gain.cancelScheduledValues(0); p.plain.gain.value = -1; }})({_PLAYER})")
    client.hears_nothing_of()
    client.page.keyboard.press(" ")
    client.page.wait_for_function("document.querySelector('.studio-play').textContent === 'Play'")


@pytest.mark.slow
def test_a_download_is_what_the_command_line_writes(
    client: Page, song: Path, folder: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    client.open(song)
    track = client.separate("dog barking")
    name, content = client.download(client.row(track, "get"))
    assert name == "my song (dog barking).wav"
    options = ("--model", folder, "--device", "cpu", "--precision", "fp32", "--no-residual", "-o", tmp_path)
    code, _, stderr = run("separate", song, "dog barking", *options)
    assert code == 0, stderr
    assert content == (tmp_path / name).read_bytes()
    client.page.click(client.row("rest", "mute"))
    name, content = client.download(".studio-save-mix")
    (tmp_path / "mix.wav").write_bytes(content)
    assert name == "my song (mix).wav"
    assert np.array_equal(read_audio(tmp_path / "mix.wav")[0], read_audio(tmp_path / "my song (dog barking).wav")[0])
    name, content = client.download(".studio-save-all")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert set(archive.namelist()) == {
            "my song (dog barking).wav",
            "my song (without dog barking).wav",
            "my song (without dog barking) labels.txt",
        }


@pytest.mark.slow
def test_stems_a_marked_stretch_and_a_loop(client: Page, song: Path) -> None:
    client.open(song)
    client.page.click(".studio-stems")
    client.page.wait_for_selector(".studio-save-stems")  # visible when all four stems are there
    stems = client.tracks()
    assert len(stems) == 4
    client.page.fill(".studio-from", "2")
    client.page.fill(".studio-to", "3.5")
    client.page.click(".studio-this")
    client.page.locator(".studio-main").scroll_into_view_if_needed()
    box = client.page.locator(".studio-main").bounding_box()
    client.page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 20)
    client.page.mouse.down()
    client.page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 20, steps=4)
    client.page.mouse.up()
    client.page.click(".studio-not")
    assert client.page.locator(".studio-marks button").count() == 2
    client.page.click(".studio-separate")
    track = client.new_track(set(stems))
    assert "at 2-3.5 s" in client.page.inner_text(client.row(track, "track-name"))
    client.play()
    second = client.page.evaluate(f"{_PLAYER}.position()")
    assert 0.5 * 34 - 0.2 <= second <= 0.6 * 34 + 0.2
    client.page.click(client.row(track, "files button:last-child"))
    client.page.wait_for_function("document.querySelectorAll('.studio-track').length === 5")


@pytest.mark.slow
def test_wrong_files_are_refused_and_the_page_goes_on(client: Page, song: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "../../etc/passwd".replace("/", "_")
    wrong.write_text("#EXTM3U\nfile:///etc/passwd\n")
    client.page.set_input_files(".studio-file", wrong)
    client.page.wait_for_function("document.querySelector('.studio-error').textContent.includes('playlist')")
    noise = tmp_path / "noise.mp3"
    noise.write_bytes(np.random.default_rng(0).bytes(5000))
    client.page.set_input_files(".studio-file", noise)
    client.page.wait_for_function("document.querySelector('.studio-error').textContent.includes('cannot be read')")
    assert "studio-" not in client.page.inner_text(".studio-error")  # nothing of the server's folders
    client.open(song)
    HeldModel.released.clear()
    client.page.select_option(".studio-model", "held")
    client.page.fill(".studio-text", "violin")
    client.page.click(".studio-separate")
    client.page.wait_for_function("document.querySelector('.studio-jobs').textContent.includes('violin')")
    client.page.evaluate(
        """() => {
            const dropped = new DataTransfer();
            for (const name of ["one.wav", "two.wav"]) dropped.items.add(new File(["no recording"], name));
            const drop = new DragEvent("drop", { dataTransfer: dropped, bubbles: true });
            document.querySelector(".studio").dispatchEvent(drop);
        }"""
    )
    client.page.wait_for_function("document.querySelector('.studio-status').textContent.includes('only one.wav')")
    assert "a text" in client.page.inner_text(".studio-error")
    HeldModel.released.set()
    track = client.new_track()  # what ran goes on
    client.page.fill(".studio-text", "The violin")
    client.page.click(".studio-separate")
    client.page.wait_for_function("document.querySelector('.studio-status').textContent.endsWith('already: violin.')")
    assert client.tracks() == [track]
    assert client.page.inner_text(".studio-error") == ""


def test_a_typed_stretch_is_checked_and_taken_away(client: Page, song: Path) -> None:
    client.open(song)
    page = client.page

    def typed(start: str, end: str) -> tuple[bool, str]:
        for field, seconds in ((".studio-from", start), (".studio-to", end)):
            page.fill(field, seconds)
            page.press(field, "Enter")
        return page.is_visible(".studio-selection"), page.inner_text(".studio-error")

    page.click(".studio-this")
    assert "Mark a stretch first" in page.inner_text(".studio-error")
    assert typed("1", "2") == (True, "")
    for start, end in (("5", "2"), ("40", "50"), ("-1", "2")):
        marked, error = typed(start, end)
        assert not marked
        assert "type seconds" in error
    page.click(".studio-loop")
    assert typed("1", "") == (False, "")
    for take_away in (lambda: typed("", ""), lambda: page.keyboard.press("Escape")):
        assert typed("1", "2") == (True, "")
        assert page.evaluate(f"{_PLAYER}.loop[1] - {_PLAYER}.loop[0]") == RATE
        take_away()
        assert page.is_hidden(".studio-selection")
        assert page.input_value(".studio-from") == ""
        assert page.evaluate(f"{_PLAYER}.loop[1] - {_PLAYER}.loop[0]") == 34 * RATE


def test_a_second_stretch_is_typed_without_an_error_in_between(client: Page, song: Path) -> None:
    client.open(song)
    page = client.page
    page.wait_for_selector(".studio-job", state="hidden")
    top = page.locator(".studio-to").bounding_box()["y"]
    for field, seconds in ((".studio-from", "1"), (".studio-to", "2")):
        page.fill(field, seconds)
    page.keyboard.press("Enter")
    page.fill(".studio-from", "4")
    page.click(".studio-to", click_count=3)  # behind the old end as yet
    assert page.inner_text(".studio-error") == ""
    page.keyboard.type("5,5")
    page.focus(".studio-text")
    assert [page.input_value(".studio-from"), page.input_value(".studio-to")] == ["4.00", "5.50"]
    page.fill(".studio-from", "0:06.5")
    page.focus(".studio-text")
    assert "type seconds" in page.inner_text(".studio-error")
    assert page.locator(".studio-to").bounding_box()["y"] == top  # nothing moves under the mouse
    page.fill(".studio-to", "0:08")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowUp")
    assert [page.input_value(".studio-from"), page.input_value(".studio-to")] == ["6.50", "8.10"]
    assert page.inner_text(".studio-error") == ""


@pytest.mark.slow
def test_marks_for_the_next_sound_stay_when_one_is_answered(client: Page, song: Path) -> None:
    client.open(song)
    page = client.page
    HeldModel.released.clear()
    page.select_option(".studio-model", "held")
    for field, seconds in ((".studio-from", "1"), (".studio-to", "2")):
        page.fill(field, seconds)
    page.click(".studio-not")
    page.fill(".studio-text", "violin")
    page.click(".studio-separate")
    page.wait_for_function("document.querySelector('.studio-jobs').textContent.includes('violin')")
    page.fill(".studio-to", "3")
    page.click(".studio-this")
    HeldModel.released.set()
    track = client.new_track()
    page.wait_for_function("document.querySelectorAll('.studio-marks button').length === 1")
    assert page.inner_text(".studio-marks") == "this sound 1.0-3.0 s ×"
    page.focus(client.row(track, "files button:last-child"))
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelectorAll('.studio-track').length === 1")
    assert page.evaluate("document.activeElement.ariaLabel") == "Mute the rest"
    page.focus(".studio-marks button")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.className") == "studio-text"


_SHOWN = "(({ start, end }) => [start, end])(document.querySelector('.studio').mixer.timeline)"


def shown(page: Any) -> list[float]:
    """The part of the recording that the page shows, seconds."""
    found: list[float] = page.evaluate(_SHOWN)
    return found


@pytest.fixture
def hour(tmp_path: Path) -> Path:
    """An hour of silence with half a second of sound."""
    path = tmp_path / "hour.flac"
    second = np.zeros((1, 8000), np.float32)
    with AudioWriter(path, 8000, 1) as writer:
        for at in range(3600):
            writer.write(second if at != 2717 else np.repeat([[0.0, 0.5]], 4000, 1).astype(np.float32))
    return path


def test_half_a_second_of_an_hour_is_found_and_marked(client: Page, hour: Path) -> None:
    client.open(hour)
    page = client.page
    page.wait_for_function("document.querySelector('.studio').mixer.pictures.main")
    page.locator(".studio-main").scroll_into_view_if_needed()
    box = page.locator(".studio-main").bounding_box()

    def turn(second: float, horizontal: int, vertical: int) -> None:
        """Turn the wheel over a second."""
        start, end = shown(page)
        page.mouse.move(box["x"] + box["width"] * (second - start) / (end - start), box["y"] + 20)
        page.mouse.wheel(horizontal, vertical)
        page.wait_for_function(f"before => {_SHOWN}.join() !== before", arg=f"{start:.17g},{end:.17g}")

    assert shown(page) == [0, 3600]
    assert page.is_hidden(".studio-strip")
    page.keyboard.down("Control")
    while shown(page)[1] - shown(page)[0] > 2:
        turn(2717.75, 0, -100)  # stays under the mouse
    page.keyboard.up("Control")
    assert page.is_visible(".studio-strip")
    page.wait_for_function("document.querySelector('.studio').mixer.pictures.main.detail?.step < 0.01")
    edge = page.evaluate(  # what is drawn of it, from its beginning on
        """() => {
            const { detail } = document.querySelector(".studio").mixer.pictures.main;
            const loud = detail.peaks.findIndex((peak, at) => at % 2 && peak > 50);
            return [detail.start + ((loud - 1) / 2) * detail.step, detail.step];
        }"""
    )
    assert abs(edge[0] - 2717.5) <= edge[1]
    start, end = shown(page)
    places = [box["x"] + box["width"] * (second - start) / (end - start) for second in (2717.5, 2718.0)]
    page.mouse.move(places[0], box["y"] + 20)
    page.mouse.down()
    page.mouse.move(places[1], box["y"] + 20, steps=4)
    page.mouse.up()
    marked = page.evaluate("document.querySelector('.studio').mixer.marking.selection")
    assert np.abs(np.subtract(marked, [2717.5, 2718.0])).max() < 0.01
    page.click(".studio-zoom-mark")
    assert np.abs(np.subtract(shown(page), [2717.375, 2718.125])).max() < 0.02
    place = page.locator(".studio-selection").bounding_box()
    assert abs(place["x"] - box["x"] - box["width"] / 6) < 5
    assert abs(place["width"] - box["width"] * 2 / 3) < 5
    turn(2717.75, 300, 0)  # sideways
    assert shown(page)[0] > 2717.5
    client.load()
    page.wait_for_function("document.querySelector('.studio').mixer.pictures.main")
    assert shown(page)[0] > 2717.5  # also after a reload
    page.click(".studio-zoom-all")
    assert shown(page) == [0, 3600]
    page.mouse.move(box["x"] + 50, box["y"] + 20)
    page.mouse.wheel(0, 100)  # scrolls the page
    assert shown(page) == [0, 3600]


def test_the_view_is_zoomed_scrolled_and_marked_by_the_keyboard(client: Page, song: Path) -> None:
    client.open(song)
    page = client.page
    page.wait_for_function("document.querySelector('.studio').mixer.pictures.main")
    page.keyboard.press("z")
    assert "Mark a stretch first" in page.inner_text(".studio-error")
    page.keyboard.press("i")
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("o")
    assert [page.input_value(".studio-from"), page.input_value(".studio-to")] == ["0.00", "10.00"]
    page.keyboard.press("+")
    page.keyboard.press("=")
    assert shown(page) == pytest.approx([7.5, 16])  # around the place of playing
    page.keyboard.press("-")
    assert shown(page) == pytest.approx([5, 22])
    page.keyboard.press("z")
    assert shown(page) == pytest.approx([0, 15])
    page.keyboard.press("ArrowRight")
    assert page.evaluate(f"{_PLAYER}.position()") == pytest.approx(11.5)  # less where less is shown
    page.focus(".studio-scroll")
    for _ in range(3):
        page.keyboard.press("ArrowRight")  # by half of what is shown
    assert shown(page)[0] > 11.5
    assert "to 0:" in page.evaluate("document.querySelector('.studio-scroll').ariaValueText")
    page.focus(".studio-main")
    page.keyboard.press("ArrowLeft")  # comes back to where it plays
    start, end = shown(page)
    assert start <= page.evaluate(f"{_PLAYER}.position()") <= end
    page.keyboard.press("End")
    page.wait_for_function(f"{_SHOWN}[1] === 34")
    page.keyboard.press("0")
    assert shown(page) == [0, 34]


def test_two_fingers_zoom_and_mark_nothing(chromium: Any, address: str, song: Path) -> None:
    context = chromium.new_context(viewport={"width": 360, "height": 740}, has_touch=True)
    client = Page(context.new_page(), address)
    client.open(song)
    page = client.page
    page.wait_for_function("document.querySelector('.studio').mixer.pictures.main")
    page.locator(".studio-main").scroll_into_view_if_needed()
    box = page.locator(".studio-main").bounding_box()
    session = context.new_cdp_session(page)

    def touch(kind: str, *shares: float) -> None:
        points = [
            {"x": box["x"] + box["width"] * share, "y": box["y"] + 30, "id": at} for at, share in enumerate(shares)
        ]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 0.4)
    touch("touchStart", 0.4, 0.6)
    for share in (0.3, 0.2, 0.1):
        touch("touchMove", share, 1 - share)
    touch("touchEnd")
    assert shown(page) == pytest.approx([34 * 0.375, 34 * 0.625], abs=0.3)  # what was under them still is
    assert page.is_hidden(".studio-selection")
    touch("touchStart", 0.2)
    touch("touchMove", 0.5)
    touch("touchEnd")
    assert page.is_visible(".studio-selection")
    context.close()
    assert client.errors == []


@pytest.mark.slow
def test_a_download_shows_its_progress_and_is_cancelled(client: Page, song: Path, address: str) -> None:
    client.open(song)
    track = client.separate("piano")
    page = client.page
    gate, cancelled = threading.Event(), threading.Event()
    advance = Session.advance

    def slow(session: Session, request: str, fraction: float) -> bool:
        wanted = advance(session, request, fraction)
        if fraction > 0.5:
            gate.wait(60)
        if not wanted:
            cancelled.set()
        return wanted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "advance", slow)
        page.select_option(".studio-format", "flac")
        page.click(client.row(track, "get"))
        page.wait_for_function(
            "/Writing my song \\(piano\\).flac, [5-9]\\d%/.test(document.querySelector('.studio-jobs').textContent)"
        )
        page.click(".studio-cancel")
        page.wait_for_selector(".studio-job", state="hidden")
        gate.set()
        assert cancelled.wait(60)
        assert page.inner_text(".studio-error") == ""
        name, _ = client.download(client.row(track, "get"))
    assert name == "my song (piano).flac"


def test_a_server_that_is_slow_or_away_is_told(client: Page, song: Path) -> None:
    client.open(song)
    page, state = client.page, re.compile(r"/studio/sessions/[^/]+$")
    page.wait_for_selector(".studio-job", state="hidden")
    held: list[Any] = []
    page.route("**/requests", lambda route: held.append(route))
    page.fill(".studio-text", "piano")
    page.click(".studio-separate")
    page.wait_for_selector(".studio-job", state="visible")
    with page.expect_response(lambda answer: bool(state.search(answer.url))):
        pass  # which does not say yet that it waits
    assert page.inner_text(".studio-job-text") == "Waiting for its turn"
    held.pop().continue_()
    page.unroute("**/requests")
    client.new_track()
    page.wait_for_function("document.querySelector('.studio-status').textContent === 'piano is there.'")
    page.wait_for_selector(".studio-job", state="hidden")
    page.route(state, lambda route: route.abort())
    page.wait_for_function("document.querySelector('.studio-error').textContent.includes('does not answer')")
    page.unroute(state)
    page.wait_for_function("document.querySelector('.studio-error').textContent === ''")
    page.route(state, lambda route: route.fulfill(status=400, json={"error": "the files of this page are deleted"}))
    page.wait_for_function("document.querySelector('.studio-error').textContent.includes('are deleted')")


def test_a_picture_that_was_not_fetched_is_asked_for_again(client: Page, song: Path) -> None:
    page, views = client.page, "**/view/mix?*"
    page.route(views, lambda route: route.abort())
    with page.expect_request(views):
        client.open(song)
    page.unroute(views)
    page.wait_for_function("document.querySelector('.studio').mixer.pictures.main?.view")
    page.wait_for_function("document.querySelector('.studio-error').textContent === ''")


def test_an_upload_is_cancelled_and_another_file_takes_its_place(client: Page, song: Path) -> None:
    page, held = client.page, []
    page.route("**/gradio_api/upload", lambda route: held.append(route))
    page.set_input_files(".studio-file", song)
    page.wait_for_function("document.querySelector('.studio-jobs').textContent.includes('Uploading my song.wav')")
    page.click(".studio-cancel")
    page.wait_for_selector(".studio-job", state="hidden")
    page.set_input_files(".studio-file", song)
    page.wait_for_selector(".studio-job")
    other = song.with_name("the other.wav")
    shutil.copy(song, other)
    page.unroute("**/gradio_api/upload")
    client.open(other)
    page.wait_for_selector(".studio-job", state="hidden")  # none of the first one, which would come later
    assert len(held) == 2
    assert page.inner_text(".studio-error") == ""


def test_a_page_that_the_studio_refuses_says_why_and_takes_no_file(client: Page, song: Path) -> None:
    page = client.page
    page.evaluate("sessionStorage.clear()")
    page.route(
        "**/studio/sessions", lambda route: route.fulfill(status=400, json={"error": "6 pages are open already"})
    )
    page.reload()
    page.wait_for_function("document.querySelector('.studio-error')?.textContent === '6 pages are open already'")
    assert page.is_disabled(".studio-file")
    page.evaluate(
        """() => {
            const dropped = new DataTransfer();
            dropped.items.add(new File(["no recording"], "one.wav"));
            const event = new DragEvent("drop", { dataTransfer: dropped, bubbles: true });
            document.querySelector(".studio").dispatchEvent(event);
        }"""
    )
    assert page.inner_text(".studio-error") == "6 pages are open already"


def test_waiting_for_samples_is_told(client: Page, song: Path) -> None:
    client.open(song)
    page, held = client.page, []
    page.route("**/samples/**", lambda route: held.append(route))
    page.click(".studio-play")
    page.wait_for_function("document.querySelector('.studio-time').textContent === '0:00.0 / loading'")
    page.unroute("**/samples/**")
    client.hears()
    page.wait_for_function("document.querySelector('.studio-time').textContent.endsWith('/ 0:34.0')")


@pytest.mark.slow
def test_the_format_of_downloads_is_remembered(client: Page, song: Path, tmp_path: Path) -> None:
    client.open(song)
    track = client.separate("piano")
    client.page.select_option(".studio-format", "flac")
    client.load()
    client.page.wait_for_selector(client.row(track, "get"))
    assert client.page.inner_text(client.row(track, "get")) == "Download flac"
    name, content = client.download(client.row(track, "get"))
    assert (name, content[:4]) == ("my song (piano).flac", b"fLaC")
    name, content = client.download(".studio-save-all")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert {"my song (piano).flac", "my song (without piano).flac"} <= set(archive.namelist())


def test_the_audio_track_of_a_film_is_chosen(client: Page, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed: pip install 'audiosep[formats]'")
    x = tones(1, 3)
    film = container(tmp_path / "film.mkv", "flac", [Sound(x), Sound(x[:, : 2 * len(x[0]) // 3])], picture=1)
    client.open(film)
    client.page.select_option(".studio-audio-track", "2")
    client.page.wait_for_function("document.querySelector('.studio-name').textContent.includes('0:02')")
    assert client.page.input_value(".studio-audio-track") == "2"


@pytest.mark.slow
def test_a_page_comes_back_after_a_reload_and_another_sees_nothing_of_it(
    client: Page, song: Path, chromium: Any, address: str
) -> None:
    client.open(song)
    track = client.separate("piano")
    client.page.click(client.row(track, "mute"))
    client.page.fill(client.row("rest", "gain"), "-12")
    client.page.fill(".studio-from", "1")
    client.page.fill(".studio-to", "2")
    client.page.click(".studio-not")
    HeldModel.released.clear()
    client.page.select_option(".studio-model", "held")
    client.page.fill(".studio-text", "violin")
    client.page.click(".studio-separate")
    client.page.wait_for_function("document.querySelector('.studio-jobs').textContent.includes('violin')")
    client.load()  # in the middle
    client.page.wait_for_selector(client.row(track, "track-name"))
    assert client.page.get_attribute(client.row(track, "mute"), "aria-pressed") == "true"
    assert client.page.inner_text(client.row("rest", "decibels")) == "-12 dB"
    assert client.page.input_value(".studio-to") == "2.00"
    assert client.page.inner_text(".studio-marks") == "not this 1.0-2.0 s ×"
    client.page.wait_for_function("document.querySelector('.studio-jobs').textContent.includes('violin')")
    context = chromium.new_context()
    other = Page(context.new_page(), address)
    assert other.tracks() == []
    copy = song.with_name("another.wav")
    shutil.copy(song, copy)
    other.open(copy)  # while the first one is served
    with client.page.expect_response("**/cancel"):
        client.page.click(".studio-cancel")
    HeldModel.released.set()
    client.page.wait_for_selector(".studio-job", state="hidden")
    assert client.tracks() == [track]
    assert client.page.inner_text(".studio-error") == ""
    assert other.separate("dog") != track
    context.close()


def test_a_request_that_is_cancelled_on_its_way_is_no_error_of_the_page(client: Page, song: Path) -> None:
    client.open(song)
    client.page.evaluate(
        """() => {
            const { server } = document.querySelector(".studio").mixer, send = window.fetch;
            window.fetch = async (address, options) => {
              if (!String(address).includes("call/page_separate")) return send(address, options);
              window.fetch = send;
              for (const one of server.pending.values()) one.reject(new Error("cancelled"));
              await new Promise((done) => setTimeout(done)); // rejections without a handler are reported by then
              document.body.dataset.sent = "yes";
              return send(address, options);
            };
        }"""
    )
    client.page.fill(".studio-text", "piano")
    client.page.click(".studio-separate")
    client.page.wait_for_selector("body[data-sent]")
    client.page.wait_for_selector(".studio-job", state="hidden")
    assert client.page.inner_text(".studio-error") == ""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_a_video_comes_back_as_a_video(client: Page, song: Path, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        "testsrc=size=64x64:rate=5:duration=3",
        "-i",
        song,
        "-t",
        "3",
    ]
    subprocess.run([*command, "-pix_fmt", "yuv420p", film], check=True)
    client.open(film)
    client.separate("piano")
    client.page.click(client.row("rest", "mute"))
    name, content = client.download(".studio-save-video")
    (tmp_path / "back.mp4").write_bytes(content)
    assert name == "film (mix).mp4"
    streams = ["ffprobe", "-v", "error", "-show_entries", "stream=codec_type", "-of", "csv=p=0", tmp_path / "back.mp4"]
    kinds = subprocess.run(streams, capture_output=True, text=True, check=True).stdout.split()
    assert sorted(kinds) == ["audio", "video"]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_and_is_used_by_the_keyboard_alone(
    chromium: Any, address: str, song: Path, scheme: str
) -> None:
    context = chromium.new_context(viewport={"width": 360, "height": 740}, color_scheme=scheme, has_touch=True)
    client = Page(context.new_page(), address)
    client.open(song)
    client.page.focus(".studio-text")
    client.page.keyboard.type("piano")
    client.page.keyboard.press("Enter")
    track = client.new_track()
    page = client.page
    for width in (320, 360):
        page.set_viewport_size({"width": width, "height": 740})
        wide = """[...document.querySelectorAll('.studio-recording *')].filter((one) => one.offsetParent &&
            one.getBoundingClientRect().right > one.closest('section').getBoundingClientRect().right + 1).length"""
        assert page.evaluate(wide) == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    unnamed = """[...document.querySelectorAll('.studio button, .studio input, .studio select')].filter(
        (one) => !(one.ariaLabel || one.textContent.trim() || one.labels?.length)).length"""
    assert page.evaluate(unnamed) == 0
    # What changes while it plays is no live region, which screen readers would read aloud without an end.
    assert page.locator(".studio-recording").get_by_role("status").count() == 0
    small = """[...document.querySelectorAll('.studio button')].filter(
        (one) => one.offsetParent && one.getBoundingClientRect().height < 32).length"""
    assert page.evaluate(small) == 0
    colours = page.evaluate(
        "[getComputedStyle(document.querySelector('.studio')).color, getComputedStyle(document.body).backgroundColor]"
    )
    text, ground = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours)
    assert abs(text - ground) > 300
    assert (text > ground) == (scheme == "dark")
    page.focus(".studio-main")
    page.keyboard.press("1")
    page.keyboard.press("l")
    page.keyboard.press(" ")
    client.hears()
    page.keyboard.press("m")
    client.hears_nothing_of(track)
    page.keyboard.press("2")
    page.keyboard.press("s")
    client.hears("rest")
    page.keyboard.press("m")
    client.hears_nothing_of()
    page.keyboard.press(" ")
    page.keyboard.press("Home")
    page.wait_for_function("document.querySelector('.studio-time').textContent.startsWith('0:00.0')")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('.studio-time').textContent.startsWith('0:05.0')")
    page.focus(".studio-text")
    page.keyboard.type("ms 1")  # in a field the keys are letters
    assert page.input_value(".studio-text").endswith("ms 1")
    assert page.get_attribute(client.row(track, "mute"), "aria-pressed") == "true"
    context.close()
    assert client.errors == []


@pytest.mark.slow
def test_what_is_heard_is_suggested_and_separated_by_a_click(
    client: Page,
) -> None:
    recording = Path(__file__).parents[1] / "examples" / "audio" / "reading.flac"
    client.page.select_option(".studio-model", "mini")
    client.open(recording)
    client.page.wait_for_selector("[data-sound]", timeout=120_000)
    names = client.page.evaluate("[...document.querySelectorAll('[data-sound]')].map(one => one.dataset.sound)")
    assert any("speech" in name or "man" in name for name in names)
    client.page.locator("[data-sound]").first.hover()
    client.page.locator("[data-sound]").first.click()
    client.new_track()
    assert client.page.inner_text(".studio-track-name >> nth=0") == names[0]
    # One figure says how sure it is, that of the track; the list has an order and two groups.
    assert "%" not in client.page.inner_text(".studio-heard")
    assert "Perhaps:" in client.page.inner_text(".studio-heard")
    assert "% sure that the recording has it" in client.page.inner_text(".studio-track-about >> nth=0")


@pytest.mark.slow
def test_programs_separate_and_describe(address: str, song: Path) -> None:
    client = pytest.importorskip("gradio_client")
    remote = client.Client(address, verbose=False)
    files = remote.predict(client.handle_file(song), "piano\ndog", api_name="/separate")
    assert [Path(file).name for file in files] == [
        "my song (piano).wav",
        "my song (dog).wav",
        "my song (without piano, dog).wav",
    ]
    assert read_audio(files[0])[0].shape == read_audio(song)[0].shape
    assert len(remote.predict(client.handle_file(song), api_name="/stems")) == 4
    with pytest.raises(Exception, match="name 1 to 8 sounds"):
        remote.predict(client.handle_file(song), " ", api_name="/separate")
    with pytest.raises(Exception, match="no tagger"):
        remote.predict(client.handle_file(song), api_name="/describe")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_separates_as_the_page_says(address: str, song: Path) -> None:
    def curl(*arguments: object) -> str:
        return subprocess.run(["curl", "-sS", *map(str, arguments)], capture_output=True, text=True, check=True).stdout

    path = json.loads(curl("-F", f"files=@{song}", f"{address}gradio_api/upload"))[0]
    call = f"{address}gradio_api/call/separate"
    data = json.dumps({"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}, "piano"]})
    event = json.loads(curl(call, "-H", "Content-Type: application/json", "-d", data))["event_id"]
    answer = curl(f"{call}/{event}")
    assert "event: complete" in answer
    files = json.loads(answer.split("data: ")[-1])[0]
    assert [Path(file["path"]).name for file in files] == ["my song (piano).wav", "my song (without piano).wav"]
