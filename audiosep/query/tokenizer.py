"""The word pieces of the embedded CLAP: training the vocabulary, and reading it with a check.

Only letters and digits count: case, accents and punctuation do not change a query. There is a piece for each Latin
letter, so a misspelled or invented word is still encoded, piece by piece.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from audiosep.errors import ModelError, QueryError

SPECIAL = ("[PAD]", "[UNK]")
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_LONGEST_WORD = 40


class WordPieces:
    """A tokenizer: texts to the ids of word pieces.

    Args:
        tokenizer: a WordPiece tokenizer whose first pieces are the padding and the unknown piece.
        vocabulary: pieces that the weights were trained with.

    Raises:
        ModelError: the tokenizer is empty, or of another size than the weights.
    """

    def __init__(self, tokenizer: Any, vocabulary: int) -> None:
        size = tokenizer.get_vocab_size()
        if size != vocabulary:
            raise ModelError(
                f"the tokenizer has {size} word pieces, the text tower {vocabulary}: "
                "tokenizer.json and the weights are not of one model; install or download the model again"
            )
        self.tokenizer = tokenizer
        self.vocabulary = vocabulary

    @classmethod
    def read(cls, path: Path, vocabulary: int) -> WordPieces:
        """Read `tokenizer.json`.

        Args:
            path: the file.
            vocabulary: pieces that the weights were trained with.

        Raises:
            ModelError: the file is missing, unreadable or of another size.
        """
        if not path.is_file():
            raise ModelError(f"{path} is missing: the model folder is incomplete; install or download it again")
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception
            raise ModelError(f"{path} is damaged ({error}): install or download the model again") from error
        return cls(tokenizer, vocabulary)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """(n, longest) int64 ids of n texts, padded with 0.

        Raises:
            QueryError: a text has no Latin letter or digit, or only words that are too long.
        """
        encoded = [e.ids for e in self.tokenizer.encode_batch(list(texts))]
        for text, ids in zip(texts, encoded, strict=True):
            if not any(i > 1 for i in ids):
                words = self.tokenizer.normalizer.normalize_str(text).split()
                long = any(len(word) > _LONGEST_WORD and set(word) & set(_LETTERS) for word in words)
                remedy = "write it in Latin letters, in English"
                if long:
                    remedy = f"its words have at most {_LONGEST_WORD} letters"
                raise QueryError(f"the model cannot read the query {text!r}: {remedy}")
        out = torch.zeros(len(encoded), max((len(ids) for ids in encoded), default=0), dtype=torch.int64)
        for row, ids in zip(out, encoded, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        return out


def train_word_pieces(texts: Iterable[str], whole: Iterable[str], size: int, spelled: int = 4096) -> Any:
    """A vocabulary for these texts: pieces from which any word can be made, and whole words.

    Args:
        texts: training text.
        whole: words that become one piece before the most frequent words of the texts do.
        size: pieces in all.
        spelled: how many of these come from WordPiece training; the rest are whole words.

    Returns:
        A `tokenizers.Tokenizer`.
    """
    base = _tokenizer({piece: i for i, piece in enumerate(SPECIAL)})
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(base.normalizer.normalize_str(text).split())
    words = sorted(counts, key=lambda word: (-counts[word], word))
    # The trainer numbers the letters inside words in a random order, which decides between equally frequent pairs:
    # those that are given to it have their numbers already, and the same texts make the same pieces.
    inside = [*_LETTERS, *sorted({letter for word in words for letter in word[1:]})]
    numbered = list(dict.fromkeys([*SPECIAL, *_LETTERS, *(f"##{letter}" for letter in inside)]))
    trainer = trainers.WordPieceTrainer(vocab_size=spelled, special_tokens=numbered, show_progress=False)
    # The pieces are for rare words, so a frequent word counts at most 20 times.
    base.train_from_iterator(([word] * min(counts[word], 20) for word in words), trainer)
    trained = base.get_vocab()
    pieces = dict.fromkeys(sorted(trained, key=lambda piece: trained[piece]))
    first = (word for text in whole for word in base.normalizer.normalize_str(text).split())
    for word in [*first, *words]:
        if len(pieces) >= size:
            break
        if len(word) <= _LONGEST_WORD:
            pieces.setdefault(word)
    return _tokenizer({piece: i for i, piece in enumerate(pieces)})


def _tokenizer(vocabulary: dict[str, int]) -> Any:
    tokenizer = Tokenizer(
        models.WordPiece(vocab=vocabulary, unk_token=SPECIAL[1], max_input_chars_per_word=_LONGEST_WORD)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.Lowercase(), normalizers.StripAccents(),
         normalizers.Replace("'", ""), normalizers.Replace(Regex(r"[^\p{L}\p{N}]+"), " ")]
    )  # fmt: skip
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer
