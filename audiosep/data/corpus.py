"""A decoded corpus: its clips and their int16 samples, in main memory or on an accelerator."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiosep.data.cache import BLOCKS_PER_SECOND, Cache, blocks
from audiosep.data.manifest import Clip, read_manifest
from audiosep.errors import DataError

log = logging.getLogger(__name__)


class Corpus:
    """Decoded mono clips, addressed by their number.

    On the CPU the samples are memory maps of the cache, which processes share; `to(device)` copies them to an
    accelerator.

    Args:
        clips: a manifest file, or clips.
        cache_dir: folder of the decoded audio; clips that it does not have are decoded into it.
        sample_rate: Hz.
        splits: keep only clips of these splits; None keeps all.
        on_error: what to do about broken files: "raise" one error that names all, or leave them out ("skip") and log.

    Raises:
        DataError: broken files, or no clips.
    """

    def __init__(
        self,
        clips: str | Path | Sequence[Clip],
        cache_dir: str | Path,
        sample_rate: int = 32000,
        *,
        splits: Collection[str] | None = None,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> None:
        rows = read_manifest(clips) if isinstance(clips, str | Path) else list(clips)
        rows = [clip for clip in rows if splits is None or clip.split in splits]
        cache = Cache(cache_dir, sample_rate)
        errors = cache.fill(rows)
        if errors and on_error == "raise":
            listing = "\n".join(f"  {error}" for error in list(errors.values())[:20])
            raise DataError(
                f"{len(errors)} broken files; repair them, or take their rows out of the manifest "
                f"(--skip-broken of finetune leaves them out):\n{listing}"
            )
        for error in errors.values():
            log.warning("left out: %s", error)
        self.clips = [clip for clip in rows if clip.id not in errors]
        if not self.clips:
            raise DataError("no clips: the manifest is empty, or none of its clips is in the splits to use")
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
        """Move the samples of the clips to a device.

        Args:
            device: where they go.

        Returns:
            This corpus.
        """
        used = {entry.part for entry in self._entries}
        self._parts = [part.to(device) if i in used else part[:0] for i, part in enumerate(self._parts)]
        self.device = torch.device(device)
        return self

    def hold(self, device: torch.device) -> None:
        """Move the samples to a GPU if they fit into a quarter of its free memory; otherwise warn.

        Args:
            device: of the training; nothing happens if it is no CUDA device.
        """
        if device.type != "cuda":
            return
        free, _ = torch.cuda.mem_get_info(device)
        used = {entry.part for entry in self._entries}
        size = sum(part.nbytes for i, part in enumerate(self._parts) if i in used)
        if size <= free / 4:
            self.to(device)
        else:
            log.warning(
                "the corpus (%.1f GB) does not fit on the GPU; one CPU thread renders the mixtures: "
                "set data.workers to render them in several processes",
                size / 1e9,
            )

    def segment(self, clip: int, start: int, length: int) -> Tensor:
        """Part of a clip as int16; times `scales[clip]` it is the waveform.

        Args:
            clip: its number.
            start: first sample.
            length: samples.

        Returns:
            (length,), shorter at the end of the clip.
        """
        entry = self._entries[clip]
        begin = entry.offset + min(start, entry.length)
        return self._parts[entry.part][begin : entry.offset + min(start + length, entry.length)]

    def index(self, identity: str) -> int:
        """Number of a clip.

        Args:
            identity: its id.

        Raises:
            DataError: the corpus has no such clip.
        """
        if identity not in self._numbers:
            raise DataError(f"the corpus has no clip {identity!r}: it was made of other recordings, or of other splits")
        return self._numbers[identity]

    def audio(self, clip: int) -> Tensor:
        """A whole clip, float32 (samples,).

        Args:
            clip: its number.
        """
        return self.segment(clip, 0, int(self.lengths[clip])).float() * float(self.scales[clip])

    def envelope(self, clip: int) -> NDArray[np.float32]:
        """Mean square of each tenth of a second of a clip, (blocks,).

        Args:
            clip: its number.
        """
        entry = self._entries[clip]
        return self._levels[entry.part][entry.block : entry.block + blocks(entry.length, self.sample_rate)]

    @property
    def block(self) -> int:
        """Samples of one envelope value."""
        return self.sample_rate // BLOCKS_PER_SECOND
