"""Names of output files: a template filled in, such that every file system takes them and no two are the same."""

from __future__ import annotations

import bisect
import re
import string
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from audiosep.audio.formats import FORMATS, SUFFIXES, WITHOUT_SOUND
from audiosep.audio.video_formats import CONTAINERS
from audiosep.errors import InputError

TEMPLATE = "{file} ({stem}).{ext}"
STDOUT = Path("-")
_FILE, _STEM = "\ue000", "\ue001"  # in the place of names, of private use
_LONGEST = 255  # bytes of a file name on the usual file systems
# What Windows does not take in a name; path separators everywhere.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(1, 10))}


def check_template(template: str, format: str | None) -> None:
    """Refuse a template that could not name the outputs of a recording.

    Args:
        template: as in `plan_outputs`.
        format: one of `audio.FORMATS`; None for videos, whose extension is that of each recording.

    Raises:
        InputError: an unknown field, none for the output's name, names that are too long, a path that leaves the folder
            or ends in one, the extension of another format, or characters that no name has.
    """
    try:
        fields = {field for _, field, _, _ in string.Formatter().parse(template) if field is not None}
        known = fields <= {"file", "stem", "ext"} and "stem" in fields
        filled = template.format(file="", stem="", ext=format or "") if known else ""
    except ValueError as error:
        raise InputError(f"template {template!r}: {error}") from error
    if not known:
        raise InputError(
            f"a template has {{stem}} and may have {{file}} and {{ext}}, such as {TEMPLATE!r}: {template!r}"
        )
    if any(len(part.encode()) > _LONGEST for part in Path(filled).parts):
        raise InputError(f"the template {template!r} makes names of more than {_LONGEST} bytes: shorten it")
    if Path(template).is_absolute() or ".." in Path(template).parts:
        raise InputError(f"a template stays inside the output folder: {template!r}")
    if re.search(r"[\x00-\x1f\x7f]", template) or template.endswith(("/", "\\", "/.{ext}")):
        raise InputError(f"a template ends with a file name, without control characters: {template!r}")
    if format is not None:
        _with_extension(template, format)


def check_out(folder: Path) -> None:
    """Refuse a folder of outputs that is not there and has the name of a recording.

    Args:
        folder: that would be made.

    Raises:
        InputError: it is meant for a file.
    """
    if folder.suffix.lower() in SUFFIXES | set(CONTAINERS) and not folder.is_dir():
        raise InputError(
            f"{folder} would be a folder, though its name is that of a file: name a folder; the files in it are named "
            f"by the template, such as {TEMPLATE!r}"
        )


def plan_outputs(
    folder: str | Path,
    names: Sequence[str],
    *,
    file: str,
    format: str,
    template: str = TEMPLATE,
    number: int = 1,
) -> dict[str, Path]:
    """The path of each output.

    Args:
        folder: of the outputs; "-" for the only output to standard output.
        names: of the outputs.
        file: stem of the input's name.
        format: one of `audio.FORMATS`, which is the extension.
        template: with {file}, {stem} (the output's name) and {ext}, which is put behind it where it is missing; slashes
            make subfolders. See `check_template`.
        number: of the input among those with this `file`; from 2 on it follows it, as in "song (2) (piano).wav".

    Returns:
        Name -> path. The paths differ, also where case does not count. In names that some file system refuses,
        characters are replaced by "_", and long names are shortened.

    Raises:
        InputError: several outputs for standard output, or the template alone is longer than a file name may be, or has
            the extension of another format.
    """
    if str(folder) == "-":
        if len(names) != 1:
            raise InputError(f"standard output takes one output, not {len(names)}: name a folder, or a single target")
        return {names[0]: STDOUT}
    paths: dict[str, Path] = {}
    taken: set[str] = set()
    fill = partial(_path, Path(folder), _with_extension(template, format), file, ext=format, file_mark=_mark(number))
    for name in names:
        count = 1
        path = fill(name)
        while str(path).casefold() in taken:
            count += 1
            path = fill(name, name_mark=_mark(count))
        taken.add(str(path).casefold())
        paths[name] = path
    return paths


def earlier_outputs(
    folder: Path, *, file: str, format: str, template: str, listed: Callable[[Path], Sequence[tuple[str, str]]]
) -> dict[Path, int]:
    """Files in a folder that are named as outputs of a recording would be, whatever their own names.

    Args:
        folder: of the outputs, which need not exist.
        file: as in `plan_outputs`.
        format: as in `plan_outputs`.
        template: as in `plan_outputs`.
        listed: `folded_names`, which is worth keeping for thousands of recordings.

    Returns:
        Path -> the number of the recording, as in `plan_outputs`. Nothing for templates whose names do not tell where
        the input's ends, and nothing for names that had to be shortened.
    """
    found = {folder: 1}
    for part in Path(_with_extension(template, format).format(file=_FILE, stem=_STEM, ext=format)).parts:
        between = re.search(f"{_FILE}(.*){_STEM}|{_STEM}(.*){_FILE}", part)
        apart = "" if between is None else between[1] or between[2] or ""
        if between is not None and not apart:
            return {}
        # "song (live) (piano).wav" is no output of song.wav: no output's name has in it what stands before it.
        stem = f"(?:(?!{re.escape(apart)}).)+" if apart else ".+"
        named = re.escape(_allowed(file)) + r"(?: \((?P<number>[0-9]+)\))?"
        pattern = re.escape(part).replace(_FILE, named, 1).replace(_FILE, ".+").replace(_STEM, stem)
        head = part[: part.find(_STEM)] if _STEM in part else part
        head = (head[: head.find(_FILE)] + _allowed(file) if _FILE in head else head).casefold()
        matches = {
            place / name: (number, match)
            for place, number in found.items()
            for name in _beginning(listed(place), head)
            if (match := re.fullmatch(pattern, name, re.IGNORECASE))
        }
        found = {path: int(match.groupdict().get("number") or number) for path, (number, match) in matches.items()}
    return found


def folded_names(folder: Path) -> list[tuple[str, str]]:
    """The names in a folder, each behind its case-folded form and sorted by that; none of one that cannot be read.

    Args:
        folder: of any files.
    """
    try:
        return sorted((path.name.casefold(), path.name) for path in folder.iterdir())
    except OSError:
        return []


def _beginning(names: Sequence[tuple[str, str]], head: str) -> Iterator[str]:
    """Those of sorted names that begin with a case-folded head."""
    for folded, name in names[bisect.bisect_left(names, (head,)) :]:
        if not folded.startswith(head):
            return
        yield name


def _with_extension(template: str, format: str) -> str:
    """The template, with {ext} behind it where it has none.

    Raises:
        InputError: it ends with the extension of other files, or {ext} stands before its end.
    """
    name = Path(template).name
    extensions = FORMATS[format].extensions if format in FORMATS else (f".{format.lower()}",)
    if name.endswith(".{ext}") or name.lower().endswith(extensions):
        return template
    suffix = Path(name).suffix.lower()
    if suffix in SUFFIXES | WITHOUT_SOUND or suffix in CONTAINERS:
        raise InputError(
            f"the template {template!r} is for {suffix[1:]} files, but the format is {format}: use {{ext}}"
        )
    if "{ext" in name:
        raise InputError(
            f"the template {template!r} has {{ext}} inside the name: end it with .{{ext}}, or leave that out"
        )
    return f"{template}.{{ext}}"


def _mark(number: int) -> str:
    """What follows the second and later ones of a name: " (2)"."""
    return f" ({number})" if number > 1 else ""


def _path(
    folder: Path, template: str, file: str, name: str, *, ext: str, file_mark: str = "", name_mark: str = ""
) -> Path:
    """The template filled in. If a part is too long, the end of the output's name is cut off, then of the file's."""
    file, name = _allowed(file), _allowed(name)
    while True:
        parts = Path(template.format(file=file + file_mark, stem=name + name_mark, ext=ext)).parts
        parts = tuple(_unreserved(part) for part in parts)
        excess = max(len(part.encode()) for part in parts) - _LONGEST
        if excess <= 0:
            return folder.joinpath(*parts)
        if len(name) > 16 or (name and not file):
            name = _cut(name, excess)
        elif file:
            file = _cut(file, excess)
        else:
            raise InputError(f"the template {template!r} makes names of more than {_LONGEST} bytes: shorten it")


def _allowed(name: str) -> str:
    """The name with "_" for what some file system refuses, in one Unicode form, as macOS has another than Linux."""
    name = unicodedata.normalize("NFC", name).encode("utf-8", "replace").decode()
    return _FORBIDDEN.sub("_", name).strip().rstrip(".") or "_"


def _cut(name: str, excess: int) -> str:
    """The name without its last `excess` bytes and without the rest of a character that they cut."""
    return name.encode()[:-excess].decode(errors="ignore").rstrip()


def _unreserved(name: str) -> str:
    """The name, with "_" behind a device name of Windows, which is reserved with any extension."""
    head, dot, rest = name.partition(".")
    return f"{head}_{dot}{rest}" if head.strip().casefold() in _RESERVED else name
