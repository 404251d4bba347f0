"""The baselines: one contract for all, and each against a case that its paper says it solves."""

from __future__ import annotations

import numpy as np
import pytest
import sounds
import torch

from audiosep.errors import InputError, ModelError, QueryError
from audiosep.evaluation.baselines import BASELINES, load_baseline
from audiosep.evaluation.baselines.base import Baseline, masked, spectrum
from audiosep.evaluation.baselines.gating import SpectralGating
from audiosep.evaluation.baselines.nmf import factorise
from audiosep.evaluation.baselines.oracle import IdealComplexMask
from audiosep.evaluation.baselines.repet import beat_spectrum, repeating_period
from audiosep.evaluation.baselines.rpca import robust_pca
from audiosep.metrics import sdr, si_sdri
from audiosep.query.query import Query
from audiosep.weights.baseline_names import FLOORS

RATE = 16000


def query(system: Baseline, name: str = "it") -> Query:
    if system.name == "nmf":
        return Query(audio=sounds.voice(1.0, RATE, seed=9), name=name)
    return Query(text=min(system.targets or {"voice"}), name=name)


def ask(name: str, target: str, mix: np.ndarray, truth: np.ndarray | None = None, rate: int = RATE) -> np.ndarray:
    references = None if truth is None else {"it": truth}
    return load_baseline(name).separate(mix, Query(text=target, name="it"), sample_rate=rate, references=references)[
        "it"
    ]


def gain(estimate: np.ndarray, truth: np.ndarray, mix: np.ndarray) -> float:
    flat = [torch.from_numpy(np.asarray(x, np.float64).reshape(-1)) for x in (estimate, truth, mix)]
    return float(si_sdri(*flat))


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("shape", [(1,), (700,), (1, 9000), (2, 9001), (3, 2000)])
def test_shape_kind_and_repeatability(name: str, shape: tuple[int, ...]) -> None:
    mix = 0.1 * np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    before = mix.copy()
    system = load_baseline(name)
    asked = query(system)
    first = system.separate(mix, asked, sample_rate=RATE, references={"it": 0.5 * mix})["it"]
    again = system.separate(torch.from_numpy(mix), [asked], sample_rate=RATE, references={"it": 0.5 * mix})["it"]
    assert first.shape == shape
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    assert isinstance(again, torch.Tensor)
    np.testing.assert_array_equal(first, again.numpy())
    np.testing.assert_array_equal(mix, before)


@pytest.mark.parametrize("name", BASELINES)
def test_silence_in_silence_out(name: str) -> None:
    system = load_baseline(name)
    mix = np.zeros((2, 5000), np.float32)
    estimate = system.separate(mix, query(system), sample_rate=RATE, references={"it": mix})["it"]
    np.testing.assert_array_equal(estimate, mix)


@pytest.mark.parametrize("name", BASELINES)
def test_names_and_descriptions(name: str) -> None:
    system = load_baseline(name)
    assert system.name == name
    assert system.about
    assert system.needs_references == (name.startswith("oracle") or name == "best-gain")


@pytest.mark.parametrize("name", [n for n in BASELINES if load_baseline(n).targets])
def test_fixed_targets_sum_to_the_mix_and_other_queries_are_errors(name: str) -> None:
    system = load_baseline(name)
    mix = np.stack([sounds.voice(1.5, RATE), sounds.loop(1.5, RATE, 0.3)])
    parts = system.separate(mix, sorted(system.targets or ()), sample_rate=RATE)
    np.testing.assert_allclose(sum(parts.values()), mix, atol=1e-6)
    with pytest.raises(QueryError, match=sorted(system.targets or ())[0]):
        system.separate(mix, "a dog barking", sample_rate=RATE)


def test_bad_calls_name_the_remedy() -> None:
    mix = np.ones(100, np.float32)
    with pytest.raises(InputError, match="references"):
        load_baseline("oracle-irm").separate(mix, "piano", sample_rate=RATE)
    with pytest.raises(InputError, match="shape"):
        load_baseline("oracle-irm").separate(mix, "piano", sample_rate=RATE, references={"piano": np.ones(99)})
    with pytest.raises(InputError, match="sample_rate"):
        load_baseline("repet").separate(mix, "vocals")
    with pytest.raises(QueryError, match="at least one query"):
        load_baseline("repet").separate(mix, [], sample_rate=RATE)
    with pytest.raises(QueryError, match="example"):
        load_baseline("nmf").separate(mix, "piano", sample_rate=RATE)
    with pytest.raises(ModelError, match="repet-sim"):
        load_baseline("repetition")


def test_floors() -> None:
    target, rest = sounds.voice(1, RATE), 2 * sounds.noise(1, RATE)
    mix = target + rest
    assert set(FLOORS) == {"mixture", "silence", "best-gain"}
    np.testing.assert_array_equal(ask("mixture", "x", mix), mix)
    assert not ask("silence", "x", mix).any()
    scaled = ask("best-gain", "x", mix, target)
    assert gain(scaled, target, mix) == pytest.approx(0, abs=1e-4)
    error = [np.square(target - g * scaled).sum() for g in (0.99, 1.0, 1.01)]
    assert error[1] == min(error)


def test_oracles_bound_each_other() -> None:
    target, rest = sounds.voice(3, RATE), sounds.loop(3, RATE)
    mix = target + rest
    names = ("best-gain", "oracle-nmf", "oracle-ibm", "oracle-irm", "oracle-complex")
    floor, nmf, binary, ratio, complex_ = (gain(ask(name, "x", mix, target), target, mix) for name in names)
    assert floor + 5 < nmf < min(binary, ratio)
    assert binary == pytest.approx(ratio, abs=1)  # which of the two is better depends on the sounds
    assert complex_ > max(binary, ratio) + 5


def test_complex_mask_without_limit_is_the_target() -> None:
    target = sounds.voice(1, RATE)[None]
    estimate = IdealComplexMask(limit=np.inf).estimate(target + sounds.noise(1, RATE)[None], target, RATE)
    assert float(sdr(torch.from_numpy(estimate), torch.from_numpy(target))) > 80


def test_multichannel_wiener_uses_the_image_and_is_the_ratio_mask_on_mono() -> None:
    target, rest = sounds.voice(2, RATE), sounds.noise(2, RATE)
    stereo = np.stack([target, 0.2 * target]), np.stack([0.2 * rest, rest])
    mix = stereo[0] + stereo[1]
    wiener, ratio = (gain(ask(n, "x", mix, stereo[0]), stereo[0], mix) for n in ("oracle-mwf", "oracle-irm"))
    assert wiener > ratio + 6
    mono = target + rest
    np.testing.assert_allclose(ask("oracle-mwf", "x", mono, target), ask("oracle-irm", "x", mono, target), atol=1e-4)


def test_robust_pca_recovers_low_rank_plus_sparse() -> None:
    random = np.random.default_rng(0)
    low_rank = random.standard_normal((120, 4)) @ random.standard_normal((4, 200))
    sparse = np.where(random.random((120, 200)) < 0.05, 10 * random.standard_normal((120, 200)), 0)
    for matrix, a, e in ((low_rank + sparse, low_rank, sparse), ((low_rank + sparse).T, low_rank.T, sparse.T)):
        A, E = robust_pca(matrix, tolerance=1e-7)
        assert np.linalg.norm(A - a) < 1e-4 * np.linalg.norm(a)
        assert np.linalg.norm(E - e) < 1e-4 * np.linalg.norm(e)


def test_factorisation_lowers_the_divergence_and_keeps_known_spectra() -> None:
    random = np.random.default_rng(0)
    V = (random.random((60, 3)) @ random.random((3, 80))).astype(np.float32)

    def divergence(iterations: int) -> float:
        W, H = factorise(V, 3, iterations=iterations)
        return float((V * np.log(V / (W @ H)) - V + W @ H).sum())

    falling = [divergence(n) for n in (1, 5, 20, 100, 400)]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] < 1e-2 * falling[0]
    known = random.random((60, 2)).astype(np.float32)
    known /= known.sum(0)
    W, _ = factorise(V, 3, known=known)
    np.testing.assert_allclose(W[:, :2], known, rtol=1e-5)
    np.testing.assert_allclose(W.sum(0), 1, rtol=1e-4)


def test_example_nmf_follows_the_example() -> None:
    low, high = sounds.chord(3, RATE), sounds.drums(3, RATE)
    mix = low + high
    for target, other in ((low, high), (high, low)):
        found = load_baseline("nmf").separate(mix, Query(audio=(target[: 2 * RATE], RATE), name="x"), sample_rate=RATE)
        assert gain(found["x"], target, mix) > 6
        assert gain(found["x"], target, mix) > gain(found["x"], other, mix)


def test_example_nmf_refuses_a_silent_example_and_resamples_a_foreign_one() -> None:
    mix = sounds.chord(1, RATE) + sounds.drums(1, RATE)
    with pytest.raises(InputError, match="silent"):
        load_baseline("nmf").separate(mix, Query(audio=np.zeros(999, np.float32)), sample_rate=RATE)
    example = (sounds.drums(1, 32000), 32000)
    estimate = load_baseline("nmf").separate(mix, Query(audio=example, name="x"), sample_rate=RATE)["x"]
    assert gain(estimate, sounds.drums(1, RATE), mix) > 4


def test_beat_spectrum_finds_the_period() -> None:
    X = spectrum(sounds.loop(12, RATE, period=1.024)[None], 1024, 512)
    beats = beat_spectrum(np.abs(X[0]))
    assert beats[0] == pytest.approx(1)
    assert repeating_period(beats) == pytest.approx(1.024 * RATE / 512, abs=1)


@pytest.mark.parametrize("name", ["repet", "repet-adaptive", "repet-sim", "rpca"])
def test_voice_over_a_loop(name: str) -> None:
    voice, backing = sounds.voice(6, RATE), sounds.loop(6, RATE)
    mix = voice + backing
    parts = load_baseline(name).separate(mix, ["vocals", "accompaniment"], sample_rate=RATE)
    assert gain(parts["vocals"], voice, mix) > 2
    assert gain(parts["accompaniment"], backing, mix) > 2


def test_hpss_splits_tones_and_hits() -> None:
    tones, hits = sounds.chord(3, RATE), sounds.drums(3, RATE)
    mix = tones + hits
    parts = load_baseline("hpss").separate(mix, ["harmonic", "percussive"], sample_rate=RATE)
    assert gain(parts["harmonic"], tones, mix) > 8
    assert gain(parts["percussive"], hits, mix) > 8


def test_gate_removes_steady_noise_and_knows_its_floor() -> None:
    voice, hiss = sounds.voice(5, RATE), 0.5 * sounds.noise(5, RATE)
    mix = voice + hiss
    estimate = ask("spectral-gating", "speech", mix)
    assert gain(estimate, voice, mix) > 2
    closed = SpectralGating().parts(hiss[None], RATE)["speech"]
    assert 10 * np.log10(np.square(closed).mean() / np.square(hiss).mean()) < -10


def test_masked_parts_sum_to_the_mix() -> None:
    mix = sounds.voice(1, RATE)[None]
    X = spectrum(mix, 512, 128)
    part, rest = masked(mix, np.full(X.shape[1:], 0.3, np.float32), X, 512, 128)
    np.testing.assert_allclose(part, 0.3 * mix, atol=1e-6)
    np.testing.assert_array_equal(part + rest, part + (mix - part))
