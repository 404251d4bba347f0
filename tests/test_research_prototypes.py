"""The commands that make a model's prototypes, and measure what words are answered with."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import corpora
import numpy as np
import pytest
import torch
from torch import Tensor

from audiosep.api import load
from audiosep.audio import read_audio, resample
from audiosep.data.corpus import Corpus
from audiosep.data.manifest import write_manifest
from audiosep.data.recipe_drawing import draw_recipe
from audiosep.data.validation_recipe import ValidationRecipe
from audiosep.errors import ConfigError
from audiosep.models.hybrid import Hybrid
from audiosep.models.refinement import Heard
from research import ladder, naming, own_names, presence_calibration, presence_evidence, prototypes

EXAMPLES = Path(__file__).parents[1] / "examples" / "audio"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    clips = corpora.make_clips(tmp_path / "audio", songs=0)
    clips = [replace(clip, credit=f"author of {clip.label}", licence="CC0-1.0") for clip in clips]
    clips[0] = replace(clips[0], split="test")
    write_manifest(tmp_path / "manifest.jsonl", clips)
    return tmp_path / "manifest.jsonl"


def test_prototypes_of_a_manifest_are_used_by_the_model(manifest: Path, mini_folder: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(mini_folder, tmp_path / "model"))
    arguments = [str(manifest), "--cache", str(tmp_path / "cache"), "--model", str(model), "--into", str(model)]
    assert prototypes.main(arguments) == 0
    first = (model / "prototypes.safetensors").read_bytes()
    loaded = load(model, device="cpu").prototypes
    assert loaded is not None
    labels = set(corpora.LABELS)
    assert set(loaded.labels) == labels
    assert int(loaded.counts.sum()) == 3 * len(labels) - 1  # but for the clip of the split "test"
    card = (model / "PROTOTYPES.md").read_text(encoding="utf-8")
    assert f"{3 * len(labels) - 1} recordings of {len(labels)} labels" in card
    for label in labels:
        assert f"- {label}: " in card
        assert f"author of {label} (CC0-1.0)" in card
    assert prototypes.main(arguments) == 0
    assert (model / "prototypes.safetensors").read_bytes() == first


@pytest.fixture
def recipe(mini_folder: Path, tmp_path: Path) -> list[str]:
    """What commands take that measure a model on a recipe."""
    rows = [replace(clip, split="val") for clip in corpora.make_clips(tmp_path / "held", songs=0)]
    write_manifest(tmp_path / "val.jsonl", rows)
    draw_recipe(Corpus(tmp_path / "val.jsonl", tmp_path / "cache", 16000)).save(tmp_path / "recipe.json")
    files = [str(tmp_path / "recipe.json"), str(tmp_path / "val.jsonl")]
    return [*files, "--cache", str(tmp_path / "cache"), "--model", str(mini_folder)]


def test_the_ladder_of_a_recipe(
    recipe: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- ladder -->\n<!-- end of ladder -->\n")
    command = [*recipe, "--groups", "ac", "--most", "2", "--scores", str(tmp_path / "scores"), "--into", str(page)]
    assert ladder.main([*command, "--ways", "word"]) == 0
    capsys.readouterr()
    assert ladder.main(command) == 0
    table = capsys.readouterr().out
    assert "| word | fast | balanced | best | own sound |" in table
    assert table in page.read_text()
    assert "level" in next(line for line in table.splitlines() if line.startswith("| c |"))
    scores = (tmp_path / "scores").read_text()
    assert len(scores.splitlines()) == len(set(scores.splitlines())) > 10
    monkeypatch.delattr(ladder, "_separate")  # all scores are there
    assert ladder.main(command) == 0
    assert capsys.readouterr().out == table
    assert (tmp_path / "scores").read_text() == scores


def test_the_mixtures_of_held_back_collections_are_what_the_page_says() -> None:
    recipe = ValidationRecipe.load(Path(ladder.__file__).parent / "collections.json")
    assert {entry.group for entry in recipe.entries} == {"h"}
    said = f"{len(recipe.entries)} mixtures of {len({entry.label for entry in recipe.entries})} labels"
    page = (Path(ladder.__file__).parents[1] / "docs" / "recall.md").read_text(encoding="utf-8")
    assert said in " ".join(page.split())
    assert all(len(entry.sources) == 2 and entry.target == (0,) for entry in recipe.entries)


def test_presence_is_fitted_to_what_holds() -> None:
    logits = np.random.default_rng(0).normal(0, 2, 4000)
    there = np.random.default_rng(1).random(4000) < 1 / (1 + np.exp(-(0.5 * logits - 1)))
    said = presence_calibration.Said(1 / (1 + np.exp(-logits)), there)
    rare = (1 - there.mean()) / there.mean()  # both kinds count as much
    assert presence_calibration.fit(said) == pytest.approx((0.5, -1 + np.log(rare)), abs=0.1)
    right = said.calibrated(*presence_calibration.fit(said))
    assert presence_calibration.fit(right) == pytest.approx((1, 0), abs=0.01)
    rows = [row.split(" | ") for row in presence_calibration.table(right).splitlines() if " to " in row]
    assert sum(int(row[1]) for row in rows) == 4000
    assert all(abs(float(row[2]) - float(row[3].strip(" |"))) < 0.05 for row in rows)
    area = presence_calibration.table(said).splitlines()[-1].partition(",")[0]
    assert area == presence_calibration.table(right).splitlines()[-1].partition(",")[0]


def test_presence_of_a_recipe(
    recipe: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_calibration, "_OTHER", 2)  # a random text tower finds any texts alike
    page = tmp_path / "page.md"
    page.write_text("<!-- presence -->\n<!-- end of presence -->\n")
    assert presence_calibration.main([*recipe, "--most", "3", "--into", str(page)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("presence_calibration: [")
    assert "\nAUC " in page.read_text()


def test_evidence_is_weighed_as_it_speaks_for_a_sound() -> None:
    dice = np.random.default_rng(0)
    parts = dice.normal(0, [1, 5, 0.1], (20_000, 3))
    true = np.array([1.0, 0.2, -8.0])
    there = dice.random(len(parts)) < 1 / (1 + np.exp(-(parts @ true + 1.5)))
    weights, constant = presence_evidence.fit(parts, there)
    assert weights == pytest.approx(true, rel=0.1)
    rare = np.log((1 - there.mean()) / there.mean())  # both kinds count as much
    assert constant == pytest.approx(1.5 + rare, abs=0.1)


def test_there_is_more_evidence_for_a_guitar_in_its_recording_than_in_speech() -> None:
    with load("mini", device="cpu") as separator:
        found = []
        for name in ("guitar", "speech"):
            samples, rate = read_audio(EXAMPLES / f"{name}.flac")
            mono = torch.from_numpy(resample(samples.mean(0)[None, : 8 * rate], rate, separator.sample_rate)[0])
            found.append(presence_evidence.evidence(separator, mono, "guitar"))
            assert presence_evidence.evidence(separator, mono, "other") is None  # no known sound is like it
    assert found[0] is not None
    assert found[1] is not None
    assert (found[0] > found[1]).sum() >= 4


def test_evidence_needs_sounds_that_are_known(recipe: list[str]) -> None:
    with pytest.raises(ConfigError, match="make prototypes"):
        presence_evidence.main([*recipe, "--pairs", "2"])


def test_presence_needs_queries_of_different_sounds(recipe: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence_calibration, "_OTHER", -2)
    with pytest.raises(ConfigError, match="more labels"):
        presence_calibration.main([*recipe, "--most", "3"])


def test_naming_of_a_recipe(
    manifest: Path,
    mini_folder: Path,
    recipe: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def heard(model: Hybrid, waveforms: Tensor) -> Heard:
        tags = waveforms.square().mean((1, 2)).log()[:, None] * torch.arange(1.0, 5.0) + torch.arange(4.0)
        return Heard(torch.zeros(len(tags), 512), tags)

    monkeypatch.setattr(Hybrid, "heard", heard)
    monkeypatch.setattr(Hybrid, "tag_names", torch.eye(512)[:4])
    model = Path(shutil.copytree(mini_folder, tmp_path / "model"))
    made = ["--cache", str(tmp_path / "cache"), "--model", str(model), "--into", str(model)]
    assert prototypes.main([str(manifest), *made]) == 0
    capsys.readouterr()
    page = tmp_path / "page.md"
    page.write_text("<!-- naming -->\n<!-- end of naming -->\n")
    assert naming.main([*recipe[:-1], str(model), "--into", str(page)]) == 0
    out = capsys.readouterr().out
    assert "| word | word and recordings | tagger | recordings and tagger |" in out
    assert out in page.read_text()


def test_the_worth_of_own_names(
    manifest: Path, mini_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label = "zipper"
    clips = corpora.make_clips(tmp_path / "more", takes=8, songs=0)
    rows = [replace(clip, split="zero" if clip.label == label else "val", family="event") for clip in clips]
    write_manifest(tmp_path / "own.jsonl", rows)
    corpus = Corpus(tmp_path / "own.jsonl", tmp_path / "cache", 16000)
    remembered, others = own_names.examples_and_others(corpus, label)
    assert len(remembered) == 5
    assert {clip.id for clip in remembered}.isdisjoint(clip.id for clip in others)
    page = tmp_path / "page.md"
    page.write_text("<!-- own names -->\n<!-- end of own names -->\n")
    command = [str(tmp_path / "own.jsonl"), "--cache", str(tmp_path / "cache"), "--model", str(mini_folder)]
    assert own_names.main([*command, "--sounds", label, "--mixtures", "2", "--into", str(page)]) == 0
    out = capsys.readouterr().out
    assert [line.split(" | ")[0] for line in page.read_text().splitlines() if line.startswith(f"| {label}")]
    assert "s to remember a sound by five examples" in out
    assert "a query beside 1,000 names takes" in out
