"""What is said of the presence of sounds, and how far research says it can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from doubles import FakeEncoder
from torch import Tensor

import audiosep
from audiosep.cli.reporting import _remarks
from audiosep.data.manifest import Clip
from audiosep.output.batch_report import FileResult
from research.presence import pairs_of, report
from research.presence_calibration import Said

EXAMPLES = Path(__file__).parents[1] / "examples" / "audio"


class Compass(FakeEncoder):
    """Texts are directions: "north" and "north wind" are alike, "north" and "east" are not."""

    def text(self, texts: Sequence[str]) -> Tensor:
        found = [[float("north" in text), float("east" in text)] for text in texts]
        return F.normalize(torch.tensor(found), dim=-1)


def clip(label: str) -> Clip:
    return Clip(id=label, path=f"{label}.wav", label=label, captions=(label,), family="event", split="test")


def test_absent_words_are_unlike_the_label() -> None:
    clips = [clip("north"), clip("east"), clip("north wind")]
    pairs = pairs_of(clips, Compass(), 40, seed=0)
    assert [pair.present for pair in pairs] == [True, False] * 20
    assert all(pair.word == pair.clip.label for pair in pairs if pair.present)
    absent = {(pair.clip.label, pair.word) for pair in pairs if not pair.present}
    assert absent == {("north", "east"), ("north wind", "east"), ("east", "north"), ("east", "north wind")}
    assert pairs_of(clips, Compass(), 40, seed=0) == pairs != pairs_of(clips, Compass(), 40, seed=1)


def test_the_report_counts_errors_and_shares() -> None:
    there = np.array([True, True, True, False, False])
    text = report(Said(np.array([0.9, 1.0, 0.1, 0.15, 0.5]), there))
    assert "5 pairs; absent called present 50%, present called absent 33% at 0.5" in text
    assert "| 0.8 to 1.0 | 2 | 0.95 | 1.00 |" in text
    assert "AUC 0.667" in text


def test_a_sound_that_is_less_likely_than_not_is_called_probably_absent(tmp_path: Path) -> None:
    presence = {"piano": 0.914, "dog": 0.5, "cat": 0.49, "siren": 0.02}
    result = FileResult(tmp_path / "in.wav", {}, presence, 1.0, 0, None, 100, 16000, 1)
    assert list(_remarks(result)) == ["present: piano 91%, dog 50%", "probably absent: cat, siren"]


@pytest.mark.parametrize("negative", ["speech", "rain"])
def test_what_is_to_be_kept_out_says_nothing_about_what_is_there(negative: str) -> None:
    """A reading has no dog and has speech, whatever else is named; an absent sound comes out nearly silent."""
    separator = audiosep.load("mini", device="cpu", sounds=False)
    samples, rate = audiosep.audio.read_audio(EXAMPLES / "speech.flac")
    out = separator.separate(samples, audiosep.Query("dog barking", negative=negative), sample_rate=rate)
    assert out.presence is not None
    assert out.presence["dog barking"] < 0.3
    assert not out.activity["dog barking"].spans
    assert np.square(out["dog barking"]).mean() < 1e-2 * np.square(samples).mean()
    there = separator.separate(samples, audiosep.Query("speech", negative="dog barking"), sample_rate=rate)
    assert there.presence is not None
    assert there.presence["speech"] > 0.7
