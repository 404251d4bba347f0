"""Measures against the reference libraries, and what they say at silence."""

from __future__ import annotations

import numpy as np
import pytest
import sounds
import torch

from audiosep.errors import ConfigError, DependencyError, InputError
from audiosep.evaluation.benchmarks import Scene, Target
from audiosep.evaluation.external_scores import bss_eval, bss_eval_v4, museval_metrics, speech
from audiosep.evaluation.measures import GROUPS, MEASURES
from audiosep.evaluation.scores import Scorer, plain, si_sir
from audiosep.query.query import Query

RATE = 16000
TARGET = Target("voice", Query("voice"))


def signals(channels: int = 1, seconds: float = 2.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimate, target, mixture: (channels, samples) float64; the estimate has leakage, colour and noise of its own."""
    random = np.random.default_rng(channels)
    s = np.stack([sounds.voice(seconds, RATE, seed) for seed in range(channels)]).astype(np.float64)
    n = np.stack([sounds.loop(seconds, RATE, 0.4, seed) for seed in range(5, 5 + channels)]).astype(np.float64)
    coloured = 0.8 * s + 0.2 * np.roll(s, 3, axis=-1)
    return coloured + 0.3 * n + 0.01 * random.standard_normal(s.shape), s, s + n


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(x) for x in arrays]


def scene(s: np.ndarray, x: np.ndarray) -> Scene:
    return Scene(x.astype(np.float32), {"voice": s.astype(np.float32)}, RATE)


def test_every_measure_is_defined_and_in_a_group() -> None:
    assert {name for group in GROUPS.values() for name in group} == set(MEASURES)
    assert all(measure.definition for measure in MEASURES.values())


@pytest.mark.parametrize("channels", [1, 2])
def test_plain_ratios_equal_torchmetrics(channels: int) -> None:
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio, signal_noise_ratio

    e, s, x = tensors(*signals(channels))
    scores = plain(e, s, x, {"rest": x - s})
    e, s, x = (y.reshape(-1) for y in (e, s, x))
    sdr = float(signal_noise_ratio(e, s))
    si_sdr = float(scale_invariant_signal_distortion_ratio(e, s))
    assert scores["sdr"] == pytest.approx(sdr, abs=1e-6)
    assert scores["sdri"] == pytest.approx(sdr - float(signal_noise_ratio(x, s)), abs=1e-6)
    assert scores["si_sdr"] == pytest.approx(si_sdr, abs=1e-6)
    before = float(scale_invariant_signal_distortion_ratio(x, s))
    assert scores["si_sdri"] == pytest.approx(si_sdr - before, abs=1e-6)
    assert scores["better"] == 1


def test_bss_eval_equals_museval() -> None:
    museval_bss_eval = museval_metrics().bss_eval
    e, s, x = signals()
    scores = bss_eval(e, s, x)
    whole = {"window": np.inf, "hop": np.inf, "bsseval_sources_version": True}
    reference = np.stack([s.T, (x - s).T])
    (sdr, _, sir, sar, _), (before, *_) = (
        museval_bss_eval(reference, np.stack([y.T, (x - y).T + 1e-9]), **whole) for y in (e, x)
    )
    for name, expected in (("bss_sdr", sdr), ("bss_sir", sir), ("bss_sar", sar), ("nsdr", sdr - before)):
        assert scores[name] == pytest.approx(float(expected[0, 0]), abs=1e-3), name


def test_nsdr_of_the_mixture_is_zero_and_channels_are_averaged() -> None:
    e, s, x = signals(2)
    assert bss_eval(x, s, x)["nsdr"] == pytest.approx(0, abs=1e-6)
    both = bss_eval(e, s, x)
    each = [bss_eval(e[i : i + 1], s[i : i + 1], x[i : i + 1]) for i in range(2)]
    assert both["bss_sdr"] == pytest.approx(np.mean([one["bss_sdr"] for one in each]), abs=1e-9)


def test_bss_eval_v4_is_the_median_over_seconds() -> None:
    museval_bss_eval = museval_metrics().bss_eval

    e, s, x = signals(2, 3.0)
    s[:, :RATE] = 0  # a second without the target has no ratio
    scores = bss_eval_v4(e, s, x, RATE)
    reference, estimate = np.stack([s.T, (x - s).T]), np.stack([e.T, (x - e).T])
    with np.errstate(all="ignore"):
        sdr, isr, sir, sar, _ = museval_bss_eval(reference, estimate, window=RATE, hop=RATE)
    for name, expected in (("csdr", sdr), ("isr", isr), ("csir", sir), ("csar", sar)):
        assert scores[name] == pytest.approx(float(np.nanmedian(expected[0])), abs=1e-9), name
    assert np.isnan(sdr[0, 0])


def test_pesq_and_stoi_know_clean_speech() -> None:
    voice = sounds.voice(3, RATE)[None].astype(np.float64)
    noise = sounds.noise(3, RATE)[None].astype(np.float64)
    clean, noisy = speech(voice, voice, RATE), speech(voice + noise, voice, RATE)
    assert clean["stoi"] == pytest.approx(1, abs=1e-6)
    assert clean["pesq"] == pytest.approx(4.644, abs=1e-3)  # the highest MOS-LQO of P.862.2
    assert noisy["stoi"] < 0.9
    assert noisy["pesq"] < 2


def test_interference_alone_decides_si_sir() -> None:
    s, n, m = (torch.from_numpy(np.eye(3)[i]).repeat(100) for i in range(3))
    noise = torch.from_numpy(np.array([1.0, -1.0, 0.0])).repeat_interleave(100).double()
    noise = noise - sum((noise @ y) / (y @ y) * y for y in (s, n, m))
    for gain in (0.01, 1.0, 50.0):
        e = gain * (s + 0.1 * n + 0.1 * m + 3 * noise)
        assert si_sir(e, s, [n, m]) == pytest.approx(-10 * np.log10(0.02), abs=1e-6)
    assert np.isnan(si_sir(torch.zeros(300).double(), s, [n]))
    assert np.isnan(si_sir(s, s, []))
    assert si_sir(s, s, [n, n]) == 100  # the same source twice: least squares still has an answer


def test_leak_and_wrong_source() -> None:
    _, s, x = tensors(*signals())
    others = {"rest": x - s}
    assert plain(s, s, x, others)["leak"] == -100
    assert plain(0 * s, s, x, others)["leak"] == pytest.approx(0, abs=1e-9)
    assert plain(0.5 * s, s, x, others)["leak"] == pytest.approx(-6.0206, abs=1e-4)
    assert plain(s, s, x, others)["wrong"] == 0
    assert plain(x - s, s, x, others)["wrong"] == 1
    assert plain(0.6 * s + 0.4 * (x - s), s, x, others)["wrong"] == 0


def test_an_absent_target_has_only_suppression() -> None:
    _, s, x = signals()
    absent = Target("dog", Query("dog"))
    quiet = Scorer().score(0.1 * x.astype(np.float32), absent, scene(s, x), presence=0.2)
    assert quiet == pytest.approx({"suppression": 20, "level": -20, "presence": 0.2}, abs=1e-4)
    assert Scorer().score(np.zeros_like(x, np.float32), absent, scene(s, x)) == {"suppression": 100, "level": -100}


def test_silence_is_documented_behaviour() -> None:
    _, s, x = signals()
    silent = Scorer(["bss", "museval"]).score(np.zeros_like(x, np.float32), TARGET, scene(s, x))
    assert silent["sdr"] == pytest.approx(0, abs=1e-9)
    assert silent["si_sdr"] == -100
    assert silent["wrong"] == 0
    assert "si_sir" not in silent
    assert "bss_sdr" not in silent
    mixture = Scorer(["bss", "museval"]).score(x.astype(np.float32), TARGET, scene(s, x))
    assert mixture["nsdr"] == pytest.approx(0, abs=1e-4)
    assert mixture["leak"] == -100  # nothing is left in the residual at all
    nothing = Scorer().score(x.astype(np.float32), TARGET, scene(0 * s, x))
    assert set(nothing) == {"level"}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_estimate_that_is_not_finite_is_an_error(bad: float) -> None:
    """Its measures would be left out, and the mean of the other clips would be better than it."""
    e, s, x = signals()
    e[0, 100] = bad
    for target in (TARGET, Target("dog", Query("dog"))):
        with pytest.raises(InputError, match=f"estimate of '{target.name}' holds NaN or infinity"):
            Scorer().score(e.astype(np.float32), target, scene(s, x))


def test_a_perfect_estimate_is_finite() -> None:
    _, s, x = signals()
    perfect = Scorer(["bss", "museval"]).score(s.astype(np.float32), TARGET, scene(s, x))
    assert all(np.isfinite(value) for value in perfect.values())
    assert perfect["sdr"] == 100


class Listener:
    """A query encoder for the test: text is its length, audio is its loudness."""

    name, dimension = "listener", 2

    def text(self, texts):
        return torch.nn.functional.normalize(torch.tensor([[len(t), 4.0] for t in texts]), dim=-1)

    def audio(self, waveforms, sample_rate):
        return torch.nn.functional.normalize(torch.tensor([[float(x.std()) * 40, 4.0] for x in waveforms]), dim=-1)

    def to(self, device):
        return self


def test_text_agreement_uses_the_encoder_it_is_given() -> None:
    e, s, x = signals()
    scores = Scorer(["clap"], Listener()).score(e.astype(np.float32), TARGET, scene(s, x))
    assert 0 < scores["clap"] < 1
    heard = Scorer(["clap"], Listener()).score(s.astype(np.float32), TARGET, scene(s, x))
    assert heard["clap_audio"] == pytest.approx(1, abs=1e-6)


def test_wrong_choices_are_errors(monkeypatch) -> None:
    with pytest.raises(ConfigError, match="museval"):
        Scorer(["loudness"])
    with pytest.raises(ConfigError, match="--clap"):
        Scorer(["clap"])
    monkeypatch.setitem(__import__("sys").modules, "pesq", None)
    with pytest.raises(DependencyError, match=r"\.\[eval\]"):
        Scorer(["speech"])
