"""A separated sound as a page of the studio shows it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from audiosep.hearing.spans import Span
from audiosep.studio.overview import Overview

Asked = tuple[object, ...]
"""What a track answers, in a form in which it is compared."""

MIX = "mix"
"""The track that is the recording itself."""

REST = "rest"
"""The track that is what the others leave of the recording."""


@dataclass(frozen=True)
class Track:
    """A separated sound, or a part of one.

    Attributes:
        id: of the track; the same for its preview and the whole.
        name: of the sound, as the output is called.
        origin: how it was asked for: "words", "spans" or "stems".
        model: that separated it.
        path: of the wav file.
        start: second of the recording at which the file begins.
        seconds: length of the file.
        gain: what its samples were multiplied by so that they do not clip.
        presence: how sure the model is that the recording has it, 0 to 1; None where it does not say.
        spans: where it sounds, in seconds of the recording.
        complete: whether it is the whole, and not a preview.
        view: its picture.
        asked: what it answers; equal where tracks would sound the same.
    """

    id: str
    name: str
    origin: str
    model: str
    path: Path
    start: float
    seconds: float
    gain: float
    presence: float | None
    spans: tuple[Span, ...]
    complete: bool
    view: Overview
    asked: Asked

    def document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "id": self.id,
            "version": f"{self.id}-{'full' if self.complete else 'preview'}",
            "name": self.name,
            "origin": self.origin,
            "model": self.model,
            "start": self.start,
            "seconds": self.seconds,
            "gain": self.gain,
            "presence": None if self.presence is None or math.isnan(self.presence) else round(self.presence, 3),
            "spans": [[round(start, 3), round(end, 3)] for start, end in self.spans],
            "complete": self.complete,
        }
