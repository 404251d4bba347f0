"""Resampling that holds little back: as exact as soxr's, in the same place, the same for every block size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiosep.audio import StreamResampler, resample, resampled_length
from audiosep.audio.polyphase import PolyphaseResampler, live_resampler
from audiosep.errors import InputError

RATES = st.sampled_from([8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000, 191_999])


def noise(channels: int, samples: int) -> np.ndarray:
    return np.random.default_rng(samples).uniform(-0.5, 0.5, (channels, samples)).astype(np.float32)


def in_blocks(x: np.ndarray, sizes: list[int], rates: tuple[int, int], length: int | None = None) -> np.ndarray:
    stream = live_resampler(*rates, x.shape[0])
    parts, start, turn = [], 0, 0
    while start < x.shape[1]:
        size = sizes[turn % len(sizes)]
        parts.append(stream.push(x[:, start : start + size]))
        start, turn = start + size, turn + 1
        assert stream.produced >= (stream.consumed - stream.latency) * rates[1] / rates[0]
    return np.concatenate([*parts, stream.finish(length)], axis=1)


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(1, 4_000),
    sizes=st.lists(st.integers(1, 3_000), min_size=1, max_size=4),
    rates=st.tuples(RATES, RATES),
)
def test_blocks_change_nothing_and_lengths_are_exact(samples: int, sizes: list[int], rates: tuple[int, int]) -> None:
    x = noise(2, samples)
    whole = in_blocks(x, [samples], rates)
    assert whole.shape == (2, resampled_length(samples, *rates))
    assert whole.dtype == np.float32
    exact = isinstance(live_resampler(*rates, 2), PolyphaseResampler)
    np.testing.assert_allclose(in_blocks(x, sizes, rates), whole, rtol=0, atol=0 if exact else 1e-6)
    assert in_blocks(whole, sizes, rates[::-1], length=samples).shape == x.shape


@pytest.mark.parametrize("rates", [(44_100, 32_000), (32_000, 44_100), (48_000, 32_000), (16_000, 32_000)])
@pytest.mark.parametrize("part", [0.006, 0.06, 0.44, 0.875, 0.905])
def test_a_tone_of_the_passband_keeps_phase_and_level(rates: tuple[int, int], part: float) -> None:
    frequency = part * min(rates) / 2
    tone = np.sin(2 * np.pi * frequency * np.arange(rates[0] // 2) / rates[0] + 0.3)[None].astype(np.float32)
    out = in_blocks(tone, [1000], rates)
    expected = np.sin(2 * np.pi * frequency * np.arange(out.shape[1]) / rates[1] + 0.3)
    inner = slice(500, -500)
    np.testing.assert_allclose(out[0, inner], expected[inner], rtol=0, atol=1e-5)


@pytest.mark.parametrize("frequency", [16_100, 18_000, 21_900])
def test_what_the_lower_rate_cannot_hold_is_gone(frequency: int) -> None:
    tone = np.sin(2 * np.pi * frequency * np.arange(22_050) / 44_100)[None].astype(np.float32)
    assert np.abs(in_blocks(tone, [777], (44_100, 32_000))[0, 500:-500]).max() < 2e-5


def test_it_agrees_with_soxr_below_the_band_edge() -> None:
    x = resample(noise(1, 20_000), 24_000, 48_000)  # nothing above 12 kHz
    inner = slice(1000, -1000)
    ours, theirs = in_blocks(x, [500], (48_000, 32_000)), resample(x, 48_000, 32_000)
    np.testing.assert_allclose(ours[:, inner], theirs[:, inner], rtol=0, atol=1e-5)


@pytest.mark.parametrize("rates", [(44_100, 32_000), (32_000, 44_100), (48_000, 32_000), (32_000, 48_000)])
def test_it_holds_back_a_tenth_of_what_soxr_does(rates: tuple[int, int]) -> None:
    ours, theirs = live_resampler(*rates, 2), StreamResampler(*rates, 2)
    assert ours.latency / rates[0] < 0.0025
    assert ours.latency < 0.13 * theirs.latency


def test_equal_and_odd_rates_go_their_usual_way() -> None:
    assert isinstance(live_resampler(32_000, 32_000, 1), StreamResampler)
    assert isinstance(live_resampler(44_101, 32_000, 1), StreamResampler)


@pytest.mark.parametrize("kind", [float, np.int32])
def test_rates_of_other_kinds_are_whole_numbers(kind: type[float] | type[np.int32]) -> None:
    x = noise(1, 100)
    for make in (PolyphaseResampler, live_resampler):
        out = make(kind(44_100), kind(16_000), 1).push(x)  # type: ignore[arg-type]
        assert np.array_equal(out, make(44_100, 16_000, 1).push(x))


def test_misuse_is_refused() -> None:
    with pytest.raises(InputError, match="4000 to 192000 Hz, got 3999"):
        live_resampler(3_999, 32_000, 1)
    stream = live_resampler(44_100, 32_000, 2)
    with pytest.raises(InputError, match="expected a block of shape"):
        stream.push(noise(1, 10))
    stream.push(noise(2, 1000))
    with pytest.raises(InputError, match="were returned already"):
        stream.finish(5)
    stream.finish()
    with pytest.raises(InputError, match="finished"):
        stream.push(noise(2, 10))


def test_nothing_in_nothing_out() -> None:
    assert live_resampler(44_100, 32_000, 2).finish().shape == (2, 0)
