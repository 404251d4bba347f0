"""Which recordings are finished in a folder of outputs, over all runs: the report, and what a later run can skip."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from audiosep.atomic import make_folder, write_text
from audiosep.cluster.staging import Record, Staging, settle_all
from audiosep.cluster.workers import ACTIVITY
from audiosep.errors import AudioError, InputError

logger = logging.getLogger(__name__)

REPORT = "audiosep-report.json"
STAGING_FOLDER = ".audiosep-ray"


class Ledger:
    """The records of the finished recordings of a folder.

    `open_ledger` opens it for one run at a time.

    Args:
        folder: of the outputs.
        overwrite: whether complete outputs of killed runs may replace files.

    Attributes:
        folder: of the outputs.
        place: folder of the stagings.
    """

    def __init__(self, folder: Path, *, overwrite: bool = False) -> None:
        self.folder = folder
        self._overwrite = overwrite
        self.place = folder / STAGING_FOLDER
        self._records: dict[tuple[str, str], Record] = {}
        self._owner: dict[str, tuple[str, str]] = {}
        for record in [*self._reported(), *self._settled().values()]:
            self._add(record)

    def done(self, path: Path, job: str) -> Record | None:
        """Look up a finished recording.

        Args:
            path: the recording.
            job: digest of the job (see `job_digest`).

        Returns:
            Its record; None if it is not finished, has changed since, or lacks an output.
        """
        record = self._records.get((str(path), job))
        if record is None or record["source"] != file_state(path):
            return None
        return record if self._has_outputs(record) else None

    def staging(self, name: str) -> Staging:
        """The staging of a recording.

        Args:
            name: of its folder.
        """
        return Staging(self.place / name, self.folder)

    def close(self, run: str, document: dict[str, Any], failures: Iterable[dict[str, str]]) -> None:
        """Move complete outputs to their places, delete incomplete ones, and write the report.

        Args:
            run: what the names of this run's stagings begin with.
            document: first entries of the report.
            failures: of this run.
        """
        settled = self._settled()
        results = [record for name, record in settled.items() if name.startswith(run)]
        for record in settled.values():
            self._add(record)
        new = {(record["input"], record["job"]) for record in results}
        earlier = [record for key, record in self._records.items() if key not in new and self._has_outputs(record)]
        document = {**document, "results": results, "failures": list(failures), "earlier": earlier}
        write_text(self.folder / REPORT, json.dumps(document, indent=2))
        for name in settled:
            self.staging(name).clear()

    def _has_outputs(self, record: Record) -> bool:
        """Whether all outputs of a record are there."""
        # Not Path.is_file, which raises where a folder may not be read.
        return all(os.path.isfile(self.folder / output) for output in record["outputs"].values())  # noqa: PTH113

    def _settled(self) -> dict[str, Record]:
        """The records of `settle_all` without the activity of targets, which is long and needs no next run."""
        found = settle_all(self.place, self.folder, overwrite=self._overwrite)
        return {
            staging: {name: value for name, value in record.items() if name != ACTIVITY}
            for staging, record in found.items()
        }

    def _add(self, record: Record) -> None:
        """Add a record, and drop the records whose outputs it has replaced."""
        key = record["input"], record["job"]
        for output in record["outputs"].values():
            before = self._owner.get(output, key)
            if before != key:
                self._records.pop(before, None)
            self._owner[output] = key
        self._records[key] = record

    def _reported(self) -> list[Record]:
        """The records of the last report."""
        path = self.folder / REPORT
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            return [*document["earlier"], *document["results"]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} is not a report of audiosep ({error}): delete it, or choose another folder"
            ) from error


@contextlib.contextmanager
def open_ledger(folder: Path, *, overwrite: bool = False) -> Iterator[Ledger]:
    """Open the ledger of a folder of outputs, and create the folder if it is missing.

    Args:
        folder: of the outputs.
        overwrite: as in `Ledger`.

    Raises:
        InputError: another run has opened it, or its report cannot be read.
        AudioError: the folder cannot be created.
    """
    import filelock

    place, new = folder / STAGING_FOLDER, not folder.exists()
    make_folder(place, AudioError)
    lock = filelock.FileLock(place / "lock", blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise InputError(f"another run writes into {folder}: wait for it, or choose another folder") from error
    except (OSError, NotImplementedError) as error:
        logger.warning("%s cannot be locked (%s): make sure that no other run writes there", folder, error)
    try:
        yield Ledger(folder, overwrite=overwrite)
    finally:
        with contextlib.suppress(OSError):  # not empty: outputs wait there
            (place / "lock").unlink()
            place.rmdir()
            if new:
                folder.rmdir()
        lock.release()


def file_state(path: Path) -> list[int] | None:
    """Size in bytes and modification time in ns, which show whether a file has changed; None when it is missing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
