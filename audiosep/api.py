"""The doors: `separate`, `stems`, `load`."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from audiosep.errors import ConfigError, ModelError
from audiosep.inference.devices import pick_device, pick_precision
from audiosep.models.adapters import apply_adapter
from audiosep.query import load_encoder
from audiosep.separator import Progress, Queries, Separation, Separator
from audiosep.weights.catalogue import locate
from audiosep.weights.checkpoint import CONFIG, load_model


def load(
    model: str | Path = "mini",
    device: str = "auto",
    precision: str = "auto",
    adapter: str | Path | None = None,
) -> Separator:
    """A separator to keep warm.

    Args:
        model: a name (`audiosep models list`), a folder, or the hub id of a model that was downloaded.
        device: auto (cuda, else mps, else cpu), a torch device, or "openvino" for the CPU by way of that package (extra
            [openvino]).
        precision: auto, fp32, bf16 or fp16.
        adapter: a file made by `audiosep finetune` for this model.

    Raises:
        ModelError: the model is not on this machine, damaged, or not the one the adapter was made for.
        QueryError: the query encoder understands nothing.
        InputError: no such device or precision here.
        DependencyError: OpenVINO is not installed.
    """
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
        from audiosep.inference.openvino import OpenVinoModel

        device = "cpu"
        precision = pick_precision(precision, pick_device(device))
        network = OpenVinoModel(network, precision)
    return Separator(network, encoder, device, precision, name=name)


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
        model: as in `load`, or a `Separator`. A named model stays loaded for the next call.
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
    return load(model, device)
