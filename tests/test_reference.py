"""The published way of running resunet30, rebuilt for timing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from research import reference


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A network that gives its input back, and the lengths it was run on (seconds)."""
    lengths: list[int] = []

    def run(x: torch.Tensor, query: str) -> torch.Tensor:
        lengths.append(round(x.shape[-1] / 32000))
        return x

    monkeypatch.setattr(reference, "_run", run)
    return lengths


def test_published_schedule_computes_windows_twice_and_covers_the_recording(calls: list[int]) -> None:
    mix = np.random.default_rng(0).standard_normal((2, 12 * 32000), dtype=np.float32)
    out = reference.published_chunks(mix, ["piano"], 32000)
    assert torch.equal(out[0, 0], torch.from_numpy(mix.mean(0)))
    assert calls == [5, 5, 5, 5, 5, 3]


def test_published_schedule_gives_silence_for_short_recordings(calls: list[int]) -> None:
    assert not reference.published_chunks(np.ones((1, 5 * 32000), np.float32), ["piano"], 32000).any()
    assert calls == []


def test_whole_file_is_one_pass_a_query(calls: list[int]) -> None:
    out = reference.whole_file(np.ones((2, 44100), np.float32), ["piano", "drums"], 44100)
    assert out.shape == (1, 2, 32000)
    assert calls == [1, 1]


@pytest.mark.slow
def test_written_model_loads(mini_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import audiosep

    monkeypatch.setattr(reference, "locate", lambda name: mini_folder)
    reference.write_model(tmp_path / "resunet30")
    assert audiosep.load(tmp_path / "resunet30").name == "resunet30"
