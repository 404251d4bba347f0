"""Effects on sources before they are mixed: drawn with numpy for a plan, applied with torch on any device."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audiosep.data.stretch import SPEED_STEP
from audiosep.errors import ConfigError

_TAPS = 256  # length of the equaliser's FIR filter
_FFT = 1024


@dataclass(frozen=True)
class AugmentConfig:
    """Probability of each effect, per source, and its range. At most one of speed, tempo and pitch is drawn.

    Args:
        speed: probability of playing faster or slower (pitch and tempo together).
        tempo: probability of another tempo at the same pitch.
        pitch: probability of another pitch at the same tempo.
        speeds: range of the factors of these three.
        equalise: probability of a spectral tilt around 1 kHz and one peak.
        tilt_db: largest tilt, dB per octave, up or down.
        peak_db: largest gain of the peak, dB, up or down.
        bandlimit: probability of a low-pass filter between 3 and 12 kHz.
        reverb: probability of reverberation by a synthetic room.
        reverb_seconds: range of its decay time to -60 dB, seconds.
        codec: probability of quantisation noise, as of 6 to 8 bits of mu-law.
        polarity: probability of an inverted sign.
    """

    speed: float = 0.4
    tempo: float = 0.02
    pitch: float = 0.02
    speeds: tuple[float, float] = (0.8, 1.25)
    equalise: float = 0.25
    tilt_db: float = 3.0
    peak_db: float = 6.0
    bandlimit: float = 0.03
    reverb: float = 0.05
    reverb_seconds: tuple[float, float] = (0.15, 0.8)
    codec: float = 0.03
    polarity: float = 0.5

    def __post_init__(self) -> None:
        for name in ("speed", "tempo", "pitch", "equalise", "bandlimit", "reverb", "codec", "polarity"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"augment.{name} is a probability and must lie in 0..1, got {getattr(self, name)}")
        for name, (low, high) in (("speeds", self.speeds), ("reverb_seconds", self.reverb_seconds)):
            if not 0 < low <= high:
                raise ConfigError(f"augment.{name} must be two numbers above 0, in order, got {low} and {high}")


@dataclass(frozen=True)
class Effects:
    """The effects on one source; the defaults change nothing.

    Args:
        tilt_db: spectral tilt around 1 kHz, dB per octave.
        peak: centre (Hz), gain (dB) and width (octaves) of a peak; gain 0 = none.
        lowpass: cut-off frequency, Hz; 0 = none.
        reverb: decay time to -60 dB (seconds, 0 = none), wet level (dB, 0 = as the direct sound), seed of the noise.
        codec_bits: bits of mu-law quantisation; 0 = none.
        polarity: +1 or -1.
    """

    tilt_db: float = 0.0
    peak: tuple[float, float, float] = (1000.0, 0.0, 1.0)
    lowpass: float = 0.0
    reverb: tuple[float, float, int] = (0.0, 0.0, 0)
    codec_bits: int = 0
    polarity: float = 1.0

    @property
    def equalised(self) -> bool:
        """Whether `equalise` changes the source."""
        return self.tilt_db != 0 or self.peak[1] != 0 or self.lowpass > 0


@dataclass(frozen=True)
class StereoImage:
    """Pan, width and polarity of a source in a stereo mixture.

    Args:
        pan: -1 (left) to 1 (right), at constant power.
        width: gain of a side signal: the source delayed, added on the left and subtracted on the right.
        delay: of the side signal, samples.
        flip: -1 when the right channel's polarity is inverted, else 1.
    """

    pan: float = 0.0
    width: float = 0.0
    delay: int = 0
    flip: float = 1.0


def draw_stereo_image(rng: np.random.Generator) -> StereoImage:
    """Draw a stereo image: centred or panned, sometimes wide, rarely with channels of opposite polarity.

    Args:
        rng: draws it.
    """
    pan = 0.0 if rng.random() < 0.25 else float(rng.uniform(-1, 1))
    width = float(rng.uniform(0.1, 0.7)) if rng.random() < 0.3 else 0.0
    return StereoImage(pan, width, int(rng.integers(160, 800)), -1.0 if rng.random() < 0.05 else 1.0)


def to_stereo(x: Tensor, images: Sequence[StereoImage]) -> Tensor:
    """Give mono sources their stereo images; the side signals cancel in the sum of both channels.

    Args:
        x: (sources, samples).
        images: one for each source.

    Returns:
        (sources, 2, samples).
    """
    angle = (torch.tensor([image.pan for image in images], device=x.device) + 1) * (math.pi / 4)
    gains = torch.stack([angle.cos(), angle.sin()], -1)
    out = x[:, None] * gains[..., None]
    for row, mono, image in zip(out, x, images, strict=True):
        if image.width:
            side = mono[: mono.shape[-1] - image.delay] * (image.width * 0.5**0.5)
            row[0, image.delay :] += side
            row[1, image.delay :] -= side
        row[1] *= image.flip
    return out


def draw_effects(rng: np.random.Generator, config: AugmentConfig) -> Effects:
    """Draw the effects of one source.

    Args:
        rng: draws them.
        config: probabilities and ranges.
    """
    u = rng.random(5)
    tilt, peak, lowpass = 0.0, (1000.0, 0.0, 1.0), 0.0
    if u[0] < config.equalise:
        tilt = float(rng.uniform(-config.tilt_db, config.tilt_db))
        centre = float(np.exp(rng.uniform(math.log(150), math.log(8000))))
        peak = (centre, float(rng.uniform(-config.peak_db, config.peak_db)), float(rng.uniform(0.5, 2.0)))
    if u[1] < config.bandlimit:
        lowpass = float(np.exp(rng.uniform(math.log(3000), math.log(12000))))
    reverb = (0.0, 0.0, 0)
    if u[2] < config.reverb:
        reverb = (float(rng.uniform(*config.reverb_seconds)), float(rng.uniform(-15, 0)), int(rng.integers(2**31)))
    bits = int(rng.integers(6, 9)) if u[3] < config.codec else 0
    return Effects(tilt, peak, lowpass, reverb, bits, -1.0 if u[4] < config.polarity else 1.0)


def draw_speed(rng: np.random.Generator, config: AugmentConfig) -> tuple[int, int]:
    """Draw the speed and the tempo of one source.

    Args:
        rng: draws them.
        config: probabilities and range.

    Returns:
        Speed of resampling and tempo of the time-stretching after it, in units of 1 / SPEED_STEP.
    """
    low, high = (round(speed * SPEED_STEP) for speed in config.speeds)
    value, kind = int(rng.integers(low, high + 1)), rng.random()
    if kind < config.speed:
        return value, SPEED_STEP
    if kind < config.speed + config.tempo:
        return SPEED_STEP, value
    if kind < config.speed + config.tempo + config.pitch:
        return value, max(1, round(SPEED_STEP * SPEED_STEP / value))
    return SPEED_STEP, SPEED_STEP


def apply_effects(x: Tensor, effects: Sequence[Effects], sample_rate: int) -> Tensor:
    """Apply effects to sources, in place; lengths do not change.

    Args:
        x: (sources, samples), changed.
        effects: one for each source.
        sample_rate: Hz.

    Returns:
        x.
    """
    rows = [i for i, effect in enumerate(effects) if effect.equalised]
    if rows:
        x[rows] = equalise(x[rows], [effects[i] for i in rows], sample_rate)
    for i, effect in enumerate(effects):
        if effect.reverb[0] > 0:
            x[i] = reverberate(x[i], effect.reverb, sample_rate)
        if effect.codec_bits:
            x[i] = mu_law_noise(x[i], effect.codec_bits)
        if effect.polarity < 0:
            x[i].neg_()
    return x


def equalise(x: Tensor, effects: Sequence[Effects], sample_rate: int) -> Tensor:
    """Apply tilt, peak and low-pass without delay: overlap-save with a 256-tap linear-phase filter for each source.

    Args:
        x: (sources, samples).
        effects: one for each source.
        sample_rate: Hz.

    Returns:
        (sources, samples).
    """
    responses = torch.stack([_filter(effect, sample_rate) for effect in effects]).to(x.device)
    step = _FFT - _TAPS
    samples = x.shape[-1]
    blocks = -(-samples // step)
    half = _TAPS // 2
    padded = torch.nn.functional.pad(x, (_TAPS - half, blocks * step + half - samples))
    spectra = torch.fft.rfft(padded.unfold(-1, _FFT, step)) * responses[:, None]
    y: Tensor = torch.fft.irfft(spectra, n=_FFT)
    return y[..., _TAPS:].flatten(1)[:, :samples]


@functools.lru_cache(maxsize=64)
def _filter(effect: Effects, sample_rate: int) -> Tensor:
    """Complex response (_FFT // 2 + 1,) of the filter in causal form, with a delay of _TAPS / 2 samples."""
    f = torch.linspace(0, sample_rate / 2, _TAPS // 2 + 1, dtype=torch.float64).clamp_min(30.0)
    octaves = torch.log2(f / 1000)
    gain = (effect.tilt_db * octaves).clamp(-18, 18)
    centre, peak_db, width = effect.peak
    gain = gain + peak_db * torch.exp(-0.5 * (torch.log2(f / centre) / (width / 2)).square())
    if effect.lowpass > 0:
        gain = gain - 60 * (torch.log2(f / effect.lowpass) / 0.25).clamp(0, 1)
    taps = torch.fft.irfft(10 ** (gain / 20)).roll(_TAPS // 2) * torch.hann_window(_TAPS, dtype=torch.float64)
    response: Tensor = torch.fft.rfft(taps, n=_FFT)
    return response.to(torch.complex64)


def reverberate(x: Tensor, reverb: tuple[float, float, int], sample_rate: int) -> Tensor:
    """Reverberate a source: the direct sound, and from 5 ms on its convolution with exponentially decaying noise.

    Args:
        x: (samples,).
        reverb: decay time to -60 dB (seconds), wet level relative to the direct sound (dB), seed of the noise.
        sample_rate: Hz.

    Returns:
        (samples,).
    """
    seconds, wet_db, seed = reverb
    length = int(seconds * sample_rate)
    noise = torch.randn(length, generator=torch.Generator().manual_seed(seed))
    response = noise * 10 ** (-3 * torch.arange(length) / length)
    response[: sample_rate // 200] = 0
    response = response * (10 ** (wet_db / 20) / response.norm().clamp_min(1e-9))
    response[0] = 1
    size = _fast_size(x.shape[-1] + length)
    spectrum = torch.fft.rfft(x, n=size) * torch.fft.rfft(response.to(x.device), n=size)
    y: Tensor = torch.fft.irfft(spectrum, n=size)
    return y[: x.shape[-1]]


def _fast_size(samples: int) -> int:
    """The next larger FFT length of the form 2^k or 3 * 2^k."""
    power = 1 << (samples - 1).bit_length()
    return power * 3 // 4 if power * 3 // 4 >= samples else power


def mu_law_noise(x: Tensor, bits: int) -> Tensor:
    """Quantise a source by mu-law companding (ITU-T G.711), with full scale at its peak.

    Args:
        x: (samples,).
        bits: of the quantisation.

    Returns:
        (samples,).
    """
    peak = x.abs().amax().clamp_min(1e-9)
    mu, steps = 255.0, 2.0 ** (bits - 1)
    companded = torch.log1p(mu * (x / peak).abs()) / math.log1p(mu)
    companded = torch.round(companded * steps) / steps
    return torch.sign(x) * torch.expm1(companded * math.log1p(mu)) / mu * peak
