"""Effects on single sources before they are mixed: drawn with numpy into a plan, rendered with torch on any device."""

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
    """How often each effect is drawn, per source, and how strong it may be.

    Attributes:
        speed: probability of playing faster or slower (pitch and tempo together), within `speeds`.
        tempo, pitch: probabilities of changing one and keeping the other, within `speeds`; at most one of the three.
        equalise: probability of a tilt up to `tilt_db` dB/octave around 1 kHz and one peak up to `peak_db` dB.
        bandlimit: probability of a low-pass between 3 and 12 kHz.
        reverb: probability of a synthetic room; decay within `reverb_seconds` (to -60 dB).
        codec: probability of quantisation noise like that of an 8-bit mu-law or a low-rate codec.
        polarity: probability of a flipped sign.
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
                raise ConfigError(f"augment.{name} must go from small to large above 0, got {low} to {high}")


@dataclass(frozen=True)
class Effects:
    """What happens to one source; the defaults change nothing.

    Attributes:
        tilt_db: dB per octave around 1 kHz.
        peak: centre (Hz), gain (dB) and width (octaves) of a bell; gain 0 = none.
        lowpass: Hz; 0 = none.
        reverb: decay to -60 dB (seconds, 0 = none), wet level (dB relative to the direct sound), seed of the noise.
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
        return self.tilt_db != 0 or self.peak[1] != 0 or self.lowpass > 0


@dataclass(frozen=True)
class StereoImage:
    """Where a source stands in a stereo mixture.

    Attributes:
        pan: -1 (left) to 1 (right), at constant power.
        width: share of a side signal, the source `delay` samples late, added left and subtracted right.
        flip: -1 when the right channel's polarity is reversed, else 1.
    """

    pan: float = 0.0
    width: float = 0.0
    delay: int = 0
    flip: float = 1.0


def draw_stereo_image(rng: np.random.Generator) -> StereoImage:
    """An image: centred, anywhere, wide, and rarely out of phase."""
    pan = 0.0 if rng.random() < 0.25 else float(rng.uniform(-1, 1))
    width = float(rng.uniform(0.1, 0.7)) if rng.random() < 0.3 else 0.0
    return StereoImage(pan, width, int(rng.integers(160, 800)), -1.0 if rng.random() < 0.05 else 1.0)


def to_stereo(x: Tensor, images: Sequence[StereoImage]) -> Tensor:
    """x (sources, samples) in stereo (sources, 2, samples); left + right is free of the side signal."""
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
    """Effects of one source."""
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
    """Speed of resampling and tempo of stretching after it, each in units of 1 / SPEED_STEP."""
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
    """Effects on sources x (sources, samples), in place; the length stays."""
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
    """Zero-phase tilt, bell and low-pass of x (sources, samples), by overlap-save with a 256-tap filter a source."""
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
    """Response (_FFT // 2 + 1,) complex of the causal form of the filter, its delay _TAPS / 2."""
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
    """x (samples,) in a synthetic room: the direct sound plus exponentially decaying noise after 5 ms.

    Args:
        reverb: seconds to -60 dB, wet energy relative to the direct sound (dB), seed of the noise.
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
    """The next length with small prime factors: 2^k or 3 * 2^k."""
    power = 1 << (samples - 1).bit_length()
    return power * 3 // 4 if power * 3 // 4 >= samples else power


def mu_law_noise(x: Tensor, bits: int) -> Tensor:
    """x (samples,) through mu-law quantisation of `bits` bits at its own peak level (ITU-T G.711 companding)."""
    peak = x.abs().amax().clamp_min(1e-9)
    mu, steps = 255.0, 2.0 ** (bits - 1)
    companded = torch.log1p(mu * (x / peak).abs()) / math.log1p(mu)
    companded = torch.round(companded * steps) / steps
    return torch.sign(x) * torch.expm1(companded * math.log1p(mu)) / mu * peak
