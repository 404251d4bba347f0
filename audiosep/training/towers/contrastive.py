"""Aligning both towers of the embedded CLAP: clips of recordings with texts that name them.

Symmetric InfoNCE (van den Oord et al., 2018; Radford et al., 2021) within a batch. A batch holds several captions of
each clip. Clips of labels that include one another (`data.labels`) are positives of each other's captions; pairs that
could be either are left out. Hard negatives, similar in meaning but surely other sounds, are drawn more often than by
chance (`data.hard_negatives`).

The text tower may be trained too. The separator was trained with its embeddings, so an anchor term keeps them near
their start: those of the batch's captions, and those of random phrases, which represent all other queries.
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

from audiosep.data.hard_negatives import HardNegativeSampler
from audiosep.data.mixing import Mixer
from audiosep.data.mixture_plan import BatchPlan, PlannedQuery
from audiosep.data.queries import Relation
from audiosep.data.sampling import SamplingConfig
from audiosep.errors import ConfigError
from audiosep.models.audio_tower import AudioTower
from audiosep.models.listener import ListenerConfig
from audiosep.models.stft import power, stft
from audiosep.models.text import TextTower
from audiosep.models.towers import TowerConfig, build_tower
from audiosep.query.tokenizer import SPECIAL
from audiosep.training.data_config import CorpusConfig, open_corpus
from audiosep.training.tower_files import TextTowerEncoder, export_listener, export_text_tower, load_listener
from audiosep.training.towers.info_nce import EXCLUDED, info_nce
from audiosep.training.towers.training_clips import check_mono, with_leakage
from audiosep.training.towers.zero_shot import ZeroShotAccuracy, listener_embedder
from audiosep.weights import configs

_LONGEST_PHRASE = 4  # word pieces


@dataclass(frozen=True)
class ContrastiveOptions:
    """The towers' initial weights, and the contents of a batch.

    Attributes:
        text: text tower to start from: the `model/` of a run, or a whole model (folder or name).
        listener: listener to start from: its file, the `model/` of a run, or a whole model; "" starts with random
            weights.
        train_text: train the text tower too; otherwise it does not change.
        anchor: weight of the text tower's distance from its start (cosine distance).
        phrases: random phrases of one to four word pieces in the anchor term, besides the captions of the batch.
        captions: texts of one clip in a batch, at most.
        near: share of the mixtures whose first sound is a hard negative of one drawn before.
        nearest: number of labels, the nearest by their text embeddings, that hard negatives are drawn from.
        temperature: of the softmax.
        leak_db: largest level of the other sources in a clip with leakage, dB.
        validation_clips: held-back clips of each split to classify at each validation.
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
    leak_db: float = -8.0
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

    `model` configures the listener; the text tower has the configuration of the one that it starts from. Of
    `sampling`, songs and kinds of queries are ignored; mixtures, seconds, queries, sources, families, levels and
    effects are used.
    """

    data: CorpusConfig
    options: ContrastiveOptions
    model: TowerConfig = field(default_factory=ListenerConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    seed: int = 0


@dataclass
class ContrastiveBatch:
    """A batch of n clips and the m distinct texts of their captions.

    Attributes:
        energies: (n, bands, frames).
        ids: (m, longest) word pieces.
        positive: (n, m) bool: which texts name a clip.
        negative: (n, m) bool: which texts surely name another sound; a pair that is neither is left out.
        phrases: (p, 4) word pieces of random phrases.
    """

    energies: Tensor
    ids: Tensor
    positive: Tensor
    negative: Tensor
    phrases: Tensor

    def to(self, device: torch.device) -> ContrastiveBatch:
        """Return the batch on another device."""
        return ContrastiveBatch(*(getattr(self, f.name).to(device) for f in fields(self)))


class Towers(nn.Module):
    """The listener and the text tower."""

    def __init__(self, listener: AudioTower, text: TextTower) -> None:
        super().__init__()
        self.listener, self.text = listener, text
        self.compilable = tuple(f"listener.{name}" for name in listener.compilable)


class Contrastive:
    """Task: see the module's description.

    Args:
        config: the task's configuration.

    Raises:
        ConfigError: the mixtures are stereo, or the towers have different dimensions.
        ModelError: weights to start from are missing or damaged.
        QueryError: a caption of the corpus that the text tower cannot read.
    """

    Config = ContrastiveConfig

    def __init__(self, config: ContrastiveConfig) -> None:
        self.config, options = config, config.options
        check_mono(config.sampling)
        listener = build_tower(config.model)
        if options.listener:
            load_listener(listener, options.listener)
        self.start = TextTowerEncoder.read(options.text)
        self.start.tower.requires_grad_(False)
        self.words = self.start.words
        if self.start.dimension != config.model.dimension:
            raise ConfigError(
                f"model.dimension must be {self.start.dimension}, as the text tower in {options.text} has"
            )
        self.model = Towers(listener, copy.deepcopy(self.start.tower).requires_grad_(options.train_text))
        self.corpus = open_corpus(config.data, config.model.sample_rate)
        # Now, so that texts without Latin letters do not end the training later.
        self.words(sorted({text for clip in self.corpus.clips for text in clip.texts}))
        self.sampler = HardNegativeSampler(
            self.corpus, config.sampling, config.seed, self.start.text, options.near, options.nearest
        )
        self.mixer = Mixer(self.corpus)
        self._bands = copy.deepcopy(listener.bands)  # stays on the CPU, where batches are rendered
        self._accuracy = ZeroShotAccuracy(self.corpus, options.validation_clips)

    @classmethod
    def from_config(cls, data: Mapping[str, Any]) -> Contrastive:
        """Build the task from its part of a training configuration."""
        return cls(configs.from_dict(ContrastiveConfig, data))

    def train_mode(self, model: nn.Module) -> None:
        """Set training mode; a text tower that is not trained stays in evaluation mode."""
        assert isinstance(model, Towers)
        model.train()
        model.text.train(self.config.options.train_text)

    @torch.no_grad()
    def batch(self, step: int, rank: int, world: int) -> ContrastiveBatch:
        """Render clips, some with leakage, and draw some of their captions."""
        options, listener = self.config.options, self.config.model
        generator = torch.Generator().manual_seed(self.config.seed * 7_919 + step * 131 + rank)
        plan = self.sampler.plan(step, rank)
        waveforms, queries = with_leakage(self.mixer.render(plan), options.leak_db, generator)
        chosen = [plan.queries[q] for q in queries]
        texts = self._texts(plan, chosen, generator)
        positive, negative = self.matches([query.label for query in chosen], texts)
        energies = self._bands.mean(power(stft(waveforms, listener.n_fft, listener.hop)))
        return ContrastiveBatch(energies, self.words(list(texts)), positive, negative, self._phrases(generator))

    def _texts(self, plan: BatchPlan, queries: list[PlannedQuery], generator: torch.Generator) -> dict[str, set[str]]:
        """Draw up to `captions` texts of each clip; each text with the labels of the clips that have it."""
        texts: dict[str, set[str]] = defaultdict(set)
        for query in queries:
            known = self.corpus.clips[plan.mixtures[query.mixture].sources[query.members[0]].clip].texts
            drawn = torch.randperm(len(known), generator=generator)[: self.config.options.captions]
            for number in drawn.tolist():
                texts[known[number]].add(query.label)
        return texts

    def matches(self, labels: list[str], texts: Mapping[str, set[str]]) -> tuple[Tensor, Tensor]:
        """Decide which texts name a clip, and which surely do not.

        Args:
            labels: of n clips.
            texts: m texts, each with the labels of the clips that have it.

        Returns:
            positive and negative, (n, m) bool each, never both.
        """
        builder = self.sampler.query_builder

        def match(label: str, text: str, owners: set[str]) -> int:
            if text in builder.texts[label] or builder.table.implies(label, text):
                return 1
            if any(builder.table.implies(label, b) or builder.table.implies(b, label) for b in owners):
                return 1
            return -1 if all(builder.relation(label, b) < Relation.OVERLAPPING for b in owners) else 0

        rows = {label: [match(label, *item) for item in texts.items()] for label in set(labels)}
        table = torch.tensor([rows[label] for label in labels]).view(len(labels), len(texts))
        return table > 0, table < 0

    def _phrases(self, generator: torch.Generator) -> Tensor:
        """Draw random phrases of one to four word pieces: (phrases, 4) ids."""
        shape = (self.config.options.phrases if self.config.options.train_text else 0, _LONGEST_PHRASE)
        ids = torch.randint(len(SPECIAL), self.words.vocabulary, shape, generator=generator)
        lengths = torch.randint(1, _LONGEST_PHRASE + 1, (shape[0], 1), generator=generator)
        return ids * (torch.arange(_LONGEST_PHRASE) < lengths)

    def loss(self, model: nn.Module, batch: ContrastiveBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return symmetric InfoNCE plus the text tower's weighted distance from its start, and both parts."""
        assert isinstance(model, Towers)
        options = self.config.options
        pooled, texts = model.listener.pooled(batch.energies), model.text(batch.ids).float()
        with torch.autocast(pooled.device.type, enabled=False):
            logits = model.listener.embed_pooled(pooled) @ texts.T / options.temperature
            logits = logits.masked_fill(~(batch.positive | batch.negative), EXCLUDED)
            loss = (info_nce(logits, batch.positive, 1) + info_nce(logits, batch.positive, 0)) / 2
        parts = {"contrast": loss.detach(), "items": torch.tensor(len(pooled))}
        if options.train_text:
            phrases = self._distance_from_start(model.text(batch.phrases), batch.phrases)
            anchor = torch.cat([self._distance_from_start(texts, batch.ids), phrases]).mean()
            loss, parts["anchor"] = loss + options.anchor * anchor, anchor.detach()
        return loss, parts

    def _distance_from_start(self, texts: Tensor, ids: Tensor) -> Tensor:
        """(m,) cosine distance of embeddings from those of the initial text tower."""
        with torch.no_grad():
            before = self.start.tower.to(texts.device)(ids)
        # Normalised again: autocast rounds the towers' unit vectors.
        return 1 - F.cosine_similarity(texts.float(), before.float(), dim=-1)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Measure zero-shot accuracy on held-back clips ("val/top1", "zero/top1") and "val/text".

        "val/text" is the mean cosine of all labels' embeddings to those of the initial text tower; 1 if it is frozen.
        """
        assert isinstance(model, Towers)
        text, labels = TextTowerEncoder(model.text, self.words), sorted({clip.label for clip in self.corpus.clips})
        accuracy = self._accuracy(listener_embedder(model.listener), text.text)
        similarity = F.cosine_similarity(text.text(labels), self.start.text(labels)).mean()
        return {f"{split}/top1": top for split, top in accuracy.items()} | {"val/text": float(similarity)}

    def export(self, model: nn.Module, folder: Path) -> None:
        """Write both towers, see `export_listener` and `export_text_tower`."""
        assert isinstance(model, Towers)
        export_listener(model.listener, folder)
        export_text_tower(model.text, self.words.tokenizer, folder)
