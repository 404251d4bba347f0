"""The `audiosep` command: one file a verb, imported only when the verb is used.

The command itself imports nothing but the standard library, so that `audiosep --help` is quick.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import audiosep
from audiosep.inference.heap import share_heaps

__all__ = ["VERBS", "command_line", "discard_output", "main"]

command_line: ContextVar[tuple[str, ...]] = ContextVar("command_line", default=())
"""The verb that runs and its arguments, for messages that correct them."""

# A verb is a line here and a module of that name beside this file, with a typer application `app` in it.
VERBS = {
    "separate": "Separate the sounds you name out of recordings.",
    "remove": "Remove the sounds you name from recordings.",
    "describe": "Say what is heard in recordings, and when.",
    "stems": "Split songs into vocals, drums, bass and other.",
    "remember": "Give a sound a name of your own, by examples.",
    "sounds": "List, show, forget, export and import sounds with names of your own.",
    "data": "Make and check the manifest of a training corpus, and listen to training mixtures.",
    "train": "Train a model from a configuration.",
    "finetune": "Teach a model your own sounds.",
    "evaluate": "Measure models and baselines on test sets: quality, speed, memory.",
    "listen": "Make a listening test and analyse its ratings.",
    "convert": "Turn a published checkpoint (AudioSep, CLAP, stem models) into a model folder.",
    "models": "List, describe and download models.",
    "doctor": "Check this installation and say how to repair it.",
    "live": "Separate sound as it arrives, from a pipe or a sound card.",
    "export": "Write a network as an ONNX file.",
    "completion": "Write the script that completes commands in a shell.",
    "studio": "Separate recordings and mix the tracks on a page in the browser.",
    "bench": "Measure speed and memory on this machine.",
}

# Words for what `separate` does.
_SYNONYMS = ("demix", "extract", "isolate", "split", "unmix")

HELP = """\
Usage: audiosep VERB [ARGUMENTS]...

Separate any sound you can name out of any recording.

Verbs:
{verbs}

Options:
  --help     Show this message; `audiosep help VERB` explains a verb.
  --version  Show the version.

Exit codes: 0 done, 1 something failed, 2 wrong usage, 130 cancelled.
"""


def command() -> None:
    """The program `audiosep`: exits with the code of `main`."""
    _occupy_closed_streams()
    share_heaps()  # windows are computed in threads, and a server would grow by megabytes a minute for hours
    try:
        code = main()
    except OSError as error:
        if error.filename is not None:  # of a file, not of standard output, to which the help goes
            raise
        code = _not_written(error)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError) as error:
        code = code or _not_written(error)
    sys.exit(code)


def _occupy_closed_streams() -> None:
    """Open the null device in the place of standard streams that are closed (`>&-`, some services).

    A file that is opened later would take their number, and what C libraries write to standard error would go into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _not_written(error: OSError | ValueError) -> int:
    """Say that standard output cannot be written; the exit code."""
    if sys.stderr is not None and not isinstance(error, BrokenPipeError):
        sys.stderr.write(f"audiosep: cannot write to standard output: {error}\n")
    discard_output()
    return 1


def discard_output() -> None:
    """Let what standard output still holds go to nowhere: Python would try again to write it at its end, and fail."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments without the program's name; those of this process by default.

    Returns:
        The exit code: 0 done, 1 something failed (an error, or some files of a batch), 2 wrong usage, 130 cancelled.
    """
    _tolerant_output()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if len(arguments) > 1 and arguments[0] == "help":
        arguments = [*arguments[1:], "--help"]
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(_help(), end="")
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"audiosep {audiosep.__version__}")
        return 0
    verb = arguments[0]
    if verb not in VERBS:
        from audiosep.errors import InputError

        refused: int = importlib.import_module("audiosep.cli.usage").refuse(InputError(_unknown(verb)), arguments)
        return refused
    return _run(verb, arguments[1:])


def _run(verb: str, arguments: list[str]) -> int:
    try:
        with _signals_as_interrupt():
            module = importlib.import_module(f"audiosep.cli.{verb}")
            command_line.set((verb, *arguments))
            code: int = importlib.import_module("audiosep.cli.usage").run(module.app, arguments, f"audiosep {verb}")
            return code
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    except KeyboardInterrupt:
        print("audiosep: cancelled", file=sys.stderr)
        return 130


@contextlib.contextmanager
def _signals_as_interrupt() -> Iterator[None]:
    """SIGTERM, SIGHUP and SIGQUIT raise KeyboardInterrupt, as Ctrl-C does, so that half-written files are deleted.

    Those that are ignored stay ignored: `nohup` lets a command go on when its terminal is closed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {}
    for name in ("SIGTERM", "SIGHUP", "SIGQUIT"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _help() -> str:
    width = max(map(len, VERBS))
    return HELP.format(verbs="\n".join(f"  {verb:{width}}  {text}" for verb, text in VERBS.items()))


def _unknown(verb: str) -> str:
    import difflib

    close = ["separate"] if verb.lower() in _SYNONYMS else difflib.get_close_matches(verb, VERBS, 1)
    if close:
        hint = f"did you mean {close[0]!r}?"
    elif verb.startswith("-"):
        hint = "the verb comes first, then its options: audiosep VERB --help lists them"
    elif verb and os.path.exists(verb):  # noqa: PTH110  # Path.exists fails for long texts
        hint = f"to separate a file: audiosep separate {verb!r} QUERY"
    else:
        hint = f"the verbs are: {', '.join(VERBS)}"
    return f"there is no verb {verb!r}; {hint}"


def _tolerant_output() -> None:
    """Write file names that the encoding of standard output lacks with escapes, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
