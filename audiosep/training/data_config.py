"""The `data` part of a training configuration: a manifest, its cache of decoded audio, its caption embeddings."""

from __future__ import annotations

from dataclasses import dataclass

from audiosep.data.corpus import Corpus
from audiosep.training.caption_table import CaptionTable


@dataclass(frozen=True)
class CorpusConfig:
    """Where the recordings are.

    Attributes:
        manifest: JSONL file made by `audiosep data build`.
        cache: folder for decoded audio.
    """

    manifest: str
    cache: str


@dataclass(frozen=True)
class DataConfig(CorpusConfig):
    """Where the recordings and the embeddings of their captions are.

    Attributes:
        captions: caption embeddings made by `audiosep data captions`.
        workers: processes that render the mixtures, for a GPU that cannot hold the corpus; 0 renders them in a thread,
            on the GPU if it holds the corpus.
    """

    captions: str
    workers: int = 0


def open_corpus(config: CorpusConfig, sample_rate: int) -> Corpus:
    """Open the decoded corpus.

    Args:
        config: where it is.
        sample_rate: of the decoded audio, Hz.
    """
    return Corpus(config.manifest, config.cache, sample_rate)


def load_captions(config: DataConfig) -> CaptionTable:
    """Read the embeddings of the corpus' captions."""
    return CaptionTable.load(config.captions)
