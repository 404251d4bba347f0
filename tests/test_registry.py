"""Names of models, where they lie, and downloads that are verified, recorded and installed whole."""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

import audiosep
from audiosep import registry
from audiosep.baselines import BASELINES
from audiosep.errors import ModelError
from audiosep.registry import MODELS, ModelEntry, Source, download, installed, locate, model_folder


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUDIOSEP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def fake_model(folder: Path, family: str = "hybrid") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"format": 1, "family": family, "model": {}}))
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_every_entry_is_complete(name: str) -> None:
    entry = MODELS[name]
    assert entry.name == name
    assert entry.family in registry.FAMILIES
    assert entry.licence
    assert entry.description.endswith(".")
    assert entry.capabilities <= {"text", "audio", "negative", "stems", "presence"}
    assert name not in BASELINES
    for checkpoint in entry.sources[:1]:
        assert checkpoint.bytes
        assert len(checkpoint.sha256 or "") == 64
    assert all(source.file == "tokenizer.json" for source in entry.sources[1:])


@pytest.mark.parametrize("family", registry.FAMILIES)
def test_every_family_has_a_config(family: str) -> None:
    module, name = registry.FAMILIES[family].split(":")
    assert hasattr(getattr(importlib.import_module(module), name), "Config")


def test_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert registry.home() == tmp_path / "home"
    monkeypatch.delenv("AUDIOSEP_HOME")
    monkeypatch.setattr(registry.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert registry.home() == tmp_path / "cache/audiosep"
    monkeypatch.setattr(registry.sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert registry.home() == tmp_path / "local/audiosep"
    monkeypatch.setattr(registry.sys, "platform", "darwin")
    assert registry.home() == Path.home() / "Library/Caches/audiosep"


def test_names_win_over_folders_and_paths_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = fake_model(tmp_path / "audiosep-base")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="models download audiosep-base"):
        locate("audiosep-base")
    assert locate("./audiosep-base").resolve() == mine
    assert locate(Path("audiosep-base")).resolve() == mine
    there = fake_model(model_folder("audiosep-base"))
    assert locate("audiosep-base") == installed("audiosep-base") == there


def test_what_is_missing_is_said_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"1\.26 GB, licence MIT"):
        locate("audiosep-base")
    with pytest.raises(ModelError, match="models download someone/something"):
        locate("someone/something")
    with pytest.raises(ModelError, match="did you mean 'mini'"):
        locate("mimi")
    with pytest.raises(ModelError, match="no folder 'xyz'"):
        locate("xyz")
    (tmp_path / "x.ckpt").write_bytes(b"x")
    with pytest.raises(ModelError, match="audiosep convert"):
        locate(tmp_path / "x.ckpt")
    monkeypatch.setattr(registry, "installed", lambda name: None)
    with pytest.raises(ModelError, match="install audiosep again"):
        audiosep.load("mini")


# ---- downloads -----------------------------------------------------------------------------------------------------


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
                Source("org/space", "weights/a.ckpt", sha256, len(CONTENT), "space"),
                Source("org/words", "tokenizer.json", hashlib.sha256(b"words").hexdigest(), None),
            ),
        ),
    )
    hub.pin(hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", serve)
    monkeypatch.setattr(importlib.import_module("audiosep.convert"), "convert", convert, raising=False)
    return hub


def leftovers() -> list[str]:
    return sorted(path.name for path in registry.home().rglob("*") if path.name != "config.json")


def test_download_fetches_verifies_converts_and_installs(published: SimpleNamespace) -> None:
    said: list[str] = []
    folder = download("pub", said.append, token="secret")
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
        download("pub")
    assert installed("pub") is None
    assert published.converted == []
    published.content = CONTENT
    download("pub")  # the damaged file was not kept


def test_an_unpublished_sum_is_recorded_with_a_warning_and_holds_from_then_on(
    published: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    published.pin(None)
    with caplog.at_level(logging.WARNING, "audiosep"):
        download("pub")
    assert hashlib.sha256(CONTENT).hexdigest() in caplog.text
    published.content = b"changed on the hub"
    with pytest.raises(ModelError, match="has changed"):
        download("pub")
    assert installed("pub")  # what was there stays


def test_without_a_network_the_way_by_hand_is_said(published: SimpleNamespace) -> None:
    published.offline()
    with pytest.raises(ModelError) as caught:
        download("pub")
    text = str(caught.value)
    for part in ("no route to host", "hf download org/space weights/a.ckpt --repo-type space", "17 bytes", "sha256"):
        assert part in text
    assert f"audiosep convert FOLDER/weights/a.ckpt {model_folder('pub')} --tokenizer FOLDER" in text
    assert installed("pub") is None


def test_a_conversion_that_fails_installs_nothing(published: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(source: Path, folder: Path, *, tokenizer: Path) -> None:
        (folder / "half").write_text("x")
        raise ModelError("unknown key 'x'")

    monkeypatch.setattr(importlib.import_module("audiosep.convert"), "convert", fails)
    with pytest.raises(ModelError, match="unknown key"):
        download("pub")
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
    folder = download("me/my-model")
    assert folder == locate("me/my-model")
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "sources.json"]
    hub["config.json"] = b'{"model_type": "clap"}'
    with pytest.raises(ModelError, match="no audiosep model"):
        download("other/clap")
    hub["config.json"] = b'{"family": "future"}'
    with pytest.raises(ModelError, match="update audiosep"):
        download("other/new")


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
    folder = download("me/my-model")
    assert asked == [("me/my-model", None), ("org/clap", "v1")]
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {"config.json", "org/clap/config.json", "org/clap/merges.txt", "sources.json"}
    assert set(json.loads((folder / "sources.json").read_text())) == files - {"sources.json"}
    del hub["org/clap"]
    with pytest.raises(ModelError, match="`hf download org/clap --local-dir FOLDER/org/clap`"):
        download("me/my-model")


def test_nonsense_and_bundled_names() -> None:
    with pytest.raises(ModelError, match="no model to download"):
        download("xyz")
    if installed("mini"):
        assert download("mini") == installed("mini")
