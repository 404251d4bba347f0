"""The cache of a corpus: int16 samples of many decoded clips in a few flat files, memory-mapped when read."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from audiosep.atomic import make_folder, writing
from audiosep.audio.samples import Array
from audiosep.data.clip_audio import ClipKeys, decode_many
from audiosep.data.manifest import Clip
from audiosep.errors import AudioError, counted

log = logging.getLogger(__name__)

BLOCKS_PER_SECOND = 10  # of the level envelope
_PEAK = 32766.0


@dataclass(frozen=True)
class CachedClip:
    """Where the samples of a clip are: samples `offset : offset + length` of a part, times `scale`.

    Args:
        part: number of the part.
        offset: of the first sample in the part.
        length: samples.
        scale: factor from int16 to full scale 1.0.
        block: number of the clip's first envelope value in the part.
    """

    part: int
    offset: int
    length: int
    scale: float
    block: int


class Cache:
    """The decoded clips in a folder.

    The key of a clip is its file with size and modification time, member, start, seconds and channel. Clips that are
    missing are decoded into a new part; existing parts never change, so that a larger manifest costs only its new
    clips.

    Args:
        folder: holds the parts; created if it does not exist.
        sample_rate: of the decoded audio, Hz; a folder may hold several rates.

    Raises:
        AudioSepError: the folder cannot be made.
    """

    def __init__(self, folder: str | Path, sample_rate: int) -> None:
        self.folder = Path(folder)
        make_folder(self.folder)
        self.sample_rate = sample_rate
        self.parts: list[NDArray[np.int16]] = []
        self.levels: list[NDArray[np.float32]] = []
        self._index: dict[str, CachedClip] = {}
        self._key = ClipKeys()
        self._loaded: set[Path] = set()
        self._refresh()

    def fill(self, clips: Sequence[Clip]) -> dict[str, AudioError]:
        """Decode the clips that are missing. Of several processes at the same time one decodes, the others wait for it.

        Args:
            clips: the clips that will be read.

        Returns:
            id -> error of the clips that cannot be decoded.

        Raises:
            AudioSepError: the disk is full.
        """
        wanted = {self._key(clip): clip for clip in clips}
        if wanted.keys() <= self._index.keys():
            return {}
        # The operating system releases the lock of a process that died.
        with FileLock(self.folder / f"{self.sample_rate}.lock"):
            self._refresh()
            errors = self._decode_missing({key: clip for key, clip in wanted.items() if key not in self._index})
        broken = {key: errors[clip.id] for key, clip in wanted.items() if clip.id in errors}
        return {clip.id: broken[key] for clip in clips if (key := self._key(clip)) in broken}  # of every clip of a file

    def _decode_missing(self, missing: dict[str, Clip]) -> dict[str, AudioError]:
        if not missing:
            return {}
        log.info("decoding %s into %s", counted(len(missing), "clip"), self.folder)
        keys, todo = list(missing), list(missing.values())
        errors: dict[str, AudioError] = {}
        # A unique name: a process that died may have left another part.
        pending = self.folder / f"{self.sample_rate}-{time.time_ns():x}-{os.getpid()}.part"
        try:
            with writing(self.folder):
                with pending.open("xb") as file:
                    rows, levels = self._write(file, keys, todo, decode_many(todo, self.sample_rate), errors)
                if rows:
                    self._commit(pending, rows, levels)
        finally:
            if not pending.with_suffix(".json").is_file():  # a full disk, or an interruption
                for suffix in (".part", ".npy", ".i16"):
                    pending.with_suffix(suffix).unlink(missing_ok=True)
        return errors

    def find(self, clip: Clip) -> CachedClip:
        """Where the samples of a clip are.

        Args:
            clip: one that `fill` has decoded.
        """
        return self._index[self._key(clip)]

    def _write(
        self,
        file: BinaryIO,
        keys: list[str],
        clips: list[Clip],
        decoded: Iterator[Array | AudioError],
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
            file.write(q.tobytes())
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
        index = part.replace(part.with_suffix(".json"))  # last: a part without an index is ignored
        self._load(index)

    def _refresh(self) -> None:
        """Load the parts that are new, of this process or another one."""
        for index in sorted(self.folder.glob(f"{self.sample_rate}-*.json")):
            if index not in self._loaded:
                self._load(index)

    def _load(self, index: Path) -> None:
        self._loaded.add(index)
        levels = np.load(index.with_suffix(".npy"))
        # Copy-on-write, so that torch wraps the array without a warning; it is never written to.
        self.parts.append(np.memmap(index.with_suffix(".i16"), dtype="<i2", mode="c"))
        self.levels.append(levels)
        block = 0
        for key, offset, length, scale in json.loads(index.read_text(encoding="utf-8")):
            self._index[key] = CachedClip(len(self.parts) - 1, offset, length, scale, block)
            block += blocks(length, self.sample_rate)


def blocks(length: int, sample_rate: int) -> int:
    """Number of envelope values; the last one may be of a shorter block.

    Args:
        length: samples.
        sample_rate: Hz.
    """
    size = sample_rate // BLOCKS_PER_SECOND
    return -(-length // size)


def envelope(x: Array, sample_rate: int) -> NDArray[np.float32]:
    """Mean square of each tenth of a second.

    Args:
        x: (samples,).
        sample_rate: Hz.

    Returns:
        (blocks,) float32.
    """
    size = sample_rate // BLOCKS_PER_SECOND
    starts = np.arange(0, len(x), size)
    lengths = np.minimum(size, len(x) - starts)
    return (np.add.reduceat(np.square(x, dtype=np.float64), starts) / lengths).astype(np.float32)
