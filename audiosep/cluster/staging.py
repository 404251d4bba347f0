"""Outputs that appear whole or not at all, also when whoever makes them is killed at any moment.

    PLACE/NAME/attempt-1   outputs of one recording in the making; of an attempt that died, the folder remains
    PLACE/NAME/attempt-2   the next attempt
    PLACE/NAME/done        complete: they and their record, on their way to where they belong

Whoever comes next, another attempt or another run, finishes what is complete and throws away what is not.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from audiosep.atomic import make_folder
from audiosep.errors import AudioError, AudioSepError

logger = logging.getLogger(__name__)

Record = dict[str, Any]
"""What became of a recording, as JSON; `outputs` holds name -> path below the folder of all outputs."""

_RECORD = "record.json"


class Staging:
    """Where the outputs of one recording are made.

    Args:
        folder: this recording's own.
        root: of all outputs, on the same file system.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder = folder
        self._root = root

    @contextlib.contextmanager
    def attempt(self, limit: int) -> Iterator[Path]:
        """An empty folder for the outputs in the making, until the block ends.

        Args:
            limit: attempts that may die.

        Raises:
            AudioSepError: so many have died.
            AudioError: the disk refuses.
        """
        make_folder(self.folder, AudioError)
        try:
            dead = list(self.folder.glob("attempt-*"))
            for file in [file for attempt in dead for file in attempt.iterdir()]:
                file.unlink()
            work = self.folder / f"attempt-{len(dead) + 1}"
            if len(dead) < limit:
                work.mkdir()
        except OSError as error:
            raise AudioError(f"{self.folder} cannot be written to ({error}): choose another folder") from error
        if len(dead) >= limit:
            raise AudioSepError(f"{len(dead)} workers died over it, perhaps for lack of memory: try fewer workers")
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def commit(self, work: Path, made: Mapping[str, Path], record: Record, *, overwrite: bool = False) -> Record:
        """Put complete outputs where they belong.

        Args:
            work: the folder of the attempt.
            made: name -> file, for each of the record's outputs.
            record: what is told of the recording.
            overwrite: whether existing files may be replaced.

        Raises:
            AudioError: a file exists, or the disk refuses.
        """
        self.check_free(record, overwrite=overwrite)
        try:
            for number, name in enumerate(record["outputs"]):
                made[name].rename(work / str(number))
            (work / _RECORD).write_text(json.dumps(record), encoding="utf-8")
            work.rename(self._done)
        except OSError as error:
            raise AudioError(f"{self._root} cannot be written to ({error}): free some space") from error
        self.settle()
        return record

    def check_free(self, record: Record, *, overwrite: bool) -> None:
        """Refuse to replace what may not be replaced.

        Raises:
            AudioError: names the file.
        """
        for path in record["outputs"].values():
            target = self._root / path
            if target.exists() and not (overwrite and target.is_file()):
                raise AudioError(f"{target} exists already: choose another folder or template, or allow overwrite")

    def settle(self) -> Record | None:
        """Finish what is complete.

        Returns:
            Its record; None when nothing is complete.

        Raises:
            AudioError: the disk refuses; what is complete stays for another time.
        """
        try:
            record: Record = json.loads((self._done / _RECORD).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        for number, path in enumerate(record["outputs"].values()):
            made, target = self._done / str(number), self._root / path
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                made.replace(target)
            except OSError as error:
                if made.exists():
                    raise AudioError(f"{target} cannot be written ({error}): run again when it can") from error
        return record

    def clear(self) -> None:
        """Delete what is still there; complete outputs in their places stay."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _done(self) -> Path:
        return self.folder / "done"


def settle_all(place: Path, root: Path) -> dict[str, Record]:
    """Finish what is complete and delete what is not, of all recordings in a place.

    Args:
        place: of the stagings. root: of all outputs.

    Returns:
        Name of the staging -> record of what is complete; these stagings stay, as only they remember it.
    """
    records = {}
    for folder in sorted(path for path in place.glob("*") if path.is_dir()):
        staging = Staging(folder, root)
        try:
            record = staging.settle()
        except AudioError as error:
            logger.warning("%s: complete outputs wait there: %s", folder, error)
            continue
        if record is None:
            staging.clear()
        else:
            records[folder.name] = record
    return records
