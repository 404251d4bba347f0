"""Training the text tower of the embedded CLAP: distillation from a sentence encoder on generated phrases.

`python -m audiosep.training.towers.text evaluate --config CONFIG --weights FOLDER` measures a tower (a run's `model/`
or a model folder) against the teacher on phrases, prompts and synonyms that it was never trained on.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from audiosep.atomic import write_text
from audiosep.data.phrases import misspell, prompts
from audiosep.errors import ConfigError
from audiosep.models.joint_space import DIMENSION, isometry
from audiosep.models.text import PAD, TextTower, TextTowerConfig
from audiosep.query.mini import MiniEncoder
from audiosep.query.tokenizer import WordPieces
from audiosep.training.towers.teachers import SentenceTeacher
from audiosep.training.towers.text_data import TextData, TextDataConfig, prepare, synonym_targets
from audiosep.weights import configs
from audiosep.weights.catalogue import locate
from audiosep.weights.checkpoint import load_into, load_state, read_config, save_state

# Batches of one plan; the last of an epoch may have fewer.
_PLAN = 64


@dataclass(frozen=True)
class TextOptions:
    """How the tower learns.

    Attributes:
        batch: phrases of one step.
        misspelled: share of phrases with a slip of the finger; their target is that of the phrase spelled right.
        similarity: weight of the difference of the similarities within a batch (mean square).
        anchor: weight that keeps the rows of the word table where the teacher put them, so that words which no
            phrase uses keep their meaning.
        suffix: scale of the rows of word endings at the start: alone they mean little.
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
class Phrases:
    """One batch: (n, longest) ids of word pieces and the (n, 384) embeddings to reach."""

    ids: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> Phrases:
        """The batch on another device."""
        return Phrases(self.ids.to(device), self.targets.to(device))


class TextDistillation:
    """Task: the tower's embedding of a phrase comes to lie where the teacher's lies."""

    Config = TextConfig

    def __init__(self, config: TextConfig) -> None:
        self.config = config
        self.data = prepare(config.data, config.model.vocabulary)
        if len(self.data.trained) < config.options.batch:
            raise ConfigError(f"options.batch: {config.options.batch} of only {len(self.data.trained)} phrases")
        self.read = WordPieces(self.data.tokenizer, config.model.vocabulary)
        self.model = TextTower(config.model)
        axes = self.data.axes(config.model.width)
        table = self.data.pieces * _scales(self.data.tokenizer, config.options.suffix)[:, None]
        self.model.start(table, axes)
        self.home = self.model.words.weight.detach().clone()
        self._plan: tuple[int, list[tuple[Tensor, np.ndarray[Any, Any]]]] = (-1, [])
        teacher = SentenceTeacher(config.data.teacher or SentenceTeacher.installed())
        self._probe = Probe(self.data, teacher, config.options.validation)

    @classmethod
    def from_config(cls, data: Mapping[str, Any], run_dir: Path) -> TextDistillation:
        """Build the task from its part of a training configuration."""
        return cls(configs.from_dict(TextConfig, data))

    def batch(self, step: int, rank: int, world: int) -> Phrases:
        """Phrases of one length, some misspelled; every phrase once before any comes again."""
        ids, targets = self._batches(step * world + rank)
        return Phrases(ids, F.normalize(torch.from_numpy(targets.astype(np.float32)), dim=-1))

    def loss(self, model: nn.Module, batch: Phrases) -> tuple[Tensor, dict[str, Tensor]]:
        """Cosine distance, similarities within the batch, and the anchor of the word table."""
        assert isinstance(model, TextTower)
        options = self.config.options
        out = model(batch.ids)
        with torch.autocast(batch.ids.device.type, enabled=False):
            targets = batch.targets @ isometry().to(batch.targets.device)
            distance = (1 - (out * targets).sum(-1)).mean()
            similarity = (out @ out.T - targets @ targets.T).square().mean()
            used = torch.unique(batch.ids[batch.ids != PAD])
            anchor = (model.words.weight[used] - self.home.to(used.device)[used]).square().sum(-1).mean()
        loss = distance + options.similarity * similarity + options.anchor * anchor
        parts = {"distance": distance, "similarity": similarity, "anchor": anchor}
        return loss, {k: v.detach() for k, v in parts.items()} | {"items": torch.tensor(len(out))}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Cosine to the teacher on held-back phrases; synonyms named right."""
        assert isinstance(model, TextTower)
        return self._probe(model, self.data.tokenizer)

    def export(self, model: nn.Module, folder: Path) -> None:
        """See `export_text_tower`."""
        assert isinstance(model, TextTower)
        export_text_tower(model, self.data.tokenizer, folder)

    def _batches(self, index: int) -> tuple[Tensor, np.ndarray[Any, Any]]:
        """Ids and targets of one batch: its plan, some batches long, is read as a whole and cut by length."""
        size = self.config.options.batch
        batches = len(self.data.trained) // size
        epoch, number = divmod(index, batches)
        part, place = divmod(number, _PLAN)
        plan = epoch * -(-batches // _PLAN) + part
        if self._plan[0] != plan:
            order = np.random.default_rng([self.config.seed, epoch]).permutation(self.data.trained)
            rows = order[part * _PLAN * size : min((part + 1) * _PLAN, batches) * size]
            self._plan = (plan, self._cut(rows, plan))
        return self._plan[1][place]

    def _cut(self, rows: np.ndarray[Any, Any], plan: int) -> list[tuple[Tensor, np.ndarray[Any, Any]]]:
        rng, size = random.Random(f"{self.config.seed}/slips/{plan}"), self.config.options.batch
        texts = [self.data.phrases[row] for row in rows]
        ids = self.read([misspell(t, rng) if rng.random() < self.config.options.misspelled else t for t in texts])
        lengths = (ids != PAD).sum(1)
        cuts = torch.split(torch.argsort(lengths, stable=True), size)
        found = [(ids[cut, : int(lengths[cut].max())], self.data.targets[rows[cut.numpy()]]) for cut in cuts]
        rng.shuffle(found)
        return found


class Probe:
    """Held-back phrases, prompts written by hand, and synonyms, with the teacher's answers.

    Args:
        data: prepared data. teacher: the sentence encoder.
        limit: held-back phrases at most.
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
        self._reach = _top1(words, labels, self._truth)

    def __call__(self, model: TextTower, tokenizer: Any) -> dict[str, float]:
        """Mean cosines to the teacher; synonyms whose nearest of 50 labels is theirs.

        "synonyms" reads a synonym's own row of the word table; "synonyms_spelled" spells it in pieces instead.
        """
        size = model.config.vocabulary
        read, spelled = WordPieces(tokenizer, size), WordPieces(without(tokenizer, self._synonyms), size)
        cosine = (_embed(model, read(self._phrases)) * self._targets).sum(-1)
        by_hand = (_embed(model, read(self._prompts)) * self._prompt_targets).sum(-1)
        found = {
            "val/cosine": float(cosine.mean()),
            "val/cosine_5th_percentile": float(cosine.quantile(0.05)),
            "val/prompts": float(by_hand.mean()),
            "val/teacher_synonyms": self._reach,
        }
        for name, reader in (("synonyms", read), ("synonyms_spelled", spelled)):
            top = _top1(_embed(model, reader(self._synonyms)), self._labels, self._truth)
            found |= {f"val/{name}": top, f"val/{name}_ratio": top / max(self._reach, 1e-9)}
        return found | self._by_source(cosine)

    def _by_source(self, cosine: Tensor) -> dict[str, float]:
        ends = np.cumsum(list(self._sources.values()))
        place = np.searchsorted(ends, self._rows, side="right")
        return {
            f"val/{name}/cosine": float(cosine[place == i].mean())
            for i, name in enumerate(self._sources)
            if (place == i).any()
        }


def export_text_tower(model: TextTower, tokenizer: Any, folder: Path) -> None:
    """Write `text.safetensors`, `text.json` (its shape) and `tokenizer.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    save_state(folder / "text.safetensors", model.state_dict())
    write_text(folder / "text.json", json.dumps(configs.to_dict(model.config), indent=2) + "\n")
    tokenizer.save(str(folder / "tokenizer.json"))


def read_text_tower(folder: Path) -> tuple[TextTower, Any]:
    """The tower and its tokenizer, of a folder that `export_text_tower` wrote or of a whole model's folder.

    Raises:
        ModelError: a file is missing or damaged.
    """
    if (folder / "text.json").is_file():
        shape = configs.from_dict(TextTowerConfig, json.loads((folder / "text.json").read_text(encoding="utf-8")))
        tower = TextTower(shape)
        load_into(tower, load_state(folder / "text.safetensors"), folder / "text.safetensors")
        return tower.eval(), WordPieces.read(folder / "tokenizer.json", shape.vocabulary).tokenizer
    encoder = MiniEncoder.from_config(read_config(folder)["query"], folder)
    return encoder.tower, encoder.words.tokenizer


class TowerEncoder:
    """A text tower as an encoder of texts, wherever its weights are; the embeddings come back on the CPU.

    Args:
        tower: the weights. words: the word pieces that they know.
    """

    dimension = DIMENSION

    def __init__(self, tower: TextTower, words: WordPieces) -> None:
        self.tower, self.words = tower, words

    @classmethod
    def read(cls, place: str | Path) -> TowerEncoder:
        """Of a folder that `read_text_tower` reads, or of a model by its name.

        Raises:
            ModelError: there is none, or a file of it is missing or damaged.
        """
        tower, tokenizer = read_text_tower(locate(place))
        return cls(tower, WordPieces(tokenizer, tower.config.vocabulary))

    def text(self, texts: Sequence[str]) -> Tensor:
        """(n, 512) L2-normalised embeddings of n texts.

        Raises:
            QueryError: a text without a Latin letter or digit.
        """
        return _embed(self.tower, self.words(texts))


def evaluate(config: TextConfig, weights: Path) -> dict[str, float]:
    """All held-back phrases, prompts and synonyms; see `Probe`."""
    data = prepare(config.data, config.model.vocabulary, to_train=False)
    teacher = SentenceTeacher(config.data.teacher or SentenceTeacher.installed())
    return Probe(data, teacher)(*read_text_tower(weights))


def without(tokenizer: Any, words: Sequence[str]) -> Any:
    """The tokenizer without these words, which it then spells in pieces (phrases of several words are left alone)."""
    state = json.loads(tokenizer.to_str())
    vocabulary: dict[str, int] = state["model"]["vocab"]
    for word in words:
        # Ids stay where they are: a freed one gets a name that no text contains.
        if word in vocabulary and len(word) > 1:
            vocabulary[f"[removed {word}]"] = vocabulary.pop(word)
    return Tokenizer.from_str(json.dumps(state))


def _scales(tokenizer: Any, suffix: float) -> Tensor:
    names = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return torch.tensor([suffix if name.startswith("##") else 1.0 for name, _ in names])


def _top1(found: Tensor, labels: Tensor, truth: Tensor) -> float:
    return float((found @ labels.T).argmax(1).eq(truth).float().mean())


@torch.no_grad()
def _embed(model: TextTower, ids: Tensor, batch: int = 500) -> Tensor:
    device = next(model.parameters()).device
    return torch.cat([model(part.to(device)).float().cpu() for part in torch.split(ids, batch)])


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: see the module's description."""
    parser = argparse.ArgumentParser(prog="python -m audiosep.training.towers.text")
    parser.add_argument("verb", choices=["prepare", "evaluate"])
    parser.add_argument("--config", type=Path, required=True, help="the training configuration (JSON)")
    parser.add_argument("--weights", type=Path, help="folder of the tower to evaluate")
    options = parser.parse_args(arguments)
    given = json.loads(options.config.read_text(encoding="utf-8"))
    config = configs.from_dict(TextConfig, {k: v for k, v in given.items() if k not in ("task", "trainer")})
    if options.verb == "prepare":
        prepare(config.data, config.model.vocabulary)
        return
    if options.weights is None:
        parser.error("evaluate needs --weights")
    sys.stdout.write(json.dumps(evaluate(config, options.weights), indent=2) + "\n")


if __name__ == "__main__":
    main()
