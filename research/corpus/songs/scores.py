"""A song before it is played: parts and notes, in beats."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Note:
    """One note, or one stroke of a drum.

    Args:
        at: beats from the start of the song.
        beats: length.
        pitch: MIDI note number; of a drum: its name.
        loudness: 0 to 1.
    """

    at: float
    beats: float
    pitch: int | str
    loudness: float


@dataclass(frozen=True)
class Part:
    """What one player plays.

    Args:
        role: drums, bass, chords, pad, lead, vocals or backing.
        instrument: the name by which `players` know it.
        notes: in the order of their times.
    """

    role: str
    instrument: str
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Score:
    """A song before it is played.

    Args:
        style: name of its style.
        tempo: beats a minute.
        key: pitch class of the tonic, 0 = C.
        minor: whether the key is minor.
        beats: length.
        parts: of the players.
    """

    style: str
    tempo: float
    key: int
    minor: bool
    beats: float
    parts: tuple[Part, ...]

    @property
    def seconds(self) -> float:
        """Length without reverberation."""
        return self.beats * 60 / self.tempo
