"""The files that a model was loaded from, as they were then: a part that is read later must belong to the others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from audiosep.errors import ModelError

_SUFFIXES = (".json", ".safetensors")  # what models are loaded from


@dataclass(frozen=True)
class LoadedFiles:
    """The state of files; equal where none of them has changed.

    Attributes:
        places: files, and folders of models.
        stamps: path, size in bytes and time of change in ns of each file.
    """

    places: tuple[Path, ...]
    stamps: tuple[tuple[str, int, int], ...]

    @classmethod
    def of(cls, *places: Path | None) -> LoadedFiles:
        """The state that they have now.

        Args:
            places: files, and folders of models; None for those that there are not.
        """
        given = tuple(place for place in places if place is not None)
        files = [file for place in given for file in _files_of(place)]
        return cls(given, tuple((str(path), *_stamp(path)) for path in files if path.is_file()))

    def check(self, name: str) -> None:
        """Refuse to read on where a file has changed.

        Args:
            name: of the model, for the message.

        Raises:
            ModelError: one has, or is not there any more.
        """
        if LoadedFiles.of(*self.places) != self:
            raise ModelError(
                f"{self.places[0]} has changed since {name} was loaded from it: load the model again (audiosep.load)"
            )


def _files_of(place: Path) -> list[Path]:
    if place.is_dir():
        return [path for path in sorted(place.rglob("*")) if path.suffix in _SUFFIXES]
    return [place]


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
