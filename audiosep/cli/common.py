"""What the verbs share: their options, errors as exit codes, logging, the progress bar, JSON on stdout."""

from __future__ import annotations

import functools
import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from audiosep.errors import AudioSepError, Cancelled, ConfigError, InputError, QueryError

if TYPE_CHECKING:
    from rich.console import Console

P = ParamSpec("P")

DONE, FAILED, USAGE, CANCELLED = 0, 1, 2, 130

Model = Annotated[str, typer.Option("--model", "-m", metavar="NAME", help="Name, folder or hub id of the model.")]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="auto, cpu, openvino, cuda, cuda:1, mps ...")]
Precision = Annotated[str, typer.Option("--precision", metavar="NAME", help="auto, fp32, bf16 or fp16.")]
Threads = Annotated[
    int | None, typer.Option("--threads", metavar="N", min=1, help="Threads of the CPU [default: as many as are sane].")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, for machines.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar, no remarks; errors only.")]
Verbose = Annotated[
    int, typer.Option("--verbose", "-v", count=True, show_default=False, help="Tell more (-vv: everything).")
]


def application(help: str | None = None) -> typer.Typer:
    """A typer application as all verbs use it: plain text, so that help is the same everywhere and quick."""
    return typer.Typer(
        help=help,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )


def guarded(verb: Callable[P, int | None]) -> Callable[P, None]:
    """Turn what `verb` returns or raises into the exit code; with --json also say it in JSON."""

    @functools.wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = verb(*args, **kwargs)
        except KeyboardInterrupt:
            code = _say(Cancelled("cancelled; nothing half-written is left"), kwargs)
        except AudioSepError as error:
            code = _say(error, kwargs)
        raise typer.Exit(code or DONE)

    return run


def exit_code(error: Exception) -> int:
    """The exit code that answers `error`."""
    if isinstance(error, Cancelled):
        return CANCELLED
    return USAGE if isinstance(error, InputError | QueryError | ConfigError) else FAILED


def _say(error: AudioSepError, options: dict[str, Any]) -> int:
    print(f"audiosep: {error}", file=sys.stderr)
    if options.get("as_json"):
        emit({"error": describe(error)})
    return exit_code(error)


def describe(error: Exception) -> dict[str, str]:
    """An error for a machine."""
    return {"type": type(error).__name__, "message": str(error)}


def emit(document: Any) -> None:
    """Write one JSON document to standard output."""
    print(json.dumps(document, indent=2, allow_nan=False))


def console() -> Console:
    """The terminal's error stream, where progress and remarks go."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def logs_to(target: Console, verbose: int, quiet: bool) -> None:
    """Send the library's log to `target`: warnings, or more with --verbose, or errors only with --quiet."""
    level = logging.ERROR if quiet else (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logger = logging.getLogger("audiosep")
    for handler in [handler for handler in logger.handlers if isinstance(handler, _Terminal)]:
        logger.removeHandler(handler)
    logger.addHandler(_Terminal(target))
    logger.setLevel(level)


class _Terminal(logging.Handler):
    """Log lines on the terminal that also shows the progress bar, above it."""

    def __init__(self, target: Console) -> None:
        super().__init__()
        self._target = target

    def emit(self, record: logging.LogRecord) -> None:
        self._target.print(f"{record.levelname.lower()}: {self.format(record)}", markup=False)


@contextmanager
def progress_bar(target: Console, label: str, quiet: bool) -> Iterator[Callable[[float], None]]:
    """A bar with percent and remaining time while the block runs; nothing where no terminal is watching.

    Yields:
        A function to call with the fraction that is done, 0..1.
    """
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    hidden = quiet or not target.is_terminal
    with Progress(*columns, console=target, disable=hidden, transient=True) as bar:
        task = bar.add_task(label, total=1.0)
        yield lambda fraction: bar.update(task, completed=fraction)
