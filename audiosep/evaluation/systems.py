"""What can be evaluated, by name: models, baselines, the fixed stems of a model, a model as a live stream."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import audiosep
from audiosep.api import load
from audiosep.errors import InputError
from audiosep.evaluation.baselines import BASELINES, FLOORS, load_baseline
from audiosep.evaluation.benchmarks import Target
from audiosep.query.query import Query, as_query
from audiosep.separator import Queries, Separation, SeparationSystem, Separator
from audiosep.weights.catalogue import locate

_STEMS = ":stems"
_LIVE = re.compile(r":live=(?P<latency>[0-9.]+)(?:,past=(?P<past>[0-9.]+))?(?:,(?P<effort>thorough|quick))?$")
_BLOCK_SECONDS = 0.02
_WHOLE_FILE = 1 << 28


class StemsSystem:
    """The fixed stems of a model: one pass for all, and everything but the vocals as "accompaniment".

    Attributes:
        targets: the stems' names, and accompaniment where there are vocals.
    """

    capabilities = frozenset({"text"})

    def __init__(self, separator: Separator) -> None:
        if not separator.stem_names:
            raise InputError(f"{separator.name} has no stems; evaluate it without {_STEMS!r}")
        self.separator = separator
        self.name = separator.name + _STEMS
        self.targets: frozenset[str] | None = frozenset(separator.stem_names)
        if "vocals" in separator.stem_names:
            self.targets |= {"accompaniment"}

    def separate(
        self, mix: Any, queries: Queries, *, sample_rate: int | None = None, references: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        """As the Protocol says; a query's text is the name of a stem."""
        asked = [as_query(q) for q in ([queries] if isinstance(queries, str | Query) else queries)]
        stems = self.separator.stems(mix, sample_rate=sample_rate)
        names = {query.label: str(query.text) for query in asked}
        return {k: stems.rest("vocals") if name == "accompaniment" else stems[name] for k, name in names.items()}


class LiveSystem:
    """A model as a live stream: every sample is answered before much more than the latency is heard.

    Args:
        separator: the model. latency, past, thorough: as in `Separator.stream`.
    """

    targets: frozenset[str] | None = None

    def __init__(
        self, separator: Separator, latency: float, past: float | None = None, thorough: bool | None = None
    ) -> None:
        self.separator = separator
        self.options: dict[str, Any] = {"latency": latency, "past": past, "thorough": thorough}
        self.capabilities = separator.capabilities

    def separate(
        self, mix: Any, queries: Queries, *, sample_rate: int | None = None, references: Mapping[str, Any] | None = None
    ) -> Separation:
        """As the Protocol says; `mix` is (channels, samples), its sample rate is needed."""
        if sample_rate is None:
            raise InputError("a live stream does not know its sample rate: pass it")
        stream = self.separator.stream(queries, sample_rate=sample_rate, channels=len(mix), **self.options)
        block = max(1, round(_BLOCK_SECONDS * sample_rate))
        parts = [stream.push(mix[:, start : start + block]) for start in range(0, mix.shape[1], block)]
        targets = np.concatenate([*parts, stream.finish()], axis=-1)
        return Separation(dict(zip(stream.names, targets, strict=True)), mix, sample_rate, presence=stream.presence)


def load_system(name: str, device: str = "auto", precision: str = "auto") -> SeparationSystem:
    """A system for evaluation.

    Args:
        name: as in `audiosep.load`, or a baseline's; `MODEL:stems` for the fixed stems of a model,
            `MODEL:live=SECONDS` for a live stream with this latency, `MODEL:live=SECONDS,past=SECONDS` for one that
            hears this much again; with `,thorough` or `,quick` behind it for one that answers so.
        device, precision: of a model.

    Raises:
        ModelError, DependencyError: it cannot be loaded.
    """
    if name in BASELINES:
        return load_baseline(name)
    if name.endswith(_STEMS):
        return StemsSystem(load(name.removesuffix(_STEMS), device, precision))
    if live := _LIVE.search(name):
        past = None if live["past"] is None else float(live["past"])
        thorough = None if live["effort"] is None else live["effort"] == "thorough"
        return LiveSystem(load(name[: live.start()], device, precision), float(live["latency"]), past, thorough)
    return load(name, device, precision)


def identity(name: str) -> str:
    """Changes when the system's answers could: the version of a baseline, the files of a model.

    Raises:
        ModelError: no such model on this machine.
    """
    if name in BASELINES:
        return f"{name} {audiosep.__version__}"
    folder = locate(_LIVE.sub("", name.removesuffix(_STEMS)))
    digest = hashlib.sha256(name.encode())
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(_content(path))
    return digest.hexdigest()


def ask(system: SeparationSystem, target: Target) -> Query | None:
    """What to ask a system for a target; None when it has no name for it or does not take this kind of query."""
    if system.targets is not None:
        name = next((alias for alias in target.aliases if alias in system.targets), None)
        return None if name is None else Query(text=name, name=target.name)
    kind = "audio" if target.query.audio is not None else "text" if target.query.text is not None else "embedding"
    takes = getattr(system, "capabilities", frozenset({"text", "audio"}))
    # Whoever takes text takes an embedding made elsewhere.
    if kind not in takes and not (kind == "embedding" and "text" in takes):
        return None
    return replace(target.query, name=target.name)


def is_bound(name: str) -> bool:
    """Whether a system is told the answer or is a trivial floor: not something to beat or to be proud of."""
    return name in FLOORS or name.startswith("oracle")


def _content(path: Path) -> bytes:
    """The file's digest; for very large files its size and time, which is quicker and almost as safe."""
    if path.stat().st_size > _WHOLE_FILE:
        return repr((path.stat().st_size, path.stat().st_mtime_ns)).encode()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
