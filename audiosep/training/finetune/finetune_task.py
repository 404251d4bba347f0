"""The task behind `audiosep finetune`: teach a trained separator new sounds without losing the old ones.

It works for every `SeparationModel`, on waveforms, with all queries of a mixture in one forward pass. Batch statistics
stay those of the base model. Rehearsal keeps what the model knew: for queries of everyday sounds the target is the
estimate of the base model (Li and Hoiem, 2016: "Learning without forgetting").
"""

from __future__ import annotations

import copy
import dataclasses
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from audiosep.data.corpus import Corpus
from audiosep.data.labels import label_table
from audiosep.data.mixing import Mixer
from audiosep.data.queries import query_texts
from audiosep.data.sampling import Sampler, SamplingConfig
from audiosep.models.separation_model import SeparationModel
from audiosep.query.encoder import QueryEncoder
from audiosep.training.caption_table import CaptionTable
from audiosep.training.engine.trackers import Sample
from audiosep.training.finetune.held_back import HeldBackScores
from audiosep.training.finetune.user_clips import NOISE, TARGET
from audiosep.training.separation.bandwidth import band_limited
from audiosep.training.separation.losses import WeightedLosses
from audiosep.training.separation.waveform_losses import WAVEFORM_LOSSES

EVERYDAY_SOUNDS = (
    "speech", "singing", "laughter", "baby crying", "applause", "footsteps", "music", "acoustic guitar",
    "electric guitar", "piano", "drums", "bass guitar", "violin", "trumpet", "dog barking", "cat", "birds singing",
    "rooster", "insects", "rain", "wind", "ocean waves", "thunder", "running water", "fire crackling", "car engine",
    "traffic", "train", "helicopter", "siren", "bell", "clock ticking", "telephone ringing", "door", "keyboard typing",
    "vacuum cleaner",
)  # fmt: skip
# A difference to the base's estimate below -15 dB has no gradient.
REHEARSAL_LOSS = WeightedLosses([{"name": "snr", "weight": 0.1, "threshold_db": 15.0}], WAVEFORM_LOSSES)


@dataclass(frozen=True)
class FinetuneOptions:
    """Loss and batches of fine-tuning.

    Attributes:
        losses: terms on waveforms, see `separation.losses`.
        presence: weight of the presence head, if the model has one.
        rehearsal: share of mixtures with an additional query of an everyday sound, whose target is the base's estimate.
        audio: share of queries given by an example recording instead of text.
        noise: standard deviation of noise on text embeddings.
        sampling: mixtures, seconds, levels and effects.
        validation_batches: batches of `sampling.mixtures` held-back mixtures.
    """

    losses: tuple[dict[str, Any], ...] = (
        {"name": "snr", "weight": 0.1},
        {"name": "multi_resolution_stft", "sizes": (512, 2048)},
    )
    presence: float = 0.05
    rehearsal: float = 0.5
    audio: float = 0.3
    noise: float = 0.02
    sampling: SamplingConfig = field(
        default_factory=lambda: SamplingConfig(
            mixtures=4, families={TARGET: 0.65, NOISE: 0.35}, absent=0.2, examples=0.3, sources=(0.7, 0.2, 0.07, 0.03)
        )
    )
    validation_batches: int = 12


@dataclass
class FinetuneBatch:
    """Mixtures with the embeddings of their queries.

    Attributes:
        sources: (mixtures, sources, samples).
        owner: (queries,) number of the query's mixture.
        membership: (queries, sources) 1 for the sources that are the target.
        embeddings: (queries, dimension).
        negatives: (queries, dimension), zeros for none.
        rehearsed: (mixtures, dimension) embedding of an everyday sound, zeros for none.
    """

    sources: Tensor
    owner: Tensor
    membership: Tensor
    embeddings: Tensor
    negatives: Tensor
    rehearsed: Tensor

    def to(self, device: torch.device) -> FinetuneBatch:
        """Return the batch on another device."""
        return FinetuneBatch(**{f.name: getattr(self, f.name).to(device) for f in dataclasses.fields(self)})


@dataclass
class MixtureEstimates:
    """The model's estimates for one mixture.

    Attributes:
        new: (estimates, targets, mixtures) of the new sounds, each (queries, samples).
        rehearsed: the same of the rehearsed sound, each (1, samples); None for none.
        presence: scores and truth of the new sounds, each (queries,); None if the model has no presence head.
    """

    new: tuple[Tensor, Tensor, Tensor]
    rehearsed: tuple[Tensor, Tensor, Tensor] | None
    presence: tuple[Tensor, Tensor] | None


class FinetuneTask:
    """Task: see the module's description.

    Args:
        model: the model, already with its adapter; the parameters that need gradients are trained.
        base: the base model.
        encoder: its query encoder.
        corpus: clips of the families `TARGET` and `NOISE`, of the splits "train" and "val".
        options: see `FinetuneOptions`.
        seed: of all random numbers.
        save: writes a model with the trained weights into a folder.
    """

    def __init__(
        self,
        model: SeparationModel,
        base: SeparationModel,
        encoder: QueryEncoder,
        corpus: Corpus,
        options: FinetuneOptions,
        seed: int,
        save: Callable[[SeparationModel, Path], object],
    ) -> None:
        self.model: nn.Module = model
        self.base = copy.deepcopy(base).eval().requires_grad_(False)
        self.encoder, self.corpus, self.options, self.seed, self._save = encoder, corpus, options, seed, save
        self.losses = WeightedLosses(options.losses, WAVEFORM_LOSSES)
        labels = {clip.label for clip in corpus.clips if clip.family == TARGET}
        self.labels = sorted(labels)
        table = label_table()
        self.known = [word for word in EVERYDAY_SOUNDS if not any(table.conflict(word, label) for label in labels)]
        self.captions = CaptionTable.build(query_texts(corpus.clips) | set(EVERYDAY_SOUNDS), encoder)
        self.sampler = Sampler(corpus, options.sampling, seed)
        self.mixer = Mixer(corpus)
        batches = options.validation_batches
        self.held_back = HeldBackScores(corpus, self.captions, self.labels, options.sampling, batches, seed + 1)

    def train_mode(self, model: nn.Module) -> None:
        """Keep evaluation mode: a few recordings are too little for batch statistics of their own."""
        model.eval()

    def batch(self, step: int, rank: int, world: int) -> FinetuneBatch:
        """Make the mixtures of one step and the embeddings of their queries."""
        options, generator = self.options, torch.Generator().manual_seed(self.seed * 7_919 + step * 131 + rank)
        mixtures = self.mixer.render(self.sampler.plan(step, rank))
        text = self.captions[mixtures.captions]
        text = F.normalize(text + options.noise * torch.randn(text.shape, generator=generator), dim=-1)
        negatives = torch.zeros_like(text)
        for row, caption in enumerate(mixtures.negatives):
            if caption:
                negatives[row] = self.captions[[caption]][0]
        if mixtures.examples is not None and mixtures.example_of is not None:
            chosen = (
                torch.rand(len(mixtures.example_of), generator=generator) < options.audio / options.sampling.examples
            )
            for example, query in zip(mixtures.examples[chosen], mixtures.example_of[chosen], strict=True):
                if example.any():
                    text[query] = self.encoder.audio([example], self.corpus.sample_rate)[0].to(text)
        # A mixture without queries is always rehearsed.
        rehearse = torch.rand(len(mixtures.sources), generator=generator) < options.rehearsal
        rehearse[list(set(range(len(rehearse))) - set(mixtures.owner.tolist()))] = True
        words = torch.randint(len(self.known), (len(rehearse),), generator=generator)
        rehearsed = self.captions[[self.known[word] for word in words.tolist()]] * rehearse[:, None]
        sources = band_limited(mixtures.sources, mixtures.cutoff, self.corpus.sample_rate)
        return FinetuneBatch(sources, mixtures.owner, mixtures.membership, text, negatives, rehearsed)

    def loss(self, model: nn.Module, batch: FinetuneBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of new sounds against their targets, and of rehearsed ones against the base's estimates."""
        mixes = batch.sources.sum(1)
        # The adapted weights are computed once a batch, not once a mixture.
        with parametrize.cached():
            estimates = [self._estimate(model, batch, number, mix) for number, mix in enumerate(mixes)]
        new = [torch.cat(signals) for signals in zip(*(mixture.new for mixture in estimates), strict=True)]
        values, parts = self.losses(*new)
        total = values.sum() / max(1, len(values))
        rehearsed = [mixture.rehearsed for mixture in estimates if mixture.rehearsed is not None]
        if rehearsed:
            signals = [torch.cat(signals) for signals in zip(*rehearsed, strict=True)]
            values, rehearsal = REHEARSAL_LOSS(*signals)
            total, parts["rehearsal"] = total + values.sum() / len(mixes), rehearsal["snr"]
        scores = [mixture.presence for mixture in estimates if mixture.presence is not None]
        if scores and self.options.presence:
            presence = self._presence(*(torch.cat(signals) for signals in zip(*scores, strict=True)))
            total, parts["presence"] = total + self.options.presence * presence, presence.detach()
        return total, parts | {"items": torch.tensor(len(batch.owner))}

    def _estimate(self, model: nn.Module, batch: FinetuneBatch, number: int, mix: Tensor) -> MixtureEstimates:
        """Run one forward pass with all queries of one mixture."""
        rows, word = torch.nonzero(batch.owner == number)[:, 0], batch.rehearsed[number][None]
        rehearse = bool(word.any())
        embeddings, negatives = batch.embeddings[rows], batch.negatives[rows]
        if rehearse:
            embeddings, negatives = torch.cat([embeddings, word]), torch.cat([negatives, torch.zeros_like(word)])
        estimate = model(mix[None, None], embeddings, negatives)
        score, present = estimate.presence, (batch.membership[rows].sum(1) > 0).float()
        waveforms, count = estimate.waveforms[0, :, 0].float(), len(rows)
        targets = torch.einsum("qs,st->qt", batch.membership[rows], batch.sources[number])
        return MixtureEstimates(
            new=(waveforms[:count], targets, mix.expand_as(targets)),
            rehearsed=(waveforms[count:], self._base_estimate(mix, word), mix[None]) if rehearse else None,
            presence=None if score is None else (score[0, :count].float(), present),
        )

    def _presence(self, score: Tensor, truth: Tensor) -> Tensor:
        with torch.autocast(score.device.type, enabled=False):
            return F.binary_cross_entropy(score.clamp(1e-4, 1 - 1e-4), truth)

    @torch.no_grad()
    def _base_estimate(self, mix: Tensor, embedding: Tensor) -> Tensor:
        """(1, samples) estimate of the base model for one query."""
        estimate: Tensor = self.base.to(mix.device)(mix[None, None], embedding).waveforms[0, :, 0].float()
        return estimate

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Measure SI-SDRi, SDRi and the share of improved clips of each new sound and their mean."""
        return self.held_back(model)

    def samples(self, model: nn.Module) -> list[Sample]:
        """Separate a few held-back mixtures for the trackers."""
        return self.held_back.samples(model)

    def export(self, model: nn.Module, folder: Path) -> None:
        """Write the adapter, or the whole model."""
        assert isinstance(model, SeparationModel)
        self._save(model, folder)

    def describe(self) -> dict[str, Any]:
        """Return seconds by family, label and split, for the run's config.json."""
        seconds: dict[str, float] = defaultdict(float)
        for clip in self.corpus.clips:
            seconds[f"{clip.family}/{clip.label}/{clip.split}"] += clip.seconds
        return {"task": "finetune", "seconds": {k: round(v, 1) for k, v in sorted(seconds.items())}}
