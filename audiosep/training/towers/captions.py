"""A table of caption embeddings, so that training looks texts up instead of encoding them at each step.

Build one with `python -m audiosep.training.towers.captions manifest.jsonl out.safetensors [--labels labels.json]`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from audiosep.atomic import write_bytes
from audiosep.errors import DataError


class TextEncoder(Protocol):
    """Anything that embeds texts in the joint space."""

    def text(self, texts: Sequence[str]) -> Tensor:
        """(n, dimension)."""
        ...


def normalise(text: str) -> str:
    """The form under which captions are looked up: lower case, single spaces."""
    return " ".join(text.lower().split())


class CaptionTable:
    """Captions and their embeddings (n, dimension), L2-normalised."""

    def __init__(self, captions: Sequence[str], embeddings: Tensor) -> None:
        self.captions = list(captions)
        self.embeddings = embeddings.float()
        self._rows = {caption: row for row, caption in enumerate(self.captions)}

    @classmethod
    def build(cls, captions: Iterable[str], encoder: TextEncoder) -> CaptionTable:
        """Embed each different caption once."""
        unique = sorted({normalise(c) for c in captions})
        return cls(unique, encoder.text(unique))

    def row(self, caption: str) -> int:
        """Where a caption stands in `embeddings`."""
        try:
            return self._rows[normalise(caption)]
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
        """Read what `save` wrote."""
        with safe_open(str(path), "pt") as file:
            captions = json.loads((file.metadata() or {})["captions"])
            return cls(captions, file.get_tensor("embeddings"))


def main() -> None:
    """Command line: a table for all captions of a manifest, the stems and a tagger's labels."""
    import argparse

    from audiosep.data.manifest import read_manifest
    from audiosep.data.queries import askable
    from audiosep.training.towers.teachers import SentenceTeacher

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--labels", type=Path, help="JSON list of a tagger's class names to add")
    parser.add_argument("--teacher", type=Path, help="sentence encoder; default: the installed package")
    parser.add_argument("--model", help="a model (name or folder) or the folder of a trained text tower, to embed with")
    args = parser.parse_args()
    texts = askable(read_manifest(args.manifest))
    if args.labels:
        texts |= set(json.loads(args.labels.read_text()))
    encoder: TextEncoder
    if args.model:
        from audiosep.training.towers.text import TowerEncoder

        encoder = TowerEncoder.read(args.model)
    else:
        encoder = SentenceTeacher(args.teacher or SentenceTeacher.installed())
    CaptionTable.build(texts, encoder).save(args.out)


if __name__ == "__main__":
    main()
