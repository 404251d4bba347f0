"""Standard error, where remarks and the progress bar go; rich is loaded for a bar that is seen, and not before."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_MINUTE = 60.0


class Terminal:
    """Lines of text on standard error, above the progress bar while there is one.

    Attributes:
        is_terminal: whether somebody sees it at once.
    """

    def __init__(self) -> None:
        self.is_terminal = sys.stderr is not None and sys.stderr.isatty()
        self._rich: Console | None = None

    def print(self, text: str, end: str = "\n") -> None:
        """Write a line.

        Args:
            text: as it is.
            end: what follows it.
        """
        if self._rich is not None:
            self._rich.print(text, end=end, markup=False, emoji=False)
        elif sys.stderr is not None:
            sys.stderr.write(text + end)
            sys.stderr.flush()

    def rich(self) -> Console:
        """The console of rich, which writes all lines from then on."""
        if self._rich is None:
            from rich.console import Console

            self._rich = Console(stderr=True, highlight=False, soft_wrap=True)
        return self._rich


class Bar:
    """A progress bar; called with the fraction that is done, 0..1.

    Args:
        bar: of rich; None where nobody sees it.
        label: in front of it.
        lines: where a line of text goes every minute; None for nowhere.
    """

    def __init__(self, bar: Progress | None, label: str, lines: Terminal | None) -> None:
        self._bar, self._label, self._lines = bar, label, lines
        self._task = None if bar is None else bar.add_task(label, total=1.0)
        self._began = self._told = time.monotonic()

    def __call__(self, fraction: float) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=fraction)
        now = time.monotonic()
        if self._lines is not None and fraction > 0 and now - self._told >= _MINUTE:
            self._told = now
            left = (now - self._began) * (1 - fraction) / fraction
            self._lines.print(f"{self._label}: {fraction:.0%}, about {left / 60:.0f} min left")

    def describe(self, label: str) -> None:
        """Show another text in front of the bar."""
        self._label, self._began = label, time.monotonic()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=label)


@contextmanager
def progress_bar(target: Terminal, label: str, quiet: bool, *, lines: bool = False) -> Iterator[Bar]:
    """Show a bar with percent and remaining time while the block runs.

    Args:
        target: standard error.
        label: in front of the bar.
        quiet: show nothing.
        lines: where standard error is no terminal, write a line every minute; otherwise nothing is shown there.

    Yields:
        The bar.
    """
    if quiet or not target.is_terminal:
        yield Bar(None, label, target if lines and not quiet else None)
        return
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # Standard output may go to a file; what is printed to a terminal goes above the bar.
    shared = sys.stdout is not None and sys.stdout.isatty()
    with Progress(*columns, console=target.rich(), transient=True, redirect_stdout=shared) as bar:
        yield Bar(bar, label, None)


@contextmanager
def silent_libraries(wanted: bool) -> Iterator[None]:
    """Keep what C libraries such as libmpg123 write to standard error from the terminal.

    Python's own messages go on to where they went before.

    Args:
        wanted: whether it is kept from there.
    """
    try:
        shared = wanted and sys.stderr.fileno() == 2
    except (AttributeError, OSError, ValueError):  # no standard error, or one of Python alone
        shared = False
    if not shared:
        yield
        return
    sys.stderr.flush()
    stderr, kept = sys.stderr, os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    sys.stderr = os.fdopen(kept, "w", buffering=1, encoding=stderr.encoding, errors="backslashreplace", closefd=False)
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = stderr
        os.dup2(kept, 2)
        os.close(kept)
