"""A corpus ready to be drawn from: clips, their labels and their samples, resident as int16."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiosep.data.cache import BLOCKS_PER_SECOND, Cache, Entry, blocks
from audiosep.data.manifest import Clip, read_manifest
from audiosep.errors import DataError

log = logging.getLogger(__name__)


class Corpus:
    """Decoded clips, addressed by their number.

    On the CPU the samples are memory maps of the cache (the operating system keeps in memory what fits, processes share
    it); `to(device)` copies the parts that are used to the accelerator. Audio is held mono.

    Args:
        clips: a manifest file, or clips.
        cache_dir: where the decoded audio lies or will lie.
        sample_rate: Hz.
        splits: keep only clips of these splits; None keeps all.
        on_error: "raise" at the first broken file, or "skip" and log each path.
        workers: processes that decode what the cache lacks; 0 = this one.

    Raises:
        DataError: broken files (all are named), or no clips.
    """

    def __init__(
        self,
        clips: str | Path | Sequence[Clip],
        cache_dir: str | Path,
        sample_rate: int = 32000,
        *,
        splits: Collection[str] | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        workers: int = 0,
    ) -> None:
        rows = read_manifest(clips) if isinstance(clips, str | Path) else list(clips)
        rows = [clip for clip in rows if splits is None or clip.split in splits]
        cache = Cache(cache_dir, sample_rate)
        errors = cache.fill(rows, workers)
        if errors and on_error == "raise":
            listing = "\n".join(f"  {error}" for error in list(errors.values())[:20])
            raise DataError(f'{len(errors)} broken files (on_error="skip" leaves them out):\n{listing}')
        for error in errors.values():
            log.warning("left out: %s", error)
        self.clips = [clip for clip in rows if clip.id not in errors]
        if not self.clips:
            raise DataError("no clips: the manifest is empty, or none of its clips is of the splits asked for")
        self.sample_rate = sample_rate
        self.device = torch.device("cpu")
        self._numbers = {clip.id: number for number, clip in enumerate(self.clips)}
        self._entries = [cache.find(clip) for clip in self.clips]
        self._parts = [torch.from_numpy(part) for part in cache.parts]
        self._levels = cache.levels
        self.lengths: NDArray[np.int64] = np.array([entry.length for entry in self._entries])
        self.scales: NDArray[np.float32] = np.array([entry.scale for entry in self._entries], np.float32)

    def __len__(self) -> int:
        return len(self.clips)

    def to(self, device: torch.device | str) -> Corpus:
        """Move the samples; parts that no clip uses are dropped."""
        used = {entry.part for entry in self._entries}
        self._parts = [part.to(device) if i in used else part[:0] for i, part in enumerate(self._parts)]
        self.device = torch.device(device)
        return self

    def hold(self, device: torch.device) -> None:
        """Move the samples to a GPU, if they take at most a quarter of the memory that is free there."""
        if device.type != "cuda":
            return
        free, _ = torch.cuda.mem_get_info(device)
        used = {entry.part for entry in self._entries}
        size = sum(part.nbytes for i, part in enumerate(self._parts) if i in used)
        if size <= free / 4:
            self.to(device)
        else:
            log.warning(
                "the corpus (%.1f GB) stays in main memory, where one thread makes the mixtures: "
                "set data.workers to the number of processes that shall make them",
                size / 1e9,
            )

    def segment(self, clip: int, start: int, length: int) -> Tensor:
        """Samples `start : start + length` of a clip, int16 (at most length,); times `scales[clip]` = the waveform."""
        entry: Entry = self._entries[clip]
        begin = entry.offset + min(start, entry.length)
        return self._parts[entry.part][begin : entry.offset + min(start + length, entry.length)]

    def index(self, identity: str) -> int:
        """The number of the clip with this id."""
        return self._numbers[identity]

    def audio(self, clip: int) -> Tensor:
        """The whole clip, float32 (samples,)."""
        return self.segment(clip, 0, int(self.lengths[clip])).float() * float(self.scales[clip])

    def envelope(self, clip: int) -> NDArray[np.float32]:
        """Mean square of each tenth of a second of the clip."""
        entry = self._entries[clip]
        return self._levels[entry.part][entry.block : entry.block + blocks(entry.length, self.sample_rate)]

    @property
    def block(self) -> int:
        """Samples of one step of the envelope."""
        return self.sample_rate // BLOCKS_PER_SECOND

    @property
    def seconds(self) -> float:
        """Length of all clips, seconds."""
        return float(self.lengths.sum()) / self.sample_rate
