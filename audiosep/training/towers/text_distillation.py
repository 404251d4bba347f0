"""Training the text tower of the embedded CLAP: distillation from a sentence encoder on generated phrases."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiosep.data.phrases import misspell
from audiosep.errors import ConfigError
from audiosep.models.joint_space import isometry
from audiosep.models.text import PAD, TextTower, TextTowerConfig
from audiosep.query.tokenizer import WordPieces
from audiosep.training.tower_files import export_text_tower
from audiosep.training.towers.teachers import SentenceTeacher
from audiosep.training.towers.text_data import TextDataConfig, prepare
from audiosep.training.towers.text_validation import TextValidation
from audiosep.weights import configs

# Batches that are tokenized and sorted by length together; the last group of an epoch may have fewer.
_GROUP = 64


@dataclass(frozen=True)
class TextOptions:
    """How the tower learns.

    Attributes:
        batch: phrases of one step.
        misspelled: share of phrases with a typing error; their target is that of the correct phrase.
        similarity: weight of the mean squared difference of the similarities within a batch.
        anchor: weight of the distance of the word table's rows from where the teacher put them, so that words that no
            phrase uses keep their meaning.
        suffix: scale of the rows of word endings at the start, which mean little alone.
        validation: held-back phrases of each validation.
    """

    batch: int = 512
    misspelled: float = 0.08
    similarity: float = 20.0
    anchor: float = 0.1
    suffix: float = 0.3
    validation: int = 6000


@dataclass(frozen=True)
class TextConfig:
    """Configuration of the task: `{"task": "text", "data": {...}, "model": {...}, "options": {...}}`."""

    data: TextDataConfig
    model: TextTowerConfig = field(default_factory=TextTowerConfig)
    options: TextOptions = field(default_factory=TextOptions)
    seed: int = 0


@dataclass
class PhraseBatch:
    """A batch of n phrases.

    Attributes:
        ids: (n, longest) word pieces.
        targets: (n, 384) embeddings of the teacher.
    """

    ids: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> PhraseBatch:
        """Return the batch on another device."""
        return PhraseBatch(self.ids.to(device), self.targets.to(device))


class TextDistillation:
    """Task: the tower's embedding of a phrase approaches the teacher's.

    Args:
        config: the task's configuration.

    Raises:
        ConfigError: a batch is larger than the number of phrases.
        DataError: the data folder was made for another vocabulary size.
    """

    Config = TextConfig

    def __init__(self, config: TextConfig) -> None:
        self.config = config
        self.data = prepare(config.data, config.model.vocabulary)
        if len(self.data.trained) < config.options.batch:
            raise ConfigError(f"options.batch: {config.options.batch} of only {len(self.data.trained)} phrases")
        self.words = WordPieces(self.data.tokenizer, config.model.vocabulary)
        self.model = TextTower(config.model)
        axes = self.data.axes(config.model.width)
        table = self.data.pieces * _scales(self.data.tokenizer, config.options.suffix)[:, None]
        self.model.start(table, axes)
        self.initial_table = self.model.words.weight.detach().clone()
        self._group: tuple[int, list[tuple[Tensor, np.ndarray[Any, Any]]]] = (-1, [])
        teacher = SentenceTeacher(config.data.teacher or SentenceTeacher.installed())
        self._validation = TextValidation(self.data, teacher, config.options.validation)

    @classmethod
    def from_config(cls, data: Mapping[str, Any]) -> TextDistillation:
        """Build the task from its part of a training configuration."""
        return cls(configs.from_dict(TextConfig, data))

    def batch(self, step: int, rank: int, world: int) -> PhraseBatch:
        """Return phrases of similar length, some misspelled; each phrase comes once in an epoch."""
        ids, targets = self._batch(step * world + rank)
        return PhraseBatch(ids, F.normalize(torch.from_numpy(targets.astype(np.float32)), dim=-1))

    def loss(self, model: nn.Module, batch: PhraseBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the cosine distance, the difference of similarities within the batch, and the word table's anchor."""
        assert isinstance(model, TextTower)
        options = self.config.options
        out = model(batch.ids)
        with torch.autocast(batch.ids.device.type, enabled=False):
            targets = batch.targets @ isometry().to(batch.targets.device)
            distance = (1 - (out * targets).sum(-1)).mean()
            similarity = (out @ out.T - targets @ targets.T).square().mean()
            used = torch.unique(batch.ids[batch.ids != PAD])
            initial = self.initial_table.to(used.device)[used]
            anchor = (model.words.weight[used] - initial).square().sum(-1).mean()
        loss = distance + options.similarity * similarity + options.anchor * anchor
        parts = {"distance": distance, "similarity": similarity, "anchor": anchor}
        return loss, {k: v.detach() for k, v in parts.items()} | {"items": torch.tensor(len(out))}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Measure the cosine to the teacher on held-back phrases, and the accuracy on synonyms."""
        assert isinstance(model, TextTower)
        return self._validation(model, self.data.tokenizer)

    def export(self, model: nn.Module, folder: Path) -> None:
        """Write the tower, see `export_text_tower`."""
        assert isinstance(model, TextTower)
        export_text_tower(model, self.data.tokenizer, folder)

    def _batch(self, index: int) -> tuple[Tensor, np.ndarray[Any, Any]]:
        """Ids and targets of one batch; its group of batches is kept until another one is needed."""
        size = self.config.options.batch
        batches = len(self.data.trained) // size
        epoch, number = divmod(index, batches)
        part, position = divmod(number, _GROUP)
        group = epoch * -(-batches // _GROUP) + part
        if self._group[0] != group:
            order = np.random.default_rng([self.config.seed, epoch]).permutation(self.data.trained)
            rows = order[part * _GROUP * size : min((part + 1) * _GROUP, batches) * size]
            self._group = (group, self._split_by_length(rows, group))
        return self._group[1][position]

    def _split_by_length(self, rows: np.ndarray[Any, Any], group: int) -> list[tuple[Tensor, np.ndarray[Any, Any]]]:
        """Tokenize the phrases of a group and make batches of similar length, in random order."""
        rng, size = random.Random(f"{self.config.seed}/slips/{group}"), self.config.options.batch
        texts = [self.data.phrases[row] for row in rows]
        ids = self.words([misspell(t, rng) if rng.random() < self.config.options.misspelled else t for t in texts])
        lengths = (ids != PAD).sum(1)
        cuts = torch.split(torch.argsort(lengths, stable=True), size)
        batches = [(ids[cut, : int(lengths[cut].max())], self.data.targets[rows[cut.numpy()]]) for cut in cuts]
        rng.shuffle(batches)
        return batches


def _scales(tokenizer: Any, suffix: float) -> Tensor:
    names = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return torch.tensor([suffix if name.startswith("##") else 1.0 for name, _ in names])
