"""Resampling as a stream: exact length, no shift, the same for every block size."""

import numpy as np
import pytest
import soxr
from hypothesis import example, given, settings
from hypothesis import strategies as st

from audiosep.audio import StreamResampler, resample, resampled_length
from audiosep.errors import InputError

RATES = st.one_of(
    st.sampled_from([4_000, 8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000]),
    st.integers(4_000, 192_000),
)


def noise(channels: int, samples: int) -> np.ndarray:
    return np.random.default_rng(samples).uniform(-0.5, 0.5, (channels, samples)).astype(np.float32)


def in_blocks(x: np.ndarray, sizes: list[int], in_rate: int, out_rate: int, length: int | None = None) -> np.ndarray:
    stream = StreamResampler(in_rate, out_rate, x.shape[0])
    parts, start, turn = [], 0, 0
    while start < x.shape[1]:
        size = sizes[turn % len(sizes)]
        parts.append(stream.push(x[:, start : start + size]))
        start, turn = start + size, turn + 1
    return np.concatenate([*parts, stream.finish(length)], axis=1)


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(1, 4_000),
    sizes=st.lists(st.integers(1, 3_000), min_size=1, max_size=4),
    channels=st.integers(1, 8),
    in_rate=RATES,
    out_rate=RATES,
)
@example(samples=1, sizes=[1], channels=1, in_rate=192_000, out_rate=4_000)
@example(samples=4_000, sizes=[1], channels=2, in_rate=44_100, out_rate=32_000)
def test_blocks_equal_one_shot(samples: int, sizes: list[int], channels: int, in_rate: int, out_rate: int) -> None:
    x = noise(channels, samples)
    whole = resample(x, in_rate, out_rate)
    assert whole.shape == (channels, resampled_length(samples, in_rate, out_rate))
    assert whole.dtype == np.float32
    np.testing.assert_allclose(in_blocks(x, sizes, in_rate, out_rate), whole, atol=1e-6)
    reference = soxr.resample(x.T, in_rate, out_rate, quality="HQ").T
    common = min(reference.shape[1], whole.shape[1])
    assert abs(reference.shape[1] - whole.shape[1]) <= 1
    np.testing.assert_allclose(whole[:, :common], reference[:, :common], atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(samples=st.integers(1, 5_000), rate=RATES, model_rate=RATES, size=st.integers(1, 4_000))
def test_there_and_back_has_the_original_length(samples: int, rate: int, model_rate: int, size: int) -> None:
    down = in_blocks(noise(1, samples), [size], rate, model_rate)
    assert in_blocks(down, [size], model_rate, rate, length=samples).shape == (1, samples)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 96_000, 191_999])
def test_a_tone_keeps_its_phase(rate: int) -> None:
    seconds = np.arange(rate // 2) / rate
    tone = np.sin(2 * np.pi * 1_000 * seconds + 0.3)[np.newaxis].astype(np.float32)
    out = resample(tone, rate, 32_000)
    expected = np.sin(2 * np.pi * 1_000 * np.arange(out.shape[1]) / 32_000 + 0.3)
    inner = slice(2_000, -2_000)
    # A shift of one microsecond alone would be 6e-3.
    np.testing.assert_allclose(out[0, inner], expected[inner], atol=1e-5)


def test_equal_rates_change_nothing() -> None:
    x = noise(2, 1_000)
    np.testing.assert_array_equal(in_blocks(x, [77], 44_100, 44_100), x)


@settings(max_examples=25, deadline=None)
@given(
    rates=st.sampled_from([(44_100, 32_000), (32_000, 44_100), (192_000, 32_000), (8_000, 32_000), (32_000, 48_000)]),
    sizes=st.lists(st.integers(1, 5_000), min_size=1, max_size=20),
)
def test_no_more_than_the_latency_is_held_back(rates: tuple[int, int], sizes: list[int]) -> None:
    stream = StreamResampler(*rates, 1)
    for size in sizes * 3:
        stream.push(np.zeros((1, size), np.float32))
        assert stream.produced >= (stream.consumed - stream.latency) * rates[1] / rates[0]
    assert stream.latency < rates[0]


@pytest.mark.parametrize("length", range(1, 400, 7))
def test_lengths_round_up(length: int) -> None:
    assert resampled_length(length, 44_100, 32_000) == int(np.ceil(length * 320 / 441 - 1e-9))


def test_misuse_is_refused() -> None:
    with pytest.raises(InputError, match="4000 to 192000 Hz, got 3999"):
        StreamResampler(3_999, 32_000, 1)
    with pytest.raises(InputError, match=r"got 44100\.5"):
        resample(noise(1, 10), 44_100.5, 32_000)  # type: ignore[arg-type]
    stream = StreamResampler(44_100, 32_000, 2)
    with pytest.raises(InputError, match="expected a block of shape"):
        stream.push(noise(1, 10))
    stream.push(noise(2, 10_000))
    with pytest.raises(InputError, match="were returned already"):
        stream.finish(10)
    stream.finish()
    with pytest.raises(InputError, match="finished"):
        stream.push(noise(2, 10))


def test_nothing_in_nothing_out() -> None:
    stream = StreamResampler(44_100, 32_000, 2)
    assert stream.finish().shape == (2, 0)
