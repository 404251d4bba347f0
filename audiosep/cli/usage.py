"""Run a verb with its arguments; what they say wrong is refused here, in text and as JSON."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import typer
import typer.main

from audiosep.cli import common
from audiosep.errors import InputError

_UsageError: Any = typer.BadParameter.__base__  # of all that the parser refuses
# Kinds of wrong values in pydantic, with which newer versions of typer check them -> what is wanted.
_WANTED = {
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "float_parsing": "must be a number",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:g}",
}
_LONGEST = 40  # letters of a wrong value that are shown


def run(app: typer.Typer, arguments: Sequence[str], name: str) -> int:
    """Run a verb.

    Args:
        app: with the verb.
        arguments: of it.
        name: of the program and the verb.

    Returns:
        The exit code.
    """
    command = typer.main.get_command(app)
    try:
        _check_dashes(part_of(command, arguments), arguments)
        return int(command.main(args=list(arguments), prog_name=name, standalone_mode=False) or common.DONE)
    except InputError as error:
        return refuse(error, arguments)
    except _UsageError as error:
        error.message = _in_plain_words(error)
        error.show()
        if write := _json(arguments):
            write({"error": common.describe(InputError(error.format_message()))})
        return common.USAGE


def refuse(error: InputError, arguments: Sequence[str]) -> int:
    """Say what is wrong with the arguments, as JSON too where they want it.

    Args:
        error: what is wrong.
        arguments: all.

    Returns:
        The exit code.
    """
    return common.report(error, _json(arguments))


def _in_plain_words(error: Any) -> str:
    """What the parser says, without the terms of pydantic."""
    for problem in getattr(error.__cause__, "errors", list)():
        if wanted := _WANTED.get(problem["type"]):
            value = str(problem["input"])
            shown = value if len(value) <= _LONGEST else f"{value[:_LONGEST]}..."
            return f"{wanted.format_map(problem.get('ctx', {}))}, got {shown!r}"
    message: str = error.message
    return message.removeprefix("Value error, ")  # in front of what a parser of ours says


def part_of(command: Any, arguments: Sequence[str]) -> Any:
    """The command that takes the arguments: a verb, or the part of it that the first argument names."""
    parts = getattr(command, "commands", {})
    return parts.get(arguments[0], command) if arguments else command


def _check_dashes(command: Any, arguments: Sequence[str]) -> None:
    """Refuse a long option behind a single dash, which the parser would take for -o ut, and the name of a file as such.

    Raises:
        InputError: names the option with two dashes, or the file as no option.
    """
    options = {
        name: parameter
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
        if name.startswith("-")  # others are names of arguments
    }
    is_value = False
    for word in arguments:
        if word == "--":
            return
        name = f"-{word.partition('=')[0]}"
        close = [option for option in options if option.startswith(name)]
        if not is_value and re.match(r"-[a-z]{3}", word) and close:
            raise InputError(f"there is no option {word.partition('=')[0]}: did you mean {' or '.join(close)}?")
        option = options.get(word)
        # Path.exists fails for long texts.
        if not is_value and option is None and re.match(r"-[^-]", word) and os.path.exists(word):  # noqa: PTH110
            raise InputError(
                f"{word} is taken for options, as its name begins with a dash: write ./{word} for the file"
            )
        is_value = not (is_value or option is None or option.is_flag or option.count)


def _json(arguments: Sequence[str]) -> Callable[[Any], None] | None:
    """What writes an error to standard output, where the arguments want JSON."""
    options = list(arguments)[: [*arguments, "--"].index("--")]
    return common.emit if "--json" in options else common.emit_line if "--json-lines" in options else None
