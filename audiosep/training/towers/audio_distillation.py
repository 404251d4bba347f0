"""Training the listener (the audio tower of the embedded CLAP): distillation from a tagger, alignment with text.

Its inputs are clean clips, mixtures of them, and clips with leakage of the other sources, as an imperfect separation
leaves them. The listener learns the tagger's tags and embedding, and its own embedding in the joint space: towards the
mean of the labels' text embeddings weighted by the tagger's probabilities, which exists for any sound, and towards the
captions of the clip (symmetric InfoNCE, Radford et al., 2021, against all captions of the corpus).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiosep.data.corpus import Corpus
from audiosep.data.mixing import Mixer
from audiosep.data.sampling import Sampler, SamplingConfig
from audiosep.errors import ConfigError
from audiosep.models.blocks import residual_blocks
from audiosep.models.listener import Listener, ListenerConfig
from audiosep.models.stft import power, stft
from audiosep.training.caption_table import CaptionTable
from audiosep.training.data_config import DataConfig, load_captions, open_corpus
from audiosep.training.tower_files import export_listener
from audiosep.training.towers.info_nce import info_nce
from audiosep.training.towers.teachers import Tagger
from audiosep.training.towers.training_captions import TrainingCaptions
from audiosep.training.towers.training_clips import check_mono, with_leakage
from audiosep.training.towers.zero_shot import ZeroShotAccuracy, compare_accuracy, listener_embedder, tagger_embedder
from audiosep.weights import configs

_REUSED_PARTS = 5  # a reused batch takes every fifth clip of five cached ones


@dataclass(frozen=True)
class AudioDistillationOptions:
    """What the listener learns from, and the weight of each part of the loss.

    Attributes:
        tagger: TorchScript file of the tagger.
        labels: JSON list of its class names.
        tags: weight of the tagger's probabilities.
        embedding: weight of the tagger's embedding.
        joint: weight of the embedding in the joint space that the tagger's probabilities give.
        contrast: weight of InfoNCE against the captions.
        logits: weight of the tagger's logits themselves, in which faint sounds stay visible.
        local: weight of all this for each moment besides the whole clip, because the separator uses the moments.
        temperature: of the contrastive softmax.
        leak_db: largest level of the other sources in a clip with leakage, dB.
        batch_reuse: steps for which each rendered batch is used; rendering and tagger then cost so much less.
        cached_batches: rendered batches that are kept for reuse.
        tilt_db: largest random spectral tilt of reused clips, dB over the band.
        validation_clips: held-back clips of each split to classify at each validation.
    """

    tagger: str
    labels: str
    tags: float = 1.0
    embedding: float = 0.5
    joint: float = 2.0
    contrast: float = 0.5
    logits: float = 0.5
    local: float = 1.0
    temperature: float = 0.07
    leak_db: float = -8.0
    batch_reuse: int = 1
    cached_batches: int = 400
    tilt_db: float = 6.0
    validation_clips: int = 300

    def __post_init__(self) -> None:
        for name in ("batch_reuse", "cached_batches", "temperature", "validation_clips"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"options.{name} must be greater than 0, got {getattr(self, name)}")


@dataclass(frozen=True)
class AudioDistillationConfig:
    """Configuration of the task: `{"task": "audio", "model": {...}, "data": {...}, "options": {...}}`."""

    data: DataConfig
    options: AudioDistillationOptions
    model: ListenerConfig = field(default_factory=ListenerConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    seed: int = 0


@dataclass
class ListenerBatch:
    """A batch of n clips with the tagger's outputs.

    Attributes:
        energies: (n, bands, frames).
        logits: (n, classes), the tagger's.
        embedding: (n, dimension), the tagger's.
        moments: (n, steps, dimension), the tagger's embedding of each moment.
        caption: (n,) index of the clip's caption among those of the training clips, -1 for none.
    """

    energies: Tensor
    logits: Tensor
    embedding: Tensor
    moments: Tensor
    caption: Tensor

    def to(self, device: torch.device) -> ListenerBatch:
        """Return the batch on another device."""
        return ListenerBatch(*(getattr(self, f.name).to(device) for f in fields(self)))

    def part(self, rows: slice) -> ListenerBatch:
        """Return some of the clips."""
        return ListenerBatch(*(getattr(self, f.name)[rows] for f in fields(self)))

    @staticmethod
    def concatenate(parts: list[ListenerBatch]) -> ListenerBatch:
        """Join parts of several batches."""
        return ListenerBatch(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(ListenerBatch)))


class DistilledListener(nn.Module):
    """The listener, and the projection to the tagger's embedding that only distillation needs."""

    def __init__(self, config: ListenerConfig) -> None:
        super().__init__()
        self.listener = Listener(config)
        self.to_tagger = nn.Linear(config.hidden, Tagger.dimension)
        self.compilable = residual_blocks(self)


class AudioDistillation:
    """Task: see the module's description.

    Args:
        config: the task's configuration.

    Raises:
        ConfigError: the mixtures are stereo.
        ModelError: the tagger is missing or of another kind.
    """

    Config = AudioDistillationConfig

    def __init__(self, config: AudioDistillationConfig) -> None:
        self.config = config
        check_mono(config.sampling)
        self.model = DistilledListener(config.model)
        self.corpus = open_corpus(config.data, config.model.sample_rate)
        self.captions = load_captions(config.data)
        self.sampler = Sampler(self.corpus, config.sampling, config.seed)
        self.mixer = Mixer(self.corpus)
        self.tagger = Tagger(config.options.tagger)
        self._bands = copy.deepcopy(self.model.listener.bands)  # stays on the CPU, where batches are rendered
        self._cache: dict[tuple[int, int], ListenerBatch] = {}
        names = json.loads(Path(config.options.labels).read_text(encoding="utf-8"))
        self.label_embeddings = self.captions[names]
        self.training_captions = TrainingCaptions(self.corpus.clips, self.captions)
        self._validation = ListenerValidation(
            self.corpus, self.captions, config.options.validation_clips, self.tagger, self.label_embeddings
        )

    @classmethod
    def from_config(cls, data: Mapping[str, Any]) -> AudioDistillation:
        """Build the task from its part of a training configuration."""
        return cls(configs.from_dict(AudioDistillationConfig, data))

    def batch(self, step: int, rank: int, world: int) -> ListenerBatch:
        """Render clean clips, clips with leakage and mixtures; with `batch_reuse` mix parts of cached batches."""
        options = self.config.options
        if options.batch_reuse == 1:
            return self._render(step, rank)
        generator = torch.Generator().manual_seed(self.config.seed * 7_919 + step * 131 + rank + 65_537)
        newest = step // options.batch_reuse
        oldest = max(0, newest - options.cached_batches + 1)
        for expired in [key for key in self._cache if key[0] < oldest]:
            del self._cache[expired]
        numbers = torch.randint(oldest, newest + 1, (_REUSED_PARTS,), generator=generator).tolist()
        offsets = torch.randperm(_REUSED_PARTS, generator=generator).tolist()
        batch = ListenerBatch.concatenate(
            [
                self._cached(number, rank).part(slice(offset, None, _REUSED_PARTS))
                for number, offset in zip(numbers, offsets, strict=True)
            ]
        )
        slope = torch.linspace(-0.5, 0.5, batch.energies.shape[1])[:, None]
        tilt = (2 * torch.rand(len(batch.caption), 1, 1, generator=generator) - 1) * options.tilt_db
        return replace(batch, energies=batch.energies.float() * 10 ** (tilt * slope / 10))

    def _cached(self, number: int, rank: int) -> ListenerBatch:
        """Return a rendered batch from the cache; a resumed run starts with an empty cache and renders it again."""
        if (number, rank) not in self._cache:
            batch = self._render(number, rank)
            self._cache[number, rank] = replace(batch, energies=batch.energies.bfloat16())
        return self._cache[number, rank]

    @torch.no_grad()
    def _render(self, step: int, rank: int) -> ListenerBatch:
        generator = torch.Generator().manual_seed(self.config.seed * 7_919 + step * 131 + rank)
        mixtures = self.mixer.render(self.sampler.plan(step, rank))
        clips, queries = with_leakage(mixtures, self.config.options.leak_db, generator)
        mix = mixtures.sources.sum(1)
        waveforms = torch.cat([clips, mix])
        captions = [self.training_captions.index(mixtures.captions[q]) for q in queries] + [-1] * len(mix)
        config = self.config.model
        energies = self._bands.mean(power(stft(waveforms, config.n_fft, config.hop)))
        return ListenerBatch(energies, *self.tagger(waveforms), torch.tensor(captions))

    def loss(self, model: nn.Module, batch: ListenerBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of the parts, see `AudioDistillationOptions`, and the parts."""
        assert isinstance(model, DistilledListener)
        listener, options = model.listener, self.config.options
        local = listener.local(batch.energies.float())
        with torch.autocast(local.device.type, enabled=False):
            moments = local.float().mean(3)
            pooled = moments.mean(2)
            joint, tags = listener.embed_pooled(pooled), listener.tags(pooled)
            parts = {
                "tags": F.binary_cross_entropy_with_logits(tags, batch.logits.sigmoid()) * 100,
                "embedding": _relative_error(model.to_tagger(pooled), batch.embedding),
                "joint": self._joint_distance(joint, batch.logits),
                "contrast": self._contrast(joint, batch.caption),
                "logits": _relative_error(tags, batch.logits),
            }
            loss = torch.stack([getattr(options, name) * value for name, value in parts.items()]).sum()
            if options.local:
                local_loss, local_parts = self._local_loss(model, moments, batch.moments)
                loss, parts = loss + options.local * local_loss, parts | local_parts
        return loss, {k: v.detach() for k, v in parts.items()} | {"items": torch.tensor(len(joint))}

    def _local_loss(
        self, model: DistilledListener, moments: Tensor, target: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compare each moment with the tagger's.

        Args:
            model: for its output layers.
            moments: (n, hidden, frames), the listener's.
            target: (n, steps, dimension), the tagger's embeddings.
        """
        options, listener = self.config.options, model.listener
        steps = F.adaptive_avg_pool1d(moments, target.shape[1]).transpose(1, 2)
        logits = self.tagger.head(target)
        parts = {
            "local_embedding": _relative_error(model.to_tagger(steps), target),
            "local_joint": self._joint_distance(listener.embed_pooled(steps), logits),
            "local_logits": _relative_error(listener.tags(steps), logits),
        }
        loss = (
            options.embedding * parts["local_embedding"]
            + options.joint * parts["local_joint"]
            + options.logits * parts["local_logits"]
        )
        return loss, parts

    def _joint_distance(self, joint: Tensor, logits: Tensor) -> Tensor:
        """Mean cosine distance of embeddings from the mean of the labels' texts, weighted by their probabilities."""
        target = F.normalize(logits.softmax(-1) @ self.label_embeddings.to(joint.device), dim=-1)
        return (1 - (joint * target).sum(-1)).mean()

    def _contrast(self, joint: Tensor, caption: Tensor) -> Tensor:
        """Symmetric InfoNCE; every caption of the same sound is a positive."""
        known = torch.nonzero(caption >= 0)[:, 0]
        if len(known) == 0:
            return joint.sum() * 0
        z, caption = joint[known], caption[known].cpu()
        positive = self.training_captions.same_sound[caption].to(z.device)
        logits = z @ self.training_captions.embeddings.to(z.device).T / self.config.options.temperature
        return (info_nce(logits, positive, 1) + info_nce(logits[:, caption], positive[:, caption], 0)) / 2

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Measure zero-shot accuracy on held-back clips, and the teachers' own."""
        assert isinstance(model, DistilledListener)
        return self._validation(model.listener)

    def export(self, model: nn.Module, folder: Path) -> None:
        """Write `listener.safetensors` and its `config.json`."""
        assert isinstance(model, DistilledListener)
        export_listener(model.listener, folder)


def _relative_error(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean squared error relative to the variance of the target."""
    return F.mse_loss(estimate, target) / target.var().clamp_min(1e-4)


class ListenerValidation:
    """Zero-shot accuracy of a listener and of its teachers on the same held-back clips.

    Args:
        corpus: with clips of the splits "val" and "zero".
        captions: embeddings of their labels.
        count: about how many clips of each split.
        tagger: the audio teacher.
        label_embeddings: (tags, dimension) text embeddings of its labels.
    """

    def __init__(
        self, corpus: Corpus, captions: CaptionTable, count: int, tagger: Tagger, label_embeddings: Tensor
    ) -> None:
        self._accuracy, self._embed_texts = ZeroShotAccuracy(corpus, count), captions.__getitem__
        self._teachers = self._accuracy(tagger_embedder(tagger, label_embeddings), self._embed_texts)

    def __call__(self, listener: Listener) -> dict[str, float]:
        """Return top-1 of the listener and of the teachers, and their ratio, for each split."""
        return compare_accuracy(self._accuracy(listener_embedder(listener), self._embed_texts), self._teachers)
