"""Composing a song in a style: form, chords, drums, bass, accompaniment and melodies, as notes in beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from research.corpus.songs.scores import Note, Part, Score
from research.corpus.songs.styles import STYLES, Groove, Style

MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
SECONDS = (52.0, 82.0)  # length of a song
# Degrees of the scale, from 0; of a bar each. The last two of each list are choruses more often than verses.
_PROGRESSIONS = {
    "major": ((0, 4, 5, 3), (0, 5, 3, 4), (0, 3, 0, 4), (1, 4, 0, 5), (5, 3, 0, 4), (3, 4, 0, 0)),
    "minor": ((0, 5, 2, 6), (0, 3, 6, 2), (0, 6, 5, 4), (0, 0, 3, 4), (5, 6, 0, 0), (0, 2, 6, 3)),
}
_BLUES = (0, 0, 0, 0, 3, 3, 0, 0, 4, 3, 0, 4)
# Rhythms of a melody over two bars of four: (start, length) in eighths.
_RHYTHMS = (
    ((0, 2), (2, 1), (3, 3), (8, 2), (10, 2), (12, 3)),
    ((0, 3), (3, 1), (4, 2), (6, 2), (8, 6)),
    ((1, 1), (2, 1), (3, 1), (4, 3), (9, 1), (10, 1), (11, 1), (12, 4)),
    ((0, 4), (4, 2), (6, 2), (8, 4), (12, 3)),
    ((2, 1), (3, 1), (4, 1), (5, 3), (8, 1), (9, 2), (11, 1), (12, 3)),
    ((0, 1), (1, 1), (2, 2), (4, 1), (5, 1), (6, 2), (8, 1), (9, 1), (10, 4)),
    ((3, 1), (4, 2), (6, 1), (7, 4), (12, 1), (13, 2)),
)
FORM = ("intro", "verse", "chorus", "verse", "chorus", "bridge", "chorus", "outro")
_BARS = {"intro": 4, "verse": 8, "chorus": 8, "bridge": 4, "outro": 4}


@dataclass(frozen=True)
class _Bar:
    section: str
    first: bool  # of its section
    last: bool
    at: float
    root: int  # pitch class
    tones: tuple[int, ...]  # pitch classes of the chord
    scale: tuple[int, ...]


def compose(seed: int, style: str | None = None) -> Score:
    """Compose a song.

    Args:
        seed: decides about everything.
        style: one of STYLES; None: drawn.
    """
    random = np.random.default_rng([seed, 1])
    name = style or str(random.choice(sorted(STYLES)))
    chosen = STYLES[name]
    tempo = round(float(random.uniform(*chosen.tempo)), 1)
    key, minor = int(random.integers(12)), bool(random.random() < chosen.minor)
    bars = _form(chosen, tempo, key, minor, random, blues=name == "blues")
    parts = _parts(chosen, bars, random)
    return Score(name, tempo, key, minor, len(bars) * chosen.beats + 1.0, tuple(part for part in parts if part.notes))


def _form(style: Style, tempo: float, key: int, minor: bool, random: np.random.Generator, *, blues: bool) -> list[_Bar]:
    scale = tuple((key + step) % 12 for step in (MINOR if minor else MAJOR))
    progressions = _PROGRESSIONS["minor" if minor else "major"]
    chosen = {section: progressions[int(random.integers(len(progressions)))] for section in _BARS}
    chosen["intro"] = chosen["outro"] = chosen["verse"]
    most = int(random.uniform(*SECONDS) * tempo / 60 / style.beats)
    bars: list[_Bar] = []
    for section in FORM:
        count = min(_BARS[section], most - len(bars))
        for k in range(count):
            degree = _BLUES[len(bars) % 12] if blues else chosen[section][k % 4]
            bars.append(_bar(style, section, k, count, len(bars) * style.beats, scale, degree))
    return bars


def _bar(style: Style, section: str, k: int, count: int, at: float, scale: tuple[int, ...], degree: int) -> _Bar:
    steps = {"triad": (0, 2, 4), "seventh": (0, 2, 4, 6), "power": (0, 4)}[style.chords]
    tones = tuple(scale[(degree + step) % 7] for step in steps)
    return _Bar(section, k == 0, k == count - 1, at, scale[degree], tones, scale)


def _parts(style: Style, bars: list[_Bar], random: np.random.Generator) -> list[Part]:
    parts = []
    if style.kits:
        parts.append(Part("drums", str(random.choice(style.kits)), tuple(_drums(style, bars, random))))
    parts.append(Part("bass", str(random.choice(style.basses)), tuple(bass_line(style, bars, random))))
    patterns = random.permutation(list(style.comping))
    players = [f"guitar {style.guitar}"] if style.guitar else []
    players.append(str(random.choice(style.keys)))
    for number, player in enumerate(players):
        pattern = str(patterns[number % len(patterns)])
        parts.append(Part("chords", player, tuple(_comping(style, bars, pattern, player, random))))
    sung = random.random() < style.vocals
    if random.random() < 0.75:
        parts.append(Part("pad", str(random.choice(style.pads)), tuple(_pad(bars, style, random))))
    sections = {"intro", "bridge", "outro"} if sung else {"intro", "verse", "chorus", "bridge", "outro"}
    program = int(random.choice(style.leads))
    low = 45 if program in (30, 42, 57, 58, 67, 70) else 52 if program in (26, 27, 28, 41, 60, 65, 66, 69) else 62
    parts.append(Part("lead", str(program), tuple(_melody(style, bars, sections, low, random, busy=True))))
    if sung:
        low = int(random.choice([47, 50, 55, 58]))  # from bass-baritone to soprano
        lead = _melody(style, bars, {"verse", "chorus", "bridge"}, low, random, busy=False)
        parts.append(Part("vocals", "voice 0", tuple(lead)))
        if random.random() < 0.6:
            parts.append(Part("backing", "voice 1", tuple(_harmony(lead, bars, style))))
    return parts


def _steps(pattern: str, beats: int, random: np.random.Generator) -> list[tuple[float, float]]:
    """(beat, loudness) of the strokes of a bar."""
    each = beats / len(pattern)
    loud = {"X": 1.0, "x": 0.55, "o": 0.45 if random.random() < 0.5 else 0.0}
    return [(k * each, loud[step]) for k, step in enumerate(pattern) if step != "." and loud[step] > 0]


def _swung(at: float, style: Style) -> float:
    late = abs(at * 2 % 1 - 0.5) < 0.01  # every second sixteenth
    eighth = abs(at % 1 - 0.5) < 0.01
    return at + (style.swing if eighth and style.swing > 0.2 else style.swing / 2 if late else 0.0)


def _drums(style: Style, bars: list[_Bar], random: np.random.Generator) -> list[Note]:
    notes: list[Note] = []
    for number, bar in enumerate(bars):
        groove = style.grooves[1 if bar.section == "chorus" else 0]
        if bar.section == "intro" and number < 2 and random.random() < 0.4:
            groove = Groove("", "", groove.hat or groove.ride)
        lines = {"kick": groove.kick, "snare": groove.snare, "hat": groove.hat, "ride": groove.ride}
        lines |= {"percussion": groove.percussion, "clap": groove.clap}
        fill = bar.last and len(bars) > number + 1
        for drum, pattern in lines.items():
            for beat, loud in _steps(pattern, style.beats, random) if pattern else ():
                if fill and beat >= style.beats - 1 and drum in ("snare", "hat", "kick", "ride"):
                    continue
                name = "open hat" if drum == "hat" and random.random() < 0.04 else drum
                notes.append(Note(bar.at + _swung(beat, style), 0.25, name, loud * float(random.uniform(0.8, 1.0))))
        if fill:
            toms = ["snare", "tom high", "tom middle", "tom low"]
            for k in range(4):
                notes.append(Note(bar.at + style.beats - 1 + k / 4, 0.25, toms[k], float(random.uniform(0.6, 1.0))))
        if bar.first and number:
            notes.append(Note(bar.at, 1.0, "crash", 0.9))
    return sorted(notes, key=lambda note: note.at)


def bass_line(style: Style, bars: Sequence[_Bar], random: np.random.Generator) -> list[Note]:
    """A bass line.

    Args:
        style: whose `bass` is one of: eighths, sixteenths, octaves, offbeat, walking, root fifth, syncopated, funk,
            reggae, tumbao, long.
        bars: of the song.
        random: decides about pitches and loudness.
    """
    patterns = {
        "eighths": "X.x.X.x.X.x.X.x.",
        "sixteenths": "XxxxXxxxXxxxXxxx",
        "octaves": "X.x.X.x.X.x.X.x.",
        "offbeat": "..X...X...X...X.",
        "walking": "X...X...X...X...",
        "root fifth": "X.......X.......",
        "syncopated": "X..X..X.....x.X.",
        "funk": "X..x..X..x.Xo.x.",
        "reggae": "X.....X.X...x...",
        "tumbao": "...X..X....X..X.",
        "long": "X...............",
    }
    pattern = patterns[style.bass]
    if style.beats == 3:
        pattern = {"long": "X...........", "root fifth": "X..........."}.get(style.bass, "X...X...X...")
    notes: list[Note] = []
    for number, bar in enumerate(bars):
        root = 28 + (bar.root - 28) % 12
        following = bars[(number + 1) % len(bars)]
        strokes = _steps(pattern, style.beats, random)
        for k, (beat, loud) in enumerate(strokes):
            pitch = root
            if style.bass == "octaves":
                pitch += 12 * (k % 2)
            elif style.bass == "walking" and k:
                goal = 28 + (following.root - 28) % 12
                pitch = (
                    goal + int(random.choice([-1, 1, 2])) if k == len(strokes) - 1 else _tone_near(bar, root + 4 * k)
                )
            elif (style.bass in ("root fifth", "tumbao") and k % 2) or (k and random.random() < 0.18):
                pitch = _tone_near(bar, root + 7)
            until = strokes[k + 1][0] if k + 1 < len(strokes) else style.beats
            held = (until - beat) * (0.95 if style.bass in ("long", "root fifth", "walking") else 0.8)
            notes.append(Note(bar.at + _swung(beat, style), held, pitch, 0.65 + 0.35 * loud * float(random.random())))
    return notes


def _comping(style: Style, bars: list[_Bar], pattern: str, player: str, random: np.random.Generator) -> list[Note]:
    notes: list[Note] = []
    centre = 52 if player.startswith("guitar") else 62
    last: list[int] = [centre]
    for bar in bars:
        if bar.section == "intro" and random.random() < 0.3:
            continue
        chord = _voiced(bar, centre, last, low=style.chords == "power" and player.startswith("guitar"))
        last = chord
        if pattern == "arpeggio":
            steps = style.beats * 2
            order = [*chord, *chord[-2:0:-1]] or chord
            notes += [
                Note(bar.at + k / 2, 1.0, order[k % len(order)], float(random.uniform(0.5, 0.8))) for k in range(steps)
            ]
            continue
        shorter = pattern if style.beats == 4 or len(pattern) == 12 else pattern[:12]
        strokes = _steps(shorter, style.beats, random)
        for k, (beat, loud) in enumerate(strokes):
            until = strokes[k + 1][0] if k + 1 < len(strokes) else style.beats
            for number, pitch in enumerate(chord):
                # Strings of a guitar are struck one after the other.
                late = 0.012 * number if player.startswith("guitar") else 0.0
                held = (until - beat) * (0.92 if loud > 0.6 else 0.5)
                notes.append(Note(bar.at + _swung(beat, style) + late, held, pitch, 0.4 + 0.5 * loud))
    return notes


def _pad(bars: list[_Bar], style: Style, random: np.random.Generator) -> list[Note]:
    quiet = {"intro"} if random.random() < 0.5 else {"verse"}
    last = [60]
    notes: list[Note] = []
    for bar in bars:
        if bar.section not in quiet:
            last = _voiced(bar, 60, last)
            notes += [Note(bar.at, float(style.beats), pitch, 0.6) for pitch in last]
    return notes


def _melody(
    style: Style, bars: list[_Bar], sections: set[str], low: int, random: np.random.Generator, *, busy: bool
) -> list[Note]:
    """Phrases of two bars: a motif for each section, which comes again with other ends."""
    notes: list[Note] = []
    motifs: dict[str, tuple[tuple[int, int], ...]] = {}
    contours: dict[str, list[int]] = {}
    high, pitch = low + 15, low + 7
    for first in range(0, len(bars), 2):
        bar = bars[first]
        if bar.section not in sections or (random.random() < 0.08 and not bar.first):
            continue
        rhythm = motifs.setdefault(bar.section, _RHYTHMS[int(random.integers(len(_RHYTHMS)))])
        contour = contours.setdefault(bar.section, [int(step) for step in random.integers(-2, 3, len(rhythm))])
        lift = 3 if bar.section == "chorus" else 0
        for k, (start, length) in enumerate(rhythm):
            at = start / 2 * style.beats / 4
            number = first + int(at // style.beats)
            if number >= len(bars) or bars[number].section not in sections:
                break
            there = bars[number]
            step = contour[k] if random.random() < 0.75 else int(random.integers(-2, 3))
            pitch = int(np.clip(pitch + 2 * step, low + lift, high))
            pitch = _tone_near(there, pitch) if start % 4 == 0 or k == len(rhythm) - 1 else _scale_near(there, pitch)
            held = length / 2 * style.beats / 4
            if busy and length >= 2 and random.random() < 0.3:
                held /= 2
                other = _scale_near(there, pitch + int(random.choice([-2, 2])))
                notes.append(Note(bar.at + at + held, held * 0.9, other, float(random.uniform(0.6, 0.9))))
            notes.append(Note(bar.at + _swung(at, style), held * 0.95, pitch, float(random.uniform(0.65, 1.0))))
    return sorted(notes, key=lambda note: note.at)


def _harmony(lead: list[Note], bars: list[_Bar], style: Style) -> list[Note]:
    """The chorus a chord tone above the lead."""
    notes = []
    for note in lead:
        bar = bars[min(len(bars) - 1, int(note.at // style.beats))]
        if bar.section == "chorus" and isinstance(note.pitch, int):
            notes.append(Note(note.at + 0.02, note.beats, _tone_near(bar, note.pitch + 4), note.loudness * 0.9))
    return notes


def _voiced(bar: _Bar, centre: int, last: list[int], *, low: bool = False) -> list[int]:
    """The chord in the position that moves least from the last one; low: root, fifth, octave."""
    if low:
        root = 40 + (bar.root - 40) % 12
        return [root, root + 7, root + 12]
    goal = float(np.mean(last)) * 0.7 + centre * 0.3
    best = [
        min((tone + 12 * o for o in range(2, 9)), key=lambda p: abs(p - goal - spread))
        for spread, tone in zip((-5, 0, 5, 8), bar.tones, strict=False)
    ]
    return sorted(set(best))


def _tone_near(bar: _Bar, pitch: int) -> int:
    return _near(bar.tones, pitch)


def _scale_near(bar: _Bar, pitch: int) -> int:
    return _near(bar.scale, pitch)


def _near(classes: Sequence[int], pitch: int) -> int:
    return min((p for p in range(pitch - 6, pitch + 7) if p % 12 in classes), key=lambda p: abs(p - pitch))
