"""The benchmarks that `--set name=path,option=value` can name, and how they are read."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from audiosep.errors import ConfigError, DataError
from audiosep.evaluation import audiosep_benchmarks, labelled_stems, multitrack
from audiosep.evaluation.benchmarks import Benchmark
from audiosep.evaluation.mixtures import read_manifest_mixtures
from audiosep.evaluation.scene_files import SetLayout
from audiosep.weights.catalogue import expand_home


@dataclass(frozen=True)
class SetReader:
    """How a kind of test set is read.

    Attributes:
        read: takes the path; its keyword arguments are the options of `--set`.
        layout: of its files.
    """

    read: Callable[..., Benchmark]
    layout: SetLayout


def read_validation(root: Path, *, cache: str = "", recipe: str = "") -> Benchmark:
    """The validation recipe of the embedded model: `root` is the manifest of its corpus, `cache` the decoded audio."""
    from audiosep.evaluation.validation_set import benchmark

    place = Path(recipe or str(resources.files("audiosep.evaluation") / "recipes" / "val.json"))
    if not place.is_file():
        raise DataError(f"validation: no recipe at {place}; name one with recipe=FILE")
    if not root.is_file():
        raise VALIDATION.missing(f"no manifest {root.name}", root.parent)
    return replace(benchmark(place, root, Path(cache or root.parent / "cache")), groups=VALIDATION_GROUPS)


VALIDATION_GROUPS = {
    "a": "two sounds at 0 dB",
    "b": "three to five sounds",
    "c": "the queried sound is absent",
    "d": "speech in noise",
    "e": "stems of held-back songs",
    "f": "as a, queried with another recording of the sound",
    "g": "labels that were not trained on",
    "h": "collections that were not trained on",
}
VALIDATION = SetLayout(
    "validation",
    "manifest.jsonl   (made by `audiosep data build`)\ncache/           (decoded audio; made when missing)",
    "the corpus that the embedded model is trained on; see docs/mini.md",
)
MANIFEST = SetLayout(
    "a manifest",
    "manifest.jsonl   (one clip a line: id, path, label, captions, split ...; made by `audiosep data build`)\n"
    "or a folder of tar shards with their JSONL indices, or of one folder of audio a label",
    "you",
)

READERS: dict[str, SetReader] = {
    "audiocaps": SetReader(audiosep_benchmarks.read_audiocaps, audiosep_benchmarks.LAYOUTS["audiocaps"]),
    "audioset": SetReader(audiosep_benchmarks.read_audioset, audiosep_benchmarks.LAYOUTS["audioset"]),
    "clotho": SetReader(audiosep_benchmarks.read_clotho, audiosep_benchmarks.LAYOUTS["clotho"]),
    "esc50": SetReader(audiosep_benchmarks.read_esc50, audiosep_benchmarks.LAYOUTS["esc50"]),
    "music": SetReader(audiosep_benchmarks.read_music, audiosep_benchmarks.LAYOUTS["music"]),
    "vggsound": SetReader(audiosep_benchmarks.read_vggsound, audiosep_benchmarks.LAYOUTS["vggsound"]),
    "musdb18-hq": SetReader(multitrack.read_musdb, multitrack.LAYOUTS["musdb18-hq"]),
    "mir-1k": SetReader(labelled_stems.read_mir1k, labelled_stems.LAYOUTS["mir-1k"]),
    "ikala": SetReader(labelled_stems.read_ikala, labelled_stems.LAYOUTS["ikala"]),
    "medleydb": SetReader(labelled_stems.read_medleydb, labelled_stems.LAYOUTS["medleydb"]),
    "dsd100": SetReader(labelled_stems.read_dsd100, labelled_stems.LAYOUTS["dsd100"]),
    "mass": SetReader(labelled_stems.read_mass, labelled_stems.LAYOUTS["mass"]),
    "slakh": SetReader(labelled_stems.read_slakh, labelled_stems.LAYOUTS["slakh"]),
    "urmp": SetReader(labelled_stems.read_urmp, labelled_stems.LAYOUTS["urmp"]),
    "sisec-speech": SetReader(labelled_stems.read_sisec_speech, labelled_stems.LAYOUTS["sisec-speech"]),
    "voicebank-demand": SetReader(multitrack.read_voicebank, multitrack.LAYOUTS["voicebank-demand"]),
    "dnr": SetReader(multitrack.read_dnr, multitrack.LAYOUTS["dnr"]),
    "folder": SetReader(multitrack.read_folder, multitrack.LAYOUTS["folder"]),
    "manifest": SetReader(read_manifest_mixtures, MANIFEST),
    "validation": SetReader(read_validation, VALIDATION),
}


def load_set(text: str, *, limit: int | None = None, seed: int = 0) -> Benchmark:
    """Read a test set.

    Args:
        text: `name=path` and options, as in "esc50=/data/ESC-50,pairs=/data/esc50_eval.csv".
        limit: keep this many items, drawn at random, in the order of the set; None for all.
        seed: of the draw.

    Raises:
        ConfigError: an unknown name or option.
        DataError: missing files.
    """
    name, path, given = parse(text)
    reader = READERS[name]
    root = expand_home(path)
    if not root.exists():
        raise reader.layout.missing(f"there is no {root.name}", root.absolute().parent)
    benchmark = reader.read(root, **_typed(name, given))
    if limit is not None and limit < len(benchmark.items):
        kept = sorted(np.random.default_rng(seed).permutation(len(benchmark.items))[:limit])
        what = f"{benchmark.description}; {limit} of {len(benchmark.items)} items drawn with seed {seed}"
        benchmark = replace(benchmark, items=tuple(benchmark.items[i] for i in kept), description=what)
    return benchmark


def parse(text: str) -> tuple[str, str, dict[str, str]]:
    """Name, path and options of a `--set`. A comma is part of the path unless `option=` follows it.

    Raises:
        ConfigError: no path, or an unknown name.
    """
    name, _, rest = text.partition("=")
    if name not in READERS:
        raise ConfigError(f"there is no test set {name!r}; there are {', '.join(READERS)}")
    path, *more = re.split(r",(?=[a-z_0-9]+=)", rest)
    if not path:
        raise ConfigError(f"say where {name} is: --set {name}=PATH")
    return name, path, dict(option.split("=", 1) for option in more)


def options(name: str) -> dict[str, Any]:
    """Options of a test set, with their defaults."""
    parameters = inspect.signature(READERS[name].read).parameters
    return {key: p.default for key, p in parameters.items() if p.kind is p.KEYWORD_ONLY}


def _typed(name: str, given: Mapping[str, str]) -> dict[str, Any]:
    """Convert the texts of options to the types of the defaults."""
    known = options(name)
    out: dict[str, Any] = {}
    for key, value in given.items():
        if key not in known:
            raise ConfigError(f"{name} has no option {key!r}; it has {', '.join(known) or 'none'}")
        kind = type(known[key])
        try:
            if kind is str:  # some are paths
                out[key] = str(expand_home(value)) if value.startswith("~") else value
            else:
                out[key] = value.lower() in ("yes", "true", "1") if kind is bool else kind(value)
        except ValueError as error:
            raise ConfigError(f"{name}: {key}={value!r} is not of type {kind.__name__}") from error
    return out
