"""Measuring a text tower against its teacher on phrases, prompts and synonyms that it was never trained on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from audiosep.data.phrases import prompts
from audiosep.models.joint_space import isometry
from audiosep.models.text import TextTower
from audiosep.query.tokenizer import WordPieces
from audiosep.training.tower_files import embed_ids
from audiosep.training.towers.teachers import SentenceTeacher
from audiosep.training.towers.text_data import TextData, synonym_targets


class TextValidation:
    """Held-back phrases, prompts written by hand, and synonyms, with the teacher's embeddings.

    Args:
        data: prepared data.
        teacher: the sentence encoder.
        limit: held-back phrases at most; None takes all.
    """

    def __init__(self, data: TextData, teacher: SentenceTeacher, limit: int | None = None) -> None:
        self._rows = data.held_back[:: max(1, len(data.held_back) // limit)] if limit else data.held_back
        self._phrases = [data.phrases[row] for row in self._rows]
        self._targets = torch.from_numpy(data.targets[self._rows].astype(np.float32)) @ isometry()
        self._sources = data.sources
        self._prompts = prompts()
        self._prompt_targets = teacher.text(self._prompts)
        self._synonyms = [pair.word for pair in data.synonyms]
        words, labels, self._truth = synonym_targets(data, teacher)
        self._labels = labels @ isometry()
        self._teacher_accuracy = _top1(words, labels, self._truth)

    def __call__(self, model: TextTower, tokenizer: Any) -> dict[str, float]:
        """Measure a tower.

        Args:
            model: the tower.
            tokenizer: its `tokenizers.Tokenizer`.

        Returns:
            Mean cosines to the teacher, and the share of synonyms whose nearest of 50 labels is theirs: "synonyms"
            with a synonym's own row of the word table, "synonyms_spelled" with its word pieces instead.
        """
        size = model.config.vocabulary
        words, spelled = WordPieces(tokenizer, size), WordPieces(without_words(tokenizer, self._synonyms), size)
        cosine = (embed_ids(model, words(self._phrases)) * self._targets).sum(-1)
        prompt_cosine = (embed_ids(model, words(self._prompts)) * self._prompt_targets).sum(-1)
        scores = {
            "val/cosine": float(cosine.mean()),
            "val/cosine_5th_percentile": float(cosine.quantile(0.05)),
            "val/prompts": float(prompt_cosine.mean()),
            "val/teacher_synonyms": self._teacher_accuracy,
        }
        for name, tokenize in (("synonyms", words), ("synonyms_spelled", spelled)):
            top = _top1(embed_ids(model, tokenize(self._synonyms)), self._labels, self._truth)
            scores |= {f"val/{name}": top, f"val/{name}_ratio": top / max(self._teacher_accuracy, 1e-9)}
        return scores | self._by_source(cosine)

    def _by_source(self, cosine: Tensor) -> dict[str, float]:
        ends = np.cumsum(list(self._sources.values()))
        source = np.searchsorted(ends, self._rows, side="right")
        return {
            f"val/{name}/cosine": float(cosine[source == i].mean())
            for i, name in enumerate(self._sources)
            if (source == i).any()
        }


def without_words(tokenizer: Any, words: Sequence[str]) -> Any:
    """Remove words from a tokenizer's vocabulary, so that it splits them into pieces.

    Args:
        tokenizer: a `tokenizers.Tokenizer`; not changed.
        words: those that are not in the vocabulary, such as phrases of several words, are ignored.
    """
    state = json.loads(tokenizer.to_str())
    vocabulary: dict[str, int] = state["model"]["vocab"]
    for word in words:
        # Ids must not move: a freed one gets a name that no text contains.
        if word in vocabulary and len(word) > 1:
            vocabulary[f"[removed {word}]"] = vocabulary.pop(word)
    return Tokenizer.from_str(json.dumps(state))


def _top1(embeddings: Tensor, labels: Tensor, truth: Tensor) -> float:
    return float((embeddings @ labels.T).argmax(1).eq(truth).float().mean())
