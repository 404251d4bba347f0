"""The audio of clips: decoding, trimming, sequences of short takes, phrases of single notes."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audiosep.audio import read_audio, resample
from audiosep.errors import AudioSepError, DataError
from research.corpus.planning import ClipPlan
from research.corpus.sources import Source

Samples = NDArray[np.float32]

RECIPE = 2  # raise it when clips come out differently, so that shards are made anew
PEAK = 10 ** (-3 / 20)  # of clips; stems of songs share one gain instead
_MOST = 48_000  # Hz
_QUIET_DB = 50.0  # below the loudest frame: silence, at the ends of a recording
_FRAME = 0.02  # seconds
_GAPS = (0.15, 0.9)  # seconds between takes of a sequence
_SEQUENCE = 4.5  # seconds that a sequence has at least, in which takes come again
_STEPS = (0.16, 0.75)  # seconds between the notes of a phrase


def clip_rate(sources: Sequence[Source]) -> int:
    """The sample rate of a clip: the highest of its recordings, at most 48 kHz; stems of songs all have that.

    Args:
        sources: its recordings.

    Returns:
        Hz.
    """
    return _MOST if sources[0].song else min(_MOST, max(source.rate for source in sources))


def make_clip(plan: ClipPlan, read: Callable[[Source], bytes]) -> tuple[Samples, int]:
    """The audio of a clip.

    Args:
        plan: what it is made of.
        read: gives the bytes of a recording's file.

    Returns:
        (samples,) float32, and the sample rate in Hz. Peak PEAK, except for stems, which keep their level.

    Raises:
        DataError: a recording is missing, cannot be decoded or is silent; the message names it.
    """
    rate = clip_rate(plan.sources)
    random = np.random.default_rng(zlib.crc32(plan.id.encode()))
    if plan.how in ("piece", "stem"):
        source = plan.sources[0]
        seconds = plan.seconds if plan.how == "piece" or source.end else None
        x = decode(read(source), source, plan.start, seconds, rate)
        return (x, rate) if plan.how == "stem" else (_level(trimmed(x, rate)), rate)
    parts = [_take(read, source, rate) for source in plan.sources]
    x = sequence(parts, rate, random) if plan.how == "takes" else phrase(parts, rate, random)
    return _level(x), rate


def decode(content: bytes, source: Source, start: float, seconds: float | None, rate: int) -> Samples:
    """Decode a part of a recording as mono.

    Args:
        content: of its file.
        source: the recording.
        start: where the part begins, seconds.
        seconds: its length; None: to the end.
        rate: Hz, to which it is resampled.

    Returns:
        (samples,) float32: the mean of the channels, or the loudest channel where the mean would cancel.

    Raises:
        DataError: it cannot be decoded, or is silent; the message names it.
    """
    with tempfile.TemporaryDirectory(prefix="audiosep-") as folder:
        path = Path(folder, "recording").with_suffix(Path(source.path).suffix.lower())
        path.write_bytes(content)
        try:
            x, given = read_audio(path, max_seconds=None, start=start, seconds=seconds, name=source.place)
        except AudioSepError as error:
            raise DataError(f"{source.place}: {error}") from error
    power = np.square(x, dtype=np.float64).mean(1)
    mono = x.mean(0)
    if np.square(mono, dtype=np.float64).mean() < 0.1 * power.max():
        mono = x[int(power.argmax())]
    if not power.max() > 1e-10:
        raise DataError(f"{source.place}: silent from {start:g} s on")
    found: Samples = resample(np.ascontiguousarray(mono, dtype=np.float32)[None], given, rate)[0]
    return found


def trimmed(x: Samples, rate: int, fade: float = 0.015) -> Samples:
    """A recording without the silence at its ends, with short fades.

    Args:
        x: (samples,).
        rate: Hz.
        fade: of the end, seconds, but a quarter of the recording at most.
    """
    frame = int(_FRAME * rate)
    count = max(1, len(x) // frame)
    energy = np.array([np.square(part, dtype=np.float64).mean() for part in np.array_split(x, count)])
    loud = np.flatnonzero(energy > energy.max() * 10 ** (-_QUIET_DB / 10))
    each = len(x) / count
    begin, end = max(0, int((loud[0] - 1) * each)), min(len(x), int((loud[-1] + 4) * each))
    cut = x[begin:end].copy()
    # A sound that begins at once keeps its attack.
    for ramp, part in ((int(0.002 * rate), cut), (int(fade * rate), cut[::-1])):
        ramp = min(ramp, len(cut) // 4)
        part[:ramp] *= np.linspace(0, 1, ramp, dtype=np.float32)
    return cut


def sequence(takes: Sequence[Samples], rate: int, random: np.random.Generator) -> Samples:
    """Takes of one sound one after the other; few of them come again, at other levels, until there are some seconds.

    Args:
        takes: (samples,) each.
        rate: Hz.
        random: decides about order, gaps and levels.

    Returns:
        (samples,)
    """
    out: list[Samples] = []
    total, previous = 0, -1
    gap = float(np.exp(random.uniform(*np.log(_GAPS))))  # one pace for the whole sequence, with deviations
    order = list(random.permutation(len(takes)))
    while total < _SEQUENCE * rate or order:
        if not order:
            order = list(random.permutation(len(takes)))
            if len(order) > 1 and order[0] == previous:
                order.append(order.pop(0))
        previous = int(order.pop(0))
        gain = np.float32(10 ** (random.uniform(-4, 0) / 20))
        silence = np.zeros(int(rate * gap * np.exp(random.normal(0, 0.35))), np.float32)
        out += [takes[previous] * gain, silence]
        total += len(takes[previous]) + len(silence)
    return np.concatenate(out[:-1])


def phrase(notes: Sequence[Samples], rate: int, random: np.random.Generator) -> Samples:
    """A random walk over the notes of an instrument, which ring on while the next ones sound.

    Args:
        notes: (samples,) each, from low to high.
        rate: Hz.
        random: decides about steps and times.

    Returns:
        (samples,)
    """
    step = float(np.exp(random.uniform(*np.log(_STEPS))))
    count = int(min(24, max(6, 8.0 / step)))
    where, at, events = int(random.integers(len(notes))), 0.0, []
    for _ in range(count):
        events.append((int(at * rate), where, 10 ** (random.uniform(-6, 0) / 20)))
        at += step * float(random.choice([1.0, 1.0, 2.0, 0.5]))
        where = int(np.clip(where + random.integers(-3, 4), 0, len(notes) - 1))
    longest = int(2.5 * rate)  # seconds that a note rings
    out = np.zeros(max(start + min(len(notes[k]), longest) for start, k, _ in events), np.float32)
    for start, k, gain in events:
        note = notes[k][:longest].copy()
        fade = min(len(note), int(0.1 * rate))
        note[len(note) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
        out[start : start + len(note)] += note * np.float32(gain)
    return out


def _take(read: Callable[[Source], bytes], source: Source, rate: int) -> Samples:
    seconds = source.end - source.start if source.end else None
    # A long fade, because the background of a take ends with it.
    return _level(trimmed(decode(read(source), source, source.start, seconds, rate), rate, 0.08))


def _level(x: Samples) -> Samples:
    return x * np.float32(PEAK / max(float(np.abs(x).max()), 1e-9))
