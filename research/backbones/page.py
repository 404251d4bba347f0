"""The tables of docs/backbones.md: sizes beside the published ones, and the comparison."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from audiosep.errors import InputError
from research.backbones.comparison import FullSize, measure, trained
from research.backbones.entries import ENTRIES, STEMS, Entry, build, parameters


@dataclass(frozen=True)
class Row:
    """One network of the comparison.

    Attributes:
        entry: the network.
        values: its last validation, see `comparison.trained`.
        full: at its published size; None if that was not measured.
    """

    entry: Entry
    values: dict[str, Any]
    full: FullSize | None

    def sdr(self, name: str) -> float:
        """Median SI-SDRi of a stem, of all ("stems"), or of queries ("words"), dB."""
        group = {"stems": "e", "words": "a"}.get(name, f"e/{name}")
        return float(self.values[f"val/{group}/si_sdri_median"])


def sizes() -> str:
    """The table of sizes."""
    rows = ["| network | family | M parameters | reference | source of the reference |", "|---|---|---:|---:|---|"]
    for entry in ENTRIES:
        with torch.device("meta"):
            mine = parameters(build({"family": entry.family}))
        rows.append(f"| {entry.title} | `{entry.family}` | {mine:.2f} | {entry.published:.2f} | {entry.source} |")
    return "\n".join(rows) + "\n"


def read(folder: Path) -> list[Row]:
    """The finished networks of a comparison.

    Args:
        folder: of the comparison.

    Raises:
        InputError: no network is finished.
    """
    rows = []
    for entry in ENTRIES:
        if (values := trained(entry, folder)) is not None:
            done = (folder / f"{entry.family}.full.json").is_file()
            rows.append(Row(entry, values, measure(entry, folder) if done else None))
    if not rows:
        raise InputError(f"{folder} holds no finished training of a comparison")
    return rows


def comparison(rows: Sequence[Row]) -> str:
    """The tables of quality and of the published sizes, and a sentence for each network.

    Args:
        rows: of `read`.
    """
    head = ["network", "M parameters", "steps", *STEMS, "stems", "words"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for row in rows:
        numbers = [f"{row.sdr(name):.2f}" for name in (*STEMS, "stems", "words")]
        cells = [row.entry.title, f"{row.values['parameters']:.2f}", f"{row.values['steps']}", *numbers]
        lines.append("| " + " | ".join(cells) + " |")
    minutes = max(row.values["minutes"] for row in rows)
    note = (
        f"{minutes:.1f} minutes of one core each, from random weights, the same data, losses and optimizer, reduced "
        "sizes at 16 kHz, one network for stems and words together. Median SI-SDRi in dB on held-back mixtures: the "
        "four stems of songs, all of them, and sounds asked for by a word among two."
    )
    parts = ["\n".join(lines), "\n".join(textwrap.wrap(note, 120))]
    full = [row for row in rows if row.full is not None]
    if full:
        parts.append(_full_table(full))
    parts.append("\n".join(f"- **{row.entry.title}**: {remark(row, rows)}." for row in rows))
    return "\n\n".join(parts) + "\n"


def _full_table(rows: Sequence[Row]) -> str:
    lines = [
        "| network at its published size | M parameters | Hz | real-time factor | memory, MB |",
        "|---|" + "---:|" * 4,
    ]
    for row in rows:
        if (full := row.full) is not None:
            cells = [f"{full.parameters:.2f}", f"{full.sample_rate}", f"{full.factor:.3f}", f"{full.memory:.0f}"]
            lines.append("| " + " | ".join([row.entry.title, *cells]) + " |")
    note = (
        "One window of stereo on one core, torch, fp32, random weights. Real-time factor: processor seconds for a "
        "second of sound at the network's own sample rate. Memory: peak of the process."
    )
    return "\n".join([*lines, "", *textwrap.wrap(note, 120)])


def remark(row: Row, rows: Sequence[Row]) -> str:
    """What the tables say a network is good at: the measures by which it is first or second, else its best rank.

    A network that makes a sound worse (an SI-SDRi of 0 dB or less) is not ranked by it.

    Args:
        row: the network.
        rows: all of them.
    """
    quality = {"the stems together": "stems", **{name: name for name in (*STEMS, "words")}}
    measures = {said: _loss(name) for said, name in quality.items() if row.sdr(name) > 0}
    if row.full is not None:
        measures["speed at the published size"] = lambda r: r.full.factor if r.full else float("inf")
        measures["memory at the published size"] = lambda r: r.full.memory if r.full else float("inf")
    if not measures:
        return "nothing yet: every sound is worse than in the mixture"
    ranks = {name: 1 + sum(value(other) < value(row) for other in rows) for name, value in measures.items()}
    first = [name for name, rank in ranks.items() if rank == 1]
    second = [name for name, rank in ranks.items() if rank == 2]
    if first or second:
        said = [f"{place} in {_listed(names)}" for place, names in (("first", first), ("second", second)) if names]
        return "; ".join(said)
    best = min(ranks.values())
    return f"number {best} of {len(rows)} in {_listed([name for name, rank in ranks.items() if rank == best])}"


def _loss(name: str) -> Callable[[Row], float]:
    return lambda row: -row.sdr(name)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
