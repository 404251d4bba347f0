"""What a separation is measured by: each measure with its definition, and the numbers of one estimate.

Plain ratios come from `audiosep.metrics`, computed in float64 over all channels together. BSS Eval, PESQ and STOI come
from their own packages and are only computed when asked for.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiosep import metrics
from audiosep.audio import resample
from audiosep.errors import ConfigError, DependencyError
from audiosep.evaluation.benchmarks import Array, Scene, Target
from audiosep.query.encoder import QueryEncoder

Wave = NDArray[np.float64]


@dataclass(frozen=True)
class Measure:
    """One number of a table.

    Args:
        name: key in results. title: heading in tables. unit: "dB", "%" or "".
        definition: what it is and where it comes from, one or two sentences.
        higher: whether more is better.
        weighted: whether its mean weights clips by their length. median: tables show the median of the clips.
    """

    name: str
    title: str
    unit: str
    definition: str
    higher: bool = True
    weighted: bool = False
    median: bool = False


_MEASURES = (
    Measure(
        "si_sdri",
        "SI-SDRi",
        "dB",
        "Improvement of SI-SDR over the mixture. SI-SDR: 10 log10(|a s|^2 / |a s - e|^2) with a = <e, s> / <s, s>, "
        "mean not removed, one a for all channels (Le Roux et al. 2019). A silent estimate counts as -100 dB.",
    ),
    Measure("better", "better", "%", "Share of clips whose SI-SDR improved, by more than rounding (0.01 dB)."),
    Measure(
        "sdri",
        "SDRi",
        "dB",
        "Improvement of SDR over the mixture. Turning the volume down is worth up to 3 dB of it at equal levels and "
        "more on quiet targets: see best-gain.",
    ),
    Measure(
        "sdr",
        "SDR",
        "dB",
        "10 log10(|s|^2 / |s - e|^2) over the whole clip and all channels: the SDR of the AudioSep papers (Liu et al. "
        "2023) and of the Sound Demixing Challenge, not that of BSS Eval.",
    ),
    Measure("si_sdr", "SI-SDR", "dB", "Scale-invariant SDR itself, as above."),
    Measure(
        "si_sir",
        "SI-SIR",
        "dB",
        "Target against the other true sources in the estimate, by least squares on the sources without delays "
        "(Le Roux et al. 2019, equation 6).",
    ),
    Measure(
        "wrong",
        "wrong source",
        "%",
        "Share of clips whose estimate is closer (in SI-SDR) to another true source than to the target.",
        higher=False,
    ),
    Measure(
        "leak",
        "leak",
        "dB",
        "Target left in the residual mix - e: its gain there, 20 log10|g|, by least squares on the true sources. 0 dB: "
        "all of it.",
        higher=False,
    ),
    Measure(
        "suppression",
        "absent: down by",
        "dB",
        "Only where the queried sound is not in the mixture: 10 log10(|mix|^2 / |e|^2), how far the output was turned "
        "down, at most 100 dB.",
    ),
    Measure("level", "level", "dB", "10 log10(|e|^2 / |mix|^2), how loud the output is, at least -100 dB."),
    Measure("presence", "presence", "", "The system's own score that the queried sound is in the mixture, 0 to 1."),
    Measure(
        "bss_sdr",
        "BSS SDR",
        "dB",
        "BSS Eval v3 (Vincent et al. 2006): distortion filters of 512 taps, sources {target, rest}, whole clip, mean "
        "of the channels, by fast_bss_eval. Undefined for silent estimates.",
    ),
    Measure("bss_sir", "BSS SIR", "dB", "Source-to-interference ratio of BSS Eval v3, as above."),
    Measure("bss_sar", "BSS SAR", "dB", "Source-to-artefacts ratio of BSS Eval v3, as above."),
    Measure(
        "nsdr",
        "GNSDR",
        "dB",
        "NSDR = BSS SDR(e) - BSS SDR(mix); its mean over clips weighted by their length is GNSDR (Hsu & Jang 2010).",
        weighted=True,
    ),
    Measure(
        "csdr",
        "cSDR",
        "dB",
        "BSS Eval v4 as in SiSEC 2018 (Stoeter et al. 2018): median over windows of 1 s, by museval, with sources "
        "{target, rest}; the table shows the median over clips, as is usual for MUSDB18.",
        median=True,
    ),
    Measure("isr", "ISR", "dB", "Image-to-spatial-distortion ratio of BSS Eval v4, medians as for cSDR.", median=True),
    Measure("csir", "cSIR", "dB", "Source-to-interference ratio of BSS Eval v4, medians as for cSDR.", median=True),
    Measure("csar", "cSAR", "dB", "Source-to-artefacts ratio of BSS Eval v4, medians as for cSDR.", median=True),
    Measure("pesq", "PESQ", "", "ITU-T P.862.2 wide band, MOS-LQO, mono at 16 kHz, by pesq. Speech only."),
    Measure("stoi", "STOI", "", "Short-time objective intelligibility (Taal et al. 2011), by pystoi. Speech only."),
    Measure(
        "clap",
        "CLAPScore",
        "",
        "Cosine between the CLAP embeddings of the estimate and the query's text (Xiao et al. 2024). Needs no true "
        "source; the CLAP that scored is named under the table.",
    ),
    Measure(
        "clap_audio", "CLAPScore-A", "", "Cosine between the CLAP embeddings of the estimate and of the true target."
    ),
)
MEASURES = {measure.name: measure for measure in _MEASURES}

GROUPS: dict[str, tuple[str, ...]] = {
    "plain": (
        *("si_sdri", "better", "sdri", "sdr", "si_sdr", "si_sir", "wrong", "leak", "suppression"),
        *("level", "presence"),
    ),
    "bss": ("bss_sdr", "bss_sir", "bss_sar", "nsdr"),
    "museval": ("csdr", "isr", "csir", "csar"),
    "speech": ("pesq", "stoi"),
    "clap": ("clap", "clap_audio"),
}
"""What can be asked for: `plain` is always computed."""

_PACKAGES = {"bss": ("fast_bss_eval",), "museval": ("museval",), "speech": ("pesq", "pystoi")}


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
        if "clap" in self.groups and encoder is None:
            raise ConfigError("the measures 'clap' need a query encoder: name a model that has one with --clap")
        self.encoder = encoder
        for name in (name for group in self.groups for name in _PACKAGES.get(group, ())):
            _package(name) if name != "museval" else museval_metrics()

    def score(self, estimate: Array, target: Target, scene: Scene, presence: float | None = None) -> dict[str, float]:
        """All numbers of one estimate; what is undefined is left out.

        Args:
            estimate: (channels, samples).
            target: what was asked. scene: the true audio.
            presence: the system's own presence score.
        """
        e, x = _double(estimate), _double(scene.mix)
        down = float(metrics.suppression(_flat(e), _flat(x)))
        here = {"level": -down} | ({} if presence is None else {"presence": presence})
        if not scene.present(target):
            return _finite(here | {"suppression": down})
        s = _double(scene.reference(target))
        others = {name: _double(y) for name, y in scene.others(target).items()}
        if not bool((s.square().mean() > metrics.SILENCE).item()):
            return _finite(here)
        scores = here | plain(e, s, x, others)
        steps: dict[str, Callable[[], Mapping[str, float]]] = {
            "bss": lambda: bss_eval(e.numpy(), s.numpy(), x.numpy()),
            "museval": lambda: bss_eval_v4(e.numpy(), s.numpy(), x.numpy(), scene.sample_rate),
            "speech": lambda: speech(e.numpy(), s.numpy(), scene.sample_rate),
            "clap": lambda: self._agreement(e, s, target, scene.sample_rate),
        }
        for group in self.groups:
            if group in steps:
                scores |= steps[group]()
        return _finite(scores)

    def _agreement(self, e: Tensor, s: Tensor, target: Target, sample_rate: int) -> dict[str, float]:
        assert self.encoder is not None  # checked at construction
        heard, true = self.encoder.audio([e.mean(0).float(), s.mean(0).float()], sample_rate)
        scores = {"clap_audio": float(heard @ true)}
        if target.query.text is not None:
            scores["clap"] = float(heard @ self.encoder.text([target.query.text])[0])
        return scores


def plain(e: Tensor, s: Tensor, x: Tensor, others: Mapping[str, Tensor]) -> dict[str, float]:
    """The group `plain` for a target that is in the mixture.

    Args:
        e, s, x: estimate, true target and mixture, (channels, samples) float64.
        others: the other true sources.
    """
    flat_e, flat_s, flat_x = _flat(e), _flat(s), _flat(x)
    gain = float(metrics.si_sdri(flat_e, flat_s, flat_x))
    mine = float(metrics.si_sdr(flat_e, flat_s))
    rest = [y for y in map(_flat, others.values()) if float(y.square().mean()) > metrics.SILENCE]
    closest = max((float(metrics.si_sdr(flat_e, y)) for y in rest), default=-np.inf)
    left = abs(float(source_gains(flat_x - flat_e, [flat_s, *rest])[0]))
    return {
        "si_sdri": gain,
        "better": float(gain > 0.01),
        "sdri": float(metrics.sdri(e, s, x)),
        "sdr": float(metrics.sdr(e, s)),
        "si_sdr": mine,
        "si_sir": si_sir(flat_e, flat_s, rest),
        "wrong": float(closest > mine),
        "leak": max(-metrics.LIMIT_DB, 20 * float(np.log10(max(left, 1e-30)))),
    }


def si_sir(e: Tensor, s: Tensor, others: Sequence[Tensor]) -> float:
    """Scale-invariant source-to-interference ratio (Le Roux et al. 2019, equation 6).

    The estimate is projected on the target, a s, and on all sources together by least squares, P e; what P e holds
    beyond a s is interference: 10 log10(|a s|^2 / |P e - a s|^2).

    Args:
        e, s: (samples,). others: each (samples,), none silent.

    Returns:
        dB within +-100; NaN for a silent estimate or when there is no other source.
    """
    if not others or not bool(e.any()):
        return float("nan")
    sources = [s, *others]
    wanted = (e @ s) / (s @ s) * s
    return float(metrics.snr(source_gains(e, sources) @ torch.stack(sources), wanted))


def source_gains(x: Tensor, sources: Sequence[Tensor]) -> Tensor:
    """How much of each source is in `x`: the gains of least squared error, (sources,), for signals (samples,)."""
    basis = torch.stack(list(sources))
    gains: Tensor = torch.linalg.lstsq(basis @ basis.T, (basis @ x)[:, None], driver="gelsd").solution[:, 0]
    return gains


def bss_eval(e: Wave, s: Wave, x: Wave) -> dict[str, float]:
    """BSS Eval v3 of the target among {target, rest}, mean of the channels, and NSDR.

    Args:
        e, s, x: estimate, true target and mixture, (channels, samples).
    """
    package = _package("fast_bss_eval")
    rows = []
    for ec, sc, xc in zip(e, s, x, strict=True):
        if min(np.mean(y**2) for y in (ec, sc, xc - sc)) <= metrics.SILENCE:
            continue
        # As numpy arrays, not tensors: torch's batched solver (oneMKL) fails on these systems on some processors.
        reference = np.stack([sc, xc - sc])
        # Only the first row is used. A second row that equals its source keeps the two from being swapped.
        (sdr, sir, sar), (unprocessed, _, _) = (
            package.bss_eval_sources(reference, np.stack([y, xc - sc]), clamp_db=metrics.LIMIT_DB)[:3] for y in (ec, xc)
        )
        rows.append([float(sdr[0]), float(sir[0]), float(sar[0]), float(sdr[0] - unprocessed[0])])
    if not rows:
        return {}
    return dict(zip(GROUPS["bss"], np.mean(rows, axis=0).tolist(), strict=True))


def bss_eval_v4(e: Wave, s: Wave, x: Wave, sample_rate: int) -> dict[str, float]:
    """BSS Eval v4 of the target among {target, rest}: medians over windows of one second.

    Args:
        e, s, x: estimate, true target and mixture, (channels, samples).
    """
    package = museval_metrics()
    if min(np.mean(y**2) for y in (e, s, x - s)) <= metrics.SILENCE:
        return {}
    reference, estimate = np.stack([s.T, (x - s).T]), np.stack([e.T, s.T])  # the second row as above
    with np.errstate(all="ignore"):  # silent windows divide by zero; museval marks them NaN
        sdr, isr, sir, sar, _ = package.bss_eval(reference, estimate, window=sample_rate, hop=sample_rate)
    medians = [float(np.nanmedian(y[0])) if np.isfinite(y[0]).any() else float("nan") for y in (sdr, isr, sir, sar)]
    return dict(zip(GROUPS["museval"], medians, strict=True))


def speech(e: Wave, s: Wave, sample_rate: int) -> dict[str, float]:
    """PESQ (wide band) and STOI of the channels' mean.

    Args:
        e, s: estimate and true speech, (channels, samples).
    """
    pesq, pystoi = _package("pesq"), _package("pystoi")
    rate = 16000
    reference, estimate = (resample(y.mean(0, keepdims=True).astype(np.float32), sample_rate, rate)[0] for y in (s, e))
    scores = {"stoi": float(pystoi.stoi(reference, estimate, rate))}
    value = pesq.pesq(rate, reference, estimate, "wb", on_error=pesq.PesqError.RETURN_VALUES)
    if value >= 1:  # PESQ says -1 when it hears no utterance; MOS-LQO starts at 1
        scores["pesq"] = float(value)
    return scores


def _double(x: Array) -> Tensor:
    return torch.from_numpy(np.array(x, dtype=np.float64))


def _flat(x: Tensor) -> Tensor:
    """All channels behind each other: one ratio, and one scale, for the whole signal."""
    return x.reshape(-1)


def _finite(scores: Mapping[str, float]) -> dict[str, float]:
    """What is undefined is left out; infinite ratios become the limit, so that means exist."""
    limit = metrics.LIMIT_DB
    return {name: float(np.clip(value, -limit, limit)) for name, value in scores.items() if not np.isnan(value)}


@functools.cache
def museval_metrics() -> Any:
    """museval's module of metrics, without the package around it: that one reads music and refuses without ffmpeg."""
    package = importlib.util.find_spec("museval")
    if package is None or not package.submodule_search_locations:
        raise DependencyError("museval is not installed; `pip install 'audiosep[eval]'`")
    path = Path(package.submodule_search_locations[0]) / "metrics.py"
    spec = importlib.util.spec_from_file_location("museval_metrics", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DependencyError(f"{name} is not installed ({error}); `pip install 'audiosep[eval]'`") from error
