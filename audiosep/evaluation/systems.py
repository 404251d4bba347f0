"""What can be evaluated, by name: models, baselines, the fixed stems of a model, a model as a live stream."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

import audiosep
from audiosep.api import load
from audiosep.errors import InputError, missing_file
from audiosep.evaluation.baselines import BASELINES, load_baseline
from audiosep.evaluation.benchmarks import Target
from audiosep.evaluation.functions import FunctionSystem, callable_digest, find_callable, names_callable
from audiosep.inference.options import Engine
from audiosep.models.adapter_file import base_of
from audiosep.output.separation import Separation
from audiosep.query.query import Query, as_queries
from audiosep.separator import Queries, Separator
from audiosep.weights.baseline_names import FLOORS
from audiosep.weights.catalogue import MODELS, locate
from audiosep.weights.digest import folder_digest, model_digest
from audiosep.weights.model_config import read_config

_STEMS = ":stems"
_LIVE = re.compile(r":live=(?P<latency>[0-9.]+)(?:,past=(?P<past>[0-9.]+))?(?:,(?P<effort>thorough|quick))?$")
_BLOCK_SECONDS = 0.02


@runtime_checkable
class SeparationSystem(Protocol):
    """Whatever can be evaluated: a model used in one of several ways, or a baseline.

    Attributes:
        targets: the only names it can separate; None for any query.
        capabilities: the kinds of query it takes, from {"text", "audio", "negative"}.
        needs_references: it is given the true sources, so that its score is a bound and not a result.
    """

    @property
    def targets(self) -> frozenset[str] | None:
        """See the class."""
        ...

    @property
    def capabilities(self) -> frozenset[str]:
        """See the class."""
        ...

    @property
    def needs_references(self) -> bool:
        """See the class."""
        ...

    def separate(
        self, mix: Any, queries: Queries, *, sample_rate: int | None = None, references: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        """Estimate each query's sound.

        Args:
            mix: (samples,) or (channels, samples), numpy or torch.
            queries: one or several; the estimates are named by their labels.
            sample_rate: Hz.
            references: label -> true source, shaped like `mix`; only systems that need references use it.

        Returns:
            label -> estimate, of the kind and shape of `mix`.
        """
        ...


class ModelSystem:
    """A model that separates whole recordings by queries.

    Args:
        separator: the model.
    """

    targets: frozenset[str] | None = None
    needs_references = False

    def __init__(self, separator: Separator) -> None:
        self.separator = separator
        self.capabilities = separator.capabilities

    def separate(
        self, mix: Any, queries: Queries, *, sample_rate: int | None = None, references: Mapping[str, Any] | None = None
    ) -> Separation[Any]:
        """See `SeparationSystem.separate`; `references` is not used."""
        return self.separator.separate(mix, queries, sample_rate=sample_rate)


class StemsSystem:
    """The fixed stems of a model: one pass for all, and everything but the vocals as "accompaniment".

    Args:
        separator: the model.

    Attributes:
        targets: the stems' names, and "accompaniment" where there are vocals.

    Raises:
        InputError: the model has no stems.
    """

    capabilities = frozenset({"text"})
    needs_references = False

    def __init__(self, separator: Separator) -> None:
        if not separator.stem_names:
            raise InputError(f"{separator.name} has no stems; evaluate it without {_STEMS!r}")
        self.separator = separator
        self.targets: frozenset[str] | None = frozenset(separator.stem_names)
        if "vocals" in separator.stem_names:
            self.targets |= {"accompaniment"}

    def separate(
        self, mix: Any, queries: Queries, *, sample_rate: int | None = None, references: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        """See `SeparationSystem.separate`; a query's text is the name of a stem, `references` is not used."""
        stems = self.separator.stems(mix, sample_rate=sample_rate)
        names = {query.label: str(query.text) for query in as_queries(queries)}
        return {k: stems.rest("vocals") if name == "accompaniment" else stems[name] for k, name in names.items()}


class LiveSystem:
    """A model as a live stream, fed with blocks of 20 ms.

    Args:
        separator: the model.
        latency: seconds, as in `Separator.stream`.
        past: seconds, as in `Separator.stream`.
        thorough: as in `Separator.stream`.
    """

    targets: frozenset[str] | None = None
    needs_references = False

    def __init__(
        self, separator: Separator, latency: float, past: float | None = None, thorough: bool | None = None
    ) -> None:
        self.separator = separator
        self.options: dict[str, Any] = {"latency": latency, "past": past, "thorough": thorough}
        self.capabilities = separator.capabilities

    def separate(
        self, mix: Any, queries: Queries, *, sample_rate: int | None = None, references: Mapping[str, Any] | None = None
    ) -> Separation[Any]:
        """See `SeparationSystem.separate`; `mix` is a numpy array (channels, samples), `references` is not used."""
        if sample_rate is None:
            raise InputError("a live stream needs the sample rate of the mix: pass sample_rate")
        stream = self.separator.stream(queries, sample_rate=sample_rate, channels=len(mix), **self.options)
        block = max(1, round(_BLOCK_SECONDS * sample_rate))
        parts = [stream.push(mix[:, start : start + block]) for start in range(0, mix.shape[1], block)]
        targets = np.concatenate([*parts, stream.finish()], axis=-1)
        return Separation(dict(zip(stream.names, targets, strict=True)), mix, sample_rate, presence=stream.presence)


def load_system(name: str, device: str = "auto", precision: str = "auto", engine: Engine = "torch") -> SeparationSystem:
    """Load a system for evaluation.

    Args:
        name: as in `audiosep.load`, or a baseline's; `MODEL+ADAPTER.safetensors` for a model with an adapter;
            `MODEL:stems` for the fixed stems of a model that has queries too,
            `MODEL:live=SECONDS` for a live stream with this latency, `MODEL:live=SECONDS,past=SECONDS` for one whose
            windows reach this far into the past; a further `,thorough` or `,quick` sets `thorough` of the stream;
            `MODULE:FUNCTION` for a function, see `FunctionSystem`.
        device: of a model, as in `audiosep.load`.
        precision: of a model, as in `audiosep.load`.
        engine: of a model, as in `audiosep.load`.

    Raises:
        ModelError: it cannot be loaded.
        DependencyError: a package that it needs is not installed.
    """
    if name in BASELINES:
        return load_baseline(name)
    if is_function(name):
        return FunctionSystem(name)
    model, adapter = model_of(name)
    separator = load(model, device, precision, adapter, engine=engine, sounds=False)
    if name.endswith(_STEMS):
        return StemsSystem(separator)
    if live := _LIVE.search(name):
        past = None if live["past"] is None else float(live["past"])
        thorough = None if live["effort"] is None else live["effort"] == "thorough"
        return LiveSystem(separator, float(live["latency"]), past, thorough)
    return ModelSystem(separator) if separator.encoder is not None else StemsSystem(separator)


def check_system(name: str) -> None:
    """Refuse a system that is not on this machine, without loading it.

    Args:
        name: as in `load_system`.

    Raises:
        ModelError: no such model on this machine, or a folder that is none.
        InputError: as `identity`.
    """
    if is_function(name):
        find_callable(name)
    elif name not in BASELINES:
        read_config(locate(model_of(name)[0]))


def identity(name: str) -> str:
    """A text that changes when the estimates of a system may: the version of a baseline, the files of a model.

    Raises:
        ModelError: no such model on this machine.
        InputError: no such adapter, or one without its model.
    """
    if name in BASELINES:
        return f"{name} {audiosep.__version__}"
    if is_function(name):
        return callable_digest(name)
    model, adapter = model_of(name)
    folder = locate(model)
    files = folder_digest(folder) if adapter is None else model_digest(folder, adapter)
    return hashlib.sha256(f"{name} {files}".encode()).hexdigest()


def is_function(name: str) -> bool:
    """Whether a system is a function, "module:function".

    Args:
        name: as in `load_system`.

    Raises:
        InputError: a model, used in a way that there is not.
    """
    text = _LIVE.sub("", name.removesuffix(_STEMS))
    if not names_callable(text):
        return False
    model, _, way = text.partition(":")
    base = model.partition("+")[0]
    if base in MODELS or Path(base, "config.json").is_file():
        raise InputError(f"{model} can be used as {model}:stems or {model}:live=SECONDS, not as {model}:{way}")
    return True


def model_of(name: str) -> tuple[str, Path | None]:
    """The model of a system, and its adapter, None for none.

    Args:
        name: as in `load_system`, of neither a baseline nor a function.

    Raises:
        InputError: no such adapter, or one without its model.
    """
    text = _LIVE.sub("", name.removesuffix(_STEMS))
    model, _, adapter = text.rpartition("+")
    if not adapter.endswith(".safetensors"):
        return text, None
    if not Path(adapter).is_file():
        raise InputError(missing_file(adapter, "adapter"))
    if not model:
        base = base_of(Path(adapter)) or "MODEL"
        raise InputError(f"{adapter} is no model: give it behind that of which it is an adapter, as {base}+{adapter}")
    return model, Path(adapter)


def query_for(system: SeparationSystem, target: Target) -> Query | None:
    """The query to give a system for a target; None when it has no name for it or does not take such queries."""
    if system.targets is not None:
        name = next((alias for alias in target.aliases if alias in system.targets), None)
        return None if name is None else Query(text=name, name=target.name)
    kind = "audio" if target.query.audio is not None else "text" if target.query.text is not None else "embedding"
    takes = system.capabilities
    # A system that takes text takes an embedding made elsewhere.
    if kind not in takes and not (kind == "embedding" and "text" in takes):
        return None
    return replace(target.query, name=target.name)


def is_bound(name: str) -> bool:
    """Whether a system is an oracle or a trivial floor, whose scores are bounds for comparison."""
    return name in FLOORS or name.startswith("oracle")
