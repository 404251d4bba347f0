"""The empty picture that measurements are drawn into."""

from __future__ import annotations

from typing import TYPE_CHECKING

from audiosep.errors import DependencyError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def rows_figure(rows: int) -> Figure:
    """A figure high enough for so many horizontal bars, to be saved as PNG without a display.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyError("--plot needs matplotlib: pip install 'audiosep[eval]'") from error
    figure = Figure(figsize=(9, 1.2 + 0.45 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
