"""What is heard in a recording: names, how sure they are, and when they sound."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import overload

from audiosep.hearing.spans import Span


@dataclass(frozen=True)
class HeardSound:
    """A sound in a recording.

    Attributes:
        name: in words, which `separate` takes as a query.
        score: how sure it is that the recording has it, 0 to 1.
        spans: where it sounds; empty where it was not heard.
    """

    name: str
    score: float
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Description(Sequence[HeardSound]):
    """The sounds of a recording, those with the highest scores first.

    Attributes:
        sounds: as above.
        seconds: length of the recording, or of the part of it that was listened to.
        start: where this part starts, in seconds of the recording.
    """

    sounds: tuple[HeardSound, ...]
    seconds: float
    start: float = 0.0

    @overload
    def __getitem__(self, index: int) -> HeardSound: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[HeardSound, ...]: ...
    def __getitem__(self, index: int | slice) -> HeardSound | tuple[HeardSound, ...]:
        return self.sounds[index]

    def __iter__(self) -> Iterator[HeardSound]:
        return iter(self.sounds)

    def __len__(self) -> int:
        return len(self.sounds)

    def of_part(self, start: float) -> Description:
        """The description of a part of a recording, in times of the recording.

        Args:
            start: of the part, seconds.
        """
        sounds = [
            replace(sound, spans=tuple(Span(round(a + start, 3), round(b + start, 3)) for a, b in sound.spans))
            for sound in self
        ]
        return Description(tuple(sounds), self.seconds, start)

    @property
    def events(self) -> list[tuple[Span, str]]:
        """Every span with the name of its sound, in the order of time."""
        return sorted((span, sound.name) for sound in self for span in sound.spans)

    def labels(self) -> str:
        """The spans as a label file of Audacity: start, end and name in columns with tabs between them."""
        return labels_text(self.events)

    def srt(self) -> str:
        """The spans as subtitles in the format SubRip."""
        blocks = [
            f"{number}\n{_srt_time(span.start)} --> {_srt_time(span.end)}\n{name}\n"
            for number, (span, name) in enumerate(self.events, 1)
        ]
        return "\n".join(blocks)

    def csv(self, file: str | None = None) -> str:
        """The spans as a table: name, score, start, end; a sound without spans has a row without times.

        Args:
            file: the recording, for a first column of that name, so that tables can be joined; None: no such column.
        """
        first = {} if file is None else {"file": file}
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow([*first, "name", "score", "start", "end"])
        for sound in self:
            for span in sound.spans or (("", ""),):
                table.writerow([*first.values(), sound.name, f"{sound.score:.3f}", *span])
        return text.getvalue()


def labels_text(events: Sequence[tuple[Span, str]]) -> str:
    """A label file of Audacity.

    Args:
        events: spans with their names.
    """
    return "".join(f"{start:.3f}\t{end:.3f}\t{' '.join(name.split())}\n" for (start, end), name in events)


def strip(spans: Sequence[Span], seconds: float, width: int, marks: str = "·█") -> str:
    """Spans as a line of characters.

    Args:
        spans: to show.
        seconds: that the whole line stands for.
        width: of the line, characters.
        marks: where nothing sounds, and where something does.

    >>> strip([Span(2.5, 5.0)], 10.0, 8, ".#")
    '..##....'
    """
    line = [marks[0]] * width
    for start, end in spans:
        first = min(width - 1, int(start / seconds * width)) if seconds else 0
        last = min(width, max(first + 1, -int(-end / seconds * width // 1))) if seconds else 1
        line[first:last] = marks[1] * (last - first)
    return "".join(line)


def _srt_time(seconds: float) -> str:
    thousandths = round(1000 * seconds)
    hours, rest = divmod(thousandths, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02},{rest % 1000:03}"
