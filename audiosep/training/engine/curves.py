"""Drawing the log of a run: `curves.png`."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

from audiosep.atomic import writing
from audiosep.errors import install_extra
from audiosep.training.engine.run_log import read_log

logger = logging.getLogger(__name__)

_FIRST_PANELS = ("loss", "learning_rate", "grad_norm", "items_per_second")
_NOT_DRAWN = {"minutes", "items", "seconds"}


def draw_curves(log: Path, picture: Path) -> bool:
    """Draw the numbers of a `log.jsonl`: loss and its parts, validation, learning rate and throughput.

    Args:
        log: the log file.
        picture: the PNG file to write.

    Returns:
        Whether it was drawn; it is not if matplotlib is missing or the log is empty.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        logger.info("no %s, which needs matplotlib: %s", picture.name, install_extra("train"))
        return False
    panels = _panels(read_log(log))
    if not panels:
        return False
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(5 * columns, 3 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for number, (title, lines) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(rows, columns, number)
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        for name, points in lines.items():
            axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 40 else None)
        if len(lines) > 1 or "/" in next(iter(lines)):  # one of "val" or "loss" is named by the title
            axes.legend(fontsize="x-small")
    with writing(picture):
        figure.savefig(picture, dpi=80)
    return True


def _panels(lines: list[dict[str, Any]]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """{title: {curve: [(step, value)]}}; validation numbers of one kind ("si_sdri") share a panel."""
    panels: dict[str, dict[str, list[tuple[int, float]]]] = {name: {} for name in _FIRST_PANELS}
    for line in lines:
        if line["event"] not in ("train", "validation"):
            continue
        for name, value in line.items():
            usable = isinstance(value, int | float) and math.isfinite(value)
            if not usable or name in _NOT_DRAWN or name in ("event", "step"):
                continue
            *group, kind = name.split("/")
            if "label" in group:
                continue
            title = f"validation {kind}" if line["event"] == "validation" else name
            curve = "/".join(group) or name
            panels.setdefault(title, {}).setdefault(curve, []).append((line["step"], value))
    return {title: curves for title, curves in panels.items() if curves}
