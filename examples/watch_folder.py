"""Separate every recording that arrives in a folder, until Ctrl-C.

    pip install watchdog
    python examples/watch_folder.py inbox/ speech --out done/

A recording is taken when its size has not changed for two seconds. Those that lie there at the start are taken too;
what has been separated before is skipped.
"""

from __future__ import annotations

import argparse
import queue
import threading
import time
from pathlib import Path
from typing import Any

import audiosep

_STEP = 0.5  # seconds between two looks at the size of a file


class Watcher:
    """Separates the recordings of a folder as they arrive.

    Args:
        separator: the model.
        folder: that is watched, without its subfolders.
        queries: the sounds.
        out: folder of the outputs, not `folder` itself.
        settle: seconds for which the size of a file must not change.
    """

    def __init__(
        self, separator: audiosep.Separator, folder: Path, queries: list[str], out: Path, settle: float = 2.0
    ) -> None:
        self._separator, self._folder, self._queries, self._out = separator, folder, queries, out
        self._settle = settle
        self._arrived: queue.Queue[Path | None] = queue.Queue()  # None wakes `run` when there is nothing to do
        self._stopped = threading.Event()

    def run(self) -> None:
        """Work until `stop` is called."""
        from watchdog.events import FileSystemEventHandler
        from watchdog.observers import Observer

        arrived = self._arrived

        class Handler(FileSystemEventHandler):
            def on_any_event(self, event: Any) -> None:
                if event.event_type in ("created", "moved", "closed") and not event.is_directory:
                    arrived.put(Path(event.dest_path if event.event_type == "moved" else event.src_path))

        observer = Observer()
        observer.schedule(Handler(), str(self._folder), recursive=False)
        observer.start()
        try:
            for path in sorted(self._folder.iterdir()):
                self._arrived.put(path)
            while (path := self._arrived.get()) is not None and not self._stopped.is_set():
                self._take(path)
        finally:
            observer.stop()
            observer.join()

    def stop(self) -> None:
        """End `run` after the recording that is being separated; those that wait are left for the next time."""
        self._stopped.set()
        self._arrived.put(None)

    def _take(self, path: Path) -> None:
        if path.name.startswith(".") or not self._is_complete(path):
            return
        output = audiosep.OutputOptions(residual=False, skip_existing=True)
        report = self._separator.separate_files(path, self._queries, self._out, output=output)
        for result in report.results:
            print(*result.outputs.values(), sep="\n", flush=True)
        for failed, error in report.failures.items():
            print(f"{failed}: {error}", flush=True)

    def _is_complete(self, path: Path) -> bool:
        """Wait until a file does not grow any more; whether it is still there then, and `stop` was not called."""
        size, since = -1, time.monotonic()
        while path.is_file() and not self._stopped.is_set():
            now = path.stat().st_size
            if now != size:
                size, since = now, time.monotonic()
            elif time.monotonic() - since >= self._settle:
                return True
            self._stopped.wait(min(_STEP, self._settle))
        return False


def main() -> None:
    """Watch until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("queries", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    watcher = Watcher(audiosep.load(), arguments.folder, arguments.queries, arguments.out)
    thread = threading.Thread(target=watcher.run, daemon=True)
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        watcher.stop()
        thread.join()


if __name__ == "__main__":
    main()
