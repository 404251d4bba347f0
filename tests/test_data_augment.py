"""Effects: lengths, levels, pitch and tempo."""

from __future__ import annotations

import corpora
import numpy as np
import pytest
import torch

from audiosep.data.augment import (
    AugmentConfig,
    Effects,
    StereoImage,
    apply_effects,
    draw_effects,
    draw_speed,
    draw_stereo_image,
    equalise,
    mu_law_noise,
    reverberate,
    to_stereo,
)
from audiosep.data.stretch import SPEED_STEP, resample_speed, stretch

RATE = 32000


def tone(frequency: float, samples: int = 64000) -> torch.Tensor:
    return 8000 * torch.sin(2 * torch.pi * frequency * torch.arange(samples) / RATE)


def pitch(x: torch.Tensor) -> float:
    spectrum = torch.fft.rfft(x * torch.hann_window(len(x))).abs()
    return float(spectrum.argmax()) * RATE / len(x)


def sound(seed: int = 0, seconds: float = 2.0) -> torch.Tensor:
    return torch.from_numpy(corpora.wave(seed, seconds, RATE))


@pytest.mark.parametrize("speed", [16, 19, 21, 25])
def test_speed_moves_pitch_and_length_together(speed):
    y = resample_speed(tone(1000), speed)
    assert len(y) == 64000 * SPEED_STEP // speed
    expected = tone(1000 * speed / SPEED_STEP, len(y))
    assert (y - expected)[100:-100].abs().max() < 0.01 * 8000


def test_speed_does_not_alias():
    y = resample_speed(tone(15000), 25)  # would become 18.75 kHz, above half of the rate
    assert y[100:-100].abs().max() < 0.03 * 8000


@pytest.mark.parametrize("tempo", [16, 25])
def test_tempo_keeps_the_pitch(tempo):
    y = stretch(tone(440), tempo)
    assert len(y) == 64000 * SPEED_STEP // tempo
    assert pitch(y) == pytest.approx(440, abs=2)
    level = y[: len(y) // 1000 * 1000].view(-1, 1000).square().mean(1)
    assert level.min() > 0.8 * 0.5 * 8000**2  # frames are added in phase


def test_tempo_of_short_and_unchanged_sounds():
    x = tone(440, 1000)
    assert len(stretch(x, 16)) == 1250
    assert torch.equal(stretch(x, SPEED_STEP), x)


def test_pitch_is_speed_with_the_inverse_tempo():
    drawn = {draw_speed(np.random.default_rng(i), AugmentConfig(speed=0, pitch=1)) for i in range(50)}
    assert len(drawn) > 5
    for speed, tempo in drawn:
        y = stretch(resample_speed(tone(500), speed), tempo)
        assert len(y) == pytest.approx(64000, rel=0.05)
        assert pitch(y) == pytest.approx(500 * speed / SPEED_STEP, rel=0.01)


def test_the_equaliser_has_the_given_gains():
    x = torch.randn(1, 64000, generator=torch.Generator().manual_seed(0))

    def gain_db(effect: Effects, low: float, high: float) -> float:
        y = equalise(x, [effect], RATE)
        a, b = (torch.fft.rfft(v[0]).abs().square()[int(2 * low) : int(2 * high)].mean() for v in (x, y))
        return float(10 * torch.log10(b / a))

    assert gain_db(Effects(tilt_db=2.0), 3900, 4100) == pytest.approx(4, abs=0.3)
    assert gain_db(Effects(tilt_db=2.0), 950, 1050) == pytest.approx(0, abs=0.3)
    assert gain_db(Effects(peak=(2000.0, 6.0, 1.0)), 1950, 2050) == pytest.approx(6, abs=0.5)
    assert gain_db(Effects(lowpass=4000.0), 6000, 15000) < -40
    assert gain_db(Effects(lowpass=4000.0), 100, 3500) == pytest.approx(0, abs=0.3)
    assert torch.allclose(equalise(x, [Effects(tilt_db=1e-9)], RATE), x, atol=1e-5)  # no delay


def test_reverb_keeps_the_direct_sound_and_has_its_wet_level():
    x = torch.randn(64000, generator=torch.Generator().manual_seed(0))
    y = reverberate(x, (0.3, -6.0, 1), RATE)
    assert len(y) == len(x)
    assert torch.allclose(y[:100], x[:100], atol=1e-4)
    assert float((y - x).square().mean() / x.square().mean()) == pytest.approx(10**-0.6, rel=0.1)
    assert torch.equal(y, reverberate(x, (0.3, -6.0, 1), RATE))
    assert not torch.allclose(y, reverberate(x, (0.3, -6.0, 2), RATE))


def test_codec_noise_falls_by_six_db_a_bit():
    x = sound()
    error = [float((mu_law_noise(x, bits) - x).square().mean() / x.square().mean()) for bits in (6, 8)]
    assert 10 * np.log10(error[0]) == pytest.approx(-26, abs=4)
    assert 10 * np.log10(error[0] / error[1]) == pytest.approx(12, abs=2)


def test_default_effects_change_nothing_and_all_keep_length_and_silence():
    x = torch.stack([sound(i) for i in range(3)])
    assert torch.equal(apply_effects(x.clone(), [Effects()] * 3, RATE), x)
    everything = Effects(3.0, (500.0, 6.0, 1.0), 5000.0, (0.4, 0.0, 7), 7, -1.0)
    y = apply_effects(x.clone(), [everything] * 3, RATE)
    assert y.shape == x.shape
    assert torch.isfinite(y).all()
    assert apply_effects(torch.zeros(1, 5000), [everything], RATE).abs().max() < 1e-6
    assert torch.equal(apply_effects(x.clone(), [Effects(polarity=-1.0)] * 3, RATE), -x)


def test_draws_follow_their_probabilities():
    rng = np.random.default_rng(0)
    config = AugmentConfig(equalise=0.5, reverb=0.2, bandlimit=0.1, codec=0.1, polarity=0.5)
    drawn = [draw_effects(rng, config) for _ in range(2000)]
    assert np.mean([e.reverb[0] > 0 for e in drawn]) == pytest.approx(0.2, abs=0.03)
    assert np.mean([e.lowpass > 0 for e in drawn]) == pytest.approx(0.1, abs=0.03)
    assert np.mean([e.polarity < 0 for e in drawn]) == pytest.approx(0.5, abs=0.04)
    none = AugmentConfig(speed=0, tempo=0, pitch=0, equalise=0, bandlimit=0, reverb=0, codec=0, polarity=0)
    assert draw_effects(rng, none) == Effects()
    assert draw_speed(rng, none) == (SPEED_STEP, SPEED_STEP)


def test_stereo_images():
    x = torch.stack([sound(i) for i in range(4)])
    images = [StereoImage(), StereoImage(pan=-1.0), StereoImage(width=0.5, delay=300), StereoImage(flip=-1.0)]
    y = to_stereo(x, images)
    assert y.shape == (4, 2, x.shape[1])
    assert torch.allclose(y[0, 0], y[0, 1])
    assert torch.allclose(y[:2].square().sum(1).mean(-1), x[:2].square().mean(-1), rtol=1e-5)  # constant power
    assert y[1, 1].abs().max() < 1e-6
    assert torch.allclose(y[2].sum(0), x[2] * 2**0.5, atol=1e-6)  # the side signal cancels in the sum
    assert y[3].sum(0).abs().max() < 1e-6
    drawn = [draw_stereo_image(np.random.default_rng(i)) for i in range(300)]
    assert min(i.pan for i in drawn) < -0.8
    assert max(i.pan for i in drawn) > 0.8
    assert 0 < sum(i.flip < 0 for i in drawn) < 60
