"""Measurements as a picture: horizontal bars, a row for each case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from audiosep.errors import DependencyError, install_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from audiosep.bench.suite import Measurement


def rows_figure(rows: int) -> Figure:
    """An empty figure that is saved as PNG without a display.

    Args:
        rows: horizontal bars that it has room for.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyError(f"--plot needs matplotlib: {install_extra('eval')}") from error
    figure = Figure(figsize=(9, 1.2 + 0.45 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw(measurements: Sequence[Measurement], path: Path) -> None:
    """Draw the real-time factor of each case with its spread, and the part of each step.

    Args:
        measurements: a row for each.
        path: the PNG file to write.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    figure = rows_figure(len(measurements))
    axes = figure.subplots()
    rows = list(range(len(measurements)))
    left = [0.0] * len(measurements)
    for part in ("decode", "separate", "write"):
        widths = [getattr(m, part).median / m.facts.audio_seconds for m in measurements]
        axes.barh(rows, widths, left=left, label=part)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    totals = [m.real_time_factor for m in measurements]
    spread = [
        [(m.total.median - m.total.low) / m.facts.audio_seconds for m in measurements],
        [(m.total.high - m.total.median) / m.facts.audio_seconds for m in measurements],
    ]
    axes.errorbar(totals, rows, xerr=spread, fmt="k|", capsize=3, label="file to files")
    axes.set_yticks(rows, [case_label(m) for m in measurements])
    axes.invert_yaxis()
    axes.set_xlabel("seconds per second of sound")
    axes.legend()
    figure.savefig(path, dpi=120)


def case_label(measurement: Measurement) -> str:
    """A case in one line."""
    facts = measurement.facts
    place = f"{facts.device} {facts.engine} {facts.precision}, {facts.threads} threads"
    return f"{facts.model}, {measurement.task}, {facts.audio_seconds:g} s, {place}"
