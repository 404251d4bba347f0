"""A table of caption embeddings, so that training looks texts up instead of encoding them at each step."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from audiosep.atomic import write_bytes
from audiosep.data.manifest import label_text
from audiosep.errors import DataError


class TextEncoder(Protocol):
    """Anything that embeds texts in the joint space."""

    def text(self, texts: Sequence[str]) -> Tensor:
        """(n, dimension) embeddings of n texts."""
        ...


def normalise_caption(text: str) -> str:
    """Lower case, single spaces, letters with their accents in one: the form under which captions are looked up."""
    return " ".join(label_text(text).split())


class CaptionTable:
    """Captions and their embeddings.

    Args:
        captions: n normalised captions.
        embeddings: (n, dimension), L2-normalised.
    """

    def __init__(self, captions: Sequence[str], embeddings: Tensor) -> None:
        self.captions = list(captions)
        self.embeddings = embeddings.float()
        self._rows = {caption: row for row, caption in enumerate(self.captions)}

    @classmethod
    def build(cls, captions: Iterable[str], encoder: TextEncoder) -> CaptionTable:
        """Embed captions, each distinct one once.

        Args:
            captions: the texts; normalised here.
            encoder: embeds them.
        """
        unique = sorted({normalise_caption(c) for c in captions})
        return cls(unique, encoder.text(unique))

    def row(self, caption: str) -> int:
        """Return the row of a caption in `embeddings`.

        Raises:
            DataError: the table does not have it.
        """
        try:
            return self._rows[normalise_caption(caption)]
        except KeyError:
            raise DataError(f"no embedding for the caption {caption!r}: build the caption table again") from None

    def __getitem__(self, captions: Sequence[str]) -> Tensor:
        """(n, dimension) embeddings of n captions."""
        return self.embeddings[torch.tensor([self.row(c) for c in captions], dtype=torch.long)]

    def save(self, path: str | Path) -> None:
        """Write the table as safetensors, half precision."""
        write_bytes(path, save({"embeddings": self.embeddings.half()}, {"captions": json.dumps(self.captions)}))

    @classmethod
    def load(cls, path: str | Path) -> CaptionTable:
        """Read what `save` wrote.

        Args:
            path: the file.

        Raises:
            DataError: no such file, or another one.
        """
        try:
            with safe_open(str(path), "pt") as file:
                captions = json.loads((file.metadata() or {})["captions"])
                return cls(captions, file.get_tensor("embeddings"))
        except (SafetensorError, OSError, LookupError, ValueError) as error:
            raise DataError(
                f"{path} holds no embeddings of captions ({error}): make it with `audiosep data captions`"
            ) from error
