"""The data part of a training configuration: a manifest, its decoded cache, its caption embeddings."""

from __future__ import annotations

from dataclasses import dataclass

from audiosep.data.corpus import Corpus
from audiosep.training.towers.captions import CaptionTable


@dataclass(frozen=True)
class CorpusConfig:
    """Where recordings are.

    Attributes:
        manifest: JSONL made by `audiosep data build`. cache: folder for decoded audio.
    """

    manifest: str
    cache: str


@dataclass(frozen=True)
class DataConfig(CorpusConfig):
    """Where recordings and the embeddings of their captions are.

    Attributes:
        captions: caption embeddings made by `python -m audiosep.training.towers.captions`.
        workers: processes that make the mixtures, for a GPU that cannot hold the corpus; 0 makes them in a thread, on
            the GPU if it holds the corpus.
    """

    captions: str
    workers: int = 0


def open_clips(config: CorpusConfig, sample_rate: int = 32000) -> Corpus:
    """The decoded corpus."""
    return Corpus(config.manifest, config.cache, sample_rate)


def open_corpus(config: DataConfig, sample_rate: int = 32000) -> tuple[Corpus, CaptionTable]:
    """The decoded corpus and the embeddings of all its captions."""
    return open_clips(config, sample_rate), CaptionTable.load(config.captions)
