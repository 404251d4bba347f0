"""Checkpoints of published stem networks as `PublishedStems`: their configurations and the names of their tensors."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from audiosep.convert.roformer_config import read_roformer
from audiosep.convert.unpickle import read_pickle, state_dict
from audiosep.convert.yaml_files import read_yaml
from audiosep.errors import ConfigError, ModelError
from audiosep.models.published import PublishedConfig, PublishedStems
from audiosep.models.published_networks import setting_names
from audiosep.weights.checkpoint import load_into

DEMUCS, HDEMUCS, CONVTASNET, OPENUNMIX, ROFORMER = "demucs", "hdemucs", "convtasnet", "openunmix", "roformer"
STEM_KINDS = (DEMUCS, HDEMUCS, CONVTASNET, OPENUNMIX, ROFORMER)

_ORDER = ("vocals", "drums", "bass", "guitar", "piano")
_MUSIC = ("drums", "bass", "other", "vocals")
_PARTS = 16  # of a window, of which one is context at each side
_CLASSES = {"demucs.htdemucs.HTDemucs": "htdemucs", "demucs.hdemucs.HDemucs": "hdemucs"}


def states_demucs(path: Path) -> bool:
    """Whether a safetensors file says that it is a network of the package demucs.

    Args:
        path: the file, which can be read.
    """
    with safe_open(path, framework="pt") as file:
        return "klass" in (file.metadata() or {})


def stem_kind(state: Mapping[str, Tensor] | None) -> str | None:
    """The kind of a stem network's checkpoint.

    Args:
        state: its weights; None for files of demucs.

    Returns:
        One of STEM_KINDS; None for something else.
    """
    if state is None:
        return DEMUCS
    if any(key.startswith("band_split.") for key in state):
        return ROFORMER
    if "mask_generator.input_conv.weight" in state:
        return CONVTASNET
    if any(key.startswith("freq_encoder.") for key in state):
        return HDEMUCS
    return OPENUNMIX if {"input_mean", "fc1.weight"} <= set(state) else None


def stem_network(kind: str, source: Path, state: Mapping[str, Tensor] | None) -> PublishedStems:
    """A published stem network with its weights.

    Args:
        kind: one of STEM_KINDS.
        source: the checkpoint; its other files are looked for in its folder.
        state: its weights; None for files of demucs.

    Raises:
        ModelError: a file is missing or damaged, or its weights are not those of the network.
        DependencyError: the package of the network is not installed.
    """
    try:
        if kind == DEMUCS:
            return _demucs(source)
        if state is None:
            raise ModelError(f"{source} is no checkpoint of {kind}: give the file that its authors publish")
        if kind == OPENUNMIX:
            return _openunmix(source)
        if kind == ROFORMER:
            return _loaded(read_roformer(source), [state], source)
        return _loaded(_torchaudio(kind, state), [state], source)
    except ConfigError as error:
        raise ModelError(f"{source}: {error}") from error


def _demucs(source: Path) -> PublishedStems:
    """A network of the package demucs (.safetensors), or an ensemble of several (.yaml, with them beside it)."""
    if source.suffix == ".yaml":
        table = read_yaml(source)
        names, weights = table.get("models"), table.get("weights") or []
        if not isinstance(names, list) or not names or not all(isinstance(n, str) and n.isalnum() for n in names):
            raise ModelError(f"{source} is no table of demucs: its 'models' should list names of checkpoints")
        if not isinstance(weights, list) or not all(
            isinstance(row, list) and all(map(_finite, row)) for row in weights
        ):
            raise ModelError(
                f"{source} is no table of demucs: its 'weights' should list a number for each stem of each checkpoint"
            )
        files = [source.with_name(f"{name}.safetensors") for name in names]
    else:
        files, weights = [source], []
    read = [_demucs_file(file) for file in files]
    if any(facts[:3] != read[0][0][:3] for facts, _ in read):
        raise ModelError(f"{source}: its networks have different outputs or lengths, and cannot be one ensemble")
    (network, sources, window, _), _ = read[0]
    config = PublishedConfig(
        network=network,
        sources=sources,
        stems=ordered(sources),
        settings=tuple(settings for (*_, settings), _ in read),
        weights=tuple(map(tuple, weights)),
        window=window,
        context=window // _PARTS,
    )
    return _loaded(config, [state for _, state in read], source)


def _demucs_file(
    path: Path,
) -> tuple[tuple[str, tuple[str, ...], int, dict[str, Any]], dict[str, Tensor]]:
    """Network, sources, window and settings that a file of demucs states, and its weights."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a mapping
        network = _CLASSES.get(facts.get("klass", ""))
        given = json.loads(facts.get("kwargs", "{}"))
        positional = json.loads(facts.get("args", "[]"))
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing: fetch it into the same folder") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} is damaged ({error}); download it again") from error
    if network is None or "structure" in facts or not isinstance(given, dict):
        raise ModelError(f"{path} is no network of demucs that can be read: HTDemucs and HDemucs, not quantised")
    sources = given.pop("sources", positional[0] if positional else None)
    rate = given.pop("samplerate", 44100)
    segment = _seconds(given.pop("segment", 10))
    if rate != 44100 or not isinstance(sources, list) or len(positional) > 1:
        raise ModelError(f"{path} is no published network of demucs: it should have sources, at 44100 Hz")
    known = setting_names(network)
    settings = {key: value for key, value in given.items() if key in known}
    # HDemucs takes any length; its authors trained it on windows of 11 s.
    window = round(segment * rate) if network == "htdemucs" else 11 * rate
    return (network, tuple(map(str, sources)), window, settings), state


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _seconds(value: Any) -> float:
    if isinstance(value, dict):
        return float(value["numerator"]) / float(value["denominator"])
    return float(value)


def _torchaudio(kind: str, state: Mapping[str, Tensor]) -> PublishedConfig:
    """The networks of torchaudio's pipelines, whose sizes are in no file."""
    if kind == HDEMUCS:
        channels = state["freq_encoder.0.conv.weight"].shape[0]
        settings = {"nfft": 4096, "depth": 6, "channels": channels}
        window = 11 * 44100
        return PublishedConfig(
            "torchaudio-hdemucs", _MUSIC, ordered(_MUSIC), (settings,), window=window, context=window // _PARTS
        )
    features, _, kernel = state["encoder.weight"].shape
    talkers = state["mask_generator.output_conv.weight"].shape[0] // features
    hidden, width, _ = state["mask_generator.conv_layers.0.conv_layers.0.weight"].shape
    sizes: dict[str, Any] = {"enc_kernel_size": kernel, "enc_num_feats": features, "msk_num_feats": width}
    sizes |= {"msk_num_hidden_feats": hidden, "msk_activate": "relu"}
    names = tuple(f"speaker {number + 1}" for number in range(talkers))
    return PublishedConfig(
        "torchaudio-convtasnet",
        names,
        names,
        (sizes,),
        sample_rate=8000,
        window=10 * 8000,
        context=4000,
        hop=kernel // 2,
        channels=1,
    )


def _openunmix(source: Path) -> PublishedStems:
    """The files of Open-Unmix, one for each stem, named by it: vocals-b62c91ce.pth."""
    states = {}
    for name in _MUSIC:
        found = sorted(source.parent.glob(f"{name}*.pth"))
        if len(found) != 1:
            raise ModelError(f"{source.parent} should hold one file {name}*.pth, and holds {len(found)}")
        states[name] = state_dict(read_pickle(found[0]), found[0])
    first = states[_MUSIC[0]]
    bins, hidden = first["output_mean"].shape[0], first["fc1.weight"].shape[0]
    settings = {
        "nb_bins": bins,
        "nb_channels": 2,
        "hidden_size": hidden,
        "max_bin": first["input_mean"].shape[0],
        "n_fft": 2 * (bins - 1),
        "n_hop": (bins - 1) // 2,
    }
    window = 20 * 44100  # its BLSTM gains from a long past; it was trained on 6 s
    config = PublishedConfig("openunmix", _MUSIC, ordered(_MUSIC), (settings,), window=window, context=44100)
    state = {f"target_models.{name}.{key}": value for name, part in states.items() for key, value in part.items()}
    return _loaded(config, [state], source, extra=("stft.", "transform.", "sample_rate"))


def ordered(sources: Sequence[str]) -> tuple[str, ...]:
    """Stems in the order of this library: the voice first, "other" last.

    Args:
        sources: names of a network's outputs.

    >>> ordered(["drums", "bass", "other", "vocals"])
    ('vocals', 'drums', 'bass', 'other')
    """
    known = [name for name in _ORDER if name in sources]
    rest = [name for name in sources if name not in (*_ORDER, "other")]
    return (*known, *rest, *(["other"] if "other" in sources else []))


def _loaded(
    config: PublishedConfig, states: Sequence[Mapping[str, Tensor]], source: Path, extra: tuple[str, ...] = ()
) -> PublishedStems:
    """A network of each state.

    Args:
        config: of the ensemble.
        states: of each network, by the package's names.
        source: for messages.
        extra: parts of names of tensors that the package computes, and that some of its files hold.
    """
    model = PublishedStems(config)
    given = {f"networks.{i}.{key}": value.float() for i, state in enumerate(states) for key, value in state.items()}
    own = model.state_dict()
    computed = {key: value for key, value in own.items() if any(part in key for part in extra)}
    given = {key: value for key, value in given.items() if not any(part in key for part in extra)} | computed
    load_into(model, given, source)
    return model
