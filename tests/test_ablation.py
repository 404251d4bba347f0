"""Ablations: runs that differ in one thing, what they came to, and the table on a page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_hybrid import SMALL
from test_tasks import data, recipe  # noqa: F401 - fixtures

from audiosep.data.validation_recipe import ValidationRecipe
from audiosep.errors import ConfigError, InputError, TrainingError
from audiosep.training.run_config import parse_run_config
from audiosep.training.separation.separation_task import SeparationConfig
from audiosep.weights import configs
from research import ablation
from research.ablation import VARIANTS, configuration, main, result, run, table


@pytest.fixture
def base(data: dict[str, str], recipe: str) -> dict[str, Any]:  # noqa: F811
    labels = str(Path(data["manifest"]).with_name("labels.json"))
    short = Path(recipe).with_name("short-recipe.json")
    whole = ValidationRecipe.load(recipe)
    replace(whole, entries=whole.entries[::12]).save(short)
    return {
        "task": "separation",
        "data": data,
        "model": configs.to_dict(SMALL),
        "options": {"validation": str(short), "labels": labels},
        "sampling": {"seconds": 1.0},
        "trainer": {"minutes": 600, "device": "cpu", "precision": "fp32", "init": "somewhere", "log_every": 1},
        "seed": 7,
    }


def flat(values: Any, place: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {place: values}
    return {key: value for name, part in values.items() for key, value in flat(part, f"{place}.{name}").items()}


def test_every_run_is_a_valid_configuration_that_differs_in_what_it_says(base: dict[str, Any]) -> None:
    first = flat(configuration(base, VARIANTS[0], 3))
    assert first[".trainer.minutes"] == 3
    assert first[".trainer.init"] is None
    assert first[".data.manifest"] == base["data"]["manifest"]
    seen = []
    for variant in VARIANTS:
        config = configuration(base, variant, 3)
        checked = parse_run_config(config)
        configs.from_dict(SeparationConfig, checked.task_options)
        differs = {key: value for key, value in flat(config).items() if first.get(key) != value}
        assert set(differs) <= set(flat(dict(variant.change)))
        seen.append(differs)
    assert [not differs for differs in seen] == [True] + [False] * (len(VARIANTS) - 1)
    assert len({variant.name for variant in VARIANTS}) == len(VARIANTS)


def test_an_unsuitable_base_of_an_ablation_is_refused(base: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="got task 'audio'"):
        configuration(base | {"task": "audio"}, VARIANTS[0])
    with pytest.raises(ConfigError, match=r"options\.validation"):
        configuration(base | {"options": {}}, VARIANTS[0])
    with pytest.raises(InputError, match="no finished run"):
        table(tmp_path)
    for arguments in (["--only", "everything"], [], ["--table"], ["--into", __file__]):
        with pytest.raises(SystemExit) as error:
            main([str(tmp_path / "none.json"), "-o", str(tmp_path), *arguments])
        assert error.value.code


def test_a_run_that_fails_or_was_stopped_is_no_result(
    base: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablation.subprocess, "run", lambda *_, **__: type("Done", (), {"returncode": 130}))
    with pytest.raises(TrainingError, match=r"exit code 130\); the same command"):
        run(base, VARIANTS[0], tmp_path)


@pytest.mark.slow
def test_the_command_trains_compares_and_fills_the_page(
    base: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, runs, page = tmp_path / "separator.json", tmp_path / "runs", tmp_path / "page.md"
    path.write_text(json.dumps(base))
    page.write_text("before\n<!-- ablation -->\nold\n<!-- end of ablation -->\nafter\n")
    main([str(path), "-o", str(runs), "--only", "base,no-listener", "--minutes", "0.001", "--into", str(page)])
    printed = capsys.readouterr().out
    rows = [line.split(" | ") for line in printed.splitlines() if line.startswith("| ") and "---" not in line]
    assert [row[0] for row in rows] == ["| run", "| base", "| no-listener"]
    assert float(rows[1][2]) > float(rows[2][2])  # the listener has parameters
    assert int(rows[1][3]) > 0
    assert page.read_text() == f"before\n<!-- ablation -->\n{printed}<!-- end of ablation -->\nafter\n"
    finished = result(runs, VARIANTS[0])
    assert finished is not None
    assert f"{finished['val/a/si_sdri']:.2f}" == rows[1][4]
    main([str(path), "-o", str(runs), "--only", "base", "--minutes", "0.001"])  # nothing is trained again
    assert result(runs, VARIANTS[0]) == finished
    with pytest.raises(ConfigError, match="another configuration"):
        run(base, VARIANTS[0], runs, 0.002)
