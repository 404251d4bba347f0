"""The networks of other packages that `PublishedStems` runs: where their classes are, and how they are built.

Only names of this table choose code; a configuration gives numbers, texts and lists.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from torch import nn

from audiosep.errors import ConfigError, DependencyError, install_extra


@dataclass(frozen=True)
class Building:
    """What a network is built from besides its settings.

    Attributes:
        sources: names of its outputs.
        sample_rate: Hz.
        window: samples.
    """

    sources: tuple[str, ...]
    sample_rate: int
    window: int


@dataclass(frozen=True)
class PublishedNetwork:
    """A class of another package.

    Attributes:
        place: "module:class" of the package.
        extra: of audiosep, that installs the package.
        build: (class, settings, what else it is built from) -> the network.
        fills_window: whether it takes windows of one length only; shorter ones are centred in silence.
        shortest: samples that it needs at least, because it reflects a signal at its ends.
        job_bytes: memory of a recording beside the first, with a network of the published size.
        computed: keywords of the class that are no settings, because `build` gives them.
    """

    place: str
    extra: str
    build: Callable[[Any, Mapping[str, Any], Building], nn.Module]
    fills_window: bool = False
    shortest: int = 4096
    job_bytes: int = 5 * 2**28  # most take 0.9 to 1.1 GB for a window (docs/stem-models.md)
    computed: frozenset[str] = frozenset({"sources"})


def _htdemucs(network: Any, settings: Mapping[str, Any], given: Building) -> nn.Module:
    segment = Fraction(given.window, given.sample_rate)
    built: nn.Module = network(list(given.sources), samplerate=given.sample_rate, segment=segment, **settings)
    return built


def _demucs(network: Any, settings: Mapping[str, Any], given: Building) -> nn.Module:
    built: nn.Module = network(list(given.sources), **settings)
    return built


def _convtasnet(network: Any, settings: Mapping[str, Any], given: Building) -> nn.Module:
    built: nn.Module = network(num_sources=len(given.sources), **settings)
    return built


def _openunmix(network: Any, settings: Mapping[str, Any], given: Building) -> nn.Module:
    """Open-Unmix: one network for the magnitudes of each source, and a Wiener filter around them."""
    separator = _class("openunmix.model:Separator", "openunmix")
    sizes = dict(settings)
    fft, hop, passes = (sizes.pop(name, default) for name, default in (("n_fft", 4096), ("n_hop", 1024), ("niter", 1)))
    targets = {name: network(**sizes) for name in given.sources}
    built: nn.Module = separator(targets, niter=passes, n_fft=fft, n_hop=hop, sample_rate=float(given.sample_rate))
    return built


def _roformer(network: Any, settings: Mapping[str, Any], given: Building) -> nn.Module:
    built: nn.Module = network(num_stems=len(given.sources), **settings)
    return built


_SEGMENT = frozenset({"sources", "samplerate", "segment"})
_STEMS = frozenset({"num_stems"})

NETWORKS = {
    "htdemucs": PublishedNetwork("demucs.htdemucs:HTDemucs", "demucs", _htdemucs, True, computed=_SEGMENT),
    "hdemucs": PublishedNetwork("demucs.hdemucs:HDemucs", "demucs", _demucs, computed=_SEGMENT),
    "torchaudio-hdemucs": PublishedNetwork("torchaudio.models:HDemucs", "torchaudio", _demucs),
    "torchaudio-convtasnet": PublishedNetwork(
        "torchaudio.models:ConvTasNet",
        "torchaudio",
        _convtasnet,
        shortest=64,
        computed=frozenset({"num_sources"}),
    ),
    "openunmix": PublishedNetwork("openunmix.model:OpenUnmix", "openunmix", _openunmix),
    "bs-roformer": PublishedNetwork(
        "bs_roformer:BSRoformer", "roformer", _roformer, job_bytes=2 * 2**30, computed=_STEMS
    ),
    "mel-band-roformer": PublishedNetwork(
        "bs_roformer:MelBandRoformer", "roformer", _roformer, job_bytes=2 * 2**30, computed=_STEMS
    ),
}

# Settings of Open-Unmix that its Wiener filter takes and not its network.
_FILTER = frozenset({"n_fft", "n_hop", "niter"})


def build_published(
    name: str, sources: Sequence[str], settings: Mapping[str, Any], *, sample_rate: int, window: int
) -> nn.Module:
    """A network with fresh weights.

    Args:
        name: key of NETWORKS.
        sources: names of its outputs.
        settings: keywords of its class: numbers, texts, and lists of them.
        sample_rate: Hz.
        window: samples.

    Returns:
        (batch, channels, samples) -> an estimate of each source.

    Raises:
        DependencyError: its package is not installed.
        ConfigError: its class has no such keyword, or does not take such a value.
    """
    entry = NETWORKS[name]
    network = _class(entry.place, entry.extra)
    known = setting_names(name)
    unknown = sorted(set(settings) - known)
    if unknown:
        raise ConfigError(f"{name} of this version of its package has no setting {unknown[0]!r}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    try:
        return entry.build(network, values, Building(tuple(sources), sample_rate, window))
    except DependencyError:
        raise
    except Exception as error:  # whatever the package raises for sizes that do not fit
        raise ConfigError(f"{name} cannot be built with these settings ({type(error).__name__}: {error})") from error


def check_extra(extra: str) -> None:
    """Refuse to go on without the packages of an extra.

    Args:
        extra: of audiosep, as in NETWORKS.

    Raises:
        DependencyError: a package is not installed; the message names the extra.
    """
    for entry in NETWORKS.values():
        if entry.extra == extra:
            _class(entry.place, extra)


def setting_names(name: str) -> frozenset[str]:
    """The keywords that a network's class takes as settings.

    Args:
        name: key of NETWORKS.

    Raises:
        DependencyError: its package is not installed.
    """
    entry = NETWORKS[name]
    parameters = frozenset(inspect.signature(_class(entry.place, entry.extra)).parameters)
    return (parameters | (_FILTER if name == "openunmix" else frozenset())) - entry.computed


def _class(place: str, extra: str) -> Any:
    module, name = place.split(":")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # a torchaudio beside the wrong torch raises OSError, RuntimeError, AttributeError
        package = module.partition(".")[0]
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DependencyError(f"this model needs the package {package} ({reason}): {install_extra(extra)}") from error
