"""How well the table covers the everyday sounds, and how much it holds by family."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from research.corpus.sources import FAMILIES, PERMISSION, Source

EVERYDAY = Path(__file__).parent / "table" / "everyday.txt"
FEW, MANY, ORIGINS = 8, 20, 3  # recordings of a sound, and origins of the many


@dataclass(frozen=True)
class Coverage:
    """Recordings of one everyday sound.

    Args:
        sound: its name.
        recordings: how many there are.
        origins: of how many origins.
    """

    sound: str
    recordings: int
    origins: int

    @property
    def well(self) -> bool:
        """Whether there are many recordings, of several origins."""
        return self.recordings >= MANY and self.origins >= ORIGINS


def coverage(sources: Sequence[Source], sounds: Sequence[str] | None = None) -> list[Coverage]:
    """Count the recordings of each everyday sound; parts of one file are one.

    Args:
        sources: the table.
        sounds: names of the sounds; None: those of `everyday.txt`.

    Returns:
        In the order of the sounds.
    """
    names = EVERYDAY.read_text(encoding="utf-8").splitlines() if sounds is None else sounds
    origins: dict[str, dict[str, str]] = defaultdict(dict)
    for source in sources:
        origins[source.sound][source.place] = source.known_as
    return [Coverage(name, len(origins[name]), len(set(origins[name].values()))) for name in names]


def coverage_table(found: Sequence[Coverage]) -> str:
    """Markdown: the sounds by how well they are covered, with recordings and origins.

    Args:
        found: of `coverage`.
    """
    classes = {
        f"{MANY} or more, of {ORIGINS} origins or more": [c for c in found if c.well],
        f"{FEW} or more": [c for c in found if c.recordings >= FEW and not c.well],
        f"1 to {FEW - 1}": [c for c in found if 0 < c.recordings < FEW],
        "none": [c for c in found if not c.recordings],
    }
    enough = sum(c.recordings >= FEW for c in found)
    lines = [
        f"Of {len(found)} sounds {enough} have {FEW} recordings or more.",
        "",
        "| recordings | sounds | which (recordings/origins) |",
        "|---|---:|---|",
    ]
    for name, members in classes.items():
        listed = [
            f"{c.sound} {c.recordings}/{c.origins}" if c.recordings else c.sound for c in sorted(members, key=_order)
        ]
        lines.append(f"| {name} | {len(members)} | {', '.join(listed)} |")
    return "\n".join(lines) + "\n"


def hours_table(sources: Sequence[Source]) -> str:
    """Markdown: hours, recordings, labels, origins and licences of each family.

    Args:
        sources: the table.
    """
    lines = [
        "| family | hours | recordings | labels | origins | repositories | licences, hours |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for family in FAMILIES:
        rows = [source for source in sources if source.family == family]
        if rows:
            lines.append(_line(family, rows))
    return "\n".join([*lines, _line("all", sources)]) + "\n"


def _line(name: str, rows: Sequence[Source]) -> str:
    licences: dict[str, float] = defaultdict(float)
    for row in rows:
        by_permission = row.licence.startswith(PERMISSION)
        licences["by permission" if by_permission else row.licence] += row.seconds / 3600
    listed = ", ".join(f"{k} {v:.2f}" for k, v in sorted(licences.items(), key=lambda item: (-item[1], item[0])))
    counts = (len(rows), *(len(set(values)) for values in _columns(rows)))
    return f"| {name} | {sum(r.seconds for r in rows) / 3600:.2f} | {' | '.join(map(str, counts))} | {listed} |"


def _columns(rows: Sequence[Source]) -> tuple[list[str], list[str], list[str]]:
    return [row.label for row in rows], [row.speaker or row.known_as for row in rows], [row.repo for row in rows]


def _order(c: Coverage) -> tuple[int, str]:
    return -c.recordings, c.sound
