"""Singing a melody with the recorded voice of a speaker or singer.

A recording is taken apart into syllables: a voiced part, and the consonant before it. WORLD (Morise et al., 2016,
"WORLD: a vocoder-based high-quality speech synthesis system") gives them the pitch and the length of the notes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyworld
from numpy.typing import NDArray
from scipy import ndimage

from audiosep.audio import resample
from research.corpus.songs.effects import RATE, Mono
from research.corpus.songs.library import Library
from research.corpus.songs.players import song_samples
from research.corpus.songs.scores import Note, Part, Score
from research.corpus.sources import Source

Frames = NDArray[np.float64]

_FRAME = 5.0  # ms
_ENOUGH = 9.0  # seconds of recordings that are taken apart
_CONSONANT, _LEAST, _MOST = 28, 12, 60  # frames: longest consonant; shortest and longest voiced part
_GAP = 0.35  # seconds between notes, above which another phrase begins


@dataclass(frozen=True)
class Syllable:
    """Frames of a syllable.

    Args:
        envelope: (frames, bins) power.
        aperiodicity: (frames, bins).
        onset: frame at which the voice sets in.
        pitch: median of the voiced part, Hz.
    """

    envelope: Frames
    aperiodicity: Frames
    onset: int
    pitch: float


@dataclass(frozen=True)
class Voice:
    """A voice that can sing.

    Args:
        name: of the speaker.
        rate: sample rate of the frames, Hz.
        syllables: at least one.
        pitch: median of its speech or singing, Hz.
    """

    name: str
    rate: int
    syllables: tuple[Syllable, ...]
    pitch: float


def voice_of(name: str, sources: Sequence[Source], library: Library, random: np.random.Generator) -> Voice | None:
    """Take recordings of a speaker apart.

    Args:
        name: of the speaker.
        sources: the speaker's recordings.
        library: decodes them.
        random: chooses some of them.

    Returns:
        The voice; None if no syllables were found.
    """
    rate = 16_000 if max(source.rate for source in sources) <= 16_000 else 32_000
    found: list[Syllable] = []
    seconds = 0.0
    for k in random.permutation(len(sources)):
        x = library.decoded(sources[int(k)], rate)[: 8 * rate]
        found += _syllables(x, rate)
        seconds += len(x) / rate
        if seconds > _ENOUGH:
            break
    if len(found) < 4:
        return None
    return Voice(name, rate, tuple(found), float(np.median([syllable.pitch for syllable in found])))


def sing(part: Part, score: Score, voice: Voice, random: np.random.Generator) -> Mono:
    """Sing a part.

    Args:
        part: the melody.
        score: its song.
        voice: that sings.
        random: decides about syllables, vibrato and small deviations.

    Returns:
        (samples,) at RATE, dry.
    """
    out = np.zeros(song_samples(score), np.float32)
    beat = 60 / score.tempo
    # A larger or a smaller head than that of the speaker: another singer.
    stretch = float(random.uniform(0.93, 1.1))
    vibrato = random.uniform(4.8, 6.2), random.uniform(8, 35)  # Hz, cents
    for phrase in _phrases(part.notes, beat):
        start, x = _sung(phrase, beat, voice, stretch, vibrato, random)
        y = resample(x.astype(np.float32)[None], voice.rate, RATE)[0]
        begin = max(0, int(start * RATE))
        y = y[: len(out) - begin]
        out[begin : begin + len(y)] += y
    return out


def _syllables(x: Mono, rate: int) -> list[Syllable]:
    wave = x.astype(np.float64)
    rough, times = pyworld.dio(wave, rate, f0_floor=65.0, f0_ceil=900.0, frame_period=_FRAME)
    pitch = pyworld.stonemask(wave, rough, times, rate)
    envelope = pyworld.cheaptrick(wave, pitch, times, rate)
    aperiodicity = pyworld.d4c(wave, pitch, times, rate)
    power = envelope.mean(1)
    loud = power > 0.02 * np.quantile(power, 0.95)
    voiced = ndimage.binary_opening((pitch > 0) & loud, np.ones(5))
    found = []
    previous = 0
    for begin, end in _runs(voiced):
        if end - begin < _LEAST:
            continue
        # A long voiced part has several syllables: cut where it is quiet.
        for first, last in _cut(begin, end, power):
            consonant = min(_CONSONANT, first - previous) if first == begin else 0
            part = slice(first - consonant, last)
            loudest = power[first:last].max()
            found.append(
                Syllable(
                    envelope[part] / loudest,
                    np.clip(aperiodicity[part], 1e-3, 1.0),
                    consonant,
                    float(np.median(pitch[first:last])),
                )
            )
        previous = end
    return found


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(int)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _cut(begin: int, end: int, power: Frames) -> list[tuple[int, int]]:
    if end - begin <= _MOST:
        return [(begin, end)]
    middle = slice(begin + _LEAST, end - _LEAST)
    quiet = begin + _LEAST + int(np.argmin(ndimage.uniform_filter1d(power[middle], 5)))
    return _cut(begin, quiet, power) + _cut(quiet, end, power)


def _phrases(notes: Sequence[Note], beat: float) -> list[list[Note]]:
    phrases: list[list[Note]] = []
    for note in notes:
        last = phrases[-1][-1] if phrases else None
        if last is None or (note.at - last.at - last.beats) * beat > _GAP:
            phrases.append([])
        phrases[-1].append(note)
    return phrases


def _sung(
    phrase: list[Note],
    beat: float,
    voice: Voice,
    stretch: float,
    vibrato: tuple[float, float],
    random: np.random.Generator,
) -> tuple[float, Frames]:
    """Start in seconds, and samples, of one phrase."""
    chosen = [voice.syllables[int(random.integers(len(voice.syllables)))] for _ in phrase]
    frame = _FRAME / 1000
    zero = phrase[0].at * beat - chosen[0].onset * frame
    rows: list[tuple[Frames, Frames]] = []
    pitches: list[Frames] = []
    for k, (note, syllable) in enumerate(zip(phrase, chosen, strict=True)):
        begin = round((note.at * beat - zero) / frame) - syllable.onset
        if k + 1 < len(phrase):
            end = round((phrase[k + 1].at * beat - zero) / frame) - chosen[k + 1].onset
        else:
            end = begin + syllable.onset + round(note.beats * beat / frame)
        count = max(8, end - begin)
        onset = min(syllable.onset, count // 2)
        where = _warp(syllable, count, onset, random)
        level = note.loudness**2 * _swell(count, onset)
        rows.append((_warped(syllable.envelope, stretch)[where] * level[:, None], syllable.aperiodicity[where]))
        curve = np.full(count, float(int(note.pitch)))
        pitches.append(np.where(np.arange(count) < onset, np.nan, curve))
    hertz = _contour(np.concatenate(pitches), vibrato, random)
    envelope = np.ascontiguousarray(np.concatenate([row[0] for row in rows]))
    aperiodicity = np.ascontiguousarray(np.concatenate([row[1] for row in rows]))
    x = pyworld.synthesize(hertz, envelope + 1e-12, aperiodicity, voice.rate, _FRAME)
    fade = min(len(x), voice.rate // 100)
    x[:fade] *= np.linspace(0, 1, fade)
    x[len(x) - fade :] *= np.linspace(1, 0, fade)
    return zero, x


def _warp(syllable: Syllable, count: int, onset: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Frames of a syllable for a note of `count` frames: the consonant as it is, the middle of the vowel longer."""
    total = len(syllable.envelope)
    consonant = np.arange(syllable.onset - onset, syllable.onset)
    vowel, needed = total - syllable.onset, count - onset
    edge = min(8, vowel // 3, max(1, needed // 3))
    middle = np.linspace(edge, vowel - edge - 1, max(0, needed - 2 * edge))
    # A held vowel is not frozen: it wanders around.
    wander = ndimage.gaussian_filter1d(random.standard_normal(len(middle)), 6) * 6 if len(middle) else middle
    middle = np.clip(middle + wander, edge, vowel - edge - 1)
    path = np.concatenate([np.arange(edge), middle, np.arange(vowel - edge, vowel)])[:needed]
    where = np.concatenate([consonant, syllable.onset + path])
    return np.clip(np.round(where), 0, total - 1).astype(np.int64)


def _warped(envelope: Frames, stretch: float) -> Frames:
    bins = np.arange(envelope.shape[1])
    at = np.clip(bins / stretch, 0, len(bins) - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, len(bins) - 1)
    part = at - low
    return np.asarray(envelope[:, low] * (1 - part) + envelope[:, high] * part)


def _swell(count: int, onset: int) -> Frames:
    level = np.ones(count)
    held = count - onset
    level[onset:] = 0.75 + 0.25 * np.sin(np.pi * np.linspace(0.15, 0.95, held))
    tail = min(10, held)
    level[count - tail :] *= np.linspace(1, 0.05, tail)
    return level


def _contour(midi: Frames, vibrato: tuple[float, float], random: np.random.Generator) -> Frames:
    """Pitch in Hz, 0 where there is no voice: glides between notes, vibrato on long ones, drift."""
    voiced = ~np.isnan(midi)
    filled = np.interp(np.arange(len(midi)), np.flatnonzero(voiced), midi[voiced])
    smooth = ndimage.gaussian_filter1d(filled, random.uniform(3, 7), mode="nearest")
    rate, cents = vibrato
    held = np.zeros(len(midi))
    for begin, end in _runs(voiced):
        count = end - begin
        held[begin:end] = np.clip((np.arange(count) * _FRAME / 1000 - 0.25) / 0.3, 0, 1)
        smooth[begin:end] -= 0.8 * np.exp(-np.arange(count) / 8) * random.random()  # from below
    phase = 2 * np.pi * rate * np.cumsum(np.full(len(midi), _FRAME / 1000) * (1 + 0.03 * random.standard_normal()))
    drift = ndimage.gaussian_filter1d(random.standard_normal(len(midi)), 30) * 0.5
    curve = smooth + held * cents / 100 * np.sin(phase) + np.clip(drift, -0.25, 0.25)
    return np.where(voiced, 440 * 2 ** ((curve - 69) / 12), 0.0)
