"""Measurements as a picture: bars of time, and quality against speed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from audiosep.bench.table import TableRow, rows, system_label
from audiosep.errors import DependencyError, InputError, install_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
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


def check_picture(path: Path) -> None:
    """Refuse a picture that could not be written, before anything is measured.

    Args:
        path: the file.

    Raises:
        InputError: it is no PNG, or its folder does not exist.
        DependencyError: matplotlib is not installed.
    """
    if path.suffix.lower() != ".png":
        raise InputError(f"--plot draws a PNG: give it a name such as {path.with_suffix('.png').name or 'bench.png'}")
    if not path.parent.is_dir():
        raise InputError(f"--plot {path}: there is no folder {path.parent}, make it first")
    rows_figure(1)


def draw(measurements: Sequence[Measurement], path: Path) -> None:
    """Draw the time of each case and of its parts and, where true sounds are known, quality against speed.

    Args:
        measurements: of the cases.
        path: the PNG file to write.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    scored = [row for row in rows(measurements) if row.si_sdr is not None]
    figure = rows_figure(len(measurements) + (10 if scored else 0))
    if scored:
        times, quality = figure.subplots(2, height_ratios=[1.2 + 0.45 * len(measurements), 4.5])
        _draw_quality(quality, scored)
    else:
        times = figure.subplots()
    _draw_times(times, measurements)
    figure.savefig(path, dpi=120)


def _draw_times(axes: Axes, measurements: Sequence[Measurement]) -> None:
    """Real-time factors with their spread, and the part of each step."""
    places = list(range(len(measurements)))
    left = [0.0] * len(measurements)
    for part in ("decode", "separate", "write"):
        widths = [getattr(m, part).median / m.facts.audio_seconds for m in measurements]
        axes.barh(places, widths, left=left, label=part)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    totals = [m.real_time_factor for m in measurements]
    spread = [
        [(m.total.median - m.total.low) / m.facts.audio_seconds for m in measurements],
        [(m.total.high - m.total.median) / m.facts.audio_seconds for m in measurements],
    ]
    axes.errorbar(totals, places, xerr=spread, fmt="k|", capsize=3, label="file to files")
    axes.set_yticks(places, [f"{system_label(m)}, {m.task}, {m.facts.audio_seconds:g} s" for m in measurements])
    axes.invert_yaxis()
    axes.set_xlabel("seconds per second of sound")
    axes.legend()


def _draw_quality(axes: Axes, scored: Sequence[TableRow]) -> None:
    """A point for each system and task: mean SI-SDR over the recordings against the speed in all of them."""
    points: dict[tuple[str, str], list[TableRow]] = {}
    for row in scored:
        points.setdefault((row.system, row.task), []).append(row)
    for (system, task), own in points.items():
        speed = sum(row.audio_seconds for row in own) / sum(row.separate for row in own)
        quality = statistics.fmean(row.si_sdr for row in own if row.si_sdr is not None)
        axes.plot(speed, quality, "o", label=f"{system}, {task}")
    axes.set_xscale("log")
    axes.set_xlabel("seconds of sound per second of separating")
    axes.set_ylabel("SI-SDR, dB")
    axes.grid(alpha=0.3)
    axes.legend()
