"""The captions of the training clips, and which of them may name the same sound."""

from __future__ import annotations

import itertools

import torch

from audiosep.data.labels import label_table
from audiosep.data.manifest import Clip
from audiosep.training.caption_table import CaptionTable


class TrainingCaptions:
    """The captions of the training clips, which InfoNCE contrasts with.

    Args:
        clips: of the corpus.
        table: embeddings of their captions.

    Attributes:
        embeddings: (captions, dimension).
        same_sound: (captions, captions) bool: which pairs may name the same sound.
    """

    def __init__(self, clips: list[Clip], table: CaptionTable) -> None:
        labels = label_table()
        rows_of: dict[str, set[int]] = {}
        for clip in clips:
            if clip.split == "train":
                rows_of.setdefault(clip.label, set()).update(table.row(t) for t in clip.texts)
        rows = sorted(set().union(*rows_of.values()))
        self._table = table
        self._index = torch.full((len(table.captions),), -1)
        self._index[rows] = torch.arange(len(rows))
        self.embeddings = table.embeddings[rows]
        self.same_sound = torch.eye(len(rows), dtype=torch.bool)
        indices = {label: self._index[sorted(mine)] for label, mine in rows_of.items()}
        for a, b in itertools.product(rows_of, rows_of):
            if labels.implies(a, b) or labels.implies(b, a):
                self.same_sound[indices[a][:, None], indices[b]] = True

    def index(self, caption: str) -> int:
        """Index of a caption in `embeddings`; -1 for a text of no training clip, which may not even be a negative."""
        return int(self._index[self._table.row(caption)])
