"""The functions of the package: `separate`, `stems`, `load`."""

from __future__ import annotations

import dataclasses
import inspect
import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, TypedDict, Unpack, overload

import torch
from numpy.typing import NDArray
from torch import Tensor

from audiosep.audio.inputs import AudioFile
from audiosep.audio.samples import Array
from audiosep.errors import ConfigError, InputError, ModelError
from audiosep.inference.devices import check_torch_defaults, device_of_engine, pick_device, pick_precision
from audiosep.inference.options import Engine, Options
from audiosep.models.adapters import apply_adapter
from audiosep.models.families import family_class
from audiosep.output.separation import Separation
from audiosep.progress import Progress
from audiosep.query import load_encoder, load_prototypes
from audiosep.query.sounds import Sounds, own_file
from audiosep.separator import Queries, Separator
from audiosep.weights.catalogue import locate
from audiosep.weights.checkpoint import load_model
from audiosep.weights.licences import check_use
from audiosep.weights.loaded_files import LoadedFiles
from audiosep.weights.model_config import CONFIG, read_config

_KEPT = 2  # models that `separate` and `stems` keep loaded


class LoadOptions(TypedDict, total=False):
    """The keywords of `load`, for `separate` and `stems`; those that are missing have the defaults of `load`."""

    device: str | torch.device
    precision: str
    adapter: str | Path | None
    engine: Engine
    sounds: str | Path | bool
    stems: str | Path | None


def load(
    model: str | Path = "mini",
    device: str | torch.device = "auto",
    precision: str = "auto",
    adapter: str | Path | None = None,
    engine: Engine = "torch",
    sounds: str | Path | bool = True,
    stems: str | Path | None = None,
) -> Separator:
    """Load a model, to keep it in memory for many recordings.

    On a CPU it computes with torch's number of threads, which the program sets: by default one for each core of the
    machine, also where a container has fewer or other programs are busy. Commands call `use_threads` first.

    Args:
        model: a name (`audiosep models list`), a folder, or the hub id of a model that was downloaded.
        device: auto (cuda, else mps, else cpu), or a torch device.
        precision: of the network's layers: auto, fp32, bf16 or fp16.
        adapter: a file made by `audiosep finetune` for this model.
        engine: what computes the network's layers: torch, or openvino on the CPU (extra [openvino]).
        sounds: a file of sounds with names of your own, see `Sounds`; True for the one that `audiosep remember` writes
            by default, False for none.
        stems: another model, as for `model`, whose stems are given instead of the model's own. It also answers queries
            that name one of its stems, such as "drums"; all others go to `model`. It has the same `precision`, but for
            a published stem model, which computes in fp32, and is computed by torch.

    Returns:
        The separator.

    Raises:
        ModelError: a model is not on this machine, damaged, or not the one the adapter was made for, `stems` has no
            stems, or a licence that restricts the use was not accepted.
        QueryError: the query encoder is damaged.
        InputError: no such device, precision, engine or file of sounds here, or the program has changed torch's default
            dtype or device.
        DependencyError: OpenVINO, or the package that runs a published stem model, is not installed.
    """
    check_torch_defaults()
    own = _own_sounds(sounds)
    specialist = None
    if stems is not None:
        place = device_of_engine(device, engine)
        needs_fp32 = family_class(read_config(locate(stems))["family"]).needs_fp32
        specialist = load(stems, place, "auto" if needs_fp32 else precision, sounds=False)
    folder = locate(model)
    check_use(model, folder)
    source = (folder.resolve(), None if adapter is None else Path(adapter).resolve())
    files = LoadedFiles.of(*source)
    network, config = load_model(folder)
    name = str(config.get("name") or folder.name)
    if adapter is not None:
        apply_adapter(network, adapter)
        name = f"{name} + {Path(adapter).stem}"
    try:
        # An adapter may have changed the parts of the network that the encoder would share.
        shared = network if adapter is None else None
        encoder = None if config["query"] is None else load_encoder(config["query"], folder, shared)
    except ConfigError as error:
        raise ModelError(f"{folder / CONFIG}: {error}; was it made by another version of audiosep?") from error
    prototypes = load_prototypes(encoder, folder)
    return Separator(
        network,
        encoder,
        device,
        precision,
        engine=engine,
        name=name,
        prototypes=prototypes,
        sounds=own,
        specialist=specialist,
        source=source,
        files=files,
    )


def _own_sounds(sounds: str | Path | bool) -> Sounds | None:
    if isinstance(sounds, bool):
        return Sounds() if sounds else None
    if not Path(sounds).is_file():
        raise InputError(f"there is no file of sounds {sounds}: make it with `audiosep remember --sounds`")
    return Sounds(sounds)


@overload
def separate(
    mix: AudioFile | NDArray[Any], queries: Queries, *, sample_rate: int | None = None, track: int | str | None = None,
    model: str | Path | Separator = "mini", options: Options = Options(), progress: Progress | None = None,
    **loading: Unpack[LoadOptions],
) -> Separation[Array]: ...  # fmt: skip


@overload
def separate(
    mix: Tensor, queries: Queries, *, sample_rate: int | None = None, track: int | str | None = None,
    model: str | Path | Separator = "mini", options: Options = Options(), progress: Progress | None = None,
    **loading: Unpack[LoadOptions],
) -> Separation[Tensor]: ...  # fmt: skip


def separate(
    mix: AudioFile | NDArray[Any] | Tensor,
    queries: Queries,
    *,
    sample_rate: int | None = None,
    track: int | str | None = None,
    model: str | Path | Separator = "mini",
    options: Options = Options(),
    progress: Progress | None = None,
    **loading: Unpack[LoadOptions],
) -> Separation[Array] | Separation[Tensor]:
    """Separate the sounds that `queries` name from one recording.

    Args:
        mix: a path, an opened file, the bytes of a file, or a numpy array or torch tensor (samples,) or (channels,
            samples).
        queries: words or `Query`, one or several; each is an estimate of its own. A sound that is named twice (also in
            other case or spacing) is separated once, under the first name.
        sample_rate: Hz; needed for arrays, taken from the file otherwise.
        track: number (from 1 on), language or name of the audio track of a file with several; None: the default one.
        model: as in `load`, or a `Separator`. A model given by name or folder stays loaded for the next call, and is
            loaded again when its files have changed; the old one is freed before that, so if loading fails, the next
            call tries to load again.
        options: how to separate.
        progress: called with the fraction that is done, 0 to 1; returning False cancels.
        **loading: `device`, `precision`, `adapter`, `engine`, `sounds` and `stems` as in `load`, for a model given by
            name or folder.

    Returns:
        Name -> target, with the length, channels and kind of array of `mix`; also `.residual`, `.rest(name)`,
        `.presence` and `.save(folder)`.

    Raises:
        InputError: a recording that cannot be separated (no samples, NaN, ...), or no such device or precision here.
        AudioError: a file that cannot be read.
        QueryError: a query that this model cannot take.
        ModelError: as in `load`.
        Cancelled: by `progress`.
        TypeError: an unknown keyword; the message says how to pass one of `Options`.
    """
    separator = _loaded(model, loading)
    return separator.separate(mix, queries, sample_rate=sample_rate, track=track, options=options, progress=progress)


@overload
def stems(
    mix: AudioFile | NDArray[Any], *, sample_rate: int | None = None, track: int | str | None = None,
    model: str | Path | Separator = "mini", options: Options = Options(), progress: Progress | None = None,
    **loading: Unpack[LoadOptions],
) -> Separation[Array]: ...  # fmt: skip


@overload
def stems(
    mix: Tensor, *, sample_rate: int | None = None, track: int | str | None = None,
    model: str | Path | Separator = "mini", options: Options = Options(), progress: Progress | None = None,
    **loading: Unpack[LoadOptions],
) -> Separation[Tensor]: ...  # fmt: skip


def stems(
    mix: AudioFile | NDArray[Any] | Tensor,
    *,
    sample_rate: int | None = None,
    track: int | str | None = None,
    model: str | Path | Separator = "mini",
    options: Options = Options(),
    progress: Progress | None = None,
    **loading: Unpack[LoadOptions],
) -> Separation[Array] | Separation[Tensor]:
    """Separate one song into vocals, drums, bass and other, in one pass; they sum to the song.

    Args:
        mix: as in `separate`.
        sample_rate: as in `separate`, Hz.
        track: as in `separate`.
        model: as in `separate`.
        options: how to separate.
        progress: as in `separate`.
        **loading: as in `separate`.

    Returns:
        Stem name -> stem, with the length, channels and kind of array of `mix`.

    Raises:
        InputError: as in `separate`.
        AudioError: as in `separate`.
        ModelError: as in `load`, or the model has no stems.
        Cancelled: by `progress`.
        TypeError: as in `separate`.
    """
    separator = _loaded(model, loading)
    return separator.stems(mix, sample_rate=sample_rate, track=track, options=options, progress=progress)


# ---- models that stay loaded -----------------------------------------------------------------------------------------

_models: OrderedDict[tuple[str, ...], tuple[LoadedFiles, Separator]] = OrderedDict()  # the last used is the last
_lock = threading.Lock()


def _renew_lock() -> None:
    """In a forked child: another thread of the parent may have held the lock."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)

_DEFAULTS = {name: inspect.signature(load).parameters[name].default for name in LoadOptions.__annotations__}


def _loaded(model: str | Path | Separator, loading: LoadOptions) -> Separator:
    """The separator itself, or the one that is kept for a model.

    Raises:
        TypeError: an unknown keyword.
        InputError: options for loading a separator that is loaded.
    """
    _check_keywords(loading)
    if isinstance(model, Separator):
        if loading:
            raise InputError(f"{', '.join(loading)}: this separator is loaded already; use its method `to`, or `load`")
        return model
    folder = locate(model).resolve()
    given = {**_DEFAULTS, **loading}
    if given["adapter"] is not None:
        given["adapter"] = Path(given["adapter"]).resolve()
    if given["sounds"] is not False:
        given["sounds"] = own_file() if given["sounds"] is True else Path(given["sounds"]).resolve()
    if given["stems"] is not None:
        given["stems"] = locate(given["stems"]).resolve()
    device = pick_device(device_of_engine(given["device"], given["engine"]))
    given |= {"device": device, "precision": pick_precision(given["precision"], device)}
    key = (str(folder), *map(str, given.values()))
    with _lock:
        files = LoadedFiles.of(folder, given["stems"], given["adapter"])
        if key not in _models or _models[key][0] != files:
            _models.pop(key, None)  # its memory is free before another model is loaded
            _models[key] = (files, load(model, **loading))
        _models.move_to_end(key)
        while len(_models) > _KEPT:
            _models.popitem(last=False)
        return _models[key][1]


def _check_keywords(loading: LoadOptions) -> None:
    """Refuse keywords that `load` does not take.

    Raises:
        TypeError: names them; one of `Options` with the way to pass it.
    """
    for name in loading:
        if name not in _DEFAULTS:
            options = {field.name for field in dataclasses.fields(Options)}
            remedy = f"pass options=Options({name}=...)" if name in options else f"load takes {', '.join(_DEFAULTS)}"
            raise TypeError(f"unexpected keyword argument {name!r}: {remedy}")
