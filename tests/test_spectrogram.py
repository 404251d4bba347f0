"""Spectrograms as pictures: what is high is on top, what is loud is bright."""

from __future__ import annotations

import io

import numpy as np
import pytest

from audiosep.errors import DependencyError
from audiosep.output.spectrogram import RANGE_DB, colours, mel, picture, spectrogram

RATE = 16000


@pytest.mark.parametrize("pitch", [300.0, 1000.0, 6000.0])
def test_a_tone_is_in_the_row_of_its_frequency(pitch: float) -> None:
    tone = np.sin(2 * np.pi * pitch * np.arange(2 * RATE) / RATE, dtype=np.float32)[None]
    levels = spectrogram(tone, RATE)
    assert levels.shape == (128, 400)
    row = int(np.argmax(levels[:, 200]))
    assert row == pytest.approx(127 - 128 * mel(pitch) / mel(RATE / 2), abs=1.5)


def test_channels_are_summed_and_one_sample_is_enough() -> None:
    noise = np.random.default_rng(0).standard_normal((1, RATE)).astype(np.float32)
    both = spectrogram(np.concatenate([noise, -noise]), RATE)
    np.testing.assert_allclose(both, spectrogram(noise, RATE) + 10 * np.log10(2), atol=1e-3)
    assert spectrogram(np.ones((2, 1), np.float32), 8000, rows=16, columns=20).shape == (16, 20)


def test_loud_is_bright_and_what_is_below_the_range_is_black() -> None:
    pytest.importorskip("matplotlib")
    coloured = colours(np.array([[-10.0, -10 - RANGE_DB / 2, -10 - RANGE_DB, -200.0]], np.float32), -10.0)
    assert coloured.dtype == np.uint8
    brightness = coloured.astype(int).sum(-1)[0]
    assert brightness[0] > brightness[1] > brightness[2] == brightness[3]
    assert brightness[2] < 20


def test_a_png_holds_the_same_colours() -> None:
    image = pytest.importorskip("matplotlib.image")
    levels = np.linspace(-80, 0, 12, dtype=np.float32).reshape(3, 4)
    read = image.imread(io.BytesIO(picture(levels, 0.0)), format="png")
    np.testing.assert_array_equal(np.round(read[..., :3] * 255).astype(np.uint8), colours(levels, 0.0))


def test_without_matplotlib_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(DependencyError, match=r'pip install "\.\[eval\]"'):
        colours(np.zeros((1, 1), np.float32), 0.0)
