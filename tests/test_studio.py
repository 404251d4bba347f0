"""The studio's server without a browser: who may speak to it, what it takes, what it keeps and when it is gone."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import logging
import os
import re
import shutil
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import sounds
import torch
from conftest import Run
from doubles import FakeEncoder, IdentityModel, TinyModel
from odd_files import Sound, container, tones

from audiosep.audio import AudioWriter, probe, read_audio, write_audio
from audiosep.audio.broadcast import Broadcast, read_broadcast
from audiosep.audio.chapters import Chapter, read_chapters
from audiosep.audio.marker import fingerprint, origin_of
from audiosep.errors import AudioSepError, Cancelled, InputError
from audiosep.inference import threads
from audiosep.separator import Separator
from audiosep.weights.checkpoint import save_model

pytest.importorskip("gradio", reason="Gradio is not installed: pip install 'audiosep[studio]'")
testclient = pytest.importorskip("starlette.testclient")

from starlette.requests import HTTPConnection  # noqa: E402

from audiosep.studio.app import Studio  # noqa: E402
from audiosep.studio.clients import UploadShares, client_of  # noqa: E402
from audiosep.studio.downloads import write_download  # noqa: E402
from audiosep.studio.interface import Interface  # noqa: E402
from audiosep.studio.recording import Recording, open_recording, safe_suffix, shown_name  # noqa: E402
from audiosep.studio.server import address_of, is_loopback, listen_on, make_server  # noqa: E402
from audiosep.studio.sessions import Sessions  # noqa: E402
from audiosep.studio.studio_limits import Limits, check_upload  # noqa: E402
from audiosep.studio.wanted import query_of  # noqa: E402
from audiosep.studio.work import Work, answer  # noqa: E402

RATE = 16000
HOST = "localhost"
Make = Callable[..., Any]
MODELS = {"identity": lambda: Separator(IdentityModel(), FakeEncoder(), "cpu", "fp32", name="identity")}


@pytest.fixture
def make() -> Iterator[Make]:
    """make(...) -> (studio, a client of it)"""
    made: list[Studio] = []

    def build(**options: Any) -> tuple[Studio, Any]:
        studio = Studio(MODELS, **{"hosts": {HOST}, **options})
        made.append(studio)
        return studio, testclient.TestClient(studio.asgi, base_url=f"http://{HOST}")

    yield build
    for studio in made:
        studio.close()


@pytest.fixture
def work() -> Iterator[Work]:
    """What answers pages, without a server."""
    sessions = Sessions(Limits())
    yield Work(sessions, MODELS)
    sessions.close()


@pytest.fixture
def song(tmp_path: Path) -> Path:
    path = tmp_path / "song.wav"
    write_audio(path, sounds.voice(2.0, RATE, 1)[None].astype(np.float32), RATE)
    return path


@pytest.mark.parametrize(("asked", "used"), [(None, [1, 3, 4]), (2, [2, 2, 2])])
def test_each_request_gets_the_threads_whose_cpus_are_free(
    work: Work, monkeypatch: pytest.MonkeyPatch, asked: int | None, used: list[int]
) -> None:
    free = iter([1, 3, 8])
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "free_cpus", lambda: next(free))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        work = Work(work.sessions, MODELS, asked)
        assert [work.compute(torch.get_num_threads) for _ in range(3)] == used
    finally:
        torch.set_num_threads(before)


def opened(work: Work, song: Path, name: str = "song.wav") -> Any:
    """A session with a recording, as the page opens it."""
    session = work.sessions.create("here")
    assert opened_there(work, session, song.read_bytes(), name) is None
    return session


def opened_there(work: Work, session: Any, content: bytes, name: str = "song.wav") -> Any:
    """Why a session cannot open a file; None where it can."""
    upload = work.sessions.uploads / "0123" / "song.wav"
    upload.parent.mkdir(exist_ok=True)
    upload.write_bytes(content)
    session.accept("open", work.limits)
    answer(session, "open", lambda: work.open(session, "open", upload, name))
    return session.document()["finished"]["open"]["error"]


def separated(work: Work, session: Any, **wanted: Any) -> Any:
    session.accept("go", work.limits)
    answer(session, "go", lambda: work.separate(session, "go", wanted))
    return session.document()["finished"]["go"]["error"]


def written(session: Any, **wanted: Any) -> Any:
    """What the page hears of a download: {"error"} and, in "answer", the key of the file and remarks."""
    session.accept("write", Limits())
    answer(session, "write", lambda: write_download(session, "write", wanted))
    return session.document()["finished"]["write"]


@pytest.fixture
def served(run: Run, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, list[Any]]]:
    """served(options of the verb) -> (exit code, standard error, the studios that would be served)"""
    studios: list[Any] = []

    def serve(studio: Studio, server: Any, listening: Any) -> None:
        listening.close()
        studio.close()
        studios.append(studio)

    def start(*options: object) -> tuple[int, str, list[Any]]:
        code, _, err = run("studio", "-m", tiny_folder, "--device", "cpu", "--no-browser", "--port", 0, *options)
        return code, err, studios

    monkeypatch.setattr("audiosep.studio.server.serve", serve)
    return start


def test_a_quiet_studio_says_its_address_alone(served: Any) -> None:
    code, err, _ = served("--quiet")
    assert (code, bool(re.fullmatch(r"http://127\.0\.0\.1:\d+/\n", err))) == (0, True), err
    code, err, _ = served("--quiet", "--host", "0.0.0.0")
    assert (code, bool(re.fullmatch(r"http://\S+:\d+/\?token=[\w-]{32}\n", err))) == (0, True), err


@pytest.mark.parametrize(
    ("name", "message"),
    [("htdemcus", "did you mean 'htdemucs'"), ("mine.safetensors", "no adapter mine.safetensors"), (".", "no model")],
)
def test_models_of_the_page_are_looked_up_at_the_start(served: Any, name: str, message: str) -> None:
    code, err, studios = served("--also", name)
    assert code != 0
    assert message in err
    assert studios == []


def test_a_stems_model_answers_on_the_page(served: Any, song: Path, tmp_path: Path) -> None:
    special = save_model(tmp_path / "special", TinyModel(), query=None)
    code, err, studios = served("--stems-model", special, "--also", special)
    assert code == 0, err
    first, second = studios[0].work.models
    assert first.endswith(f", stems by {special}")
    assert second == str(special)
    separator = studios[0].work.separator()
    assert separator.specialist is not None
    assert separator.stems_for(["drums", "tambourine"]) == {"drums": "drums"}
    code, err, _ = served("--stems-model", "htdemcus")
    assert (code, "did you mean" in err, "configuration file" in err) == (1, True, False)


def test_a_stems_model_of_the_configuration_that_is_not_here_is_explained(
    run: Run, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIOSEP_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").write_text('stems_model = "htdemcus"\n')
    monkeypatch.setattr("audiosep.weights.catalogue.installed", lambda name: tiny_folder if name == "mini" else None)
    code, _, err = run("studio", "--device", "cpu", "--no-browser", "--port", 0)
    assert code == 1
    assert "did you mean 'htdemucs'" in err
    assert "--stems-model none" in err


def test_other_hosts_origins_and_sites_are_refused(make: Make) -> None:
    _, client = make()
    page = "/studio/assets/mixer.js"
    fine = client.get(page)
    assert fine.status_code == 200
    assert "connect-src 'self'" in fine.headers["content-security-policy"]
    assert client.get(page, headers={"Host": "evil.example"}).status_code == 421
    assert client.post("/studio/sessions", headers={"Origin": "http://evil.example"}).status_code == 403
    assert client.post("/studio/sessions", headers={"Origin": "null"}).status_code == 403
    assert client.post("/studio/sessions", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.post("/studio/sessions", headers={"Origin": f"http://{HOST}"}).status_code == 200
    assert client.get("/gradio_api/proxy=http://example.com/x").status_code == 404
    assert client.post("/gradio_api/upload", headers={"Content-Length": str(2**40)}).status_code == 413
    assert client.post("/gradio_api/upload", headers={"Content-Length": "-1"}).status_code == 413


def test_a_client_uploads_its_share_and_no_more(make: Make) -> None:
    _, client = make(limits=Limits(upload_bytes=2**17, client_uploads=2))
    path = "/gradio_api/upload"
    answers = [client.post(path, content=b"x" * 100_000) for _ in range(3)]
    assert [answer.status_code == 429 for answer in answers] == [False, False, True]
    assert "larger --max-upload" in answers[2].text
    _, client = make(limits=Limits(upload_bytes=2**17, client_uploads=2))
    answers = [client.post(path, files={"files": ("a.wav", b"x" * 10)}) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 429]  # small ones fill the disk, too
    assert client.post("/studio/sessions", content=b"{}").status_code == 200  # what is no upload is not counted


def test_shares_of_uploads_are_of_clients_and_come_back() -> None:
    now = 0.0
    shares = UploadShares(Limits(upload_bytes=10, client_uploads=2, idle=60.0), clock=lambda: now)
    assert [shares.take("a", size) is None for size in (10, 5, 6, 5)] == [True, True, False, True]
    assert shares.take("b", 20) is None
    now = 60.0
    assert shares.take("a", 20) is None
    assert shares.take("a", 1) is not None


def test_the_token_opens_the_studio(make: Make) -> None:
    _, client = make(token="secret")
    page = "/studio/assets/mixer.css"
    assert client.get(page).status_code == 401
    assert client.get(f"{page}?token=wrong").status_code == 401
    assert client.get(page, headers={"Authorization": "Bearer secret"}).status_code == 200
    assert client.get(page, headers={"Authorization": "Bearer sécret".encode()}).status_code == 401
    came = client.get(f"{page}?token=secret&theme=dark", follow_redirects=False)
    assert came.headers["location"] == f"{page}?theme=dark"
    assert "HttpOnly" in came.headers["set-cookie"]
    assert "SameSite=lax" in came.headers["set-cookie"]  # a strict one would be kept back where another site leads here
    assert client.get(page).status_code == 200  # by the cookie
    _, other = make(token="another")
    assert other.get(f"{page}?token=another").status_code == 200
    client.cookies.update(other.cookies)  # as of one host
    assert client.get(page).status_code == 200


def test_the_address_has_the_token_where_others_reach_it() -> None:
    listening = listen_on("127.0.0.1", 0)
    port = listening.getsockname()[1]
    assert address_of(listening, "127.0.0.1", None) == f"http://127.0.0.1:{port}/"
    assert address_of(listening, "10.0.0.1", "x") == f"http://10.0.0.1:{port}/?token=x"
    listening.listen()
    with pytest.raises(InputError, match="choose another --port"):
        listen_on("127.0.0.1", port)
    listening.close()
    assert is_loopback("127.0.0.2")
    assert is_loopback("::1")
    assert is_loopback("localhost")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("127.lan.example")


def test_nothing_outside_is_read(make: Make, song: Path, tmp_path: Path) -> None:
    studio, client = make()
    outside = tmp_path / "private.wav"
    outside.write_bytes(song.read_bytes())
    uploads = studio.work.sessions.uploads
    (uploads / "1").mkdir()
    (uploads / "1" / "link.wav").symlink_to(outside)
    (uploads / "2").symlink_to(tmp_path, target_is_directory=True)
    session = studio.work.sessions.create("here")
    wrong = ["1/link.wav", "2/private.wav", "../x", f"../../{outside}", "1", "", "x\0y", "a" * 5000, str(outside)]
    for path in wrong:
        with pytest.raises(InputError, match="no such upload"):
            studio.work.open(session, "open", uploads / path, "song.wav")
    assert outside.exists()
    folder = f"/studio/sessions/{session.id}"
    for address in (
        f"{folder}/files/..%2f..%2fetc%2fpasswd",
        f"{folder}/samples/%2e%2e%2fmix?start=0&count=1",
        f"{folder}/view/x",
    ):
        assert client.get(address).status_code in (400, 404)
    for address in ("/studio/assets/..%2fapp.py", "/studio/assets/app.py", "/studio/sessions/..%2f"):
        assert client.get(address).status_code in (400, 404)
    for path in ("/etc/passwd", outside, uploads / "1" / "link.wav", uploads / ".." / session.id):
        assert client.get(f"/gradio_api/file={path}").status_code in (403, 404), path


def test_programs_name_uploads_only(make: Make, tmp_path: Path, song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gradio import processing_utils

    fetched: list[str] = []
    monkeypatch.setattr(processing_utils, "async_ssrf_protected_download", lambda url, **_: fetched.append(url))
    studio, client = make()
    link = studio.work.sessions.uploads / "link.wav"
    link.symlink_to(song)
    other = opened(studio.work, song)
    call = "/gradio_api/call/describe"
    with client:
        for path in ("/etc/passwd", song, link, other.recording.mix, "http://203.0.113.1/song.wav", "https://x/y"):
            data = {"data": [{"path": str(path), "meta": {"_type": "gradio.FileData"}}]}
            event = client.post(call, json=data).json()["event_id"]
            told = client.get(f"{call}/{event}").text
            assert re.search(r"event: error\ndata: .*(no such upload|fetches nothing)", told), (path, told)
    assert fetched == []


def test_requests_state_their_length(make: Make) -> None:
    _, client = make()
    assert client.post("/gradio_api/upload", content=iter([b"x"] * 10)).status_code == 411
    assert client.post("/studio/sessions", content=iter([b"{}"])).status_code == 411


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.MP4", ".mp4"),
        ("../../x.wav", ".wav"),
        ("x.php", ".bin"),
        ("x.wav/..", ".bin"),
        ("x.wav\0.sh", ".bin"),
        ("", ".bin"),
    ],
)
def test_names_never_become_paths(name: str, suffix: str) -> None:
    assert safe_suffix(name) == suffix
    assert "/" not in shown_name(name)
    assert 0 < len(shown_name(name * 1000)) <= 255


def test_limits_are_told_before_anything_is_decoded(song: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="MiB"):
        check_upload(song, Limits(upload_bytes=1000))
    with pytest.raises(InputError, match="more than the limit of 1 s"):
        check_upload(song, Limits(seconds=1.0))
    with pytest.raises(InputError, match="when it is decoded"):
        check_upload(song, Limits(decoded_bytes=1000))
    playlist = tmp_path / "list.mp3"
    for text in (
        b"#EXTM3U\nfile:///etc/passwd",
        b"ffconcat version 1.0\nfile song.wav",
        b"ID3\4\0\0\0\0\0\2..#EXTM3U\n/x",
    ):
        playlist.write_bytes(text)
        with pytest.raises(InputError, match="playlist"):
            check_upload(playlist, Limits())
    assert check_upload(song, Limits()).channels == 1


def test_a_separated_track_is_played_mixed_and_removed(make: Make, song: Path) -> None:
    studio, client = make()
    session = opened(studio.work, song, "../my <song>.wav")
    assert session.document()["recording"]["name"] == "my <song>.wav"
    assert separated(studio.work, session, text="a/../b") is None
    track = session.document()["tracks"][0]
    assert track["complete"]
    of = f"/studio/sessions/{session.id}"
    for part in ("mix", "rest", track["id"]):
        assert client.get(f"{of}/view/{part}?from=0&to=2&columns=800").json()["columns"] > 400
    mix, one = (
        np.frombuffer(client.get(f"{of}/samples/{part}?start=100&count=5000").content, np.float32)
        for part in ("mix", track["id"])
    )
    assert np.abs(mix - one).max() <= 2**-15  # the model gives the mixture, in 16 bits
    key = written(session, kind="track", track=track["id"])["answer"]["key"]
    answered = client.get(f"{of}/files/{key}")
    assert "my%20_song_%20%28a_.._b%29.wav" in answered.headers["content-disposition"]
    for gains, rest in (({track["id"]: -3}, 1), ({"x": 1}, 1), ({}, "1"), (None, 1)):
        assert "reload the page" in written(session, kind="mix", gains=gains, rest=rest)["error"]
    assert "a download is" in written(session)["error"]
    assert client.post(f"{of}/remove", content=b"[]").status_code == 400
    assert client.get(f"{of}/samples/mix?start=-1&count=5").status_code == 400
    assert client.get(f"{of}/samples/mix?start=0&count={2**30}").status_code == 400
    assert client.get(f"{of}/samples/mix?start=99999999&count=5").content == b""
    assert client.post(f"{of}/remove", json={"track": track["id"]}).status_code == 200
    assert client.get(f"{of}/samples/{track['id']}?start=0&count=5").status_code == 400


@pytest.mark.parametrize("format", ["wav", "flac", "ogg", "opus", "mp3", "m4a"])
def test_downloads_are_the_files_of_the_command_line(
    make: Make, tmp_path: Path, tiny_folder: Path, run: Run, format: str
) -> None:
    if format == "m4a":
        pytest.importorskip("av", reason="PyAV is not installed: pip install 'audiosep[formats]'")
    song = tmp_path / f"{'long ' * 40}.flac"
    tags = {"title": "Song", "artist": "Band"}
    with AudioWriter(song, RATE, 1, tags=tags, chapters=(Chapter(0, 1, "Verse"), Chapter(1, 2, "Chorus"))) as writer:
        writer.write(sounds.voice(2.0, RATE, 1)[None].astype(np.float32))
    studio, client = make()
    session = opened(studio.work, song, song.name)
    assert separated(studio.work, session, text="piano") is None
    (track,) = session.tracks
    code, _, err = run(
        *("separate", song, "piano", "-o", tmp_path / "out", "-f", format, "-m", tiny_folder, "--device", "cpu")
    )
    assert code == 0, err

    def downloaded(**wanted: object) -> tuple[str, bytes]:
        key = written(session, format=format, **wanted)["answer"]["key"]
        answered = client.get(f"/studio/sessions/{session.id}/files/{key}")
        return unquote(answered.headers["content-disposition"].split("''")[1]), answered.content

    theirs = {path.name: path for path in (tmp_path / "out").iterdir()}
    alone = downloaded(kind="track", track=track)
    _, archived = downloaded(kind="all")
    with zipfile.ZipFile(io.BytesIO(archived)) as archive:
        ours = {name: archive.read(name) for name in archive.namelist() if not name.endswith(".txt")}
    assert set(ours) == set(theirs)
    assert alone[0] in ours
    for name, content in [*ours.items(), alone]:
        mine = tmp_path / name
        mine.write_bytes(content)
        infos = [probe(path) for path in (mine, theirs[name])]
        for field in ("depth", "sample_rate", "samples"):
            assert getattr(infos[0], field) == getattr(infos[1], field)
        tags = [{**info.tags, "software": ""} for info in infos]
        assert tags[0] == tags[1]
        assert read_chapters(mine) == read_chapters(theirs[name])
        assert len(read_chapters(mine)) == (0 if format == "wav" else 2)
        origin = origin_of(mine)
        assert origin is not None
        assert origin.recording == fingerprint(song)  # what was done on the page says no mark
    assert "format" in written(session, kind="all", format=["x"])["error"]


def test_a_mix_lies_where_its_recording_lies_on_the_time_line_of_a_day(work: Work, tmp_path: Path) -> None:
    song = tmp_path / "take.wav"
    broadcast = Broadcast(bytes(602), b"", 36_000 * RATE, RATE)
    with AudioWriter(song, RATE, 1, broadcast=broadcast) as writer:
        writer.write(sounds.voice(2.0, RATE, 1)[None].astype(np.float32))
    session = opened(work, song)
    made = written(session, kind="mix", gains={}, rest=1)["answer"]
    found = read_broadcast(session.files[made["key"]][0], RATE)
    assert found is not None
    assert found.reference == 36_000 * RATE


def test_a_mix_that_would_clip_says_how_much_softer_it_is(work: Work, song: Path) -> None:
    made = written(opened(work, song), kind="mix", gains={}, rest=100)["answer"]
    assert "dB softer than set" in made["remarks"][0]


@pytest.mark.parametrize("format", ["wav", "flac"])
@pytest.mark.parametrize(("gain", "softer"), [(0.5, False), (0.05, True)])
def test_the_files_of_a_zip_have_one_gain(
    work: Work, song: Path, tmp_path: Path, format: str, gain: float, softer: bool
) -> None:
    session = opened(work, song)
    assert separated(work, session, text="piano") is None
    assert separated(work, session, text="dog") is None
    (track, _) = session.tracks.values()
    x, _ = read_audio(song)
    quiet = tmp_path / "quiet.wav"
    write_audio(quiet, 0.4 * x, RATE)
    session.put(dataclasses.replace(track, path=quiet, gain=gain), session.recording)
    made = written(session, kind="all", format=format)["answer"]
    assert ["softer than heard" in remark for remark in made["remarks"]] == [True] * softer
    with zipfile.ZipFile(session.files[made["key"]][0]) as archive:
        archive.extractall(tmp_path)
    names = ("song (piano)", "song (dog)", "song (without piano, dog)")
    piano, dog, rest = (read_audio(tmp_path / f"{name}.{format}")[0] for name in names)
    np.testing.assert_allclose(piano, 0.4 / gain * dog, atol=2e-3)
    assert np.abs(dog).max() < np.abs(x).max() if softer else np.array_equal(dog, x)
    np.testing.assert_allclose(piano + dog + rest, dog, atol=1e-4)
    assert not list(session.recording.path.parent.glob("*/song*"))
    alone = written(session, kind="track", track=track.id, format=format)["answer"]
    assert f"{-20 * np.log10(gain):.1f} dB softer than heard" in alone["remarks"][0]


@pytest.mark.parametrize("kind", ["track", "all", "stems", "mix"])
def test_writing_a_download_tells_how_far_it_is_and_is_cancelled(work: Work, tmp_path: Path, kind: str) -> None:
    if kind == "stems":
        pytest.importorskip("av", reason="PyAV is not installed: pip install 'audiosep[formats]'")
    song = tmp_path / "song.wav"
    write_audio(song, np.tile(sounds.voice(4.0, RATE, 1), 7)[None].astype(np.float32), RATE)
    session = opened(work, song)
    assert separated(work, session, **({"stems": True} if kind == "stems" else {"text": "x"})) is None
    wanted = {"kind": kind, "format": "flac", "track": next(iter(session.tracks)), "gains": {}, "rest": 1}
    files = set(session.folder.rglob("*"))
    told: list[float] = []
    advance = session.advance

    def watch(request: str, fraction: float) -> bool:
        assert "Writing song" in session.document()["running"][0]["what"]
        told.append(fraction)
        return bool(advance(request, fraction))

    session.advance = watch
    assert written(session, **wanted)["error"] is None
    assert told == sorted(told)
    assert told[-1] == 1
    assert len(told) > 10
    made = set(session.folder.rglob("*")) - files
    for at in (0.04, 0.8):  # while the largest sample is looked for, and while it is written
        session.advance = lambda request, fraction, at=at: fraction < at
        assert written(session, **wanted)["error"] == "cancelled"
        assert set(session.folder.rglob("*")) - files == made  # nothing of it stays


@pytest.mark.parametrize("first", ["earlier", "later"])
def test_of_two_recordings_that_are_opened_at_once_the_later_one_stays(
    work: Work, song: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    session = work.sessions.create("here")
    uploads = {name: work.sessions.uploads / name / "song.wav" for name in ("earlier", "later")}
    for name, upload in uploads.items():
        upload.parent.mkdir()
        shutil.copy(song, upload)
        session.accept(name, work.limits)

    def opening(name: str) -> None:
        answer(session, name, lambda: work.open(session, name, uploads[name], name))

    def interrupted(path: Path, name: str, *others: Any) -> Recording:
        if name == first:
            return open_recording(path, name, *others)
        found = None if first == "earlier" else open_recording(path, name, *others)
        opening(first)
        assert session.opened().name == first
        return found or open_recording(path, name, *others)

    monkeypatch.setattr("audiosep.studio.work.open_recording", interrupted)
    opening("later" if first == "earlier" else "earlier")
    finished = session.document()["finished"]
    assert [finished[name]["error"] for name in uploads] == [None if first == "earlier" else "cancelled", None]
    assert session.opened().name == "later"
    assert list(session.folder.iterdir()) == [session.opened().path.parent]


def test_a_download_that_another_recording_ends_is_no_error(work: Work, song: Path) -> None:
    session = opened(work, song)
    other = opened(work, song).recording
    advance = session.advance

    def replace(request: str, fraction: float) -> bool:
        session.accept("open", work.limits)
        session.replace_recording(other, "open")
        return bool(advance(request, fraction))

    session.advance = replace
    assert written(session, kind="mix", gains={}, rest=1)["error"] == "cancelled"


@pytest.mark.parametrize("part", ["mix", "track", "rest"])
def test_a_part_of_a_picture_shows_what_is_there(make: Make, tmp_path: Path, part: str) -> None:
    clicks = np.full((1, 40 * RATE), 0.1, np.float32)
    clicks[:, 20 * RATE] = 0.9
    write_audio(tmp_path / "clicks.wav", clicks, RATE)
    studio, client = make()
    session = opened(studio.work, tmp_path / "clicks.wav")
    assert separated(studio.work, session, text="x") is None
    (track,) = session.tracks
    if part == "rest":  # which is all then
        session.tracks[track] = dataclasses.replace(session.tracks[track], gain=1e9)
    of = f"/studio/sessions/{session.id}/view/{track if part == 'track' else part}"
    for start, end in ((0, 40), (15, 35), (19.9, 20.1), (19.99, 20.01)):
        view = client.get(f"{of}?from={start}&to={end}&columns=500").json()
        assert 250 <= view["columns"] <= 500 or view["step"] == 1 / RATE
        assert 0 <= start - view["start"] < view["step"]
        assert -1e-6 < view["start"] + view["columns"] * view["step"] - end < 1.001 * view["step"]
        highest = np.frombuffer(base64.b64decode(view["peaks"]), np.int8).reshape(-1, 2)[:, 1]
        place = int((20 - view["start"]) / view["step"] + 1e-6)
        assert np.flatnonzero(highest > 100).tolist() == [place]
        levels = np.frombuffer(base64.b64decode(view["levels"]), np.uint8).reshape(view["rows"], -1)
        if end - start < 1:  # where a window of the spectrogram is longer than a column
            assert abs(int(levels[:24].astype(int).sum(0).argmax()) - place) * view["step"] < 0.07
    for wrong in ("", "?from=0&to=1", "?from=x&to=1&columns=9", "?from=nan&to=1&columns=9", "?from=0&to=1&columns=1"):
        assert client.get(f"{of}{wrong}").status_code == 400
    for start, end in ((2, 1), (41, 42), (1, 1)):
        assert "there is nothing" in client.get(f"{of}?from={start}&to={end}&columns=9").json()["error"]


def test_a_preview_comes_first_and_the_whole_takes_its_place(work: Work, tmp_path: Path) -> None:
    long = tmp_path / "long.wav"
    write_audio(long, np.tile(sounds.voice(4.0, RATE, 1), 10)[None].astype(np.float32), RATE)
    session = opened(work, long)
    seen: list[tuple[bool, float, float]] = []
    put = session.put

    def watch(track: Any, recording: Any) -> None:
        seen.append((track.complete, track.start, track.seconds))
        assert track.spans or track.origin == "stems"
        assert all(track.start <= start < end <= track.start + track.seconds for start, end in track.spans)
        put(track, recording)

    session.put = watch
    assert separated(work, session, text="piano", **{"from": 7.0}) is None
    assert seen == [(False, 7.0, 20.0), (True, 0.0, 40.0)]
    assert separated(work, session, stems=True) is None
    assert len(session.document()["tracks"]) == 5


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"text": ""},
        {"text": 3},
        {"text": "x" * 501},
        {"text": "x", "stems": True},
        {"spans": [[0, "1"]]},
        {"spans": [[2, 1]]},
        {"spans": [[0, 1, 2]]},
        {"spans": {}},
        {"text": "x", "not": [[0, float("nan")]]},
        {"text": "x", "spans": [[0, 1]] * 33},
        {"text": "x", "from": True},
        {"text": "x", "model": "other"},
        {"spans": [[100, 101]]},
        {"not": [[0, 1]]},
    ],
)
def test_impossible_requests_are_refused(work: Work, song: Path, wanted: dict[str, Any]) -> None:
    session = opened(work, song)
    error = separated(work, session, **wanted)
    assert error is not None
    assert "went wrong" not in error
    assert str(work.sessions.root) not in error
    assert session.document()["tracks"] == []


def test_a_query_has_words_and_marks() -> None:
    query = query_of({"text": "  dog   barking ", "spans": [[1, 2.5]], "not": [[3, 4]]})
    assert query is not None
    assert (query.text, query.spans, query.negative_spans) == ("dog barking", ((1, 2.5),), ((3, 4),))
    with pytest.raises(InputError, match="add words, or a stretch with This sound"):
        query_of({"not": [[3, 4]]})


def test_requests_wait_are_counted_and_cancelled(make: Make, song: Path) -> None:
    studio, client = make(limits=Limits(waiting=2, tracks=1))
    session = opened(studio.work, song)
    of = f"/studio/sessions/{session.id}"
    for name in ("one", "two"):
        assert client.post(f"{of}/requests", json={"request": name}).status_code == 200
    assert "wait already" in client.post(f"{of}/requests", json={"request": "three"}).json()["error"]
    assert client.post(f"{of}/requests", json={"request": "a/b"}).status_code == 400
    client.post(f"{of}/cancel", json={"request": "one"})
    answer(session, "one", lambda: studio.work.separate(session, "one", {"text": "x"}))
    answer(session, "never accepted", lambda: studio.work.separate(session, "never accepted", {"text": "x"}))
    assert client.get(of).json()["tracks"] == []
    answer(session, "two", lambda: studio.work.separate(session, "two", {"text": "x"}))
    assert len(client.get(of).json()["tracks"]) == 1
    assert "up to 1 tracks" in separated(studio.work, session, text="y")


def test_a_running_request_is_cancelled_and_leaves_nothing(work: Work, song: Path) -> None:
    session = opened(work, song)
    advance = session.advance

    def cancel_in_the_middle(request: str, fraction: float) -> bool:
        session.drop()
        return bool(advance(request, fraction))

    session.advance = cancel_in_the_middle
    assert separated(work, session, text="x") == "cancelled"
    assert session.document()["tracks"] == []
    assert not [path for path in session.folder.rglob("*") if path.suffix == ".part"]
    assert not list(session.folder.rglob("*(x)*"))


def test_a_page_that_ends_while_its_tracks_are_drawn_is_no_failure(work: Work, song: Path, caplog: Any) -> None:
    session = opened(work, song)
    put = session.put

    def leave(*arguments: Any) -> None:
        put(*arguments)
        session.close()
        raise FileNotFoundError("the folder of the page is gone")

    session.put = leave
    assert separated(work, session, text="x") == "cancelled"
    assert "failed" not in caplog.text


def test_a_server_leaves_the_handlers_of_other_libraries_open(make: Make) -> None:
    closed = []

    class Handler(logging.Handler):
        def close(self) -> None:
            closed.append(self)
            super().close()

    handler = Handler()
    studio, _ = make()
    make_server(studio)
    assert handler not in closed


def test_gradio_forgets_its_copies_of_old_pages(make: Make) -> None:
    studio, _ = make()
    apps = [getattr(route, "app", None) for route in studio.asgi._app.routes]
    gradio = next(app for app in apps if hasattr(app, "state_holder"))
    assert gradio.state_holder.capacity <= 32


def test_another_recording_ends_what_was_asked_of_the_one_before(work: Work, song: Path) -> None:
    session = opened(work, song)
    before, advance = session.recording, session.advance
    other = opened(work, song).recording

    def open_in_the_middle(request: str, fraction: float) -> bool:
        session.accept("open", work.limits)
        session.drop("go")
        session.begin("open", "Opening", "opening")
        assert [one["request"] for one in session.document()["running"]] == ["open"]
        wanted = bool(advance(request, fraction))
        session.finish("open")
        return wanted

    session.advance = open_in_the_middle
    assert separated(work, session, text="x") == "cancelled"
    session.advance = advance
    session.recording = other  # while the last block is computed
    with pytest.raises(Cancelled):
        session.put_heard((), before)
    assert separated(work, session, text="x") is None
    track = next(iter(session.tracks.values()))
    with pytest.raises(Cancelled):
        session.put(track, before)


def test_a_file_that_is_refused_ends_nothing(work: Work, song: Path) -> None:
    session = opened(work, song)
    session.accept("go", work.limits)
    assert "a text" in opened_there(work, session, b"no recording")
    assert session.document()["waiting"] == ["go"]
    session.accept("open", work.limits)
    session.accept("later", work.limits)
    assert opened_there(work, session, song.read_bytes()) is None
    assert session.document()["finished"]["go"]["error"] == "cancelled"
    assert "later" in session.document()["waiting"]


def test_what_a_track_answers_makes_no_second_one(work: Work, song: Path) -> None:
    session = opened(work, song)

    def asked(**wanted: Any) -> Any:
        assert separated(work, session, **wanted) is None
        return session.document()["finished"]["go"]["answer"], [track.name for track in session.tracks.values()]

    assert asked(text="Dog") == (None, ["Dog"])
    (dog,) = session.tracks
    assert asked(text=" the  dog") == (dog, ["Dog"])
    assert asked(text="dog", spans=[[0, 1]])[0] is None
    session.remove(next(reversed(session.tracks)))
    assert asked(text="drums") == (None, ["Dog", "drums"])
    stems = ["vocals", "drums", "bass", "other"]
    assert asked(stems=True) == (None, ["Dog", *stems])  # in the place of the drums that were there
    assert asked(stems=True) == (list(session.tracks)[1], ["Dog", *stems])
    assert asked(text="the drums") == (list(session.tracks)[2], ["Dog", *stems])
    assert len(list(session.folder.rglob("*(*).wav"))) == 5


def test_a_removed_preview_does_not_come_back(work: Work, tmp_path: Path) -> None:
    long = tmp_path / "long.wav"
    write_audio(long, np.tile(sounds.voice(4.0, RATE, 1), 10)[None].astype(np.float32), RATE)
    session = opened(work, long)
    put = session.put

    def remove_at_once(track: Any, recording: Any) -> None:
        put(track, recording)
        session.remove(track.id)

    session.put = remove_at_once
    assert separated(work, session, text="piano") == "cancelled"
    assert session.tracks == {}
    assert not list(session.folder.rglob("*(piano)*"))


def test_pages_may_upload_the_same_file(work: Work, song: Path) -> None:
    folder = work.sessions.uploads / "0123"
    folder.mkdir()
    sessions = [work.sessions.create("here") for _ in range(2)]
    for number in range(2):
        (folder / f"upload {number}").write_bytes(song.read_bytes())
    for number, session in enumerate(sessions):
        session.accept("open", work.limits)
        upload = folder / f"upload {number}"
        answer(session, "open", lambda at=session, upload=upload: work.open(at, "open", upload, "song.wav"))
        assert session.document()["finished"]["open"]["error"] is None


def test_downloads_do_not_pile_up(make: Make, song: Path) -> None:
    studio, client = make()
    session = opened(studio.work, song)
    assert separated(studio.work, session, text="x") is None
    of = f"/studio/sessions/{session.id}"
    keys = [written(session, kind="all")["answer"]["key"] for _ in range(6)]
    assert len(list(session.folder.rglob("*.zip"))) == 4
    assert [client.get(f"{of}/files/{key}").status_code for key in keys] == [400, 400, 200, 200, 200, 200]


def test_what_is_written_after_a_page_has_ended_is_deleted(work: Work, song: Path) -> None:
    session = opened(work, song)
    session.leave(Limits(lease=0.0))
    work.sessions.limits = Limits(lease=-30.0)
    work.sessions.sweep()
    assert not session.folder.exists()
    session.folder.mkdir()  # as by a request that was about to write
    kept = work.sessions.create("here")
    assert not session.folder.exists()
    assert kept.folder.exists()


def test_files_die_with_their_page_after_a_while_and_at_the_end(
    make: Make, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio, client = make()
    sessions = studio.work.sessions
    left, kept = opened(studio.work, song), sessions.create("here")
    now = time.monotonic()
    client.post(f"/studio/sessions/{left.id}/leave")
    monkeypatch.setattr(time, "monotonic", lambda: now + 10)
    sessions.sweep()
    assert left.folder.exists()  # it may be a reload
    monkeypatch.setattr(time, "monotonic", lambda: now + 30)
    sessions.sweep()
    assert not left.folder.exists()
    assert "reload" in client.get(f"/studio/sessions/{left.id}").json()["error"]
    monkeypatch.setattr(time, "monotonic", lambda: now + 3700)
    kept.document()  # the page is open, but nobody has used it for an hour
    sessions.sweep()
    assert not kept.folder.exists()
    forgotten = sessions.uploads / "3" / "song.wav"
    forgotten.parent.mkdir()
    forgotten.touch()
    os.utime(forgotten.parent, (1, 1))
    cancelled = sessions.uploads / "tmp4"
    cancelled.touch()
    os.utime(cancelled, (1, 1))
    sessions.sweep()
    assert not forgotten.parent.exists()
    assert not cancelled.exists()
    studio.close()
    assert not sessions.root.exists()


def test_only_so_many_pages_are_open(make: Make) -> None:
    sessions = Sessions(Limits(pages=1))
    sessions.create("here")
    with pytest.raises(AudioSepError, match="1 pages are open"):
        sessions.create("there")
    sessions.close()


def client_at(studio: Studio, address: str) -> Any:
    return testclient.TestClient(studio.asgi, base_url=f"http://{HOST}", client=(address, 50000))


def test_a_client_does_not_get_all_pages(make: Make) -> None:
    studio, _ = make(limits=Limits(pages=3, client_pages=2))
    one, mapped, other = (client_at(studio, at) for at in ("203.0.113.1", "::ffff:203.0.113.1", "203.0.113.2"))
    assert one.post("/studio/sessions").status_code == 200
    assert mapped.post("/studio/sessions").status_code == 200
    refused = one.post("/studio/sessions")
    assert (refused.status_code, "2 pages of your address" in refused.json()["error"]) == (400, True)
    assert other.post("/studio/sessions").status_code == 200
    assert "3 pages are open" in other.post("/studio/sessions").json()["error"]


def test_addresses_of_one_customer_are_one_client() -> None:
    def client(address: str) -> str:
        return client_of(HTTPConnection({"type": "http", "client": (address, 1), "headers": []}))

    assert client("2001:db8::1") == client("2001:db8::ffff:0:0:2") != client("2001:db8:0:1::1")
    assert client("203.0.113.1") != client("203.0.113.2")
    assert client_of(HTTPConnection({"type": "http", "client": None, "headers": []})) == ""


def test_programs_of_a_client_do_not_get_all_places_of_the_queue(make: Make, song: Path) -> None:
    studio, _ = make(limits=Limits(client_requests=2))
    one, other = client_at(studio, "203.0.113.1"), client_at(studio, "203.0.113.2")
    call, gate = "/gradio_api/call/describe", threading.Event()
    blocker = threading.Thread(target=studio.work.compute, args=(gate.wait,))
    with one:
        (path,) = one.post("/gradio_api/upload", files={"files": song.read_bytes()}).json()
        data = {"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}]}
        blocker.start()  # the model is busy
        try:
            assert [one.post(call, json=data).status_code for _ in range(3)] == [200, 200, 503]
            assert "2 requests of your address" in one.post(call, json=data).json()["detail"]
            assert other.post(call, json=data).status_code == 200
        finally:
            gate.set()
            blocker.join()
        for beside in ("run", "api"):  # they would be answered without waiting
            assert one.post(f"/gradio_api/{beside}/describe", json=data).status_code == 404


def test_gradio_sends_nothing_away_and_its_page_names_no_other_server(make: Make) -> None:
    import gradio.analytics

    _, client = make()
    assert not gradio.analytics.analytics_enabled()
    page = client.get("/").text
    assert "fonts.googleapis" not in page
    assert "cdnjs" not in page
    config = json.dumps(client.get("/config").json())
    assert "googleapis" not in config
    assert str(Path.home()) not in config


def test_one_thread_runs_models(work: Work) -> None:
    with ThreadPoolExecutor(4) as callers:
        found = set(callers.map(lambda _: work.compute(threading.get_ident), range(8)))
    assert len(found) == 1
    with pytest.raises(InputError, match="open a recording"):
        work.compute(lambda: work.listen(work.sessions.create("here"), "x"))


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_damage_of_a_recording_is_told_to_the_page(make: Make, song: Path, tmp_path: Path, suffix: str) -> None:
    cut = tmp_path / f"cut.{suffix}"
    write_audio(cut, *read_audio(song))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    studio, _ = make()
    session = opened(studio.work, cut, cut.name)
    remarks = session.document()["recording"]["remarks"]
    assert remarks
    assert all(remark.startswith(cut.name) for remark in remarks)
    assert str(session.folder) not in "".join(remarks)
    session.recording.mix.unlink()
    error = written(session, kind="mix", gains={}, rest=1)["error"]
    assert "the recording" in error
    assert str(studio.work.sessions.root) not in error


@pytest.mark.parametrize("way", ["page", "program"])
def test_the_log_has_sizes_of_uploads_and_no_names(
    make: Make, song: Path, tmp_path: Path, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    late = [Sound(tones(1, 2.0, RATE), RATE, start=1.0), Sound(tones(1, 2.0, RATE), RATE, start=1.0)]
    film = container(tmp_path / "x.mkv", "flac", late, picture=3.0)
    studio, _ = make()
    caplog.set_level(logging.INFO, "audiosep")
    if way == "page":
        session = opened(studio.work, film, "Zoë's secret.mkv")
        remarks = session.document()["recording"]["remarks"]
        assert all(remark.startswith("Zoë's secret.mkv") for remark in remarks)
        error = opened_there(studio.work, session, b"no sound" + bytes(999), "Zoë's diary.wav")
        assert error.startswith("Zoë's diary.wav cannot be read")
        place = session.id
    else:
        upload = studio.work.sessions.uploads / "0123" / "Zoë's secret.mkv"
        upload.parent.mkdir()
        upload.write_bytes(film.read_bytes())
        interface = Interface(studio.work, ValueError)
        outputs = interface.separate(str(upload), "piano")
        assert [Path(path).name for path in outputs][:1] == ["Zoë's secret (piano).wav"]
        assert all(Path(path).is_file() for path in outputs)
        upload.write_bytes(b"no sound" + bytes(999))
        with pytest.raises(ValueError, match=r"^Zoë's secret\.mkv cannot be read"):
            interface.describe(str(upload))
        upload.unlink()
        with pytest.raises(ValueError, match="no such upload"):
            interface.describe(str(upload))
        place = str(upload)
    said = caplog.text
    assert f"{film.stat().st_size} bytes" in said
    assert "silence fills that" in said
    assert "Zoë" not in said
    assert place not in said


def test_the_log_of_a_failure_does_not_open_the_page(
    work: Work, song: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    session = opened(work, song, "Zoë.wav")

    def fail() -> None:
        raise OSError(28, "No space left on device", str(session.recording.path))

    session.accept("work", work.limits)
    answer(session, "work", fail)
    assert "No space left on device" in caplog.text
    assert "in fail" in caplog.text
    assert session.id not in caplog.text
    assert "Zoë" not in caplog.text


def test_another_audio_track_of_a_film_is_opened(work: Work, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed: pip install 'audiosep[formats]'")
    x = tones(1, 1)
    film = container(tmp_path / "film.mkv", "flac", [Sound(0 * x, default=True, language="eng"), Sound(x)], picture=1)
    session = opened(work, film, film.name)
    quiet = session.recording.mix
    assert session.document()["recording"]["audio"] == ["1 (eng, default)", "2"]
    assert not np.any(read_audio(quiet)[0])
    for track in (3, 2):
        session.accept("track", work.limits)
        answer(session, "track", lambda track=track: work.open_track(session, "track", track))
        error = session.document()["finished"]["track"]["error"]
        assert quiet.exists() == (error is not None) == (track == 3)
    shown = session.document()["recording"]
    assert (shown["name"], shown["track"], shown["remarks"]) == ("film.mkv", 2, [])
    assert separated(work, session, text="x") is None
    (separate,) = session.tracks.values()
    assert np.abs(read_audio(separate.path)[0]).max() > 0.1  # the model gives the mixture


def test_stems_become_one_file_for_dj_programs(make: Make, song: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed: pip install 'audiosep[formats]'")
    studio, client = make()
    session = opened(studio.work, song)
    assert "press Four stems first" in written(session, kind="stems")["error"]
    assert separated(studio.work, session, stems=True) is None
    key = written(session, kind="stems")["answer"]["key"]
    content = client.get(f"/studio/sessions/{session.id}/files/{key}").content
    assert content[4:8] == b"ftyp"
    assert b"mastering_dsp" in content


def test_tools_of_the_model_context_protocol_are_those_for_programs(make: Make) -> None:
    pytest.importorskip("mcp", reason="mcp is not installed: pip install 'audiosep[studio]'")
    _, client = make(mcp=True)
    tools = {tool["name"] for tool in client.get("/gradio_api/mcp/schema").json()}
    assert {name.rpartition("_")[2] for name in tools} == {"separate", "stems", "describe"}
    public = client.get("/gradio_api/info").json()["named_endpoints"]
    assert set(public) == {"/separate", "/stems", "/describe"}


def test_what_programs_send_is_checked_while_it_is_decoded(work: Work, song: Path, tmp_path: Path) -> None:
    upload = work.sessions.uploads / "1" / "song.flac"
    upload.parent.mkdir()
    read, rate = read_audio(song)
    write_audio(upload, read, rate)
    data = bytearray(upload.read_bytes())
    data[21] &= 0xF0  # flac without its number of samples, as out of a pipe
    data[22:26] = bytes(4)
    upload.write_bytes(data)
    assert not probe(upload).seconds
    work.sessions.limits = dataclasses.replace(work.limits, decoded_bytes=1000)
    interface = Interface(work, RuntimeError)
    for ask in (interface.stems, interface.describe, lambda file: interface.separate(file, "dog")):
        with pytest.raises(RuntimeError, match="when it is decoded"):
            ask(str(upload))
    assert [path.name for path in work.sessions.uploads.iterdir()] == ["1"]


def test_what_a_job_works_on_is_not_swept(work: Work) -> None:
    folders = [work.sessions.uploads / name for name in ("old", "used")]
    for folder in folders:
        folder.mkdir()
        os.utime(folder, (0, 0))
    with work.sessions.keeping(folders[1]):
        work.sessions.sweep()
        assert [folder.exists() for folder in folders] == [False, True]
    work.sessions.sweep()
    assert not folders[1].exists()


def test_what_is_refused_to_a_program_is_a_line_of_the_log_without_a_traceback(
    make: Make, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    _, client = make()
    call = "/gradio_api/call/describe"
    with client:
        (upload,) = client.post("/gradio_api/upload", files={"files": ("Zoë.wav", b"no sound")}).json()
        for place in ("http://example.com/a.wav", upload, "/etc/passwd"):
            data = {"data": [{"path": place, "meta": {"_type": "gradio.FileData"}}]}
            event = client.post(call, json=data).json()["event_id"]
            assert "event: error" in client.get(f"{call}/{event}").text
    said = [record.getMessage() for record in caplog.records]
    assert "refused: an address in the place of an upload" in said
    assert "refused: a file that was not uploaded" in said
    assert any(line.startswith("refused: the file is a text") for line in said)
    assert "Traceback" not in capfd.readouterr().err
    assert "Zoë" not in caplog.text
