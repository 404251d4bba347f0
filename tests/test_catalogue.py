"""Names of models, and where they lie."""

from __future__ import annotations

import importlib
import json
import re
import tomllib
from pathlib import Path

import pytest
from safetensors.numpy import save_file

import audiosep
from audiosep.errors import ModelError
from audiosep.evaluation.baselines import BASELINES
from audiosep.models.adapter_file import ADAPTER
from audiosep.models.families import FAMILIES
from audiosep.weights import catalogue
from audiosep.weights.catalogue import MODELS, installed, locate, model_folder

EXTRAS = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["optional-dependencies"]


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
    assert entry.family in FAMILIES
    assert entry.licence
    assert entry.description.endswith(".")
    assert entry.capabilities <= {"text", "audio", "negative", "stems", "presence"}
    assert name not in BASELINES
    assert entry.bundled or entry.bytes > 1e6
    assert entry.restricted == (entry.licence != "MIT")  # a licence that is not stated allows nothing
    if entry.family == "published":  # few of their authors publish sums and sizes
        assert entry.stems
        assert entry.extra in EXTRAS
        assert all(re.fullmatch(r"[0-9a-f]{8}|", source.sha256 or "") for source in entry.sources)
        return
    for checkpoint in entry.sources[:1]:
        assert checkpoint.bytes
        assert len(checkpoint.sha256 or "") == 64
    assert all(source.file == "tokenizer.json" for source in entry.sources[1:])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_config(family: str) -> None:
    module, name = FAMILIES[family].split(":")
    assert hasattr(getattr(importlib.import_module(module), name), "Config")


def test_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert catalogue.home() == tmp_path / "home"
    monkeypatch.delenv("AUDIOSEP_HOME")
    monkeypatch.setattr(catalogue.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert catalogue.home() == tmp_path / "cache/audiosep"
    monkeypatch.setattr(catalogue.sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert catalogue.home() == tmp_path / "local/audiosep"
    monkeypatch.setattr(catalogue.sys, "platform", "darwin")
    assert catalogue.home() == Path.home() / "Library/Caches/audiosep"


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
    with pytest.raises(ModelError, match="`audiosep models download htdemucs --accept-licence`"):
        locate("htdemucs")
    save_file({}, tmp_path / "mine.safetensors", {ADAPTER: "1", "base": "mini"})
    with pytest.raises(ModelError, match=r"an adapter of the model mini: .*\(--adapter .*mine\.safetensors\)"):
        locate(tmp_path / "mine.safetensors")
    for content in (b"", bytes(100), b"\xff" * 100):
        (tmp_path / "other.safetensors").write_bytes(content)
        with pytest.raises(ModelError, match="audiosep convert"):
            locate(tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="models download someone/something"):
        locate("someone/something")
    with pytest.raises(ModelError, match="did you mean 'mini'"):
        locate("mimi")
    with pytest.raises(ModelError, match="no folder 'xyz'"):
        locate("xyz")
    for name in BASELINES:
        with pytest.raises(ModelError, match=f"baseline and no model: `audiosep evaluate --model {name}` measures"):
            locate(name)
    (tmp_path / "x.ckpt").write_bytes(b"x")
    with pytest.raises(ModelError, match="audiosep convert"):
        locate(tmp_path / "x.ckpt")
    monkeypatch.setattr(catalogue, "installed", lambda name: None)
    with pytest.raises(ModelError, match="install audiosep again"):
        audiosep.load("mini")


def test_downloaded_models_are_listed_by_their_hub_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOSEP_HOME", str(tmp_path))
    for name in ("me/two--dashes", "audiosep-base", "me/a.model"):
        model_folder(name).mkdir(parents=True)
        (model_folder(name) / "config.json").write_text("{}")
    model_folder("me/unfinished").mkdir()
    assert catalogue.downloaded() == ["me/a.model", "me/two--dashes"]
