"""What verbs write: the files and folders that they may write, and outputs that exist already."""

from __future__ import annotations

import functools
import inspect
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from audiosep.cli.common import DONE, Verb, emit, say
from audiosep.errors import InputError


def check_folder(folder: Path, option: str = "--out") -> None:
    """Refuse an output that no folder can be.

    Args:
        folder: that will be made, or is there.
        option: that names it.

    Raises:
        InputError: it is a file, or the system does not take the name.
    """
    try:
        there = folder.stat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{option} {folder} cannot be a folder ({error.strerror}): choose another name") from error
    if not stat.S_ISDIR(there.st_mode):
        raise InputError(f"{option} {folder} is a file: name a folder")


def check_file(out: Path, *suffixes: str, inputs: Iterable[Path] = ()) -> None:
    """Refuse a file to write that has the name of another kind of file, such as a recording, or is an input.

    Args:
        out: the file.
        suffixes: of what is written, in lower case.
        inputs: files that the verb reads.

    Raises:
        InputError: it must not be written.
    """
    if out.suffix.lower() not in suffixes:
        raise InputError(f"{out} is no name for what is written: let it end in {' or '.join(suffixes)}")
    if out.is_dir():
        raise InputError(f"{out} is a folder: name a file")
    if os.path.realpath(out) in map(os.path.realpath, inputs):
        raise InputError(f"{out} is read, and would be overwritten: name another file")


def check_fresh_folder(folder: Path, option: str) -> None:
    """Refuse a folder of recordings where a run or a model goes, which have a config.json.

    Args:
        folder: that will be made, or is there.
        option: that names it.

    Raises:
        InputError: it is a file, or holds recordings.
    """
    from audiosep.audio import is_recording

    check_folder(folder, option)
    if not (folder / "config.json").is_file() and any(is_recording(path) for path in folder.rglob("*")):
        raise InputError(f"{option} {folder} holds recordings: name another folder")


def skippable(output: Callable[[Mapping[str, Any]], Path]) -> Callable[[Verb], Verb]:
    """Give a verb the option --skip-existing: it does nothing where its output exists, which is then whole.

    Args:
        output: the arguments of the verb -> the file or folder that it writes.
    """

    def decorate(verb: Verb) -> Verb:
        @functools.wraps(verb)
        def run(*, skip_existing: bool, **given: Any) -> int | None:
            path = output(given)
            if not skip_existing or not path.exists():
                return verb(**given)
            if given.get("as_json"):
                emit({"skipped": str(path)})
            else:
                say(str(path))
            return DONE

        kind = Annotated[bool, typer.Option("--skip-existing", help="Do nothing where the output exists.")]
        option = inspect.Parameter("skip_existing", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        parameters = [*inspect.signature(verb).parameters.values(), option]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by `guarded`
        run.__annotations__ = {**get_type_hints(verb, include_extras=True), "skip_existing": kind}
        return run

    return decorate
