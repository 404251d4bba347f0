"""The validation recipe of the embedded model as a benchmark."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from audiosep.data.clip_audio import ClipKeys
from audiosep.data.corpus import Corpus
from audiosep.data.manifest import read_manifest
from audiosep.data.validation_recipe import RecipeAudio, RecipeEntry, ValidationRecipe
from audiosep.evaluation.benchmarks import Benchmark, Item, Scene, Target
from audiosep.query.query import Query
from audiosep.weights.configs import to_dict


def benchmark(path: str | Path, manifest: str | Path, cache: str | Path) -> Benchmark:
    """Read a validation recipe.

    Args:
        path: the recipe.
        manifest: of the corpus that it was drawn from.
        cache: folder of the decoded audio of that corpus.

    Raises:
        DataError: no such recipe or manifest.
    """
    recipe = ValidationRecipe.load(path)
    places = (str(manifest), str(cache))
    clips, key = {clip.id: clip for clip in read_manifest(manifest)}, ClipKeys()

    def version(entry: RecipeEntry) -> str:
        parts = [*entry.sources, *([entry.example] if entry.example else [])]
        audio = [key(clips[part.clip]) for part in parts if part.clip in clips]
        return f"{zlib.crc32(repr((to_dict(entry), recipe.sample_rate, audio)).encode()):08x}"

    items = tuple(_item(recipe, entry, version(entry), places) for entry in recipe.entries)
    return Benchmark("validation", items, "held-back clips of the training corpus, see docs/mini.md", Path(path))


# Names that systems with fixed targets have for the labels of groups d and e.
_STEMS = {"vocals": ("vocals", "voice"), "drums": ("drums", "percussive"), "bass": ("bass",), "other": ("other",)}
ALIASES: dict[str, dict[str, tuple[str, ...]]] = {
    "e": _STEMS,
    "d": dict.fromkeys(("speech", "male speech", "female speech"), ("speech",)),
}

_OPEN: dict[tuple[str, str], RecipeAudio] = {}


def _audio(places: tuple[str, str], sample_rate: int) -> RecipeAudio:
    """The audio of a corpus, which each process opens once."""
    if places not in _OPEN:
        _OPEN[places] = RecipeAudio(Corpus(places[0], places[1], sample_rate))
    return _OPEN[places]


def _scene(recipe_rate: int, entry: RecipeEntry, places: tuple[str, str]) -> Scene:
    parts = _audio(places, recipe_rate).sources(entry).numpy()
    mix = parts.sum(0)
    rest = {f"source {i}": parts[i][None] for i in range(len(parts)) if i not in entry.target}
    mine = {"target": parts[list(entry.target)].sum(0)[None]} if entry.target else {}
    return Scene(mix[None], mine | rest, recipe_rate)


def _item(recipe: ValidationRecipe, entry: RecipeEntry, version: str, places: tuple[str, str]) -> Item:
    if entry.example is None:
        query = Query(text=entry.query, name="target")
    else:
        x = _audio(places, recipe.sample_rate).excerpt(entry.example, entry.seconds).numpy()
        query = Query(audio=(x, recipe.sample_rate), name="target")
    target = Target("target", query, entry.label, ALIASES.get(entry.group, {}).get(entry.label, ()))
    load: Callable[[], Scene] = partial(_scene, recipe.sample_rate, entry, places)
    return Item(entry.id, (target,), load, entry.group, version, {"family": entry.family})
