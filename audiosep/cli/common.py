"""What the verbs share: their options, errors as exit codes, logging, JSON on standard output."""

from __future__ import annotations

import dataclasses
import errno
import functools
import inspect
import json
import logging
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

import typer

from audiosep.cli import discard_output
from audiosep.cli.choices import choice, device
from audiosep.cli.standard_error import Terminal, silent_libraries
from audiosep.errors import (
    AudioSepError,
    Cancelled,
    ConfigError,
    DependencyError,
    InputError,
    ModelError,
    QueryError,
    missing_file,
)
from audiosep.inference.options import Engine
from audiosep.weights.catalogue import expand_home, locate

if TYPE_CHECKING:
    from audiosep.separator import Separator

Verb = Callable[..., int | None]
DONE, FAILED, USAGE, CANCELLED = 0, 1, 2, 130
NO_MODEL = "none"
# Arguments in messages of the library that are options of the same name; not parts of paths.
_ARGUMENT = re.compile(
    r"(?<![\w/])(?P<name>device|engine|on_clip|overwrite|precision|skip_existing|video)=(?:'(?P<value>[^']*)'|True)"
    r"|(?<=\()(?P<alone>bitrate|only|track)=(?=\))"
    r"|(?<![\w/])(?P<bare>max_seconds|on_clip)(?![\w/.=-])"
    r"|^(?P<first>batch|bitrate|end|held_back|jobs|latency|learning_rate|loudness|minutes|overlap|past|preview|shifts"
    r"|start|steps|threads|weight|workers)(?= must )"
)
_RECENT = 64  # warnings that are not repeated; a server runs for long
_SHOWN = 40  # characters of a name that is too long
_NOT_WRITTEN = (errno.ENOSPC, errno.EPIPE, errno.EIO)

Model = Annotated[str, typer.Option("--model", "-m", metavar="NAME", help="Name, folder or hub id of the model.")]
Adapter = Annotated[Path | None, typer.Option("--adapter", metavar="FILE", help="A file made by `audiosep finetune`.")]
Device = Annotated[
    str, typer.Option("--device", metavar="NAME", parser=device, help="auto, cpu, cuda, cuda:1, mps ...")
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="NAME",
        parser=choice("auto", "fp32", "bf16", "fp16"),
        help="Of the network's layers: auto, fp32, bf16 or fp16.",
    ),
]
EngineName = Annotated[
    Engine,
    typer.Option(
        "--engine",
        metavar="|".join(get_args(Engine)),
        parser=choice(*get_args(Engine)),
        help="What computes the network's layers; openvino is for the CPU.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", min=1, help="CPU threads [default: as many as CPUs are free]."),
]
SoundsFile = Annotated[
    Path | None,
    typer.Option("--sounds", metavar="FILE", help="Sounds with names of your own [default: $AUDIOSEP_SOUNDS]."),
]
SkipBroken = Annotated[
    bool, typer.Option("--skip-broken", help="Leave broken files out, with a warning for each, instead of stopping.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Write one JSON document to standard output.")]
JsonLines = Annotated[
    bool, typer.Option("--json-lines", help="Write JSON, a line for each thing that happens, to standard output.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show errors only: no progress bar, no remarks.")]
Verbose = Annotated[
    int, typer.Option("--verbose", "-v", count=True, show_default=False, help="Show more messages (-vv: all).")
]


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """Which model a verb uses, and what computes it; options of the command line."""

    model: Model = "mini"
    adapter: Adapter = None
    device: Device = "auto"
    precision: Precision = "auto"
    engine: EngineName = "torch"
    threads: Threads = None
    sounds: SoundsFile = None

    def load(self, *, own_names: bool = True, stems: str | None = None) -> Separator:
        """The separator, computing with the threads that were asked for.

        Args:
            own_names: whether it knows the sounds with names of the user's own.
            stems: as in `audiosep.load`.

        Raises:
            AudioSepError: as in `audiosep.load`.
        """
        from audiosep.api import load
        from audiosep.inference.threads import use_threads

        use_threads(self.threads)
        sounds = own_names and (self.sounds or True)
        return load(self.model, self.device, self.precision, self.adapter, self.engine, sounds, stems)

    def check(self) -> None:
        """Look the model and the adapter up, without loading them.

        Raises:
            ModelError: the model is not on this machine, or its folder is none of a model.
            InputError: no such adapter.
        """
        from audiosep.weights.model_config import read_config

        read_config(locate(self.model))
        if self.adapter is not None and not self.adapter.is_file():
            raise InputError(missing_file(self.adapter, "adapter"))

    def stems_from(self, stems_model: str | None) -> str | None:
        """The model whose stems are given in place of the model's own.

        Args:
            stems_model: what the command line says: a model, "none", or None for the user's configuration, which holds
                for the model of default without an adapter.

        Returns:
            Its name; None where the model gives its own stems.

        Raises:
            ConfigError: the user's configuration file is damaged.
        """
        from audiosep.weights.user_config import read_user_config

        if stems_model is None and self.model == ModelOptions.model and self.adapter is None:
            stems_model = read_user_config().stems_model
        return None if stems_model == NO_MODEL else stems_model


@contextmanager
def stems_of_configuration(configured: bool) -> Iterator[None]:
    """Let errors of a model that nobody named on the command line say why it is used, and how to go without it.

    Args:
        configured: whether the model of the stems is named by the user's configuration file alone.

    Raises:
        AudioSepError: of the same type, with that behind its message.
    """
    from audiosep.weights.user_config import user_config_path

    try:
        yield
    except (ModelError, DependencyError, InputError) as error:
        if not configured:
            raise
        raise type(error)(
            f"{error}; your configuration file {user_config_path()} asks for this model of the stems: change it, or "
            f"give --stems-model {NO_MODEL}"
        ) from error


def _at_home(value: Any) -> Any:
    """A path with the home folder for "~", which shells leave in --option=~/path."""
    if isinstance(value, list):
        return [_at_home(one) for one in value]
    return expand_home(value) if isinstance(value, Path) else value


def application(help: str | None = None) -> typer.Typer:
    """A typer application with plain-text help, which is quicker than rich text and the same in every terminal."""
    return typer.Typer(
        help=help,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )


def guarded(verb: Verb) -> Callable[..., None]:
    """Make a function a verb of typer.

    What it returns or raises becomes the exit code; with --json an error is also written as JSON. What C libraries
    write to standard error is seen with --verbose alone, also the last words of one that crashes. A parameter whose
    type is a dataclass stands for one option per field. A field of the type Annotated[C, {name: option, ...}], where C
    is another dataclass, stands for these options of C's fields, with the types and defaults that they have in C.
    """
    parameters: list[inspect.Parameter] = []
    groups: dict[str, type[Any]] = {}
    hints = get_type_hints(verb, include_extras=True)
    for parameter in inspect.signature(verb).parameters.values():
        kind = hints[parameter.name]
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            groups[parameter.name] = kind
            parameters += _options_of(kind)
        else:
            parameters.append(parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(verb)
    def run(**given: Any) -> None:
        write = emit if given.get("as_json") else emit_line if given.get("json_lines") else None
        silent = not given.get("verbose")
        try:
            given = {name: _at_home(value) for name, value in given.items()}
            for name, group in groups.items():
                given[name] = _build(group, given)
            with silent_libraries(silent):
                code = verb(**given)
            if sys.stdout is not None:
                sys.stdout.flush()
        except KeyboardInterrupt:
            code = report(Cancelled("cancelled; no half-written file is left"), write)
        except AudioSepError as error:
            code = report(error, write)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:  # wherever a file was looked for
                code = report(_too_long(error), write)
            elif error.errno in _NOT_WRITTEN and error.filename is None:  # standard output, not a file
                discard_output()
                closed = isinstance(error, BrokenPipeError)  # as by `| head`, which has all that it wants
                code = FAILED if closed else report(_not_written(error), None)
            else:
                raise
        raise typer.Exit(code or DONE)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer makes the options of
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _too_long(error: OSError) -> InputError:
    name = str(error.filename)
    shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
    return InputError(f"no file has a name as long as {shown!r}: give the path of one, and choose shorter names")


def _options_of(group: type[Any]) -> list[inspect.Parameter]:
    """The parameters that a dataclass stands for, see `guarded`."""
    hints = get_type_hints(group, include_extras=True)
    parameters = []
    for field in dataclasses.fields(group):
        if nested := _nested(hints[field.name]):
            parameters += _parameters(*nested)
        else:
            parameters.append(_parameter(field, hints[field.name]))
    return parameters


def _parameters(group: type[Any], options: Mapping[str, Any]) -> list[inspect.Parameter]:
    """A parameter for each option of a dataclass that does not import typer."""
    hints = get_type_hints(group)
    fields = {field.name: field for field in dataclasses.fields(group)}
    return [_parameter(fields[name], Annotated[hints[name], option]) for name, option in options.items()]


def _parameter(field: dataclasses.Field[Any], annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=annotation)


def _nested(hint: Any) -> tuple[type[Any], Mapping[str, Any]] | None:
    """The dataclass and the options of Annotated[dataclass, options]; None for another type."""
    kind, *extras = get_args(hint) or (hint,)
    return (kind, extras[0]) if dataclasses.is_dataclass(kind) and isinstance(kind, type) else None


def _build(group: type[Any], given: dict[str, Any]) -> Any:
    """A dataclass of the values of its options, which are taken out of `given`."""
    values = {}
    for name, hint in get_type_hints(group, include_extras=True).items():
        if nested := _nested(hint):
            kind, options = nested
            values[name] = kind(**{option: given.pop(option) for option in options})
        else:
            values[name] = given.pop(name)
    return group(**values)


def exit_code(error: Exception) -> int:
    """The exit code of an error."""
    if isinstance(error, Cancelled):
        return CANCELLED
    return USAGE if isinstance(error, InputError | QueryError | ConfigError) else FAILED


def on_command_line(message: str) -> str:
    """What the library says, with the options of the command line in place of the arguments of Python.

    >>> on_command_line("choose another folder, or overwrite=True")
    'choose another folder, or --overwrite'
    >>> on_command_line("use precision='fp32' or device='cpu'")
    'use --precision fp32 or --device cpu'
    """

    def option(argument: re.Match[str]) -> str:
        name = next(filter(None, argument.group("name", "alone", "bare", "first"))).replace("_", "-")
        value = argument["value"]
        return f"--{name} {value}" if value else f"--{name}"

    return _ARGUMENT.sub(option, message)


def report(error: AudioSepError, write: Callable[[dict[str, Any]], None] | None) -> int:
    """Write an error.

    Args:
        error: what is wrong.
        write: writes it as JSON too; None where that is not wanted.

    Returns:
        Its exit code.
    """
    print(f"audiosep: {on_command_line(str(error))}", file=sys.stderr)
    if write is not None:
        write({"error": describe(error)})
    return exit_code(error)


def describe(error: Exception) -> dict[str, str]:
    """An error for JSON."""
    return {"type": type(error).__name__, "message": on_command_line(str(error))}


def emit(document: Any) -> None:
    """Write one JSON document to standard output."""
    say(json.dumps(document, indent=2, allow_nan=False))


def emit_line(document: Any) -> None:
    """Write one JSON document to standard output, in a line."""
    say(json.dumps(document, allow_nan=False))


def say(text: str) -> None:
    """Write a line to standard output at once, for a program or a user that waits for it; nothing if it is closed.

    Raises:
        AudioSepError: it cannot be written, because the disk is full or its reader has ended.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(f"{text}\n")  # at once, as several threads may report
        sys.stdout.flush()
    except OSError as error:
        discard_output()
        raise _not_written(error) from error


def _not_written(error: OSError) -> AudioSepError:
    if isinstance(error, BrokenPipeError):
        return AudioSepError("stopped: the program that reads standard output has ended")
    return AudioSepError(f"standard output cannot be written: {error.strerror}")


def logs_to(target: Terminal, verbose: int, quiet: bool) -> None:
    """Send the library's log to `target`: warnings, or more with --verbose, or errors only with --quiet."""
    level = logging.ERROR if quiet else (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logger = logging.getLogger("audiosep")
    for handler in [handler for handler in logger.handlers if isinstance(handler, _Handler)]:
        logger.removeHandler(handler)
    logger.addHandler(_Handler(target))
    logger.setLevel(level)


class _Handler(logging.Handler):
    """Writes log lines above the progress bar; a warning once, however often the same file is read."""

    def __init__(self, target: Terminal) -> None:
        super().__init__()
        self._target = target
        self._recent: deque[str] = deque(maxlen=_RECENT)

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{record.levelname.lower()}: {on_command_line(self.format(record))}"
        if line in self._recent:
            return
        if record.levelno == logging.WARNING:
            self._recent.append(line)
        self._target.print(line)
