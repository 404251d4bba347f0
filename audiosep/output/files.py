"""Output files of one recording: their names, and writing them together so that they appear together."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import string
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from audiosep.audio import FORMATS, AudioWriter, can_clip, check_format, written_depth
from audiosep.errors import AudioError, InputError

logger = logging.getLogger(__name__)

OnClip = Literal["gain", "float", "clip"]
Samples = NDArray[np.float32]

TEMPLATE = "{file} ({stem}).{ext}"
STDOUT = Path("-")
_LONGEST = 255  # bytes of a file name on the usual file systems
_BLOCK = 65_536
# What Windows does not take in a name; path separators everywhere.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(1, 10))}


def plan_outputs(
    folder: str | Path,
    names: Sequence[str],
    *,
    file: str,
    format: str,
    template: str = TEMPLATE,
    number: int = 1,
) -> dict[str, Path]:
    """Where each output goes.

    Args:
        folder: of the outputs; "-" for the only output to standard output.
        names: of the outputs. file: stem of the input's name. format: one of `audio.FORMATS`.
        template: with {file}, {stem} (the output's name) and {ext}; slashes make subfolders.
        number: of the input among those with this `file`; from 2 on it stands behind it, as in "song (2) (piano).wav".

    Returns:
        Name -> path. The paths differ, also where case does not count; names that no file system takes are made
        harmless and shortened.

    Raises:
        InputError: an unknown field in the template, an unknown format, or several outputs for standard output.
    """
    check_options(format=format, template=template)
    if str(folder) == "-":
        if len(names) != 1:
            raise InputError(f"standard output takes one output, not {len(names)}: name a folder, or a single target")
        return {names[0]: STDOUT}
    paths: dict[str, Path] = {}
    taken: set[str] = set()
    fill = partial(_path, Path(folder), template, file, ext=format, file_mark=_mark(number))
    for name in names:
        count = 1
        path = fill(name)
        while str(path).casefold() in taken:
            count += 1
            path = fill(name, name_mark=_mark(count))
        taken.add(str(path).casefold())
        paths[name] = path
    return paths


def check_options(*, format: str, template: str, on_clip: str = "gain") -> None:
    """Refuse options that no recording could be written with.

    Raises:
        InputError: an unknown format, template field or way of dealing with clipping.
    """
    if format not in FORMATS:
        raise InputError(f"unknown format {format!r}; use {', '.join(FORMATS)}")
    if on_clip not in get_args(OnClip):
        raise InputError(f"on_clip must be {', '.join(get_args(OnClip))}, got {on_clip!r}")
    if on_clip == "float" and written_depth(format, "float") != "float":
        raise InputError(f"{format} files hold no floating-point samples: use format='wav' or on_clip='gain'")
    try:
        fields = {field for _, field, _, _ in string.Formatter().parse(template) if field is not None}
    except ValueError as error:
        raise InputError(f"template {template!r}: {error}") from error
    if not fields <= {"file", "stem", "ext"} or "stem" not in fields:
        raise InputError(
            f"a template has {{stem}} and may have {{file}} and {{ext}}, such as {TEMPLATE!r}: {template!r}"
        )
    if Path(template).is_absolute() or ".." in Path(template).parts:
        raise InputError(f"a template stays inside the output folder: {template!r}")


def _mark(number: int) -> str:
    """What tells the second from the first of a name."""
    return f" ({number})" if number > 1 else ""


def _path(
    folder: Path, template: str, file: str, name: str, *, ext: str, file_mark: str = "", name_mark: str = ""
) -> Path:
    """The template filled in; what is too long loses the end of the output's name, then of the file's."""
    file, name = _harmless(file), _harmless(name)
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


def _harmless(name: str) -> str:
    name = unicodedata.normalize("NFC", name).encode("utf-8", "replace").decode()
    return _FORBIDDEN.sub("_", name).strip().rstrip(".") or "_"


def _cut(name: str, excess: int) -> str:
    """Without the last `excess` bytes, but never within a character."""
    return name.encode()[:-excess].decode(errors="ignore").rstrip()


def _unreserved(name: str) -> str:
    """Device names of Windows with an underscore, whatever their extension."""
    head, dot, rest = name.partition(".")
    return f"{head}_{dot}{rest}" if head.strip().casefold() in _RESERVED else name


class Outputs:
    """Files of equal length that are written block by block and appear together, or not at all.

    Where samples of an integer or lossy format would clip, what to do is known only at the end. Until then the
    samples lie in temporary files as floats: that costs disk, not memory, and not a second separation.

    Args:
        paths: name -> file. sample_rate: Hz. channels: of each.
        format, depth, tags: as in `audio.AudioWriter`.
        on_clip: where an output would clip: "gain" multiplies all by one gain, "float" writes all as floats,
            "clip" saturates.
        overwrite: whether existing files may be replaced.
        peak: largest absolute sample of all outputs where it is known beforehand.

    Attributes:
        gain: what all samples were multiplied by. clipped: samples that were saturated.

    Raises:
        AudioError: a file exists, or the format cannot hold the sample rate or channels.
    """

    def __init__(
        self,
        paths: Mapping[str, Path],
        sample_rate: int,
        channels: int,
        *,
        format: str = "wav",
        depth: str = "16",
        tags: Mapping[str, str] | None = None,
        on_clip: OnClip = "gain",
        overwrite: bool = False,
        peak: float | None = None,
    ) -> None:
        check_format(format, sample_rate, channels)
        for path in paths.values():
            if path != STDOUT and path.exists() and not overwrite:
                raise AudioError(f"{path} exists already: choose another folder or template, or allow overwrite")
        self.gain, self.clipped, self.depth = 1.0, 0, depth
        self._paths = dict(paths)
        self._shape = (sample_rate, channels)
        self._options: dict[str, Any] = {"format": format, "tags": tags, "overwrite": overwrite}
        self._on_clip = on_clip
        self._may_clip = on_clip != "clip" and can_clip(format, depth)
        self._peak = 0.0 if peak is None else peak
        self._writers: dict[str, AudioWriter] = {}
        self._spools: dict[str, IO[bytes]] = {}
        for path in paths.values():
            if path != STDOUT:
                make_folder(path.parent)
        try:
            if self._may_clip and peak is None:
                self._spools = {name: _spool(path) for name, path in self._paths.items()}
            else:
                self._open()
        except BaseException:
            self.discard()
            raise

    def __enter__(self) -> Outputs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def write(self, blocks: Mapping[str, Samples]) -> None:
        """Append (channels, n) samples to each file."""
        for name, block in blocks.items():
            if not block.shape[1]:
                continue
            if name in self._spools:
                self._peak = max(self._peak, float(np.abs(block).max(initial=0)))
                _append(self._spools[name], block)
            else:
                self._writers[name].write(block * np.float32(self.gain) if self.gain != 1 else block)

    def close(self) -> None:
        """Put all files in their places; if one cannot be, none is: what they replaced is there again.

        Until all are in place, the replaced files lie beside them as `.audiosep-*.old`. They stay there where the disk
        refuses to put them back, which is then in the log, and where the process is killed within `close`: only then
        may some files be new and some old.

        Raises:
            AudioError: a file cannot be written.
            InputError: nothing was written to them.
        """
        finished = False
        placed: list[Path] = []
        aside: dict[Path, Path] = {}
        try:
            if self._spools:
                self._open()
                for name, spool in self._spools.items():
                    for block in _blocks(spool, self._shape[1]):
                        self._writers[name].write(block * np.float32(self.gain) if self.gain != 1 else block)
                    spool.close()
            for writer in self._writers.values():
                if self._options["overwrite"] and writer.path.is_file():
                    aside[writer.path] = _hidden(writer.path)
                    _set_aside(writer.path, aside[writer.path])
                writer.close()
                placed.append(writer.path)
                self.clipped += writer.clipped
            finished = True
        finally:
            if not finished:
                self.discard()
                for path in placed:  # only ours: another program may have made the others
                    if path not in aside:
                        path.unlink(missing_ok=True)
            for path, old in aside.items():
                _settle(path, old, back=not finished)

    def discard(self) -> None:
        """Delete everything that is not in its place yet."""
        for spool in self._spools.values():
            spool.close()
        for writer in self._writers.values():
            with contextlib.suppress(AudioError):
                writer.discard()

    def _open(self) -> None:
        """Decide what to do about clipping, and open the files."""
        if self._may_clip and self._peak > 1:
            if self._on_clip == "float":
                self.depth = "float"
            else:
                # A float32 above 1 times its own reciprocal may round to just above 1.
                self.gain = float(np.nextafter(np.float32(1 / self._peak), np.float32(0)))
            done = "written as floats" if self._on_clip == "float" else f"multiplied by {self.gain:.6f}"
            logger.info("%s and its siblings would clip: all are %s", next(iter(self._paths.values())), done)
        for name, path in self._paths.items():
            self._writers[name] = AudioWriter(path, *self._shape, depth=self.depth, **self._options)


def make_folder(folder: Path) -> None:
    """Make a folder for outputs, with those above it.

    Raises:
        AudioError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AudioError(f"the folder {folder} cannot be made ({error.strerror}): choose another one") from error


def _hidden(path: Path) -> Path:
    return path.with_name(f".audiosep-{secrets.token_hex(8)}.old")


def _set_aside(path: Path, old: Path) -> None:
    """Keep the file at `path` as `old` too; where a file system has no links, as `old` only."""
    try:
        try:
            os.link(path, old, follow_symlinks=False)
        except (OSError, NotImplementedError):
            path.rename(old)
    except OSError as error:
        raise AudioError(f"{path} cannot be replaced ({error.strerror}): choose another folder") from error


def _settle(path: Path, old: Path, *, back: bool) -> None:
    """Delete what was set aside, or put it back."""
    try:
        if back and old.exists():
            old.replace(path)
        old.unlink(missing_ok=True)  # two links to one file do not replace each other
    except OSError as error:
        logger.warning("%s is still there as %s (%s): rename or delete it by hand", path, old, error)


def _spool(path: Path) -> IO[bytes]:
    """A nameless temporary file in the folder of `path`, where there must be room anyway."""
    try:
        return tempfile.TemporaryFile(dir=None if path == STDOUT else path.parent)
    except OSError as error:
        raise AudioError(f"{path.parent} cannot be written to ({error}): choose another folder") from error


def _append(spool: IO[bytes], block: Samples) -> None:
    try:
        spool.write(np.ascontiguousarray(block.T, dtype=np.float32).data)
    except OSError as error:
        raise AudioError(f"the disk of the outputs refuses ({error}): free some space") from error


def _blocks(spool: IO[bytes], channels: int) -> Iterator[Samples]:
    spool.seek(0)
    while data := spool.read(_BLOCK * channels * 4):
        yield np.frombuffer(data, np.float32).reshape(-1, channels).T
