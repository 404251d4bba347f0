"""What is done in a folder of outputs, over all runs: the report, and the memory that lets a run go on."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from audiosep.atomic import make_folder, write_text
from audiosep.cluster.staging import Record, Staging, settle_all
from audiosep.errors import AudioError, InputError

logger = logging.getLogger(__name__)

REPORT = "audiosep-report.json"
PLACE = ".audiosep-ray"


class Ledger:
    """The records of a folder of outputs.

    Use `ledger` to open one: only one run at a time may have it.

    Attributes:
        folder: of the outputs. place: of the stagings.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.place = folder / PLACE
        self._records: dict[tuple[str, str], Record] = {}
        self._owner: dict[str, tuple[str, str]] = {}
        for record in [*self._reported(), *settle_all(self.place, folder).values()]:
            self._add(record)

    def done(self, path: Path, job: str) -> Record | None:
        """The record of a recording whose outputs are complete: it is what it was, and they are all there.

        Args:
            path: the recording.
            job: what was asked for.
        """
        record = self._records.get((str(path), job))
        if record is None or record["source"] != source(path):
            return None
        return record if all((self.folder / output).is_file() for output in record["outputs"].values()) else None

    def staging(self, name: str) -> Staging:
        """Where the outputs of a recording are made."""
        return Staging(self.place / name, self.folder)

    def close(self, run: str, document: dict[str, Any], failures: Iterable[dict[str, str]]) -> None:
        """Finish what is complete, delete what is not, and write the report.

        Args:
            run: start of the names of this run's stagings.
            document: what the report begins with.
            failures: of this run.
        """
        settled = settle_all(self.place, self.folder)
        results = [record for name, record in settled.items() if name.startswith(run)]
        for record in settled.values():
            self._add(record)
        new = {(record["input"], record["job"]) for record in results}
        earlier = [
            record
            for key, record in self._records.items()
            if key not in new and all((self.folder / output).is_file() for output in record["outputs"].values())
        ]
        document = {**document, "results": results, "failures": list(failures), "earlier": earlier}
        write_text(self.folder / REPORT, json.dumps(document, indent=2))
        for name in settled:
            self.staging(name).clear()

    def _add(self, record: Record) -> None:
        """Take up a record; those whose outputs it has replaced are forgotten."""
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
                f"{path} is no report of audiosep ({error}): delete it, or choose another folder"
            ) from error


@contextlib.contextmanager
def ledger(folder: Path) -> Iterator[Ledger]:
    """The ledger of a folder of outputs, which is made where it is missing.

    Raises:
        InputError: another run has it, or what lies there is no report.
        AudioError: the folder cannot be made.
    """
    import filelock

    place, new = folder / PLACE, not folder.exists()
    make_folder(place, AudioError)
    lock = filelock.FileLock(place / "lock", blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise InputError(f"another run writes into {folder}: wait for it, or choose another folder") from error
    except (OSError, NotImplementedError) as error:
        logger.warning("%s cannot be locked (%s): see to it that no other run writes there", folder, error)
    try:
        yield Ledger(folder)
    finally:
        with contextlib.suppress(OSError):  # something may lie there
            (place / "lock").unlink()
            place.rmdir()
            if new:
                folder.rmdir()
        lock.release()


def source(path: Path) -> list[int] | None:
    """What tells whether a recording is what it was: its bytes and when it was changed, ns; None when it is missing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
