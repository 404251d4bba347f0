"""Recorded instruments and voices of the table, decoded when they are first played."""

from __future__ import annotations

import re
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from audiosep.errors import DataError
from research.corpus.making import decode, trimmed
from research.corpus.songs.effects import RATE, Mono, Stereo, placed
from research.corpus.sources import Source

MACHINES = ("oramics lm-2", "oramics tr-505", "oramics cr-78", "oramics mrk-2")
_KEPT = 8  # instruments in memory
_TAKES = 3  # of a note, at most
_RING = 4.0  # seconds of a note that are kept
# Labels of the table -> what drum patterns call it.
_DRUMS = {
    "kick drum": "kick",
    "snare drum": "snare",
    "hi-hat": "hat",
    "open hi-hat": "open hat",
    "ride cymbal": "ride",
    "crash cymbal": "crash",
    "china cymbal": "crash",
    "hand clap": "clap",
    "tambourine": "percussion",
    "cabasa": "percussion",
    "conga": "percussion",
    "bongos": "percussion",
    "claves": "percussion",
}
# What is played where a kit lacks a drum.
_INSTEAD = {"ride": "hat", "open hat": "hat", "clap": "snare", "crash": "open hat", "percussion": "hat", "tom": "snare"}
_SIDES = {"OHL": -0.8, "OHR": 0.8}  # pan of the overhead microphones; other microphones are close


@dataclass(frozen=True)
class Sampled:
    """One recorded note.

    Args:
        pitch: MIDI note number.
        samples: (samples,) at RATE, peak 1.
        loudness: rank among the notes of its pitch, 0 to 1.
    """

    pitch: int
    samples: Mono
    loudness: float


Kit = dict[str, list[Stereo]]  # drum -> hits, from soft to loud


class Library:
    """Instruments by origin, and speakers.

    Args:
        sources: the table.
        read: gives the bytes of a recording's file.
    """

    def __init__(self, sources: Iterable[Source], read: Callable[[Source], bytes]) -> None:
        self._read = read
        self._rows: dict[str, list[Source]] = defaultdict(list)
        self._voices: dict[str, list[Source]] = defaultdict(list)
        for source in sources:
            if source.family == "instrument":
                self._rows[source.known_as].append(source)
            elif source.family in ("speech", "singing") and source.speaker:
                self._voices[source.speaker].append(source)
        self._notes: OrderedDict[str, list[Sampled]] = OrderedDict()
        self._kits: dict[str, Kit] = {}

    def sources_of(self, origin: str) -> list[Source]:
        """Recordings of an instrument, or of a voice.

        Args:
            origin: of the instrument, or the speaker.

        Raises:
            DataError: the table has none.
        """
        found = self._rows.get(origin) or self._voices.get(origin)
        if not found:
            raise DataError(f"the table has no instrument or speaker {origin!r}, which a song needs")
        return found

    def speakers(self, seconds: float = 6.0) -> dict[str, list[Source]]:
        """Speakers with enough recordings to sing.

        Args:
            seconds: that are enough.
        """
        return {
            name: rows
            for name, rows in sorted(self._voices.items())
            if sum(row.seconds for row in rows if row.seconds > 1) >= seconds
        }

    def decoded(self, source: Source, rate: int) -> Mono:
        """A recording without silence at its ends.

        Args:
            source: the recording.
            rate: Hz.
        """
        seconds = source.end - source.start if source.end else None
        return trimmed(decode(self._read(source), source, source.start, seconds, rate), rate)

    def notes(self, origin: str) -> list[Sampled]:
        """The notes of an instrument, from low to high; plucked ones of an instrument that is also bowed.

        Args:
            origin: of the instrument.
        """
        if origin not in self._notes:
            by_pitch: dict[int, list[Source]] = defaultdict(list)
            for source in self.sources_of(origin):
                if source.note >= 0 and not source.label.startswith("bowed "):
                    by_pitch[source.note].append(source)
            self._notes[origin] = [note for pitch in sorted(by_pitch) for note in self._takes(pitch, by_pitch[pitch])]
            if len(self._notes) > _KEPT:
                self._notes.popitem(last=False)
        self._notes.move_to_end(origin)
        return self._notes[origin]

    def _takes(self, pitch: int, sources: Sequence[Source]) -> list[Sampled]:
        every = max(1, -(-len(sources) // _TAKES))
        heard = [self.decoded(source, RATE)[: int(_RING * RATE)] for source in sources[::every]]
        heard.sort(key=lambda x: float(np.abs(x).max()))
        count = max(1, len(heard) - 1)
        return [Sampled(pitch, x / max(float(np.abs(x).max()), 1e-6), k / count) for k, x in enumerate(heard)]

    def kit(self, origin: str) -> Kit:
        """The hits of a drum kit; drums that it lacks are played on others.

        Args:
            origin: of the kit.
        """
        if origin not in self._kits:
            hits: dict[tuple[str, str], list[Source]] = defaultdict(list)
            for source in self.sources_of(origin):
                drum = _drum(source)
                if drum:
                    # Several microphones of one hit: "3-Snare-OHL.flac", "3-Snare-Snare_top.flac".
                    hit = re.sub(r"-[A-Za-z0-9_]+\.\w+$", "", source.path) if _microphone(source) else source.path
                    hits[drum, hit].append(source)
            kit: Kit = defaultdict(list)
            for (drum, _), sources in sorted(hits.items()):
                kit[drum].append(self._hit(sources))
            for played in kit.values():
                played.sort(key=lambda x: float(np.square(x).sum()))
            self._kits[origin] = dict(kit)
        return self._kits[origin]

    def _hit(self, sources: Sequence[Source]) -> Stereo:
        # Not trimmed: the microphones of one hit are aligned, and the room arrives later.
        heard = []
        for source in sources:
            x = decode(self._read(source), source, 0.0, 3.0, RATE)
            side = _SIDES.get(_microphone(source) or "", 0.0)
            heard.append(placed(x, side) * np.float32(0.5 if side else 1.0))
        y = np.zeros((2, max(x.shape[1] for x in heard)), np.float32)
        for x in heard:
            y[:, : x.shape[1]] += x
        first = int(np.argmax(np.abs(y).max(0) > 0.02 * np.abs(y).max()))
        y = y[:, max(0, first - 48) :]
        fade = min(y.shape[1], 2400)
        y[:, y.shape[1] - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
        return y


def drum_of(kit: Kit, drum: str) -> list[Stereo]:
    """The hits that play a drum: its own, or those of what a kit has instead.

    Args:
        kit: the kit.
        drum: its name in the patterns.
    """
    while drum not in kit:
        if drum.startswith("tom ") and any(name.startswith("tom ") for name in kit):
            drum = next(name for name in kit if name.startswith("tom "))
        elif drum.partition(" ")[0] in _INSTEAD or drum in _INSTEAD:
            drum = _INSTEAD.get(drum) or _INSTEAD[drum.partition(" ")[0]]
        else:
            return []
    return kit[drum]


def _microphone(source: Source) -> str | None:
    found = re.search(r"/\d+-[A-Za-z0-9]+-([A-Za-z0-9_]+)\.\w+$", source.path)
    return found[1] if found else None


def _drum(source: Source) -> str | None:
    if source.label != "tom drums":
        return _DRUMS.get(source.label)
    name = source.path.rpartition("/")[2].lower()
    for pattern, drum in (("tom1|tom-h|th_|tom-01", "high"), ("tom[34]|tom-l|tl_|tom-03", "low")):
        if re.search(pattern, name):
            return f"tom {drum}"
    return "tom middle"
