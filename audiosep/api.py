"""The doors: `separate`, `stems`, `load`."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, overload

from audiosep.baselines import BASELINES, BaselineName, load_baseline
from audiosep.checkpoint import CONFIG, load_model
from audiosep.devices import pick_device, pick_precision
from audiosep.errors import ConfigError, InputError, ModelError
from audiosep.models.adapters import apply_adapter
from audiosep.query import load_encoder
from audiosep.registry import locate
from audiosep.separator import Progress, Queries, Separation, SeparationSystem, Separator


@overload
def load(model: BaselineName) -> SeparationSystem: ...  # type: ignore[overload-overlap]  # these strings are special


@overload
def load(
    model: str | Path = "mini",
    device: str = "auto",
    precision: str = "auto",
    adapter: str | Path | None = None,
) -> Separator: ...


def load(
    model: str | Path = "mini",
    device: str = "auto",
    precision: str = "auto",
    adapter: str | Path | None = None,
) -> Separator | SeparationSystem:
    """A separator to keep warm.

    Args:
        model: a name (`audiosep models list`), a folder, or the hub id of a model that was downloaded; or a name of
            `audiosep.baselines.BASELINES`, such as "repet", for a system that only has `targets` and `separate`.
        device: auto (cuda, else mps, else cpu), a torch device, or "openvino" for the CPU by way of that package (extra
            [openvino]); baselines choose their own.
        precision: auto, fp32, bf16 or fp16; of a baseline it is always fp32.
        adapter: a file made by `audiosep finetune` for this model; baselines take none.

    Raises:
        ModelError: the model is not on this machine, damaged, or not the one the adapter was made for.
        QueryError: the query encoder understands nothing.
        InputError: no such device or precision here, or an adapter for a baseline.
        DependencyError: a baseline, or OpenVINO, needs a package that is not installed.
    """
    if model in BASELINES:
        if adapter is not None:
            raise InputError(f"{model!r} is a baseline and takes no adapter: name the model that it was made for")
        return load_baseline(str(model))
    folder = locate(model)
    network, config = load_model(folder)
    name = str(config.get("name") or folder.name)
    if adapter is not None:
        apply_adapter(network, adapter)
        name = f"{name} + {Path(adapter).stem}"
    try:
        encoder = None if config["query"] is None else load_encoder(config["query"], folder)
    except ConfigError as error:
        raise ModelError(f"{folder / CONFIG}: {error}; was it made by another version of audiosep?") from error
    if device == "openvino":
        from audiosep.models.openvino import OpenVinoModel

        device = "cpu"
        precision = pick_precision(precision, pick_device(device))
        network = OpenVinoModel(network, precision)
    return Separator(network, encoder, device, precision, name=name)


def load_separator(
    model: str | Path = "mini", device: str = "auto", precision: str = "auto", adapter: str | Path | None = None
) -> Separator:
    """`load`, for callers who need all that a `Separator` can: files, streams, stems.

    Raises:
        ModelError: as in `load`, or the name of a baseline.
        QueryError, InputError, DependencyError: as in `load`.
    """
    if model in BASELINES:
        raise ModelError(
            f"{model!r} is a baseline to compare with, not a model: `audiosep evaluate --model {model}` measures it, "
            f"and audiosep.load({model!r}).separate(...) separates arrays"
        )
    return load(model, device, precision, adapter)


def separate(
    mix: Any,
    queries: Queries,
    *,
    sample_rate: int | None = None,
    model: str | Path | Separator = "mini",
    device: str = "auto",
    overlap: float | None = None,
    shifts: int = 0,
    progress: Progress | None = None,
) -> Separation:
    """Separate the sounds that `queries` name from one recording.

    Args:
        mix: a path, or a numpy array or torch tensor (samples,) or (channels, samples).
        queries: words or `Query`, one or several.
        sample_rate: Hz; needed for arrays.
        model: as in `load`, but no baseline, or a `Separator`. A named model stays loaded for the next call.
        device: as in `load`, for a model that is not loaded yet.
        overlap, shifts, progress: as in `Separator.separate`.

    Returns:
        Name -> target, of the kind and shape of `mix`, with `.residual`, `.rest(name)`, `.presence`, `.save(folder)`.

    Raises:
        InputError, AudioError, QueryError, Cancelled: as in `Separator.separate`.
        ModelError: as in `load`.
    """
    separator = _warm(model, device)
    return separator.separate(mix, queries, sample_rate=sample_rate, overlap=overlap, shifts=shifts, progress=progress)


def stems(
    mix: Any,
    *,
    sample_rate: int | None = None,
    model: str | Path | Separator = "mini",
    device: str = "auto",
    overlap: float | None = None,
    shifts: int = 0,
    progress: Progress | None = None,
) -> Separation:
    """Vocals, drums, bass and other of one song, in one pass; they sum to the song.

    Args:
        mix, sample_rate, model, device, overlap, shifts, progress: as in `separate`.

    Raises:
        InputError, AudioError, Cancelled: as in `Separator.stems`.
        ModelError: as in `load`, or the model has no stems.
    """
    separator = _warm(model, device)
    return separator.stems(mix, sample_rate=sample_rate, overlap=overlap, shifts=shifts, progress=progress)


def _warm(model: str | Path | Separator, device: str) -> Separator:
    """The separator itself, or one that is loaded once."""
    return model if isinstance(model, Separator) else _loaded(model, device)


@lru_cache(maxsize=2)
def _loaded(model: str | Path, device: str) -> Separator:
    return load_separator(model, device)
