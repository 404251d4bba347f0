"""Effects on stereo signals, (2, samples) float32 at RATE: amplifiers, cabinets, equalisers, rooms, dynamics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy import fft, ndimage, signal

RATE = 48_000
Stereo = NDArray[np.float32]
Mono = NDArray[np.float32]
_BLOCK = 240  # samples of a step of the compressor: 5 ms
_SOFT = 96  # samples over which the limiter's gain moves: 2 ms


def db(value: float) -> float:
    """The factor of a gain.

    Args:
        value: dB.
    """
    return float(10 ** (value / 20))


@dataclass(frozen=True)
class Tone:
    """Settings of an equaliser.

    Args:
        low_db: gain of a shelf below 200 Hz.
        high_db: gain of a shelf above 4 kHz.
        cut: corner of a high-pass, Hz; 0: none.
    """

    low_db: float
    high_db: float
    cut: float

    def response(self, hertz: NDArray[np.float32]) -> NDArray[np.float32]:
        """Gains at frequencies.

        Args:
            hertz: frequencies.
        """
        low, high = 1 / (1 + (hertz / 200) ** 2), 1 / (1 + (4000 / np.maximum(hertz, 1)) ** 2)
        gain = 10 ** ((self.low_db * low + self.high_db * high) / 20)
        if self.cut:
            gain = gain / np.sqrt(1 + (self.cut / np.maximum(hertz, 1)) ** 4)
        return np.asarray(gain, np.float32)


def amplified(x: Mono, drive_db: float, random: np.random.Generator) -> Mono:
    """A guitar amplifier: asymmetric saturation at twice the rate, then a cabinet.

    Args:
        x: (samples,).
        drive_db: gain before the saturation.
        random: decides about the cabinet.
    """
    tight = signal.sosfilt(signal.butter(1, 110 if drive_db > 20 else 70, "high", fs=RATE, output="sos"), x)
    level = float(np.sqrt(np.mean(np.square(tight))) + 1e-6)
    up = soxr.resample(tight * (0.25 * db(drive_db) / level), RATE, 2 * RATE, quality="LQ")
    bias = 0.15
    bent = np.tanh(up + bias) - np.tanh(bias)
    y = soxr.resample(bent, 2 * RATE, RATE, quality="LQ")
    return np.asarray(signal.oaconvolve(y, cabinet(random), mode="full")[: len(x)], np.float32)


def cabinet(random: np.random.Generator) -> Mono:
    """Impulse response of a loudspeaker cabinet and its microphone: no two are alike.

    Args:
        random: decides about corners, resonances and notches.

    Returns:
        (taps,), minimum phase.
    """
    taps = 1024
    hertz = np.fft.rfftfreq(2 * taps, 1 / RATE)[1:]
    low, high = random.uniform(75, 120), random.uniform(3800, 6200)
    gain = -10 * np.log10(1 + (low / hertz) ** 4) - 10 * np.log10(1 + (hertz / high) ** 7)
    places = [
        (random.uniform(110, 160), random.uniform(1, 5), 0.5),
        (random.uniform(2000, 3400), random.uniform(2, 7), 0.6),
    ]
    places += [(random.uniform(300, 4500), random.uniform(-9, 3), 0.12) for _ in range(6)]
    for centre, height, width in places:
        gain = gain + height * np.exp(-0.5 * (np.log2(hertz / centre) / width) ** 2)
    # Minimum phase from the magnitude, by the real cepstrum (Oppenheim and Schafer).
    log = np.concatenate([[gain[0]], gain]) / 20 * np.log(10)
    cepstrum = np.fft.irfft(log)
    cepstrum[1:taps] *= 2
    cepstrum[taps + 1 :] = 0
    response = np.fft.irfft(np.exp(np.fft.rfft(cepstrum)))[:taps]
    return np.asarray(response * np.hanning(2 * taps)[taps:], np.float32)


def room(random: np.random.Generator, seconds: float) -> Stereo:
    """Impulse response of a room: early reflections, then noise that decays faster at high frequencies.

    Args:
        random: decides about reflections and noise.
        seconds: to -60 dB at low frequencies.

    Returns:
        (2, samples), energy 1 in each channel.
    """
    count = int(RATE * min(seconds, 3.0))
    t = np.arange(count) / RATE
    tail = np.zeros((2, count))
    edges = [(20, 300, 1.0), (300, 1500, 0.9), (1500, 5000, 0.65), (5000, 14000, 0.4)]
    for low, high, share in edges:
        band = signal.sosfilt(
            signal.butter(2, (low, high), "band", fs=RATE, output="sos"), random.standard_normal((2, count))
        )
        tail += band * 10 ** (-3 * t / (seconds * share))
    start = int(RATE * random.uniform(0.004, 0.03))  # pre-delay
    tail[:, :start] = 0
    for _ in range(10):
        at = start + int(RATE * random.uniform(0.0, 0.05))
        tail[int(random.integers(2)), at] += random.choice([-1, 1]) * random.uniform(1, 4)
    return np.asarray(tail / np.sqrt(np.square(tail).sum(1, keepdims=True)), np.float32)


def in_room(x: Stereo, tone: Tone, response: Stereo, send_db: float) -> Stereo:
    """A signal, equalised, with reverberation; both in one pass over its spectrum.

    Args:
        x: (2, samples).
        tone: of the equaliser, of zero phase.
        response: (2, taps) of `room`.
        send_db: level of the reverberation relative to the signal.
    """
    count = fft.next_fast_len(x.shape[1] + response.shape[1], real=True)
    spectrum = fft.rfft(x, count) * tone.response(np.arange(count // 2 + 1, dtype=np.float32) * RATE / count)
    spectrum += np.float32(db(send_db)) * spectrum.mean(0) * fft.rfft(response, count)
    return np.asarray(fft.irfft(spectrum, count)[:, : x.shape[1]], np.float32)


def echoed(x: Stereo, seconds: float, feedback: float, level_db: float) -> Stereo:
    """Echoes that change sides.

    Args:
        x: (2, samples).
        seconds: between echoes.
        feedback: factor from one to the next.
        level_db: of the first.
    """
    y, gain = x.copy(), db(level_db)
    for k in range(1, 6):
        lag = int(k * seconds * RATE)
        if lag >= x.shape[1]:
            break
        y[:, lag:] += np.float32(gain * feedback ** (k - 1)) * (x[::-1] if k % 2 else x)[:, :-lag]
    return y


def placed(x: Mono, pan: float, random: np.random.Generator | None = None, width: float = 0.0) -> Stereo:
    """A mono signal in the stereo image.

    Args:
        x: (samples,).
        pan: -1 (left) to 1.
        random: for the widening.
        width: 0 to 1: level of a delayed and filtered side signal, as of two microphones.
    """
    angle = (pan + 1) * np.pi / 4
    y = np.stack([np.cos(angle) * x, np.sin(angle) * x]).astype(np.float32) * np.float32(np.sqrt(2))
    if width and random is not None:
        lag = int(RATE * random.uniform(0.004, 0.013))
        side = np.pad(signal.sosfilt(signal.butter(1, 350, "high", fs=RATE, output="sos"), x), (lag, 0))[: len(x)]
        y += np.float32(width) * np.stack([side, -side]).astype(np.float32)
    return y


def compressor_gain(level: Mono, threshold_db: float, ratio: float, attack: float, release: float) -> Mono:
    """The gain of a compressor.

    Args:
        level: (samples,) power that is looked at.
        threshold_db: above which it turns down.
        ratio: dB above the threshold for one more dB.
        attack: seconds.
        release: seconds.

    Returns:
        (samples,) factors, at most 1.
    """
    blocks = np.add.reduceat(level, np.arange(0, len(level), _BLOCK)) / _BLOCK
    over = np.maximum(0, 10 * np.log10(blocks + 1e-9) - threshold_db) * (1 - 1 / ratio)
    up, down = (float(np.exp(-_BLOCK / RATE / time)) for time in (attack, release))
    smooth, state = np.empty_like(over), 0.0
    for k, value in enumerate(over):
        factor = up if value > state else down
        state = factor * state + (1 - factor) * float(value)
        smooth[k] = state
    centres = (np.arange(len(over)) + 0.5) * _BLOCK
    return np.asarray(10 ** (-np.interp(np.arange(len(level)), centres, smooth) / 20), np.float32)


def compressed(x: Stereo, threshold_db: float, ratio: float, attack: float = 0.01, release: float = 0.15) -> Stereo:
    """A compressed signal; the threshold is relative to its own level.

    Args:
        x: (2, samples).
        threshold_db: relative to the RMS.
        ratio: as for `compressor_gain`.
        attack: seconds.
        release: seconds.
    """
    level = np.square(x).mean(0)
    loud = 10 * np.log10(float(level.mean()) + 1e-9)
    return x * compressor_gain(level, loud + threshold_db, ratio, attack, release)


def limiter_gain(x: Stereo, ceiling: float) -> Mono:
    """The gain of a limiter that looks ahead: |x| * gain never exceeds the ceiling.

    Args:
        x: (2, samples).
        ceiling: largest sample.

    Returns:
        (samples,) factors, at most 1.
    """
    needed = np.minimum(1.0, ceiling / np.maximum(np.abs(x).max(0), 1e-9))
    # All minima around a sample include what that sample needs, and so their mean does not exceed it.
    held = ndimage.minimum_filter1d(needed, 2 * _SOFT + 1, mode="nearest")
    return np.asarray(ndimage.uniform_filter1d(held, 2 * _SOFT + 1, mode="nearest"), np.float32)
