"""The HTTP service of the examples: what it takes, what it refuses, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import Mixture

from audiosep.separator import Separator

pytest.importorskip("starlette")
pytest.importorskip("python_multipart")
pytest.importorskip("httpx")

from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient

ROOT = Path(__file__).parents[1]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, separator: Separator) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import service

    return service.Service(separator, service.Limits(waiting=2, upload=2**20, seconds=5.0, queries=2))


@pytest.fixture
def client(service: Any) -> Iterator[TestClient]:
    with TestClient(service.app) as client:
        yield client


@pytest.fixture
def recording(mixture: Mixture) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, mixture(1.0, 16000, 2).T, 16000, format="WAV")
    return file.getvalue()


class Gate:
    """Holds the worker until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, separator: Separator) -> None:
        self._open, self.entered = threading.Event(), threading.Event()
        original = separator.separate_files

        def wait(*arguments: Any, **options: Any) -> Any:
            self.entered.set()
            while not self._open.wait(0.01) and options["progress"](0.5):
                pass
            return original(*arguments, **options)

        monkeypatch.setattr(separator, "separate_files", wait)

    def open(self) -> None:
        self._open.set()


def submit(client: TestClient, recording: bytes, *queries: str) -> Any:
    return client.post("/jobs", files={"file": ("../../etc/x.wav", recording)}, data={"query": list(queries)})


def finished(client: TestClient, job: str) -> dict[str, Any]:
    while (about := client.get(f"/jobs/{job}").json())["state"] in ("waiting", "running"):
        time.sleep(0.01)
    return about


def test_a_job_gives_what_separate_gives(
    client: TestClient, separator: Separator, recording: bytes, mixture: Mixture
) -> None:
    answer = submit(client, recording, "piano", "dog")
    assert answer.status_code == 202
    about = finished(client, answer.json()["id"])
    assert (about["state"], about["progress"], about["sounds"]) == ("done", 1.0, ["piano", "dog"])
    sound, rate = soundfile.read(io.BytesIO(client.get(f"{answer.headers['location']}/piano").content), always_2d=True)
    expected = separator.separate(mixture(1.0, 16000, 2), ["piano", "dog"], sample_rate=16000)["piano"]
    assert rate == 16000
    assert np.abs(sound.T - expected).max() < 1e-3


def test_what_cannot_be_separated_is_refused_or_fails_with_its_reason(
    client: TestClient, recording: bytes, mixture: Mixture
) -> None:
    assert submit(client, recording).status_code == 400
    assert submit(client, recording, "a", "b", "c").status_code == 400
    assert submit(client, bytes(2**20 + 1), "a").status_code == 413
    assert client.get("/jobs/none").status_code == 404
    long = io.BytesIO()
    soundfile.write(long, mixture(6.0, 16000, 2).T, 16000, format="WAV")
    for content, why in ((b"no audio", "recording"), (long.getvalue(), "5 s")):
        about = finished(client, submit(client, content, "a").json()["id"])
        assert about["state"] == "failed"
        assert why in about["error"]
        assert "/tmp" not in about["error"]
    assert client.get("/health").json() == {"failed": 2}


def test_more_than_may_wait_are_refused_and_nothing_is_lost(
    client: TestClient, separator: Separator, recording: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch, separator)
    taken = [submit(client, recording, "piano") for _ in range(3)]
    assert [answer.status_code for answer in taken] == [202] * 3
    refused = submit(client, recording, "piano")
    assert refused.status_code == 503
    assert refused.headers["retry-after"]
    assert client.get(f"/jobs/{taken[2].json()['id']}").json()["ahead"] == 2
    gate.open()
    assert all(finished(client, answer.json()["id"])["state"] == "done" for answer in taken)


def test_jobs_are_cancelled_while_they_wait_and_while_they_run(
    client: TestClient, service: Any, separator: Separator, recording: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch, separator)
    running, waiting = (submit(client, recording, "piano").json()["id"] for _ in range(2))
    assert gate.entered.wait(10)
    for job in (waiting, running):
        assert client.delete(f"/jobs/{job}").status_code == 204
        assert client.get(f"/jobs/{job}").status_code == 404
    assert not list(service._root.iterdir())


def test_a_job_that_takes_too_long_fails(
    monkeypatch: pytest.MonkeyPatch, separator: Separator, recording: bytes
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import service

    with TestClient(service.Service(separator, service.Limits(time=0.0)).app) as client:
        about = finished(client, submit(client, recording, "piano").json()["id"])
        assert (about["state"], about["sounds"]) == ("failed", [])
        assert "more than 0 s" in about["error"]


def test_files_are_deleted_after_their_time_and_at_the_end(separator: Separator, recording: bytes, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import service

    kept = service.Service(separator, service.Limits(keep=0.0))
    with TestClient(kept.app) as client:
        first = submit(client, recording, "piano").json()["id"]
        finished(client, first)
        second = submit(client, recording, "piano").json()["id"]
        assert client.get(f"/jobs/{first}").status_code == 404
        finished(client, second)
    assert not kept._root.exists()


def test_names_of_sounds_may_have_slashes(client: TestClient, recording: bytes) -> None:
    about = finished(client, submit(client, recording, "AC/DC guitar").json()["id"])
    assert about["sounds"] == ["AC/DC guitar"]
    assert client.get(f"/jobs/{about['id']}/AC%2FDC%20guitar").status_code == 200


def test_uploads_state_their_length_and_end_in_time(
    separator: Separator, recording: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import service

    slow = service.Service(separator, service.Limits(uploading=0.05, waiting=0))
    with TestClient(slow.app) as client:
        assert client.post("/jobs", content=iter([b"x"] * 3)).status_code == 411

        async def receive(*_: object) -> None:
            await asyncio.sleep(10)

        with monkeypatch.context() as patched:
            patched.setattr(slow, "_receive", receive)
            assert submit(client, recording, "piano").status_code == 408
        assert not list(slow._root.iterdir())
        assert submit(client, recording, "piano").status_code in (202, 408)  # its place is free again


def test_a_client_that_leaves_leaves_nothing(service: Any, recording: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    async def gone(*_: object) -> None:
        raise ClientDisconnect

    with TestClient(service.app) as client:
        monkeypatch.setattr(service, "_receive", gone)
        assert submit(client, recording, "piano").status_code == 204
        assert not list(service._root.iterdir())


def test_the_oldest_finished_jobs_go_first(
    separator: Separator, recording: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import service

    few = service.Service(separator, service.Limits(kept=2))
    with TestClient(few.app) as client:
        jobs = [submit(client, recording, "piano").json()["id"] for _ in range(3)]
        assert [finished(client, job)["state"] for job in jobs] == ["done"] * 3
        few._forget_old()
        assert [client.get(f"/jobs/{job}").status_code for job in jobs] == [404, 200, 200]
