"""Files that list the inputs of a job, for `--manifest`, as audiosep and other programs write them."""

from __future__ import annotations

import codecs
import csv
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from audiosep.audio.formats import is_recording
from audiosep.errors import InputError, missing_file
from audiosep.weights.catalogue import expand_home

_TABLES = (".csv", ".tsv")
_DELIMITERS = ";,\t"
_HEADERS = ("path", "file", "filename", "file name", "filepath", "audio", "input", "recording", "location")


def read_inputs(path: Path) -> list[str]:
    """The recordings that a manifest names, relative ones starting at its folder.

    A manifest is what `audiosep data build` writes, a list with a path a line, perhaps quoted and with comments behind
    "#", or with NUL between paths, as of `find -print0`, a playlist (M3U, PLS, XSPF), or a table with a column of
    paths, as spreadsheets save them; in UTF-8, in UTF-16 as of Windows shells, or in the code page of Windows.

    Args:
        path: of the manifest; `-` for standard input, whose paths start at the current folder.

    Raises:
        InputError: it cannot be read, names nothing, or a line is neither a path nor a clip in a file of its own.
    """
    where = f"--manifest {path}"
    try:
        if is_recording(path):  # perhaps more than fits into memory
            path.stat()  # of one that is missing that is told
            raise InputError(f"{where}: is a recording and no list: name it without --manifest")
        content = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"--manifest: {missing_file(path)}") from error
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror})") from error
    text = _decoded(content, table=path.suffix.lower() in _TABLES)
    folder = Path() if str(path) == "-" else path.parent
    if text.lstrip().startswith(("<?xml", "<playlist")):
        names = _tracks(content, folder, where)
    else:
        names = list(_names(text, folder, where, table=path.suffix.lower() in _TABLES))
    if not names:
        raise InputError(f"{where}: names no recording")
    return [str(folder / _located(name, folder)) for name in names]


def _decoded(content: bytes, *, table: bool) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Spreadsheets on Windows save tables in its code page; elsewhere names of files are bytes.
        return content.decode("cp1252", "replace") if table else content.decode("utf-8-sig", "surrogateescape")


def _names(text: str, folder: Path, where: str, *, table: bool) -> Iterator[str]:
    if re.search(r"[\x01-\x08\x0e-\x1f]", text):
        raise InputError(f"{where}: is no list of paths, it has other bytes than text")
    if "\0" in text:
        yield from (name for name in text.split("\0") if name.strip("\r\n"))
        return
    # At line breaks only (on Macs spreadsheets write CR alone): str.splitlines also breaks at characters that JSON has
    # in captions.
    lines = [line.removesuffix("\r") for line in text.split("\n" if "\n" in text else "\r")]
    if any(line.startswith(("#EXTM3U", "#EXTINF")) for line in lines):  # a playlist
        lines = [line for line in lines if not line.startswith("#")]
    names = [line for line in lines if line.strip() and not _is_comment(line, folder)]
    first = next(iter(names), "")
    if first.strip().lower() == "[playlist]":
        yield from (entry[1] for line in lines if (entry := re.match(r"file\d+=(.+)", line, re.IGNORECASE)))
    elif first.startswith("{"):
        yield from _clips(lines, where)
    elif table or (not _exists(folder, first) and any(mark in first for mark in ";\t")):
        commented = {line for line in lines if line.startswith("#") and not any(mark in line for mark in _DELIMITERS)}
        rows = [line for line in lines if line.strip() and line not in commented]  # "#" may head a column
        yield from _column(rows, folder, where)
    else:
        yield from names


def _tracks(content: bytes, folder: Path, where: str) -> list[str]:
    """The files of an XSPF playlist (xspf.org, version 1): of each track the first that exists, else the first."""
    from xml.etree import ElementTree

    try:
        playlist = ElementTree.fromstring(content)
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # the others: an encoding that is not known
        raise InputError(f"{where}: its XML is damaged ({error}): save it again") from error
    if playlist.tag.rpartition("}")[2] != "playlist":
        raise InputError(f"{where}: XML of another kind than an XSPF playlist: save it as .xspf or .m3u8")
    names = []
    for track in playlist.iterfind("{*}trackList/{*}track"):
        places = [place.text.strip() for place in track.iterfind("{*}location") if place.text and place.text.strip()]
        names += [next((place for place in places if _exists(folder, place)), places[0])] if places else []
    return names


def _clips(lines: list[str], where: str) -> Iterator[str]:
    """The files of a manifest of clips."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            clip = json.loads(line)
            name = clip["path"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{where}, line {number}: no clip with a path ({error})") from error
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"{where}, line {number}: path must name a recording, got {name!r}")
        if clip.get("member"):
            raise InputError(f"{where}, line {number}: {name} is an archive: unpack it first")
        if clip.get("start") or clip.get("channel") is not None:
            part = "start" if clip.get("start") else "channel"
            raise InputError(
                f"{where}, line {number}: the clip is a part of {name} ({part}), and recordings are taken whole: "
                "cut it first, or list the recordings in a file with a path a line"
            )
        yield name


def _column(lines: list[str], folder: Path, where: str) -> Iterator[str]:
    """The column of paths of a table: the one with the most existing files, else the one with a usual name."""
    if lines and lines[0].startswith("sep="):  # a hint for spreadsheets
        lines = lines[1:]
    delimiter = max(_DELIMITERS, key=lines[0].count) if lines else ","
    rows = [[line] for line in lines]
    if not any(_exists(folder, line) for line in lines):
        rows = [row for row in csv.reader(lines, delimiter=delimiter) if row]
    found = [
        sum(_exists(folder, row[k]) for row in rows if k < len(row)) for k in range(max(map(len, rows), default=0))
    ]
    if any(found):
        column = found.index(max(found))
        header = not _exists(folder, rows[0][column]) if column < len(rows[0]) else True
    else:
        names = [cell.strip().casefold() for cell in rows[0]] if rows else []
        column = next((names.index(name) for name in _HEADERS if name in names), -1)
        header = True
        if column < 0:
            raise InputError(f"{where}: no column names files that exist: check the paths, or name a column path")
    yield from (row[column].strip() for row in rows[header:] if column < len(row) and row[column].strip())


def _is_comment(line: str, folder: Path) -> bool:
    """Whether a line has "#" at its start, and is neither a file nor looks like the name of a recording."""
    return line.startswith("#") and not _exists(folder, line) and not is_recording(Path(line.strip()))


def _located(name: str, folder: Path) -> str:
    """The path of a name that may be a URL, be in quotes, in the code page of Windows or below "~", or have escapes."""
    from urllib.parse import unquote

    if name.strip().startswith("file://"):
        from urllib.request import url2pathname

        return url2pathname(name.strip().removeprefix("file://").removeprefix("localhost"))
    windows = re.sub("[\udc80-\udcff]+", _on_windows, name)
    bare = name.strip().strip("\"'")
    others = (name, name.strip(), bare, unquote(name), windows, windows.strip(), bare and str(expand_home(bare)))
    # Not Path.exists, which may raise.
    return next((one for one in dict.fromkeys(others) if one and os.path.exists(folder / one)), name)  # noqa: PTH110


def _on_windows(octets: re.Match[str]) -> str:
    """The letters of bytes that are no UTF-8, as in M3U playlists of Windows."""
    return octets[0].encode("utf-8", "surrogateescape").decode("cp1252", "replace")


def _exists(folder: Path, name: str) -> bool:
    return bool(name.strip()) and os.path.exists(folder / _located(name, folder))  # noqa: PTH110 - as above
