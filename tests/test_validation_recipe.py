"""Validation recipes: drawn the same every time, rendered the same for training and evaluation."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from corpora import RATE, make_clips, wave, write
from test_tasks import divided

from audiosep.cli import main
from audiosep.data.corpus import Corpus
from audiosep.data.labels import label_table
from audiosep.data.manifest import STEMS, Clip, write_manifest
from audiosep.data.recipe_drawing import draw_recipe
from audiosep.data.validation_recipe import RecipeAudio, ValidationRecipe
from audiosep.errors import ConfigError, DataError
from audiosep.evaluation import validation_set
from audiosep.evaluation.sets import VALIDATION_GROUPS
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
def recipe(corpus: Corpus, folder: Path) -> ValidationRecipe:
    found = draw_recipe(corpus)
    found.save(folder / "recipe.json")
    return found


def test_a_recipe_depends_on_its_seed_only_and_reads_back(
    recipe: ValidationRecipe, corpus: Corpus, folder: Path
) -> None:
    assert draw_recipe(corpus) == recipe
    assert ValidationRecipe.load(folder / "recipe.json") == recipe
    assert draw_recipe(corpus, seed=1) != recipe


def test_recipes_are_joined_if_they_go_together(recipe: ValidationRecipe, folder: Path) -> None:
    more = dataclasses.replace(recipe, entries=tuple(dataclasses.replace(e, id=f"more-{e.id}") for e in recipe.entries))
    more.save(folder / "more.json")
    dataclasses.replace(more, sample_rate=8000).save(folder / "rate.json")
    both = ValidationRecipe.joined([folder / "recipe.json", folder / "more.json"])
    assert both.entries == recipe.entries + more.entries
    assert ValidationRecipe.joined([folder / "more.json"]) == more
    with pytest.raises(ConfigError, match=r"recipe.json, .*rate.json: recipes of different sample rates"):
        ValidationRecipe.joined([folder / "recipe.json", folder / "rate.json"])
    with pytest.raises(ConfigError, match="name a mixture twice"):
        ValidationRecipe.joined([folder / "more.json", folder / "more.json"])


def test_the_command_draws_the_same_recipe(
    recipe: ValidationRecipe, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / "drawn.json"
    command = ["data", "recipe", str(folder / "manifest.jsonl"), "--cache", str(folder / "cache"), "-o", str(out)]
    assert main([*command, "--sample-rate", str(RATE), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["entries"] == len(recipe.entries)
    assert ValidationRecipe.load(out) == recipe


def test_a_recipe_has_the_groups_that_its_corpus_has_clips_for(corpus: Corpus, folder: Path) -> None:
    mine = [dataclasses.replace(clip, family="mine") for clip in corpus.clips if not clip.song and clip.split != "zero"]
    found = draw_recipe(Corpus(mine, folder / "cache", RATE))
    assert {(e.group, e.family) for e in found.entries} == {(group, "mine") for group in "abcf"}
    with pytest.raises(DataError, match="have 0 labels, and a recipe mixes two"):
        draw_recipe(Corpus([clip for clip in mine if clip.split == "train"], folder / "cache", RATE))


def test_a_target_alone_is_no_mixture(tmp_path: Path) -> None:
    clips = []
    for number, label in enumerate(("speech", "male speech", "female speech")):
        path = write(tmp_path / f"{label}.flac", wave(number, 3.0, RATE))
        clips.append(Clip(label, str(path), label, seconds=3.0, family="speech", split="val"))
    alike = clips[:2]  # of which the one implies the other
    with pytest.raises(DataError, match=r"no two can be mixed.*give clips of other sounds"):
        draw_recipe(Corpus(alike, tmp_path / "c", RATE))
    path = write(tmp_path / "rain.flac", wave(5, 3.0, RATE))
    rain = Clip("rain", str(path), "rain", seconds=3.0, split="val")
    entries = draw_recipe(Corpus([*alike, rain], tmp_path / "c", RATE)).entries
    assert {entry.group for entry in entries} == set("abcdf")
    assert all(len(entry.sources) > len(entry.target) for entry in entries)
    song = [dataclasses.replace(c, family="music", song="one", stem=s) for c, s in zip(clips, STEMS, strict=False)]
    assert {entry.group for entry in draw_recipe(Corpus(song, tmp_path / "c", RATE)).entries} == {"e"}


def test_entries_are_what_their_group_says(recipe: ValidationRecipe, corpus: Corpus) -> None:
    audio, table = RecipeAudio(corpus), label_table()
    assert {e.group for e in recipe.entries} == set("abcdefg")
    for entry in recipe.entries:
        clips = [audio.clip(part.clip) for part in entry.sources]
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
            assert audio.clip(entry.example.clip).label == entry.label
            assert entry.example.clip != entry.sources[0].clip


def test_collections_that_are_held_back_as_a_whole_are_mixed_with_each_other(tmp_path: Path) -> None:
    labels = {"dog barking": "val", "rain": "val", "zipper": "test", "church bell": "test", "siren": "train"}
    clips = []
    for number, (label, split) in enumerate(labels.items()):
        for seconds in (1.0, 3.0):
            path = write(tmp_path / f"{label} {seconds}.flac", wave(number, seconds, RATE))
            clips.append(Clip(f"{label} {seconds}", str(path), label, seconds=seconds, split=split))  # type: ignore[arg-type]
    drawn = draw_recipe(Corpus(clips, tmp_path / "cache", RATE)).entries
    entries = [entry for entry in drawn if entry.group == "h"]
    assert {entry.label for entry in entries} == {"zipper", "church bell"}
    for entry in entries:  # both from such a collection, and long enough
        assert {part.clip for part in entry.sources} == {"zipper 3.0", "church bell 3.0"}
        assert entry.sources[0].clip.startswith(entry.label)
    assert {entry.group for entry in drawn} <= set(VALIDATION_GROUPS)
    fewer = [clip for clip in clips if clip.label != "zipper"]
    assert all(entry.group != "h" for entry in draw_recipe(Corpus(fewer, tmp_path / "cache", RATE)).entries)


def test_two_sources_have_equal_levels(recipe: ValidationRecipe, corpus: Corpus) -> None:
    audio = RecipeAudio(corpus)
    for entry in [e for e in recipe.entries if e.group == "a"][::20]:
        levels = 10 * np.log10(audio.sources(entry).square().mean(-1).numpy())
        assert levels == pytest.approx([-26, -26], abs=0.1)


def test_excerpts_have_sound_in_them(tmp_path: Path) -> None:
    """Clips of a minute, all silent but for ten seconds: of up to 20 random excerpts one has sound."""
    clips = []
    for number, label in enumerate(("dog barking", "rain", "zipper")):
        x = np.zeros(60 * RATE, np.float32)
        x[20 * RATE : 30 * RATE] = np.tile(wave(number, 2.0, RATE), 5)
        path = write(tmp_path / f"{number}.flac", x)
        clips.append(Clip(label, str(path), label, seconds=60.0, split="val"))
    corpus = Corpus(clips, tmp_path / "cache", RATE)
    audio = RecipeAudio(corpus)
    entries = [entry for entry in draw_recipe(corpus).entries if entry.group == "a"]
    silent = [bool(x.abs().max() == 0) for entry in entries for x in audio.sources(entry)]
    assert np.mean(silent) < 0.1


def test_items_of_the_benchmark_are_the_entries_of_the_recipe(
    recipe: ValidationRecipe, folder: Path, corpus: Corpus, monkeypatch
) -> None:
    monkeypatch.setattr("audiosep.evaluation.validation_set._OPEN", {})
    items = benchmark(folder / "recipe.json", folder / "manifest.jsonl", folder / "cache").items
    assert [item.id for item in items] == [entry.id for entry in recipe.entries]
    place = Path(RecipeAudio(corpus).clip(recipe.entries[0].sources[0].clip).path)
    status = place.stat()
    try:
        os.utime(place, (status.st_atime, status.st_mtime + 10))
        again = benchmark(folder / "recipe.json", folder / "manifest.jsonl", folder / "cache").items
    finally:
        os.utime(place, ns=(status.st_atime_ns, status.st_mtime_ns))
    changed = [a.version != b.version for a, b in zip(items, again, strict=True)]
    assert changed[0]
    assert not all(changed)
    chosen = {item.group: (item, entry) for item, entry in zip(items, recipe.entries, strict=True)}
    for group, (item, entry) in chosen.items():
        scene, target = item.load(), item.targets[0]
        assert scene.present(target) == (group != "c")
        assert (target.query.audio is not None) == (group == "f")
        whole = scene.reference(target) + sum(scene.others(target).values())
        assert np.allclose(whole, scene.mix, atol=1e-6)
        assert np.allclose(scene.mix[0], RecipeAudio(corpus).sources(entry).sum(0).numpy(), atol=1e-6)


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
    silent = {"group": "a", "family": "event", "label": "rain", "si_sdri": float("nan"), "sdri": float("nan")}
    assert summary([*rows, silent]) == found  # there is nothing to be separated well or badly


def test_songs_are_cut_where_their_stems_sound(tmp_path: Path) -> None:
    clips = []
    for stem in ("vocals", "drums"):
        x = 0.3 * np.tile(wave(len(stem), 4.0, RATE), 15)
        x[: 35 * RATE if stem == "vocals" else 0] = 0
        path = write(tmp_path / f"song/{stem}.wav", x)
        clips.append(Clip(stem, str(path), stem, seconds=60.0, family="music", song="song", stem=stem, split="val"))
    path = write(tmp_path / "song/bass.wav", 0 * x)
    clips.append(Clip("bass", str(path), "bass", seconds=60.0, family="music", song="song", stem="bass", split="val"))
    for number in range(3):
        path = write(tmp_path / f"{number}.wav", wave(number, 3.0, RATE))
        clips.append(Clip(f"{number}", str(path), ["kettle", "rain", "bell"][number], seconds=3.0, split="val"))
    for seed in range(3):
        songs = [e for e in draw_recipe(Corpus(clips, tmp_path / "c", RATE), seed).entries if e.group == "e"]
        assert [entry.label for entry in songs] == ["vocals", "drums"]
        assert songs[0].sources[0].start > 25.0


def test_the_packaged_recipe_has_all_groups() -> None:
    entries = ValidationRecipe.load(Path(validation_set.__file__).parent / "recipes/val.json").entries
    assert len({e.id for e in entries}) == len(entries)
    assert {e.group for e in entries} == set("abcdefg")
    twins = {e.id[1:]: e for e in entries if e.group == "f"}
    for entry in (e for e in entries if e.group == "a"):
        assert dataclasses.replace(twins[entry.id[1:]], id=entry.id, group="a", example=None) == entry
