"""Names of models, and where they lie."""

from __future__ import annotations

import importlib
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import save_file

import audiosep
from audiosep.convert import convert
from audiosep.errors import ModelError
from audiosep.evaluation.baselines import BASELINES
from audiosep.models.adapter_file import ADAPTER
from audiosep.models.families import FAMILIES
from audiosep.query.sounds import own_file
from audiosep.weights import catalogue, user_config
from audiosep.weights.catalogue import MODELS, installed, locate, model_folder
from audiosep.weights.download import download

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


@pytest.mark.parametrize(
    ("variable", "value", "place", "found"),
    [
        ("AUDIOSEP_HOME", "~/models", catalogue.home, "models"),
        ("AUDIOSEP_CONFIG", "~/mine.toml", user_config.user_config_path, "mine.toml"),
        ("AUDIOSEP_SOUNDS", "~/mine.sounds", own_file, "mine.sounds"),
        ("XDG_CACHE_HOME", "~/cache", catalogue.home, "cache/audiosep"),
        ("XDG_CONFIG_HOME", "~/config", user_config.config_folder, "config/audiosep"),
    ],
)
def test_paths_of_the_environment_may_begin_with_the_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: str, place: Callable[[], Path], found: str
) -> None:
    for name in ("AUDIOSEP_HOME", "AUDIOSEP_CONFIG", "AUDIOSEP_SOUNDS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(catalogue.sys, "platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(variable, value)
    assert place() == tmp_path / found


@pytest.mark.parametrize(
    ("address", "remedy"),
    [
        ("https://example.com/models/mine", "audiosep convert FILE FOLDER"),
        (Path("https://example.com/models/mine"), "https://example.com/models/mine is an address, and no model"),
        ("https://huggingface.co/some/model/tree/main", "`audiosep models download some/model`"),
        ("huggingface.co/some/model", "`audiosep models download some/model`"),
        ("s3://bucket/audiosep_base_4M_steps.ckpt", "`audiosep models download audiosep-base`"),
    ],
)
def test_an_address_is_no_model(address: str | Path, remedy: str) -> None:
    with pytest.raises(ModelError, match=re.escape(remedy)) as caught:
        locate(address)
    assert "htdemucs" not in str(caught.value)
    with pytest.raises(ModelError, match=re.escape(str(caught.value))):
        download(str(address), convert)


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
