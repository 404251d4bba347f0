"""Rendering songs into shards of stems: from a seed to files, the same ones each time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audiosep.atomic import remove_leftovers
from research.corpus.making import PEAK
from research.corpus.shards import flac, write_shard
from research.corpus.songs import effects, mixing, players
from research.corpus.songs.composing import compose
from research.corpus.songs.effects import RATE, Mono, Stereo
from research.corpus.songs.library import MACHINES, Library
from research.corpus.songs.scores import Part, Score
from research.corpus.songs.singing import Voice, sing, voice_of
from research.corpus.songs.styles import PROGRAMS
from research.corpus.sources import Source

SONG_LICENCE = "CC0-1.0"  # of what is ours in a song: composition and rendering
_STEMS = {"drums": "drums", "bass": "bass", "vocals": "vocals", "backing": "vocals"}  # others are "other"
_GUITARS = {
    "guitar acoustic": "acoustic guitar",
    "guitar clean": "electric guitar",
    "guitar crunch": "electric guitar",
    "guitar distorted": "distorted guitar",
}
_BRIGHT = 22_050  # Hz: voices recorded with a lower rate are chosen less often


@dataclass(frozen=True)
class Stem:
    """One stem of a song.

    Args:
        name: unique in the song.
        stem: vocals, drums, bass or other.
        label: what sounds.
        captions: further texts.
        samples: (2, samples) at RATE, as in the master.
        sources: recordings that were used.
        credit: of sounds that the table does not have.
        rate: Hz; there is nothing above half of it.
    """

    name: str
    stem: str
    label: str
    captions: tuple[str, ...]
    samples: Stereo
    sources: tuple[Source, ...]
    credit: str
    rate: int


def render_song(seed: int, library: Library, style: str | None = None) -> tuple[Score, list[Stem]]:
    """Compose, play, mix and master a song.

    Args:
        seed: decides about everything.
        library: recorded instruments and voices.
        style: one of STYLES; None: drawn.

    Returns:
        The score, and stems whose sum is the master.
    """
    score = compose(seed, style)
    random = np.random.default_rng([seed, 2])
    rooms = [effects.room(random, float(random.uniform(*span))) for span in ((0.25, 0.7), (0.9, 2.6))]
    dry: dict[str, tuple[Part, Stereo, list[str], Voice | None]] = {}
    for number, part in enumerate(score.parts):
        own = np.random.default_rng([seed, 3, number])
        x, origins, voice = _dry(part, score, library, own)
        if x is not None and np.abs(x).max() > 1e-5:
            wet = mixing.roomed(mixing.dressed(x, part, score, own), part, rooms, own)
            dry[f"{part.role}{number}"] = part, wet, origins, voice
    master = mixing.mastered({name: x for name, (_, x, _, _) in dry.items()}, random)
    stems = []
    for name, (part, _, origins, voice) in dry.items():
        used = tuple(source for origin in origins for source in library.sources_of(origin))
        credit = players.SOUNDFONT_CREDIT if part.instrument.isdigit() else ""
        label, captions = named(part, voice)
        rate = voice.rate if voice else RATE
        stems.append(Stem(name, _STEMS.get(part.role, "other"), label, captions, master[name], used, credit, rate))
    return score, stems


def _dry(
    part: Part, score: Score, library: Library, random: np.random.Generator
) -> tuple[Stereo | Mono | None, list[str], Voice | None]:
    """What a part sounds like, the origins of its recordings, and the voice; nothing where no voice can be had."""
    if part.role in ("vocals", "backing"):
        voice = _voice(part, library, random)
        return (None, [], None) if voice is None else (sing(part, score, voice, random), [voice.name], voice)
    recorded = [] if part.instrument.isdigit() or _synthetic(part) else [players.recorded(part.instrument)]
    return players.play(part, score, library, random), recorded, None


def render_songs(
    seeds: Iterable[int],
    library: Library,
    out: Path,
    progress: Callable[[int, float], object] | None = None,
) -> None:
    """Render songs, a shard each; songs that are there stay.

    Args:
        seeds: of the songs.
        library: recorded instruments and voices.
        out: folder of the shards; `audiosep data build` reads it.
        progress: called with the seed and the seconds of stems of each new song.
    """
    out.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out)
    for seed in seeds:
        path = out / f"song-{seed:05d}.tar"
        if path.is_file() and path.with_suffix(".jsonl").is_file():
            continue
        score, stems = render_song(seed, library)
        write_shard(path, [_member(stem, score, f"song-{seed:05d}") for stem in stems])
        if progress is not None:
            progress(seed, sum(stem.samples.shape[1] / RATE for stem in stems))


def named(part: Part, voice: Voice | None) -> tuple[str, tuple[str, ...]]:
    """Label and further texts of a part.

    Args:
        part: what it plays.
        voice: that sings it.
    """
    if voice is not None:
        backing = part.role == "backing"
        pitch = float(np.median([int(note.pitch) for note in part.notes]))
        singer = "a woman singing" if pitch > 62 else "a man singing" if pitch < 55 else "a person singing"
        texts = ("backing vocals", "harmony vocals") if backing else ("lead vocals", "singing voice", singer)
        return ("backing vocals" if backing else "vocals"), (*texts, "vocals")
    if part.role == "drums":
        machine = part.instrument in MACHINES
        return ("electronic drums" if machine else "drums"), ("drums", "drum kit", "a drum beat", "percussion")
    label = _label(part.instrument)
    if part.role == "bass":
        return label, ("bass", "bass line", f"a {label} playing")
    article = "an" if label[0] in "aeiou" else "a"
    return label, (f"{article} {label} playing", *(("guitar",) if "guitar" in label else ()))


def _label(instrument: str) -> str:
    if instrument.isdigit():
        return PROGRAMS[int(instrument)]
    if instrument in _GUITARS:
        return _GUITARS[instrument]
    if instrument.split()[0] in ("saw", "square", "sine"):
        return "synth bass"
    return "upright bass" if "meatbass" in instrument or "double bass" in instrument else "bass guitar"


def _synthetic(part: Part) -> bool:
    return part.role == "bass" and part.instrument.split()[0] in ("saw", "square", "sine")


def _voice(part: Part, library: Library, random: np.random.Generator) -> Voice | None:
    """A speaker whose voice is about as high as the melody; bright recordings first."""
    middle = float(np.median([int(note.pitch) for note in part.notes]))
    wanted = "female" if middle > 59 else "male"
    speakers = library.speakers()
    names = [name for name, rows in speakers.items() if _suits(rows, wanted)] or list(speakers)
    bright = [name for name in names if max(row.rate for row in speakers[name]) >= _BRIGHT]
    pool = bright if bright and random.random() < 0.6 else names
    for name in random.permutation(pool)[:5]:
        voice = voice_of(str(name), [row for row in speakers[name] if row.seconds > 1], library, random)
        if voice is not None:
            return voice
    return None


def _suits(rows: list[Source], wanted: str) -> bool:
    words = {"female": ("female", "woman"), "male": ("male", "man")}[wanted]
    return any(word in words for row in rows for word in row.label.split())


def _member(stem: Stem, score: Score, song: str) -> tuple[dict[str, Any], bytes]:
    peak = max(float(np.abs(stem.samples).max()), 1e-6)
    credits = {source.credit for source in stem.sources} | ({stem.credit} if stem.credit else set())
    licences = {source.licence for source in stem.sources} | ({"MIT"} if stem.credit else set())
    row = {
        "id": f"{song}/{stem.name}",
        "member": f"{song}/{stem.name}.flac",
        "song": song,
        "stem": stem.stem,
        "label": stem.label,
        "captions": list(stem.captions),
        "family": "music",
        "seconds": round(stem.samples.shape[1] / RATE, 3),
        "gain_db": round(20 * math.log10(peak / PEAK), 2),
        "source": f"rendered: {score.style}",
        "source_rate": stem.rate,
        "licence": " / ".join([SONG_LICENCE, *sorted(licences - {SONG_LICENCE})]),
        "credit": "; ".join(sorted(credits)) or "audiosep: research/corpus/songs",
    }
    return row, flac(stem.samples * np.float32(PEAK / peak), RATE)
