"""What is heard in a recording: names, how sure they are, and when they sound."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
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
        """Every span with the name of its sound, in the order of `in_time`; equal spans with the surest sound first."""
        return in_time((span, sound.name) for sound in self for span in sound.spans)

    def labels(self) -> str:
        """The spans as a label file of Audacity: start, end and name in columns, in the order of `events`."""
        return labels_text(self.events)

    def srt(self) -> str:
        """The spans as subtitles in the format SubRip: each shows all sounds of its time, a line each.

        Subtitles do not overlap: players may show the last one alone, and in MP4 files it ends the one before.
        """
        blocks = [
            f"{number}\n{_srt_time(span.start)} --> {_srt_time(span.end)}\n" + "".join(f"{_line(n)}\n" for n in names)
            for number, (span, names) in enumerate(self._together(), 1)
        ]
        return "\n".join(blocks)

    def _together(self) -> Iterator[tuple[Span, list[str]]]:
        """The stretches between two borders of spans, with the names of what sounds, the first to begin in front."""
        events = deque(self.events)
        sounding: list[tuple[Span, str]] = []
        for start, end in pairwise(sorted({border for span, _ in events for border in span})):
            sounding = [event for event in sounding if event[0].end > start]
            while events and events[0][0].start <= start:
                sounding.append(events.popleft())
            if sounding:
                yield Span(start, end), [name for _, name in sounding]

    def csv(self, file: str | None = None) -> str:
        """The spans as a table: name, score, start, end; by sound, the surest first, and each in the order of time.

        A sound without spans has a row without times.

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


def in_time(events: Iterable[tuple[Span, str]]) -> list[tuple[Span, str]]:
    """Spans with their names by start, then by end; equal spans stay in their order."""
    return sorted(events, key=lambda event: event[0])


def labels_text(events: Iterable[tuple[Span, str]]) -> str:
    """A label file of Audacity, in the order of `in_time`.

    Args:
        events: spans with their names.
    """
    return "".join(f"{start:.3f}\t{end:.3f}\t{_line(name)}\n" for (start, end), name in in_time(events))


def _line(name: str) -> str:
    """A name in one line, and in one column."""
    return " ".join(name.split())


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
