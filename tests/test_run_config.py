"""Training configurations: presets under the file's own values, overrides, strict keys, and the command."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import shutil
import typing
from pathlib import Path

import pytest
from test_trainer import TinyTask

from audiosep.errors import ConfigError
from audiosep.training import run_config
from audiosep.training.engine.trainer import FitResult, Trainer
from audiosep.training.engine.warm_start import find_weights
from audiosep.training.separation import presets
from audiosep.training.separation.separation_config import SeparationConfig, check_combination
from audiosep.weights import configs

SHIPPED_RUNS = Path(__file__).parents[1] / "checkpoints/mini/train.json"


class FileTask(TinyTask):
    """A task that takes what the recipe gives."""

    @classmethod
    def from_config(cls, data):
        task = cls(width=data["model"]["width"])
        task.data = data
        return task


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setitem(run_config.TASKS, "tiny", "test_run_config:FileTask")
    (tmp_path / "data.jsonl").write_text("{}\n")
    path = tmp_path / "tiny.json"
    data = {"manifest": str(tmp_path / "data.jsonl")}
    trainer = {"steps": 3, "precision": "fp32", "device": "cpu", "log_every": 1}
    path.write_text(json.dumps({"task": "tiny", "model": {"width": 4}, "data": data, "trainer": trainer, "seed": 5}))
    return path


def test_the_command_trains_into_a_run_folder_and_records_its_configuration(config, tmp_path, capsys):
    from audiosep.cli.train import app

    arguments = [str(config), "--out", str(tmp_path / "run"), "--set", "trainer.steps=4", "--json", "--quiet"]
    app(arguments, standalone_mode=False)
    result = json.loads(capsys.readouterr().out)
    assert result["step"] == 4
    assert "val/si_sdri" in result["metrics"]
    about = json.loads((tmp_path / "run/config.json").read_text())
    assert about["trainer"]["seed"] == about["seed"] == 5
    assert about["model"] == {"width": 4}
    assert about["files"] == {str(tmp_path / "data.jsonl"): run_config.file_sha256(tmp_path / "data.jsonl")}


def test_a_run_records_the_weights_that_it_began_with(config, tmp_path):
    from audiosep.cli.train import app

    def train(run: str, *settings: str) -> dict[str, str]:
        changes = [part for text in settings for part in ("--set", text)]
        app([str(config), "--out", str(tmp_path / run), "--quiet", *changes], standalone_mode=False)
        return json.loads((tmp_path / run / "config.json").read_text())["files"]

    train("base")
    init = str(tmp_path / "base")
    digest = run_config.file_sha256(find_weights(tmp_path / "base"))
    assert train("more", f"trainer.init={init}")[init] == digest
    train("base", "trainer.steps=6")
    shutil.rmtree(tmp_path / "base/best")
    assert run_config.file_sha256(find_weights(tmp_path / "base")) != digest
    assert train("more", f"trainer.init={init}", "trainer.steps=4")[init] == digest  # it goes on
    shutil.rmtree(init)
    assert train("more", f"trainer.init={init}", "trainer.steps=5")[init] == digest


def test_the_command_makes_no_run_folder_of_recordings(config, tmp_path, capsys):
    from audiosep.cli.train import app

    (tmp_path / "songs/one").mkdir(parents=True)
    (tmp_path / "songs/one/mix.wav").touch()
    with pytest.raises(SystemExit) as refused:
        app([str(config), "--out", str(tmp_path / "songs")])
    assert refused.value.code == 2
    assert "holds recordings" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "songs").iterdir()] == ["one"]


def test_a_stopped_run_has_its_own_exit_code(config, tmp_path, capsys, monkeypatch):
    from audiosep.cli.train import app

    monkeypatch.setattr(FileTask, "from_config", classmethod(lambda cls, data: cls(width=4, stop_at=2)))
    arguments = [str(config), "--out", str(tmp_path / "run"), "--set", "trainer.steps=500", "--quiet"]
    assert app(arguments, standalone_mode=False) == 130
    assert "stopped after" in capsys.readouterr().out


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_one_of_several_processes_says_how_a_run_ended(config, tmp_path, capsys, monkeypatch, form):
    from audiosep.cli.train import app

    fit = Trainer.fit

    def fit_as_another(trainer: Trainer) -> FitResult:
        result, trainer.main = fit(trainer), False
        return result

    monkeypatch.setattr(Trainer, "fit", fit_as_another)
    app([str(config), "--out", str(tmp_path / "run"), "--quiet", *form], standalone_mode=False)
    assert capsys.readouterr().out == ""


def test_the_command_can_only_check(config, tmp_path, capsys):
    from audiosep.cli.train import app

    app([str(config), "--out", str(tmp_path / "run"), "--check", "--quiet"], standalone_mode=False)
    out = capsys.readouterr().out
    assert "GB a step" in out
    assert not (tmp_path / "run").exists()


def test_values_of_the_file_take_precedence_over_presets():
    data = {"task": "separation", "preset": "24", "sampling": {"mixtures": 7}, "trainer": {"minutes": 1.0}}
    options = run_config.parse_run_config(data).task_options
    assert options["sampling"] == {"mixtures": 7, "seconds": 5.0}
    assert options["model"]["widths"] == presets.PRESETS["24"]["model"]["widths"]
    small = run_config.parse_run_config(data, "8").task_options
    assert small["model"]["widths"] == presets.PRESETS["8"]["model"]["widths"]
    with pytest.raises(ConfigError, match="preset"):
        run_config.parse_run_config(data, "12")
    with pytest.raises(ConfigError, match="has none"):
        run_config.parse_run_config({"task": "text", "trainer": {"steps": 1}}, "24")


@pytest.mark.parametrize("size", presets.PRESETS)
def test_presets_are_configurations(size):
    from audiosep.data.sampling import SamplingConfig
    from audiosep.models.hybrid_config import HybridConfig

    values = presets.preset("separation", size)
    configs.from_dict(HybridConfig, values["model"])
    configs.from_dict(SamplingConfig, values["sampling"])


def test_every_task_of_the_registry_exists():
    for place in run_config.TASKS.values():
        module, name = place.split(":")
        assert hasattr(getattr(importlib.import_module(module), name), "from_config")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"task": "speech"}, "task: 'speech' is not one of"),
        ({"trainer": {"steps": 1, "epochs": 3}}, "unknown key 'epochs'"),
        ({"trainer": {}}, "steps, minutes or both"),
        ({"trainer": {"steps": "many"}}, "trainer.steps"),
    ],
)
def test_wrong_configurations_name_the_key(config, change, match):
    data = json.loads(config.read_text()) | change
    config.write_text(json.dumps(data))
    with pytest.raises(ConfigError, match=match):
        run_config.read_run_config(config)


@pytest.mark.parametrize("name", json.loads(SHIPPED_RUNS.read_text()))
def test_the_configurations_of_the_shipped_model_are_valid(name):
    checked = run_config.parse_run_config(json.loads(SHIPPED_RUNS.read_text())[name])
    module, task = run_config.TASKS[checked.task].split(":")
    config = configs.from_dict(getattr(importlib.import_module(module), task).Config, checked.task_options)
    if isinstance(config, SeparationConfig):
        check_combination(config)


def test_overrides():
    data = {"trainer": {"steps": 3}}
    for text in ("trainer.minutes=1.5", 'trainer.trackers=["wandb"]', "data.manifest=a/b.jsonl"):
        run_config.set_value(data, text)
    assert data == {
        "trainer": {"steps": 3, "minutes": 1.5, "trackers": ["wandb"]}, "data": {"manifest": "a/b.jsonl"},
    }  # fmt: skip
    for wrong in ("trainer.minutes", "trainer.steps.more=1"):
        with pytest.raises(ConfigError, match="--set"):
            run_config.set_value(data, wrong)


def test_files_that_are_no_json_are_refused(tmp_path):
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").write_text("{}", encoding="utf-16")
    for name, match in (("a.json", "not JSON"), ("b.json", "not text in UTF-8"), ("c.json", "there is no file")):
        with pytest.raises(ConfigError, match=match):
            run_config.read_run_config(tmp_path / name)
    data = '{"task": "text", "trainer": {"steps": 1}}'
    (tmp_path / "d.json").write_text(data, encoding="utf-8-sig")  # with a byte order mark
    assert run_config.read_run_config(tmp_path / "d.json").task == "text"


def documented(text: str) -> dict[str, str]:
    """First and second cell of every table row whose first cell is code."""
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]*) \|", text, re.MULTILINE)
    return {name: default.strip() for name, default in rows}


def test_the_documentation_has_every_key_and_flag_with_its_default():
    import typer

    from audiosep.cli import finetune, train
    from audiosep.training.engine.trainer_config import TrainerConfig

    docs = Path(__file__).parents[1] / "docs"
    rows = documented((docs / "training.md").read_text())
    for field in dataclasses.fields(TrainerConfig):
        default = field.default
        if isinstance(default, tuple):
            default = ", ".join(map(str, default)) or None
        shown = str(default).lower()
        assert rows[field.name] == shown, field.name
    for app, page in ((finetune.app, "finetuning.md"), (train.app, "training.md")):
        rows = documented((docs / page).read_text())
        for option in typer.main.get_command(app).params:
            flags = [flag for flag in option.opts if flag.startswith("--")]
            if not flags or flags[0] in ("--json", "--verbose", "--quiet", "--help"):
                continue
            (flag,) = flags
            assert flag in rows, flag
            if isinstance(option.default, str):
                assert rows[flag] == option.default
            elif isinstance(option.default, int | float) and not isinstance(option.default, bool):
                assert rows[flag] == f"{option.default:g}"


@pytest.mark.parametrize("task", ["separation", "audio", "contrastive"])
def test_the_documentation_has_every_option_of_a_task_with_its_default(task):
    module, name = run_config.TASKS[task].split(":")
    config = getattr(importlib.import_module(module), name).Config
    options = typing.get_type_hints(config)["options"]
    text = (Path(__file__).parents[1] / "docs/training.md").read_text()
    (table,) = re.findall(rf"^\| `{task}` \| default \|.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    rows = documented(table)
    fields = dataclasses.fields(options)
    assert set(rows) == {field.name for field in fields}
    for field in fields:
        if isinstance(field.default, bool | int | float | str):
            assert rows[field.name] == (str(field.default).lower() or "none"), field.name


def test_texts_with_a_tilde_are_paths_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    path = tmp_path / "run.json"
    content = {"task": "separation", "trainer": {"steps": 1, "init": "~/base"}, "data": {"manifest": "~/m.jsonl"}}
    path.write_text(json.dumps(content | {"options": {"labels": ["~/a", "a~b"]}}))
    config = run_config.read_run_config(path, ["data.cache=~/cache"])
    assert config.trainer.init == str(tmp_path / "base")
    assert config.task_options["data"] == {"manifest": str(tmp_path / "m.jsonl"), "cache": str(tmp_path / "cache")}
    assert config.task_options["options"] == {"labels": [str(tmp_path / "a"), "a~b"]}
