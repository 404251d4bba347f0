"""Aligning both towers of the embedded CLAP: clips of recordings with texts that name them.

Symmetric InfoNCE (van den Oord et al., 2018; Radford et al., 2021) within a batch. Every clip brings several of its
captions; labels that answer one another (`data.labels`) are positives of each other, and what could be either is left
out. Sounds that are near in meaning but others for sure meet more often than by chance (`data.near`).

The text tower may be trained too. The separator was trained with its embeddings, so an anchor keeps them near where
they started: those of the batch's captions, and those of random phrases, which speak for all other queries.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiosep.data.mixing import Mixer
from audiosep.data.near import NearSampler
from audiosep.data.plan import Ask, Plan
from audiosep.data.sampling import SamplingConfig
from audiosep.errors import ConfigError
from audiosep.models.blocks import residual_blocks
from audiosep.models.listener import Listener, ListenerConfig
from audiosep.models.stft import power, stft
from audiosep.models.text import TextTower
from audiosep.query.tokenizer import SPECIAL
from audiosep.training.corpora import CorpusConfig, open_clips
from audiosep.training.towers.alignment import (
    EXCLUDED,
    Naming,
    check_mono,
    export_listener,
    hearing,
    imperfect,
    info_nce,
    load_listener,
)
from audiosep.training.towers.text import TowerEncoder, export_text_tower
from audiosep.weights import configs

_LONGEST_PHRASE = 4  # word pieces


@dataclass(frozen=True)
class ContrastiveOptions:
    """Where the towers start, and what a batch is made of.

    Attributes:
        text: text tower to start from: the `model/` of a run, or a whole model (folder or name).
        listener: listener to start from: its file, the `model/` of a run, or a whole model; "" starts afresh.
        train_text: train the text tower too; otherwise it stays as it is, bit for bit.
        anchor: weight of how far the text tower has moved (cosine distance). phrases: random phrases of one to four
            word pieces that are kept in place beside the captions of the batch.
        captions: texts of one clip in a batch, at most.
        near: share of the mixtures whose first sound is near in meaning to one drawn before; nearest: it is one of so
            many labels.
        temperature: of the softmax.
        leak: largest level of the others in an imperfect clip, dB.
        validation_clips: held-back clips of each split to name at each validation.
    """

    text: str
    listener: str = ""
    train_text: bool = False
    anchor: float = 10.0
    phrases: int = 128
    captions: int = 3
    near: float = 0.5
    nearest: int = 5
    temperature: float = 0.07
    leak: float = -8.0
    validation_clips: int = 300

    def __post_init__(self) -> None:
        for name in ("captions", "nearest", "temperature", "validation_clips"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"options.{name} must be greater than 0, got {getattr(self, name)}")
        if self.anchor < 0 or self.phrases < 0 or not 0 <= self.near <= 1:
            raise ConfigError("options: anchor and phrases must not be negative, near must lie in 0..1")


@dataclass(frozen=True)
class ContrastiveConfig:
    """Configuration of the task: `{"task": "contrastive", "data": {...}, "options": {...}}`.

    `model` is the listener's shape; the text tower has the shape of the one that it starts from. Of `sampling` the
    scenes count (mixtures, seconds, queries, sources, families, levels, effects), not the songs and kinds of queries.
    """

    data: CorpusConfig
    options: ContrastiveOptions
    model: ListenerConfig = field(default_factory=ListenerConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    seed: int = 0


@dataclass
class Pairs:
    """n clips, the m different texts that they brought, and which belong together.

    Attributes:
        energies: (n, bands, frames). ids: (m, longest) word pieces.
        positive, negative: (n, m) bool; what is neither is left out.
        phrases: (p, 4) word pieces of random phrases.
    """

    energies: Tensor
    ids: Tensor
    positive: Tensor
    negative: Tensor
    phrases: Tensor

    def to(self, device: torch.device) -> Pairs:
        """The batch on another device."""
        return Pairs(*(getattr(self, f.name).to(device) for f in fields(self)))


class Towers(nn.Module):
    """Both towers."""

    def __init__(self, listener: Listener, text: TextTower) -> None:
        super().__init__()
        self.listener, self.text = listener, text
        self.compilable = residual_blocks(self)


class Contrastive:
    """Task: see the module's description."""

    Config = ContrastiveConfig

    def __init__(self, config: ContrastiveConfig) -> None:
        self.config, options = config, config.options
        check_mono(config.sampling)
        listener = Listener(config.model)
        if options.listener:
            load_listener(listener, options.listener)
        self.start = TowerEncoder.read(options.text)
        self.start.tower.requires_grad_(False)
        self.words = self.start.words
        if self.start.dimension != config.model.dimension:
            raise ConfigError(
                f"model.dimension must be {self.start.dimension}, as the text tower in {options.text} has"
            )
        self.model = Towers(listener, copy.deepcopy(self.start.tower).requires_grad_(options.train_text))
        self.corpus = open_clips(config.data, config.model.sample_rate)
        self.words(sorted({text for clip in self.corpus.clips for text in clip.texts}))  # unreadable ones, at once
        self.sampler = NearSampler(
            self.corpus, config.sampling, config.seed, self.start.text, options.near, options.nearest
        )
        self.mixer = Mixer(self.corpus)
        self._bands = copy.deepcopy(listener.bands)  # stays on the CPU, where batches are made
        self._naming = Naming(self.corpus, options.validation_clips)

    @classmethod
    def from_config(cls, data: Mapping[str, Any], run_dir: Path) -> Contrastive:
        """Build the task from its part of a training configuration."""
        return cls(configs.from_dict(ContrastiveConfig, data))

    def train_mode(self, model: nn.Module) -> None:
        """A text tower that is not trained is not in training mode either."""
        assert isinstance(model, Towers)
        model.train()
        model.text.train(self.config.options.train_text)

    # ---- batches ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def batch(self, step: int, rank: int, world: int) -> Pairs:
        """Clean and imperfect clips with some of their captions."""
        options, shape = self.config.options, self.config.model
        generator = torch.Generator().manual_seed(self.config.seed * 7_919 + step * 131 + rank)
        plan = self.sampler.plan(step, rank)
        waveforms, queries = imperfect(self.mixer.render(plan), options.leak, generator)
        asks = [plan.asks[q] for q in queries]
        texts = self._texts(plan, asks, generator)
        positive, negative = self.matches([ask.label for ask in asks], texts)
        energies = self._bands.mean(power(stft(waveforms, shape.n_fft, shape.hop)))
        return Pairs(energies, self.words(list(texts)), positive, negative, self._phrases(generator))

    def _texts(self, plan: Plan, asks: list[Ask], generator: torch.Generator) -> dict[str, set[str]]:
        """Up to `captions` texts of each clip, and the labels of the clips that brought them."""
        texts: dict[str, set[str]] = defaultdict(set)
        for ask in asks:
            known = self.corpus.clips[plan.mixtures[ask.mixture].sources[ask.members[0]].clip].texts
            drawn = torch.randperm(len(known), generator=generator)[: self.config.options.captions]
            for number in drawn.tolist():
                texts[known[number]].add(ask.label)
        return texts

    def matches(self, labels: list[str], texts: Mapping[str, set[str]]) -> tuple[Tensor, Tensor]:
        """Which texts name a clip, and which surely do not.

        Args:
            labels: of n clips. texts: m texts, with the labels of the clips that brought each.

        Returns:
            positive, negative: (n, m) bool, never both.
        """
        asker = self.sampler.asker

        def match(label: str, text: str, owners: set[str]) -> int:
            if text in asker.texts[label] or asker.table.answers(label, text):
                return 1
            if any(asker.table.answers(label, b) or asker.table.answers(b, label) for b in owners):
                return 1
            return -1 if all(asker.relation(label, b) < 2 for b in owners) else 0

        rows = {label: [match(label, *item) for item in texts.items()] for label in set(labels)}
        table = torch.tensor([rows[label] for label in labels]).view(len(labels), len(texts))
        return table > 0, table < 0

    def _phrases(self, generator: torch.Generator) -> Tensor:
        """(phrases, 4) ids of one to four random word pieces."""
        shape = (self.config.options.phrases if self.config.options.train_text else 0, _LONGEST_PHRASE)
        ids = torch.randint(len(SPECIAL), self.words.vocabulary, shape, generator=generator)
        lengths = torch.randint(1, _LONGEST_PHRASE + 1, (shape[0], 1), generator=generator)
        return ids * (torch.arange(_LONGEST_PHRASE) < lengths)

    # ---- loss ------------------------------------------------------------------------------------------------------

    def loss(self, model: nn.Module, batch: Pairs) -> tuple[Tensor, dict[str, Tensor]]:
        """Symmetric InfoNCE, and how far the text tower has moved."""
        assert isinstance(model, Towers)
        options = self.config.options
        pooled, texts = model.listener.pooled(batch.energies), model.text(batch.ids).float()
        with torch.autocast(pooled.device.type, enabled=False):
            logits = model.listener.embed_pooled(pooled) @ texts.T / options.temperature
            logits = logits.masked_fill(~(batch.positive | batch.negative), EXCLUDED)
            loss = (info_nce(logits, batch.positive, 1) + info_nce(logits, batch.positive, 0)) / 2
        parts = {"contrast": loss.detach(), "items": torch.tensor(len(pooled))}
        if options.train_text:
            moved = torch.cat([self._moved(texts, batch.ids), self._moved(model.text(batch.phrases), batch.phrases)])
            loss, parts["moved"] = loss + options.anchor * moved.mean(), moved.detach().mean()
        return loss, parts

    def _moved(self, texts: Tensor, ids: Tensor) -> Tensor:
        """(m,) cosine distance of embeddings from where the tower put them before training."""
        with torch.no_grad():
            before = self.start.tower.to(texts.device)(ids)
        # Normalised again: autocast rounds the towers' unit vectors.
        return 1 - F.cosine_similarity(texts.float(), before.float(), dim=-1)

    # ---- validation and export -------------------------------------------------------------------------------------

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Zero-shot naming of held-back clips ("val/top1", "zero/top1"), and how near the text tower is to its start.

        "val/text" is the mean cosine of all labels' embeddings to those before; 1 while the tower is frozen.
        """
        assert isinstance(model, Towers)
        now, labels = TowerEncoder(model.text, self.words), sorted({clip.label for clip in self.corpus.clips})
        found = {f"{split}/top1": top for split, top in self._naming(hearing(model.listener), now.text).items()}
        return found | {"val/text": float(F.cosine_similarity(now.text(labels), self.start.text(labels)).mean())}

    def export(self, model: nn.Module, folder: Path) -> None:
        """Both towers: see `export_listener` and `export_text_tower`."""
        assert isinstance(model, Towers)
        export_listener(model.listener, folder)
        export_text_tower(model.text, self.words.tokenizer, folder)
