"""`curves.png`: the log of a run as a picture."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

from audiosep.training.engine.runlog import read_log

logger = logging.getLogger(__name__)

_ALWAYS = ("loss", "learning_rate", "grad_norm", "items_per_second")
_NEVER = {"minutes", "items", "seconds"}


def draw_curves(log: Path, picture: Path) -> bool:
    """Draw what a `log.jsonl` holds: the loss and its parts, the validation numbers, learning rate and throughput.

    Args:
        log: the log file.
        picture: the PNG file to write.

    Returns:
        Whether it was drawn: matplotlib is an optional package, and a log may be empty.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        logger.info("no %s: pip install 'audiosep[train]' for matplotlib", picture.name)
        return False
    panels = _panels(read_log(log))
    if not panels:
        return False
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(5 * columns, 3 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (title, lines) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(rows, columns, place)
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        for name, points in lines.items():
            axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 40 else None)
        if len(lines) > 1:
            axes.legend(fontsize="x-small")
    figure.savefig(picture, dpi=80)
    return True


def _panels(lines: list[dict[str, Any]]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """{title: {curve: [(step, value)]}}; validation numbers of one kind ("si_sdri") share a panel."""
    panels: dict[str, dict[str, list[tuple[int, float]]]] = {name: {} for name in _ALWAYS}
    for line in lines:
        if line["event"] not in ("train", "validation"):
            continue
        for name, value in line.items():
            usable = isinstance(value, int | float) and math.isfinite(value)
            if not usable or name in _NEVER or name in ("event", "step"):
                continue
            *group, kind = name.split("/")
            if "label" in group:
                continue
            title = f"validation {kind}" if line["event"] == "validation" else name
            curve = "/".join(group) or name
            panels.setdefault(title, {}).setdefault(curve, []).append((line["step"], value))
    return {title: curves for title, curves in panels.items() if curves}
