"""Other engines compute the same window: names, quality, and nothing about who was faster."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from audiosep.api import load
from audiosep.audio.synthetic import tone_and_noise
from audiosep.errors import InputError
from research import engines, precision
from research.engines import compare_engines, main


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling takes half a minute and a C++ compiler, and is torch's own to test."""
    monkeypatch.setattr(torch, "compile", lambda network: network)


def test_every_engine_gives_the_masks_of_torch_in_float32(mini_folder: Path) -> None:
    separator = load(mini_folder, "cpu", "fp32")
    sound = tone_and_noise(3 * separator.model.window, separator.model.sample_rate).mean(0)
    scores = {score.name: score for score in compare_engines(separator, sound, runs=1)}
    assert next(iter(scores)) == "torch fp32"
    assert scores["ONNX Runtime fp32"].snr_db > 80
    assert scores["torch bf16"].snr_db > 25
    assert scores["ONNX Runtime int8"].snr_db > 10
    assert all(0 < s.fastest <= s.seconds <= s.slowest for s in scores.values())


def test_engines_that_are_not_installed_are_left_out(mini_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_missing", lambda *packages: True)
    separator = load(mini_folder, "cpu", "fp32")
    short = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    names = [score.name for score in compare_engines(separator, short, runs=1)]
    assert all(name.startswith("torch") for name in names)


def test_a_table_is_printed(
    mini_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engines, "_missing", lambda *packages: True)
    main(["-m", str(mini_folder), "--runs", "1", "--threads", "1"])
    assert "torch bf16" in capsys.readouterr().out
    with pytest.raises(InputError, match="greater than 0"):
        main(["--runs", "0"])


def test_precisions_take_turns_and_the_page_has_a_row_for_each_work(
    mini_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    called: list[bool] = []
    taken = precision.seconds(lambda: called.append(torch.is_autocast_enabled("cpu")), runs=3)
    assert called == [False, True] * 4
    assert set(taken) == {"fp32", "bf16"}
    assert precision.main(["--model", str(mini_folder), "--threads", "1", "--runs", "1"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split("|")[2].strip() for row in rows[2:]] == ["stems", "query"]
