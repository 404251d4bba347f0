"""A corpus decoded once: int16 samples of many clips in a few flat files, memory-mapped afterwards."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from audiosep.data.decode import Samples, decode_many
from audiosep.data.manifest import Clip
from audiosep.errors import AudioError

log = logging.getLogger(__name__)

BLOCKS_PER_SECOND = 10  # of the level envelope
_PEAK = 32766.0


@dataclass(frozen=True)
class Entry:
    """Where one decoded clip lies: samples `offset : offset + length` of a part, times `scale`, are the waveform."""

    part: int
    offset: int
    length: int
    scale: float
    block: int  # first block of its envelope


class Cache:
    """The decoded clips of a folder.

    A clip is found again by its file, size, modification time, member, start and seconds; clips that are missing are
    decoded into a new part, nothing is ever rewritten, so a grown manifest costs only its new clips.

    Args:
        folder: where the parts lie; made when missing.
        sample_rate: Hz of the decoded audio; other rates in the same folder do not disturb.
    """

    def __init__(self, folder: str | Path, sample_rate: int) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.sample_rate = sample_rate
        self.parts: list[NDArray[np.int16]] = []
        self.levels: list[NDArray[np.float32]] = []
        self._index: dict[str, Entry] = {}
        self._sizes: dict[str, tuple[int, int]] = {}
        self._loaded: set[Path] = set()
        self._refresh()

    def fill(self, clips: Sequence[Clip], workers: int = 0) -> dict[str, AudioError]:
        """Decode what is missing. Where several processes ask at the same time, one decodes and the others wait for it.

        Args:
            clips: clips that will be asked for.
            workers: processes that decode; 0 decodes in this one.

        Returns:
            id -> error of the clips that cannot be read.
        """
        wanted = {self._key(clip): clip for clip in clips}
        if wanted.keys() <= self._index.keys():
            return {}
        # The system lets go of the lock of a process that died.
        with FileLock(self.folder / f"{self.sample_rate}.lock"):
            self._refresh()
            return self._decode_missing({key: clip for key, clip in wanted.items() if key not in self._index}, workers)

    def _decode_missing(self, missing: dict[str, Clip], workers: int) -> dict[str, AudioError]:
        if not missing:
            return {}
        log.info("decoding %d clips into %s", len(missing), self.folder)
        keys, todo = list(missing), list(missing.values())
        errors: dict[str, AudioError] = {}
        # A name of its own, so that processes which start together do not write the same part.
        pending = self.folder / f"{self.sample_rate}-{time.time_ns():x}-{os.getpid()}.part"
        try:
            with pending.open("xb") as file:
                rows, levels = self._write(file, keys, todo, _decode(todo, self.sample_rate, workers), errors)
            if rows:
                self._commit(pending, rows, levels)
        finally:
            pending.unlink(missing_ok=True)
        return errors

    def find(self, clip: Clip) -> Entry:
        """The place of a clip that `fill` decoded."""
        return self._index[self._key(clip)]

    def _write(
        self,
        file: object,
        keys: list[str],
        clips: list[Clip],
        decoded: Iterator[Samples | AudioError],
        errors: dict[str, AudioError],
    ) -> tuple[list[tuple[str, int, int, float]], NDArray[np.float32]]:
        rows: list[tuple[str, int, int, float]] = []
        levels: list[NDArray[np.float32]] = []
        offset = 0
        for number, (key, clip, x) in enumerate(zip(keys, clips, decoded, strict=True), 1):
            if isinstance(x, AudioError):
                errors[clip.id] = x
                continue
            scale = max(float(np.abs(x).max()), 1e-6) / _PEAK
            q = np.round(x / scale).astype("<i2")
            file.write(q.tobytes())  # type: ignore[attr-defined]  # a binary file
            rows.append((key, offset, len(q), scale))
            levels.append(envelope(x, self.sample_rate))
            offset += len(q)
            if number % 500 == 0:
                log.info("decoded %d of %d clips", number, len(clips))
        return rows, np.concatenate(levels) if levels else np.zeros(0, np.float32)

    def _commit(self, part: Path, rows: list[tuple[str, int, int, float]], levels: NDArray[np.float32]) -> None:
        np.save(part.with_suffix(".npy"), levels)
        part.replace(part.with_suffix(".i16"))
        part.write_text(json.dumps(rows), encoding="utf-8")
        index = part.replace(part.with_suffix(".json"))  # the index last: a part without it does not count
        self._load(index)

    def _refresh(self) -> None:
        """Load the parts that are new, this process's own or another's."""
        for index in sorted(self.folder.glob(f"{self.sample_rate}-*.json")):
            if index not in self._loaded:
                self._load(index)

    def _load(self, index: Path) -> None:
        self._loaded.add(index)
        levels = np.load(index.with_suffix(".npy"))
        # Copy-on-write so that torch may wrap the pages without a warning; nobody writes.
        self.parts.append(np.memmap(index.with_suffix(".i16"), dtype="<i2", mode="c"))
        self.levels.append(levels)
        block = 0
        for key, offset, length, scale in json.loads(index.read_text(encoding="utf-8")):
            self._index[key] = Entry(len(self.parts) - 1, offset, length, scale, block)
            block += blocks(length, self.sample_rate)

    def _key(self, clip: Clip) -> str:
        if clip.path not in self._sizes:
            try:
                status = Path(clip.path).stat()
                self._sizes[clip.path] = status.st_size, status.st_mtime_ns
            except OSError:
                self._sizes[clip.path] = 0, 0  # decoding it will say what is wrong
        size, modified = self._sizes[clip.path]
        where = Path(clip.path).resolve().as_posix()
        return "|".join(map(str, (where, size, modified, clip.member or "", clip.start, clip.seconds)))


def blocks(length: int, sample_rate: int) -> int:
    """Blocks of the level envelope of `length` samples; the last one may be short."""
    size = sample_rate // BLOCKS_PER_SECOND
    return -(-length // size)


def envelope(x: Samples, sample_rate: int) -> NDArray[np.float32]:
    """Mean square of each tenth of a second of x (samples,) -> (blocks,)."""
    size = sample_rate // BLOCKS_PER_SECOND
    starts = np.arange(0, len(x), size)
    lengths = np.minimum(size, len(x) - starts)
    return (np.add.reduceat(np.square(x, dtype=np.float64), starts) / lengths).astype(np.float32)


def _decode(clips: list[Clip], sample_rate: int, workers: int) -> Iterator[Samples | AudioError]:
    if workers <= 0:
        yield from decode_many(clips, sample_rate)
        return
    size = max(1, min(64, len(clips) // (4 * workers)))
    chunks = [clips[i : i + size] for i in range(0, len(clips), size)]
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for result in pool.map(_decode_chunk, chunks, [sample_rate] * len(chunks)):
            yield from result


def _decode_chunk(clips: list[Clip], sample_rate: int) -> list[Samples | AudioError]:
    return list(decode_many(clips, sample_rate))
