"""From dry parts to stems whose sum is the mastered song.

The dynamics of the master bus are gains over time, computed from the mix and applied to every stem, and its width is a
linear change of every stem: so the stems of a mastered song still sum to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from research.corpus.songs import effects
from research.corpus.songs.effects import RATE, Mono, Stereo, db
from research.corpus.songs.scores import Part, Score

CEILING = db(-1.0)  # of the master
_ACTIVE_DB = 30.0  # frames this far below the loudest one do not count for levels
# RMS of the active frames of a part in the mix, dB of full scale.
_LEVELS = {"drums": -17, "bass": -19, "chords": -23, "pad": -28, "lead": -21, "vocals": -18, "backing": -25}
_LOUDNESS = (-17.0, -10.5)  # RMS of the master, dB: from quiet to crushed


def dressed(x: Stereo | Mono, part: Part, score: Score, random: np.random.Generator) -> Stereo:
    """A part with the effects that fit it: amplifier, compressor, place, echo.

    Args:
        x: (samples,) or (2, samples), dry.
        part: what it plays.
        score: its song.
        random: decides about settings.

    Returns:
        (2, samples) at the level of its role.
    """
    guitar = part.instrument.startswith("guitar ")
    if guitar and x.ndim == 1 and part.instrument != "guitar acoustic":
        drive = {"guitar clean": (2, 9), "guitar crunch": (14, 24), "guitar distorted": (30, 42)}[part.instrument]
        x = effects.amplified(x, float(random.uniform(*drive)), random)
    elif part.role == "bass" and random.random() < 0.5:
        x = np.asarray(np.tanh(x / (np.abs(x).max() + 1e-9) * db(random.uniform(0, 9))), np.float32)
    if x.ndim == 1:
        pan = float(random.uniform(-0.6, 0.6)) if part.role in ("chords", "pad", "lead") else 0.0
        wide = float(random.uniform(0.15, 0.5)) if part.role in ("chords", "pad", "lead", "backing") else 0.0
        x = effects.placed(x, pan, random, wide)
    ratio = {"vocals": 4.0, "backing": 4.0, "bass": 4.0, "drums": 2.5}.get(part.role, 2.0)
    x = effects.compressed(x, float(random.uniform(-4, 2)), ratio, float(random.uniform(0.003, 0.03)))
    if part.role in ("vocals", "lead") and random.random() < 0.4:
        x = effects.echoed(x, 60 / score.tempo * float(random.choice([0.5, 0.75, 1.0])), 0.35, -16)
    return x * np.float32(db(_LEVELS[part.role] + random.uniform(-2, 2)) / max(active_rms(x), 1e-6))


def roomed(x: Stereo, part: Part, rooms: Sequence[Stereo], random: np.random.Generator) -> Stereo:
    """A part, equalised, in one of the rooms of the song.

    Args:
        x: (2, samples).
        part: what it plays.
        rooms: impulse responses.
        random: chooses.
    """
    cut = {"drums": 0.0, "bass": 28.0, "vocals": 90.0, "backing": 140.0}.get(part.role, 70.0)
    tone = effects.Tone(float(random.uniform(-3, 2.5)), float(random.uniform(-2.5, 3.5)), cut)
    send = {"bass": (-40, -26), "drums": (-24, -12), "vocals": (-18, -9), "pad": (-16, -6)}.get(part.role, (-20, -9))
    room = rooms[int(random.integers(len(rooms)))]
    return effects.in_room(x, tone, room, float(random.uniform(*send)))


def mastered(stems: Mapping[str, Stereo], random: np.random.Generator) -> dict[str, Stereo]:
    """Stems after the mastering chain: width, bus compressor, limiter.

    Args:
        stems: (2, samples) each, of one length.
        random: decides about width, compression and loudness.

    Returns:
        The stems; their sum is the master, which does not exceed CEILING.
    """
    width = np.float32(random.uniform(0.8, 1.35))
    spread = {name: _widened(x, width) for name, x in stems.items()}
    mix: Stereo = np.sum(list(spread.values()), axis=0, dtype=np.float32)
    level = active_rms(mix)
    threshold = 20 * np.log10(level + 1e-9) + float(random.uniform(-5, 2))
    gain = effects.compressor_gain(
        np.square(mix).mean(0), threshold, float(random.uniform(1.5, 3.5)), float(random.uniform(0.005, 0.03)), 0.2
    )
    makeup = db(float(random.uniform(*_LOUDNESS))) / max(active_rms(mix * gain), 1e-6)
    gain = gain * np.float32(makeup)
    gain = gain * effects.limiter_gain(mix * gain, CEILING)
    return {name: x * gain for name, x in spread.items()}


def active_rms(x: Stereo) -> float:
    """RMS over the frames of 50 ms that are not silent.

    Args:
        x: (2, samples).
    """
    frame = RATE // 20
    power = np.square(x[:, : x.shape[1] // frame * frame], dtype=np.float32).mean(0).reshape(-1, frame).mean(1)
    active = power[power > power.max(initial=0) * 10 ** (-_ACTIVE_DB / 10)]
    return float(np.sqrt(active.mean())) if len(active) else 0.0


def _widened(x: Stereo, width: np.float32) -> Stereo:
    middle, side = (x[0] + x[1]) / 2, (x[0] - x[1]) / 2
    return np.stack([middle + width * side, middle - width * side])
