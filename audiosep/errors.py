"""The exceptions this library raises. Every message names the remedy."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


class AudioSepError(Exception):
    """Base of all errors that audiosep raises on purpose."""


class InputError(AudioSepError, ValueError):
    """An argument or its content cannot be processed (NaN, no samples, unknown option)."""


class BehindTheEndError(InputError):
    """A part of a recording begins where the recording has ended."""


class AudioError(AudioSepError):
    """An audio file cannot be read or written."""


class QueryError(AudioSepError, ValueError):
    """The model did not understand a query, or cannot take this kind of query."""


class ModelError(AudioSepError):
    """A model is missing, damaged, closed, or cannot do what it is used for."""


class ConfigError(AudioSepError, ValueError):
    """A configuration has an unknown, missing or impossible value."""


class DataError(AudioSepError, ValueError):
    """A training or test set is not laid out as its reader expects."""


class TrainingError(AudioSepError):
    """A training run cannot go on."""


class DependencyError(AudioSepError, ImportError):
    """An optional package is missing or broken."""


class Cancelled(AudioSepError):
    """The progress callback returned False, or the user pressed Ctrl-C; no half-written file is left."""


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: the known one that it resembles, or nothing.

    Args:
        text: the unknown word.
        known: words.

    >>> did_you_mean("Drumms", ["bass", "drums"])
    "; did you mean 'drums'?"
    """
    import difflib

    close = difflib.get_close_matches(text.lower(), known, 1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A number of things, for messages.

    Args:
        count: how many.
        noun: what one of them is.
        plural: what several are; None: the noun and an s.

    >>> counted(1, "file"), counted(2, "query", "queries")
    ('1 file', '2 queries')
    """
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"


def install_extra(extra: str) -> str:
    """How to install an optional part of this package, for messages.

    The name of the package alone is not enough: a package index may know it as somebody else's.

    Args:
        extra: its name in `pyproject.toml`.
    """
    return f'pip install ".[{extra}]" in a checkout of audiosep, or pip install "FILE.whl[{extra}]" with its wheel'


def address_in(path: str | Path) -> str | None:
    """The address that was given in the place of a path; None for a path.

    Args:
        path: as it was given, also behind a folder; `Path` drops a slash of an address.
    """
    found = re.search(r"(?:^|/)(?!file:)([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", str(path))
    return f"{found[1]}://{found[2]}" if found else None


def missing_file(path: str | Path, kind: str = "file") -> str:
    """What to say of a path at which there is nothing.

    Args:
        path: as it was given; also an address, of which `Path` drops a slash, or one behind a folder. What is there may
            also be of another kind.
        kind: what should be there: a file or a folder.

    >>> missing_file(Path("https://example.com/a.mp3"))
    'https://example.com/a.mp3 is an address, and nothing is fetched: download it first, and name the file'
    """
    if address := address_in(path):
        return f"{address} is an address, and nothing is fetched: download it first, and name the {kind}"
    with contextlib.suppress(OSError):  # of a name that is too long
        if Path(path).exists():
            return f"{path} is a {'folder' if Path(path).is_dir() else 'file'}: name the {kind}"
    return f"there is no {kind} {path}: check the spelling and the folder"


class BatchError(AudioSepError):
    """Some files of a batch failed; the others were separated.

    Args:
        failures: path -> the error of that file.
        successes: paths of the files that were separated.

    Attributes:
        failures: as above.
        successes: as above.
    """

    def __init__(self, failures: Mapping[Path, Exception], successes: Sequence[Path]) -> None:
        self.failures = dict(failures)
        self.successes = list(successes)
        lines = [f"  {path}: {error}" for path, error in self.failures.items()]
        total = len(self.failures) + len(self.successes)
        super().__init__("\n".join([f"{len(self.failures)} of {counted(total, 'file')} failed:", *lines]))

    def __reduce__(self) -> tuple[type[BatchError], tuple[dict[Path, Exception], list[Path]]]:
        """What pickle needs: the error comes back whole from another process."""
        return type(self), (portable(self.failures), self.successes)


def portable(failures: Mapping[Path, Exception]) -> dict[Path, Exception]:
    """Errors of files, each such that pickle can bring it to another process.

    Errors of other libraries may not be pickled, or not be read again, which lets a multiprocessing Pool wait forever.

    Args:
        failures: path -> error; one that pickle cannot handle becomes an AudioSepError with its type and message.
    """
    return {path: error if _is_portable(error) else _named(error) for path, error in failures.items()}


def _is_portable(error: Exception) -> bool:
    if isinstance(error, AudioSepError):
        return True
    try:
        written = error.__reduce_ex__(2)  # what pickle writes: class, arguments, attributes
        assert not isinstance(written, str)
        again = written[0](*written[1])
    except Exception:  # whatever their code raises
        return False
    values = [*written[1], *(written[2].values() if len(written) > 2 and written[2] else ())]
    return type(again) is type(error) and "<locals>" not in type(error).__qualname__ and all(map(_is_plain, values))


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | bytes | int | float | Path)


def _named(error: Exception) -> AudioSepError:
    return AudioSepError(f"{type(error).__name__}: {error}")
