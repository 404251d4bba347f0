"""Recipes of held-back mixtures: drawn once, rendered the same for ever."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from corpora import RATE, make_clips
from test_tasks import divided

from audiosep.data import recipes
from audiosep.data.corpus import Corpus
from audiosep.data.labels import label_table
from audiosep.data.manifest import write_manifest
from audiosep.data.recipes import Drawer, Pieces, Recipe
from audiosep.errors import DataError
from audiosep.evaluation.validation_set import benchmark
from audiosep.training.separation.validation_scores import summary


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    write_manifest(folder / "manifest.jsonl", divided(make_clips(folder, takes=9)))
    return folder


@pytest.fixture(scope="module")
def corpus(folder: Path) -> Corpus:
    return Corpus(folder / "manifest.jsonl", folder / "cache", RATE)


@pytest.fixture(scope="module")
def recipe(corpus: Corpus, folder: Path) -> Recipe:
    found = Drawer(corpus).recipe()
    found.save(folder / "recipe.json")
    return found


def test_a_recipe_is_drawn_alike_and_reads_back(recipe: Recipe, corpus: Corpus, folder: Path) -> None:
    assert Drawer(corpus).recipe() == recipe
    assert Recipe.load(folder / "recipe.json") == recipe
    assert Drawer(corpus, seed=1).recipe() != recipe


def test_a_corpus_of_ones_own_gets_the_groups_that_it_has_sounds_for(corpus: Corpus, folder: Path) -> None:
    mine = [dataclasses.replace(clip, family="mine") for clip in corpus.clips if not clip.song and clip.split != "zero"]
    found = Drawer(Corpus(mine, folder / "cache", RATE)).recipe()
    assert {(e.group, e.family) for e in found.entries} == {(group, "mine") for group in "abcf"}
    with pytest.raises(DataError, match="two held-back labels"):
        Drawer(Corpus([clip for clip in mine if clip.split == "train"], folder / "cache", RATE))


def test_groups_hold_what_they_promise(recipe: Recipe, corpus: Corpus) -> None:
    pieces, table = Pieces(corpus), label_table()
    assert {e.group for e in recipe.entries} == set("abcdefg")
    for entry in recipe.entries:
        clips = [pieces.clip(part.clip) for part in entry.sources]
        assert all(clip.split != "train" for clip in clips)
        others = [clip for i, clip in enumerate(clips) if i not in entry.target]
        if entry.group != "e":
            assert not any(table.implies(clip.label, entry.label) for clip in others), entry
        if entry.group == "c":
            assert entry.target == ()
        if entry.group == "g":
            assert clips[0].split == "zero"
        if entry.group == "d":
            assert clips[0].family == "speech"
        if entry.group == "f":
            assert entry.example is not None
            assert pieces.clip(entry.example.clip).label == entry.label
            assert entry.example.clip != entry.sources[0].clip


def test_two_sources_meet_at_the_level_that_is_written_down(recipe: Recipe, corpus: Corpus) -> None:
    pieces = Pieces(corpus)
    for entry in [e for e in recipe.entries if e.group == "a"][::20]:
        levels = 10 * np.log10(pieces.sources(entry).square().mean(-1).numpy())
        assert levels == pytest.approx([-26, -26], abs=0.1)


def test_items_of_the_benchmark_are_the_recipe(recipe: Recipe, folder: Path, corpus: Corpus, monkeypatch) -> None:
    monkeypatch.setattr("audiosep.evaluation.validation_set._OPEN", {})
    items = benchmark(folder / "recipe.json", folder / "manifest.jsonl", folder / "cache").items
    assert [item.id for item in items] == [entry.id for entry in recipe.entries]
    chosen = {item.group: (item, entry) for item, entry in zip(items, recipe.entries, strict=True)}
    for group, (item, entry) in chosen.items():
        scene, target = item.load(), item.targets[0]
        assert scene.present(target) == (group != "c")
        assert (target.query.audio is not None) == (group == "f")
        whole = scene.reference(target) + sum(scene.others(target).values())
        assert np.allclose(whole, scene.mix, atol=1e-6)
        assert np.allclose(scene.mix[0], Pieces(corpus).sources(entry).sum(0).numpy(), atol=1e-6)


def test_summary_by_group_and_family() -> None:
    rows = [
        {"group": "a", "family": "speech", "label": "man", "si_sdri": 4.0, "sdri": 5.0, "presence": 0.9},
        {"group": "a", "family": "event", "label": "dog", "si_sdri": -2.0, "sdri": 1.0, "presence": 0.4},
        {"group": "c", "family": "event", "label": "cat", "level_db": -20.0, "presence": 0.4},
        {"group": "b", "family": "event", "label": "dog", "si_sdri": 8.0, "sdri": 8.0, "presence": 0.1},
    ]
    found = summary(rows)
    assert found["val/si_sdri"] == found["val/a/si_sdri"] == 1.0
    assert found["val/a/better"] == 0.5
    assert found["val/event/si_sdri"] == -2.0
    assert found["val/b/si_sdri"] == 8.0
    assert found["val/c/level_db"] == -20.0
    assert found["val/presence_auc"] == 0.75
    assert found["val/label/dog/si_sdri"] == -2.0
    assert found["val/label/man/better"] == 1.0


def test_the_committed_recipe_is_whole() -> None:
    entries = Recipe.load(Path(recipes.__file__).parents[1] / "evaluation/recipes/val.json").entries
    assert len({e.id for e in entries}) == len(entries)
    assert {e.group for e in entries} == set("abcdefg")
    twins = {e.id[1:]: e for e in entries if e.group == "f"}
    for entry in (e for e in entries if e.group == "a"):
        assert dataclasses.replace(twins[entry.id[1:]], id=entry.id, group="a", example=None) == entry
