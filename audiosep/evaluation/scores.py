"""Scores of one estimate: plain ratios, computed here, and the groups of measures that packages compute.

Plain ratios come from `audiosep.metrics`, in float64 over all channels together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from audiosep import metrics
from audiosep.audio.samples import Array
from audiosep.errors import ConfigError, InputError
from audiosep.evaluation.benchmarks import Scene, Target
from audiosep.evaluation.external_scores import bss_eval, bss_eval_v4, import_package, museval_metrics, speech
from audiosep.evaluation.measures import GROUPS
from audiosep.query.encoder import QueryEncoder
from audiosep.weights.catalogue import locate
from audiosep.weights.model_config import read_config

_CLAP = "clap"
_NO_CLAP = "the measures 'clap' need a query encoder: name a model that has one with --clap"
_PACKAGES = {"bss": ("fast_bss_eval",), "museval": ("museval",), "speech": ("pesq", "pystoi")}


def check_measures(groups: Sequence[str], clap: str | None) -> None:
    """Refuse measures that cannot be computed, without loading anything.

    Args:
        groups: as for `Scorer`.
        clap: the model whose query encoder scores the group `clap`; None without.

    Raises:
        ConfigError: an unknown group, `clap` without a model, or a model without that group.
        DependencyError: a group's package is not installed.
        ModelError: the model is not on this machine.
    """
    Scorer([group for group in groups if group != _CLAP])
    if clap is None and _CLAP in groups:
        raise ConfigError(_NO_CLAP)
    if clap is not None and _CLAP not in groups:
        raise ConfigError("--clap names the model of the measures 'clap': add --measure clap, or leave it out")
    if clap is not None and read_config(locate(clap))["query"] is None:
        raise ConfigError(f"{clap} has no query encoder for the measures 'clap': name a model that takes words")


class Scorer:
    """Computes the chosen groups of measures.

    Args:
        groups: names from `GROUPS`; `plain` is always among them.
        encoder: the CLAP that scores the group `clap`.

    Raises:
        ConfigError: an unknown group, or `clap` without an encoder.
        DependencyError: a group's package is not installed.
    """

    def __init__(self, groups: Iterable[str] = (), encoder: QueryEncoder | None = None) -> None:
        self.groups = tuple(group for group in GROUPS if group == "plain" or group in set(groups))
        unknown = sorted(set(groups) - set(GROUPS))
        if unknown:
            raise ConfigError(f"unknown measures {unknown[0]!r}; there are {', '.join(GROUPS)}")
        if _CLAP in self.groups and encoder is None:
            raise ConfigError(_NO_CLAP)
        self.encoder = encoder
        for name in (name for group in self.groups for name in _PACKAGES.get(group, ())):
            import_package(name) if name != "museval" else museval_metrics()

    def score(self, estimate: Array, target: Target, scene: Scene, presence: float | None = None) -> dict[str, float]:
        """Compute all measures of one estimate.

        Args:
            estimate: (channels, samples).
            target: what was to be separated.
            scene: the mixture and the true sources.
            presence: the system's own presence score.

        Returns:
            Measure -> number; undefined ones are left out.

        Raises:
            InputError: the estimate is not finite, which means over clips would not count.
        """
        if not np.isfinite(estimate).all():
            raise InputError(f"the estimate of {target.name!r} holds NaN or infinity: mend the system, or leave it out")
        e, x = _double(estimate), _double(scene.mix)
        suppression = float(metrics.suppression(_flat(e), _flat(x)))
        always = {"level": -suppression} | ({} if presence is None else {"presence": presence})
        if not scene.present(target):
            return _finite(always | {"suppression": suppression})
        s = _double(scene.reference(target))
        others = {name: _double(y) for name, y in scene.others(target).items()}
        if not bool((s.square().mean() > metrics.SILENCE).item()):
            return _finite(always)
        scores = always | plain(e, s, x, others)
        steps: dict[str, Callable[[], Mapping[str, float]]] = {
            "bss": lambda: bss_eval(e.numpy(), s.numpy(), x.numpy()),
            "museval": lambda: bss_eval_v4(e.numpy(), s.numpy(), x.numpy(), scene.sample_rate),
            "speech": lambda: speech(e.numpy(), s.numpy(), scene.sample_rate),
            "clap": lambda: self._clap_scores(e, s, target, scene.sample_rate),
        }
        for group in self.groups:
            if group in steps:
                scores |= steps[group]()
        return _finite(scores)

    def _clap_scores(self, e: Tensor, s: Tensor, target: Target, sample_rate: int) -> dict[str, float]:
        assert self.encoder is not None  # checked at construction
        estimate, truth = self.encoder.audio([e.mean(0).float(), s.mean(0).float()], sample_rate)
        scores = {"clap_audio": float(estimate @ truth)}
        if target.query.text is not None:
            scores["clap"] = float(estimate @ self.encoder.text([target.query.text])[0])
        return scores


def plain(e: Tensor, s: Tensor, x: Tensor, others: Mapping[str, Tensor]) -> dict[str, float]:
    """The group `plain` for a target that is in the mixture.

    Args:
        e: estimate, (channels, samples) float64.
        s: true target, (channels, samples) float64.
        x: mixture, (channels, samples) float64.
        others: the other true sources, by name.
    """
    flat_e, flat_s, flat_x = _flat(e), _flat(s), _flat(x)
    improvement = float(metrics.si_sdri(flat_e, flat_s, flat_x))
    si_sdr = float(metrics.si_sdr(flat_e, flat_s))
    rest = [y for y in map(_flat, others.values()) if float(y.square().mean()) > metrics.SILENCE]
    closest = max((float(metrics.si_sdr(flat_e, y)) for y in rest), default=-np.inf)
    left = abs(float(source_gains(flat_x - flat_e, [flat_s, *rest])[0]))
    return {
        "si_sdri": improvement,
        "better": float(improvement > 0.01),
        "sdri": float(metrics.sdri(e, s, x)),
        "sdr": float(metrics.sdr(e, s)),
        "si_sdr": si_sdr,
        "si_sir": si_sir(flat_e, flat_s, rest),
        "wrong": float(closest > si_sdr),
        "leak": max(-metrics.LIMIT_DB, 20 * float(np.log10(max(left, 1e-30)))),
    }


def si_sir(e: Tensor, s: Tensor, others: Sequence[Tensor]) -> float:
    """Scale-invariant source-to-interference ratio (Le Roux et al. 2019, equation 6).

    The estimate is projected on the target, a s, and on all sources together by least squares, P e. The difference
    P e - a s is interference: 10 log10(|a s|^2 / |P e - a s|^2).

    Args:
        e: estimate, (samples,).
        s: true target, (samples,).
        others: other true sources, each (samples,), none silent.

    Returns:
        dB within +-100; NaN for a silent estimate or when there is no other source.
    """
    if not others or not bool(e.any()):
        return float("nan")
    sources = [s, *others]
    wanted = (e @ s) / (s @ s) * s
    return float(metrics.snr(source_gains(e, sources) @ torch.stack(sources), wanted))


def source_gains(x: Tensor, sources: Sequence[Tensor]) -> Tensor:
    """Gains of the sources in a signal by least squares.

    Args:
        x: the signal, (samples,).
        sources: each (samples,).

    Returns:
        (sources,).
    """
    basis = torch.stack(list(sources))
    gains: Tensor = torch.linalg.lstsq(basis @ basis.T, (basis @ x)[:, None], driver="gelsd").solution[:, 0]
    return gains


def _double(x: Array) -> Tensor:
    return torch.from_numpy(np.array(x, dtype=np.float64))


def _flat(x: Tensor) -> Tensor:
    """Concatenate the channels, so that the whole signal has one ratio and one scale."""
    return x.reshape(-1)


def _finite(scores: Mapping[str, float]) -> dict[str, float]:
    """Leave undefined scores (NaN) out and limit infinite ratios, so that means over clips exist."""
    limit = metrics.LIMIT_DB
    return {name: float(np.clip(value, -limit, limit)) for name, value in scores.items() if not np.isnan(value)}
