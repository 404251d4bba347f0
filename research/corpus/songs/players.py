"""Playing the parts of a score: recorded notes, drum kits, a soundfont, synthesised basses."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import mido
import numpy as np
import soundfile
import soxr
from scipy import signal

from audiosep.errors import DataError, DependencyError
from research.corpus.songs.effects import RATE, Mono, Stereo
from research.corpus.songs.library import Kit, Library, Sampled, drum_of
from research.corpus.songs.scores import Note, Part, Score

SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")  # Debian: fluid-soundfont-gm, MIT
SOUNDFONT_CREDIT = "Frank Wen and contributors: FluidR3 GM"
_TAIL = 2.5  # seconds after the last beat
_RELEASE = 0.08  # seconds in which a stopped note fades
_TICKS = 480  # of a beat, in MIDI files


def song_samples(score: Score) -> int:
    """Length of the stems of a song.

    Args:
        score: the song.

    Returns:
        Samples at RATE.
    """
    return int((score.seconds + _TAIL) * RATE)


def play_notes(part: Part, score: Score, notes: Sequence[Sampled], random: np.random.Generator) -> Mono:
    """Play recorded notes: the nearest one in pitch, resampled, of about the right loudness.

    Args:
        part: what to play.
        score: its song.
        notes: of the instrument.
        random: decides about small deviations.

    Returns:
        (samples,)
    """
    out = np.zeros(song_samples(score), np.float32)
    pitches = np.array([note.pitch for note in notes])
    shifted: dict[tuple[int, int], Mono] = {}
    beat = 60 / score.tempo * RATE
    for event in part.notes:
        pitch = int(event.pitch)
        distance = np.abs(pitches - pitch)
        near = [int(i) for i in np.flatnonzero(distance == distance.min())]
        wanted = float(np.clip(event.loudness + random.normal(0, 0.15), 0, 1))
        k = min(near, key=lambda i: abs(notes[i].loudness - wanted))
        step = pitch - notes[k].pitch
        if (k, step) not in shifted:
            x = notes[k].samples
            shifted[k, step] = soxr.resample(x, RATE * 2 ** (step / 12), RATE, quality="MQ") if step else x
        start = max(0, int(event.at * beat + random.normal(0, 0.004 * RATE)))
        held = int(event.beats * beat) + int(_RELEASE * RATE)
        x = shifted[k, step][: min(held, len(out) - start)].copy()
        fade = min(len(x), int(_RELEASE * RATE))
        x[len(x) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
        out[start : start + len(x)] += x * np.float32(event.loudness**1.5)
    return out


def play_drums(part: Part, score: Score, kit: Kit, random: np.random.Generator) -> Stereo:
    """Play a kit: harder strokes are other recordings, no two strokes are quite alike.

    Args:
        part: what to play.
        score: its song.
        kit: the drums.
        random: decides about recordings and small deviations.

    Returns:
        (2, samples)
    """
    out = np.zeros((2, song_samples(score)), np.float32)
    beat = 60 / score.tempo * RATE
    tuned = 2 ** (random.uniform(-1.5, 1.5) / 12)  # one tuning for the song
    ready: dict[tuple[str, int], Stereo] = {}
    opened = out.shape[1]
    for event in reversed(part.notes):  # from the end, so that a closed hi-hat can stop an open one
        hits = drum_of(kit, str(event.pitch))
        if not hits:
            continue
        place = event.loudness * (len(hits) - 1) + random.normal(0, 0.1 * len(hits))
        k = int(np.clip(round(place), 0, len(hits) - 1))
        name = str(event.pitch)
        if (name, k) not in ready:
            ready[name, k] = soxr.resample(hits[k].T, RATE * tuned, RATE, quality="MQ").T
        start = max(0, int(event.at * beat + random.normal(0, 0.003 * RATE)))
        x = ready[name, k][:, : out.shape[1] - start]
        if name == "open hat":
            x = x[:, : max(480, opened - start)]
        if name == "hat":
            opened = start
        out[:, start : start + x.shape[1]] += x * np.float32(event.loudness**1.3 * random.uniform(0.9, 1.0))
    return out


def play_soundfont(part: Part, score: Score, program: int) -> Stereo:
    """Play a part with FluidSynth and the soundfont.

    Args:
        part: what to play.
        score: its song.
        program: of General MIDI, from 0.

    Returns:
        (2, samples)

    Raises:
        DependencyError: FluidSynth or the soundfont is missing.
        DataError: FluidSynth fails.
    """
    if not SOUNDFONT.is_file():
        raise DependencyError(f"{SOUNDFONT} is missing: install the Debian packages fluid-soundfont-gm and fluidsynth")
    with tempfile.TemporaryDirectory(prefix="audiosep-") as folder:
        midi, wav = Path(folder, "part.mid"), Path(folder, "part.wav")
        _midi(part, score, program).save(midi)
        # No chorus and reverberation of its own; dry notes are mixed here.
        options = ["-n", "-i", "-q", "-g", "0.5", "-r", str(RATE), "-R", "0", "-C", "0", "-T", "wav", "-O", "float"]
        options += ["-o", "synth.dynamic-sample-loading=1"]
        try:
            done = subprocess.run(
                ["fluidsynth", *options, "-F", str(wav), str(SOUNDFONT), str(midi)], capture_output=True, text=True
            )
        except FileNotFoundError as error:
            raise DependencyError("fluidsynth is missing: install the Debian package fluidsynth") from error
        if done.returncode or not wav.is_file():
            raise DataError(f"fluidsynth failed: {done.stderr.strip()[-200:]}")
        x = soundfile.read(wav, dtype="float32", always_2d=True)[0].T
    out = np.zeros((2, song_samples(score)), np.float32)
    count = min(out.shape[1], x.shape[1])
    out[:, :count] = x[:, :count]
    return out


def play_synth(part: Part, score: Score, wave: str, random: np.random.Generator) -> Mono:
    """A bass synthesiser: band-limited waves through a filter that closes.

    Args:
        part: what to play.
        score: its song.
        wave: saw, square or sine.
        random: decides about the filter.

    Returns:
        (samples,)
    """
    out = np.zeros(song_samples(score), np.float32)
    beat = 60 / score.tempo * RATE
    corner, decay = random.uniform(500, 2500), random.uniform(0.08, 0.5)
    dark = signal.butter(2, corner * 0.3, "low", fs=RATE, output="sos")
    bright = signal.butter(2, corner, "low", fs=RATE, output="sos")
    for event in part.notes:
        start, count = int(event.at * beat), int(event.beats * beat)
        count = min(count, len(out) - start)
        t = np.arange(count) / RATE
        hertz = 440 * 2 ** ((int(event.pitch) - 69) / 12)
        harmonics = np.arange(1, int(min(40, 8000 / hertz)) + 1)
        levels = {"saw": 1 / harmonics, "square": (harmonics % 2) / harmonics, "sine": (harmonics == 1) * 1.0}[wave]
        x = np.zeros(count)
        for number, level in zip(harmonics, levels, strict=True):
            if level:
                x += level * np.sin(2 * np.pi * hertz * number * t)
        closing = np.exp(-t / decay)
        x = closing * signal.sosfilt(bright, x) + (1 - closing) * signal.sosfilt(dark, x)
        ramp = np.minimum(1, np.minimum(t / 0.004, t[::-1] / 0.02)) if count else t
        out[start : start + count] += (x * ramp * event.loudness).astype(np.float32)
    return out


def play(part: Part, score: Score, library: Library, random: np.random.Generator) -> Stereo | Mono:
    """Play a part on the instrument that it names (singing: see `singing`).

    Args:
        part: what to play.
        score: its song.
        library: recorded instruments.
        random: decides about small deviations.

    Returns:
        (samples,), or (2, samples) where the instrument is stereo; dry.
    """
    name = part.instrument
    if part.role == "drums":
        return play_drums(part, score, library.kit(name), random)
    if name.isdigit():
        return play_soundfont(part, score, int(name))
    if name.endswith(" bass") and name.partition(" ")[0] in ("saw", "square", "sine"):
        return play_synth(part, score, name.partition(" ")[0], random)
    return play_notes(part, score, library.notes(recorded(name)), random)


def recorded(instrument: str) -> str:
    """The origin in the table of an instrument of a score.

    Args:
        instrument: its name.
    """
    if instrument.startswith("guitar "):
        return "karoryfer emilyguitar" if instrument == "guitar acoustic" else "karoryfer shinyguitar"
    return instrument


def _midi(part: Part, score: Score, program: int) -> mido.MidiFile:
    file = mido.MidiFile(ticks_per_beat=_TICKS)
    track = mido.MidiTrack()
    file.tracks.append(track)
    track.append(mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(score.tempo)))
    track.append(mido.Message("program_change", program=program))
    now = 0
    for tick, order, note in sorted(_messages(part.notes), key=lambda item: item[:2]):
        kind = "note_on" if order else "note_off"
        loud = int(np.clip(30 + 90 * note.loudness, 1, 127)) if order else 0
        track.append(mido.Message(kind, note=int(note.pitch), velocity=loud, time=tick - now))
        now = tick
    end = int(score.beats * _TICKS + _TAIL * score.tempo / 60 * _TICKS)
    track.append(mido.MetaMessage("end_of_track", time=max(0, end - now)))
    return file


def _messages(notes: Sequence[Note]) -> list[tuple[int, int, Note]]:
    """(tick, 0 = end or 1 = start, note): ends before starts at the same time."""
    out = []
    for note in notes:
        start = round(note.at * _TICKS)
        out += [(start, 1, note), (start + max(10, round(note.beats * _TICKS) - 5), 0, note)]
    return out
