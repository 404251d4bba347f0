"""The examples with libraries of others, and the Dockerfile, as far as they can be tried without these."""

from __future__ import annotations

import re
import shlex
import sys
import threading
import time
import tomllib
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Mixture

import audiosep
from audiosep import Description, HeardSound, Span
from audiosep.audio import probe, read_audio, write_audio
from audiosep.separator import Separator

ROOT = Path(__file__).parents[1]


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch, separator: Separator) -> Separator:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    monkeypatch.setattr(audiosep, "load", lambda: separator, raising=False)
    return separator


@dataclass
class Segment:
    """Of faster-whisper, whose other fields the example does not read."""

    start: float
    end: float
    text: str


def test_snippets_of_what_was_heard(examples: Separator, tmp_path: Path) -> None:
    import snippets

    rate = 8000
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 10 * rate)).astype(np.float32)
    (tmp_path / "heard" / "site A").mkdir(parents=True)
    write_audio(tmp_path / "t.wav", x, rate, depth="24")
    sounds = [HeardSound("owl", 0.9, (Span(0.5, 2.0), Span(9.5, 10.0))), HeardSound("a/b", 0.2, (Span(4.0, 5.0),)),
              HeardSound("rain", 0.8, ())]  # fmt: skip
    table = Description(tuple(sounds), 10.0).csv(str(tmp_path / "t.wav"))
    (tmp_path / "heard" / "site A" / "t (sounds).csv").write_text(table, encoding="utf-8")
    made = snippets.cut(tmp_path / "heard", [], tmp_path / "out")
    names = ["t 000000.50 s owl.wav", "t 000009.50 s owl.wav", "t 000004.00 s a_b.wav"]
    assert made == [tmp_path / "out" / "site A" / name for name in names]
    for path, (start, end) in zip(made, ((0, 3), (8.5, 10), (3, 6)), strict=True):
        assert probe(path).depth == "24"
        np.testing.assert_allclose(read_audio(path)[0], x[:, round(start * rate) : round(end * rate)], atol=2**-23)
    assert snippets.cut(tmp_path / "heard", ["a/b"], tmp_path / "few", score=0.5) == []


def test_subtitles_of_a_video(
    examples: Separator, tmp_path: Path, mixture: Mixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subtitles

    heard: dict[str, Any] = {}

    class WhisperModel:
        def __init__(self, size: str, device: str = "auto") -> None:
            heard["size"] = size

        def transcribe(self, audio: str, language: str | None = None, *, vad_filter: bool = False) -> Any:
            info = probe(audio)
            heard.update(rate=info.sample_rate, channels=info.channels, seconds=info.seconds, vad=vad_filter)
            return iter([Segment(0.5, 1.25, " Hello."), Segment(3661.0, 3662.0, " Bye.")]), object()

    monkeypatch.setitem(sys.modules, "faster_whisper", types.SimpleNamespace(WhisperModel=WhisperModel))
    film = tmp_path / "film.wav"
    write_audio(film, mixture(2, 44100, 2), 44100)
    monkeypatch.setattr(sys, "argv", ["subtitles.py", str(film), "--size", "tiny"])
    subtitles.main()
    assert heard == {"size": "tiny", "rate": 16000, "channels": 1, "seconds": 2.0, "vad": True}
    assert (tmp_path / "film.srt").read_text() == (
        "1\n00:00:00,500 --> 00:00:01,250\nHello.\n\n2\n01:01:01,000 --> 01:01:02,000\nBye.\n"
    )


def test_a_folder_is_watched(
    examples: Separator, tmp_path: Path, mixture: Mixture, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("watchdog")
    from watch_folder import Watcher

    inbox, out = tmp_path / "inbox", tmp_path / "out"
    inbox.mkdir()
    write_audio(inbox / "early.wav", mixture(0.3), 16000)
    watcher = Watcher(examples, inbox, ["speech"], out, settle=0.05)
    thread = threading.Thread(target=watcher.run, daemon=True)
    thread.start()
    expected = {"early (speech).wav"}
    for name in ("late", "moved"):
        while {path.name for path in out.glob("*.wav")} != expected and thread.is_alive():
            time.sleep(0.02)
        place = inbox / "late.wav" if name == "late" else tmp_path / "moved.wav"
        write_audio(place, mixture(0.3), 16000)
        if name == "moved":
            place.rename(inbox / "moved.wav")
        expected.add(f"{name} (speech).wav")
    (inbox / "broken.wav").write_text("no sound")
    while "broken.wav" not in (said := capsys.readouterr().out) and thread.is_alive():
        time.sleep(0.02)
    watcher.stop()
    thread.join(60)
    assert not thread.is_alive()
    assert "cannot be read as audio" in said
    assert {path.name for path in out.iterdir()} == expected
    assert all(np.isfinite(probe(path).samples) for path in out.iterdir())


def test_a_watcher_that_is_stopped_leaves_what_waits(examples: Separator, tmp_path: Path) -> None:
    pytest.importorskip("watchdog")
    from watch_folder import Watcher

    taken: list[str] = []

    class Stopping:
        def separate_files(self, path: Path, *_: Any, **options: Any) -> Any:
            taken.append(path.name)
            watcher.stop()
            return types.SimpleNamespace(results=(), failures={})

    for name in ("1.wav", "2.wav", "3.wav"):
        (tmp_path / name).write_bytes(b"sound")
    watcher = Watcher(Stopping(), tmp_path, ["speech"], tmp_path / "out", settle=0.0)  # type: ignore[arg-type]
    watcher.run()
    assert taken == ["1.wav"]


def test_the_dockerfile_copies_what_there_is_and_installs_extras_that_exist() -> None:
    text = (ROOT / "Dockerfile").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {name for line in re.findall(r"^COPY (.+)$", text, re.M) for name in shlex.split(line)[:-1]}
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)
    (extras,) = re.findall(r"\.whl\)\[([\w,]+)\]", text)
    assert set(extras.split(",")) <= set(project["project"]["optional-dependencies"])
    assert project["build-system"]["requires"] == re.findall(r'pip install --no-cache-dir "(hatchling[^"]*)"', text)
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    assert set(included) <= copied
    assert {project["project"]["readme"], *project["project"]["license-files"]} <= copied
