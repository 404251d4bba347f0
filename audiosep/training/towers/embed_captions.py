"""The caption table of a corpus: what `audiosep data captions` does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from audiosep.data.manifest import Clip
from audiosep.data.queries import query_texts
from audiosep.training.caption_table import CaptionTable, TextEncoder
from audiosep.training.tower_files import TextTowerEncoder
from audiosep.training.towers.teachers import SentenceTeacher


def embed_captions(
    clips: Sequence[Clip], model: str | None = None, teacher: Path | None = None, more: Iterable[str] = ()
) -> CaptionTable:
    """Embed the labels and captions of clips, and the stem names.

    Args:
        clips: of a manifest.
        model: a model (name or folder) or the folder of a trained text tower, to embed with.
        teacher: without `model`: the folder of a sentence encoder; None is the installed one.
        more: further texts.
    """
    encoder: TextEncoder
    if model is not None:
        encoder = TextTowerEncoder.read(model)
    else:
        encoder = SentenceTeacher(teacher or SentenceTeacher.installed())
    return CaptionTable.build(query_texts(clips) | set(more), encoder)
