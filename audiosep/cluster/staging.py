"""Outputs that appear completely or not at all, even if the process that makes them is killed.

    PLACE/NAME/attempt-1   unfinished outputs of one recording; the folder remains if the attempt died
    PLACE/NAME/attempt-2   the next attempt
    PLACE/NAME/done        complete outputs and their record, before they are moved to their places

The next attempt or the next run moves complete outputs and deletes incomplete ones. Complete outputs in whose place
another file has appeared wait until it is away, or may be replaced.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from audiosep.atomic import make_folder, write_text
from audiosep.errors import AudioError, AudioSepError

logger = logging.getLogger(__name__)

Record = dict[str, Any]
"""The result of a recording as JSON; `outputs` is name -> path relative to the folder of all outputs."""

_RECORD = "record.json"


class Staging:
    """The folder in which the outputs of one recording are made.

    Args:
        folder: of this recording.
        root: folder of all outputs, on the same file system.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder = folder
        self._root = root

    @contextlib.contextmanager
    def attempt(self, limit: int) -> Iterator[Path]:
        """Give an empty folder for unfinished outputs, and delete it when the block ends.

        Args:
            limit: how many attempts may die.

        Raises:
            AudioSepError: `limit` attempts have died.
            AudioError: the folder cannot be written to.
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
            raise AudioSepError(
                f"{len(dead)} workers died while separating it, perhaps for lack of memory: try fewer workers"
            )
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def commit(self, work: Path, made: Mapping[str, Path], record: Record, *, overwrite: bool = False) -> Record:
        """Move complete outputs to their places.

        Args:
            work: the folder of the attempt.
            made: name -> file, for those of the record's outputs that are not in their places already.
            record: of the recording.
            overwrite: whether existing files may be replaced.

        Returns:
            The record.

        Raises:
            AudioError: the folder cannot be written to; or as `settle`.
            AudioSepError: the disk is full.
        """
        try:
            # Not with audiosep.atomic: the files exist already, and the rename of their folder marks them as complete.
            for number, name in enumerate(record["outputs"]):
                if name in made:
                    made[name].rename(work / str(number))
            write_text(work / _RECORD, json.dumps(record))  # on the disk before the folder says that it is complete
            work.rename(self._done)
        except OSError as error:
            raise AudioError(f"{self._root} cannot be written to ({error}): free some space") from error
        self.settle(overwrite=overwrite)
        return record

    def check_free(self, record: Record, made: Iterable[str], *, overwrite: bool) -> None:
        """Check that no output would replace a file against `overwrite`.

        Args:
            record: of the recording.
            made: names of the outputs that will be made.
            overwrite: whether existing files may be replaced.

        Raises:
            AudioError: names the file.
        """
        for path in (record["outputs"][name] for name in made):
            if not _is_free(self._root / path, overwrite):
                raise AudioError(
                    f"{self._root / path} exists already: choose another folder or template, or overwrite=True"
                )

    def settle(self, *, overwrite: bool = False) -> Record | None:
        """Move complete outputs that are still here to their places.

        Args:
            overwrite: whether existing files may be replaced.

        Returns:
            The record; None when the outputs are not complete.

        Raises:
            AudioError: an output cannot be moved, or another file has appeared in its place; the outputs stay here for
                the next run.
        """
        try:
            record: Record = json.loads((self._done / _RECORD).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:  # cut off by a power cut, as its outputs may be
            logger.warning("%s: the record of its outputs is damaged: the recording is separated again", self._done)
            shutil.rmtree(self._done, ignore_errors=True)
            return None
        places = {self._done / str(number): self._root / path for number, path in enumerate(record["outputs"].values())}
        waiting = {made: target for made, target in places.items() if made.exists()}  # the others were moved
        for target in waiting.values():
            if not _is_free(target, overwrite):
                raise AudioError(
                    f"{target} has appeared meanwhile, and is not replaced: move it away and run again, or "
                    "overwrite=True; what was separated waits for that"
                )
        for made, target in waiting.items():
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                made.replace(target)
            except OSError as error:
                raise AudioError(f"{target} cannot be written ({error}): run again when it can") from error
        return record

    def clear(self) -> None:
        """Delete the folder; outputs that have been moved to their places stay."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _done(self) -> Path:
        return self.folder / "done"


def _is_free(target: Path, overwrite: bool) -> bool:
    """Whether an output may be put there."""
    return not target.exists() or (overwrite and target.is_file())


def settle_all(place: Path, root: Path, *, overwrite: bool = False) -> dict[str, Record]:
    """Move the complete outputs of all stagings to their places, and delete incomplete ones.

    Args:
        place: folder of the stagings.
        root: folder of all outputs.
        overwrite: whether existing files may be replaced.

    Returns:
        Name of the staging -> record, for complete ones; these stagings stay, because the report does not have their
        records yet.
    """
    records = {}
    for folder in sorted(path for path in place.glob("*") if path.is_dir()):
        staging = Staging(folder, root)
        try:
            record = staging.settle(overwrite=overwrite)
        except AudioError as error:
            logger.warning("%s: complete outputs could not be moved: %s", folder, error)
            continue
        if record is None:
            staging.clear()
        else:
            records[folder.name] = record
    return records
