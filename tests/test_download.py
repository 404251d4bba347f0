"""Downloads that are verified, recorded and installed whole."""

from __future__ import annotations

import hashlib
import json
import logging
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from audiosep.errors import ModelError
from audiosep.weights import catalogue
from audiosep.weights.catalogue import MODELS, ModelEntry, PublishedFile, home, installed, locate, model_folder
from audiosep.weights.download import download


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUDIOSEP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def no_conversion(*args: Any, **kwargs: Any) -> None:
    pytest.fail("nothing has to be converted here")


CONTENT = b"published weights"


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A model "pub" with one published file, a hub that serves it, and a converter that writes a model."""
    hub = SimpleNamespace(content=CONTENT, asked=[], converted=[])

    def serve(repo: str, file: str, *, repo_type: str, local_dir: Path, token: str | None) -> str:
        hub.asked.append((repo, file, repo_type, token))
        path = Path(local_dir) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"words" if file == "tokenizer.json" else hub.content)
        return str(path)

    def convert(source: Path, folder: Path, *, tokenizer: Path) -> None:
        assert (tokenizer / "tokenizer.json").is_file()
        hub.converted.append(Path(source).read_bytes())
        (folder / "config.json").write_text('{"format": 1, "family": "resunet30", "model": {}}')

    def offline(*args: Any, **kwargs: Any) -> str:
        raise ConnectionError("no route to host")

    hub.offline = lambda: monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    hub.download = partial(download, convert=convert)
    hub.pin = lambda sha256: monkeypatch.setitem(
        MODELS,
        "pub",
        ModelEntry(
            "pub",
            "resunet30",
            "A test.",
            "MIT",
            frozenset({"text"}),
            (
                PublishedFile("org/space", "weights/a.ckpt", sha256, len(CONTENT), "space"),
                PublishedFile("org/words", "tokenizer.json", hashlib.sha256(b"words").hexdigest(), None),
            ),
        ),
    )
    hub.pin(hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", serve)
    return hub


def leftovers() -> list[str]:
    return sorted(path.name for path in catalogue.home().rglob("*") if path.name != "config.json")


def test_download_fetches_verifies_converts_and_installs(published: SimpleNamespace) -> None:
    said: list[str] = []
    folder = published.download("pub", progress=said.append, token="secret")
    assert published.asked == [
        ("org/space", "weights/a.ckpt", "space", "secret"), ("org/words", "tokenizer.json", "model", "secret"),
    ]  # fmt: skip
    assert published.converted == [CONTENT]
    assert folder == installed("pub") == locate("pub")
    record = json.loads((folder / "sources.json").read_text())
    assert record["weights/a.ckpt"]["bytes"] == len(CONTENT)
    assert any("licence MIT" in line for line in said)
    assert leftovers() == ["downloads", "models", "pub", "sources.json"]  # the fetched file is not kept twice


def test_a_file_that_is_not_the_published_one_is_refused(published: SimpleNamespace) -> None:
    published.content = b"something else"
    with pytest.raises(ModelError, match="instead of"):
        published.download("pub")
    assert installed("pub") is None
    assert published.converted == []
    assert not list((home() / "downloads").rglob("a.ckpt"))  # so that it is not taken for a whole one the next time
    published.content = CONTENT
    published.download("pub")


def test_an_unpublished_sum_is_recorded_with_a_warning_and_holds_from_then_on(
    published: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    published.pin(None)
    with caplog.at_level(logging.WARNING, "audiosep"):
        published.download("pub")
    assert hashlib.sha256(CONTENT).hexdigest() in caplog.text
    published.content = b"changed on the hub"
    with pytest.raises(ModelError, match="has changed"):
        published.download("pub")
    assert installed("pub")  # what was there stays


def test_without_a_network_the_way_by_hand_is_said(published: SimpleNamespace) -> None:
    published.offline()
    with pytest.raises(ModelError) as caught:
        published.download("pub")
    text = str(caught.value)
    for part in ("no route to host", "hf download org/space weights/a.ckpt --repo-type space", "17 bytes", "sha256"):
        assert part in text
    assert f"audiosep convert FOLDER/weights/a.ckpt {model_folder('pub')} --tokenizer FOLDER" in text
    assert installed("pub") is None


def test_a_conversion_that_fails_installs_nothing(published: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(source: Path, folder: Path, *, tokenizer: Path) -> None:
        (folder / "half").write_text("x")
        raise ModelError("unknown key 'x'")

    with pytest.raises(ModelError, match="unknown key"):
        download("pub", fails)
    assert installed("pub") is None
    assert "half" not in leftovers()


def test_a_folder_on_the_hub(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    hub = {"config.json": b'{"format": 1, "family": "hybrid", "model": {}}', "model.safetensors": b"numbers"}

    def serve(
        repo: str, *, revision: str | None, local_dir: Path, token: str | None, allow_patterns: list[str]
    ) -> None:
        assert not any(pattern.endswith((".bin", ".pt", ".ckpt", ".pkl")) for pattern in allow_patterns)
        for name, content in hub.items():
            (Path(local_dir) / name).write_bytes(content)
        (Path(local_dir) / ".cache").mkdir()
        (Path(local_dir) / ".cache/lock").write_text("x")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", serve)
    folder = download("me/my-model", no_conversion)
    assert folder == locate("me/my-model")
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "sources.json"]
    hub["config.json"] = b'{"model_type": "clap"}'
    with pytest.raises(ModelError, match="no audiosep model"):
        download("other/clap", no_conversion)
    hub["config.json"] = b'{"family": "future"}'
    with pytest.raises(ModelError, match="update audiosep"):
        download("other/new", no_conversion)


def test_a_model_on_the_hub_comes_with_the_encoder_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    query = {"encoder": "clap", "model": "org/clap", "revision": "v1"}
    config = {"format": 1, "family": "resunet30", "model": {}, "query": query}
    hub = {"me/my-model": {"config.json": json.dumps(config)}, "org/clap": {"config.json": "{}", "merges.txt": "a b"}}
    asked = []

    def serve(repo: str, *, revision: str | None, local_dir: Path, **options: Any) -> None:
        asked.append((repo, revision))
        for name, content in (hub[repo] | {".cache/lock": "x"}).items():
            (local_dir / name).parent.mkdir(parents=True, exist_ok=True)
            (local_dir / name).write_text(content)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", serve)
    folder = download("me/my-model", no_conversion)
    assert asked == [("me/my-model", None), ("org/clap", "v1")]
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {"config.json", "org/clap/config.json", "org/clap/merges.txt", "sources.json"}
    assert set(json.loads((folder / "sources.json").read_text())) == files - {"sources.json"}
    del hub["org/clap"]
    with pytest.raises(ModelError, match="`hf download org/clap --local-dir FOLDER/org/clap`"):
        download("me/my-model", no_conversion)


def test_nonsense_and_bundled_names() -> None:
    with pytest.raises(ModelError, match="no model to download"):
        download("xyz", no_conversion)
    if installed("mini"):
        assert download("mini", no_conversion) == installed("mini")
