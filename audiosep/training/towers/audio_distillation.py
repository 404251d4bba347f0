"""Training the listener (the audio tower of the embedded CLAP): distillation from a tagger, alignment with text.

Its inputs are clean clips, mixtures of them, clips with leakage of the other sources, as an imperfect separation
leaves them, masked mixtures and their residuals. The listener learns the tagger's tags and embedding, and its own
embedding in the joint space: towards the mean of the labels' text embeddings weighted by the tagger's probabilities,
which exists for any sound, towards the captions of the clip (symmetric InfoNCE, Radford et al., 2021, against all
captions of the corpus), and towards the embedding of the same recording behind a mask.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiosep.data.mixing import Mixer, MixtureBatch
from audiosep.data.sampling import Sampler, SamplingConfig
from audiosep.data.text_files import read_json
from audiosep.errors import ConfigError
from audiosep.models.listener import ListenerConfig
from audiosep.models.stft import istft, power, stft
from audiosep.models.towers import TowerConfig, build_tower
from audiosep.training.data_config import DataConfig, load_captions, open_corpus
from audiosep.training.tower_files import export_listener, load_listener
from audiosep.training.towers.info_nce import EXCLUDED, info_nce
from audiosep.training.towers.teachers import Tagger
from audiosep.training.towers.training_captions import TrainingCaptions
from audiosep.training.towers.training_clips import check_mono, estimated_masks, with_leakage
from audiosep.training.towers.zero_shot import ListenerValidation
from audiosep.weights import configs

_JOINT_PARTS = ("joint", "fine")  # of a listener: the head, and features that only the head uses
_REUSED_PARTS = 5  # a reused batch takes every fifth sound of five cached ones
_MOST_SOUNDS = 10_000 * _REUSED_PARTS  # of one batch


@dataclass(frozen=True)
class AudioDistillationOptions:
    """What the listener learns from, and the weight of each part of the loss.

    Attributes:
        tagger: TorchScript file of the tagger.
        labels: JSON list of its class names.
        listener: listener to start from: its file, the `model/` of a run, or a whole model; "" starts afresh.
        tags: weight of the tagger's probabilities.
        embedding: weight of the tagger's embedding.
        joint: weight of the embedding in the joint space that the tagger's probabilities give.
        contrast: weight of InfoNCE against the captions.
        logits: weight of the tagger's logits themselves, in which faint sounds stay visible.
        local: weight of all this for each moment besides the whole clip, because the separator uses the moments.
        freeze_norms: the normalisations of a listener that starts from trained weights keep their statistics, which
            makes a step a fifth cheaper.
        heads_only: of a listener that starts from trained weights only the joint space is trained, and what it adds to
            the features; the tags stay as they are.
        masked: share of the sounds that are also given as a masked mixture, each with its residual.
        same: weight of InfoNCE between a sound and the same sound behind a mask.
        temperature: of the contrastive softmax.
        leak_db: largest level of the other sources in a clip with leakage, dB.
        batch_reuse: steps for which each rendered batch is used; rendering and tagger then cost so much less.
        cached_batches: rendered batches that are kept for reuse.
        tilt_db: largest random spectral tilt of reused clips, dB over the band.
        validation_clips: held-back clips of each split to classify at each validation.
    """

    tagger: str
    labels: str
    listener: str = ""
    tags: float = 1.0
    embedding: float = 0.5
    joint: float = 2.0
    contrast: float = 0.5
    logits: float = 0.5
    local: float = 1.0
    freeze_norms: bool = False
    heads_only: bool = False
    masked: float = 0.0
    same: float = 0.0
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
        if not 0 <= self.masked <= 1:
            raise ConfigError(f"options.masked is a share and must lie in 0..1, got {self.masked}")
        if self.same and not self.masked:
            raise ConfigError("options.same needs masked sounds: set options.masked")
        for name in ("freeze_norms", "heads_only"):
            if getattr(self, name) and not self.listener:
                raise ConfigError(f"options.{name} needs a trained listener: set options.listener")


@dataclass(frozen=True)
class AudioDistillationConfig:
    """Configuration of the task: `{"task": "audio", "model": {...}, "data": {...}, "options": {...}}`."""

    data: DataConfig
    options: AudioDistillationOptions
    model: TowerConfig = field(default_factory=ListenerConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.sampling.longer and self.options.batch_reuse > 1:
            raise ConfigError(
                "options.batch_reuse joins parts of several batches, which sampling.longer makes of different lengths: "
                "set sampling.longer to 0 or options.batch_reuse to 1"
            )


@dataclass
class ListenerBatch:
    """A batch of n clips with the tagger's outputs.

    Attributes:
        energies: (n, bands, frames).
        logits: (n, classes), the tagger's.
        embedding: (n, dimension), the tagger's.
        moments: (n, steps, dimension), the tagger's embedding of each moment.
        caption: (n,) index of the clip's caption among those of the training clips, -1 for none.
        sound: (n,) number of the sound; a sound and the same sound behind a mask have the same.
    """

    energies: Tensor
    logits: Tensor
    embedding: Tensor
    moments: Tensor
    caption: Tensor
    sound: Tensor

    def to(self, device: torch.device) -> ListenerBatch:
        """Return the batch on another device."""
        return ListenerBatch(*(getattr(self, f.name).to(device) for f in fields(self)))

    def part(self, number: int, parts: int) -> ListenerBatch:
        """Return one of several parts; clips of the same sound stay together."""
        rows = self.sound % parts == number
        return ListenerBatch(*(getattr(self, f.name)[rows] for f in fields(self)))

    @staticmethod
    def concatenate(parts: list[ListenerBatch]) -> ListenerBatch:
        """Join parts of several batches."""
        return ListenerBatch(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(ListenerBatch)))


class DistilledListener(nn.Module):
    """The listener, and the projection to the tagger's embedding that only distillation needs."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.listener = build_tower(config)
        self.to_tagger = nn.Linear(config.hidden, Tagger.dimension)
        # A listener that starts with the tagger's weights has its embedding as the first of its features.
        nn.init.eye_(self.to_tagger.weight)
        nn.init.zeros_(self.to_tagger.bias)
        self.compilable = tuple(f"listener.{name}" for name in self.listener.compilable)


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
        if config.options.listener:
            load_listener(self.model.listener, config.options.listener)
        if config.options.heads_only:
            self.model.requires_grad_(False)
            for name in _JOINT_PARTS:
                for weight in getattr(self.model.listener, name, nn.Identity()).parameters():
                    weight.requires_grad_(True)
        self.corpus = open_corpus(config.data, config.model.sample_rate)
        self.captions = load_captions(config.data)
        self.sampler = Sampler(self.corpus, config.sampling, config.seed)
        self.mixer = Mixer(self.corpus)
        self.tagger = Tagger(config.options.tagger)
        self._bands = copy.deepcopy(self.model.listener.bands)  # stays on the CPU, where batches are rendered
        self._cache: dict[tuple[int, int], ListenerBatch] = {}
        names = read_json(Path(config.options.labels))
        self.label_embeddings = self.captions[names]
        self.training_captions = TrainingCaptions(self.corpus.clips, self.captions)
        self._validation = ListenerValidation(
            self.corpus, self.captions, config.options.validation_clips, self.tagger, self.label_embeddings
        )

    @classmethod
    def from_config(cls, data: Mapping[str, Any]) -> AudioDistillation:
        """Build the task from its part of a training configuration."""
        return cls(configs.from_dict(AudioDistillationConfig, data))

    def train_mode(self, model: nn.Module) -> None:
        """Set training mode, but not for normalisations that keep their statistics."""
        model.train()
        if self.config.options.freeze_norms or self.config.options.heads_only:
            for module in model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def batch(self, step: int, rank: int, world: int) -> ListenerBatch:
        """Render clips, mixtures and masked mixtures; with `batch_reuse` mix parts of cached batches."""
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
                self._cached(number, rank).part(offset, _REUSED_PARTS)
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
        caption = torch.tensor([self.training_captions.index(mixtures.captions[q]) for q in queries] + [-1] * len(mix))
        sound = torch.arange(len(waveforms))
        energies = self._energies(waveforms)
        masked = torch.nonzero(torch.rand(len(queries), generator=generator) < self.config.options.masked)[:, 0]
        if len(masked):
            more, kept = self._mask(mixtures, torch.tensor(queries)[masked], generator)
            waveforms, energies = torch.cat([waveforms, more]), torch.cat([energies, kept])
            caption = torch.cat([caption, caption[masked], torch.full_like(masked, -1)])
            sound = torch.cat([sound, masked, len(sound) + masked])
        return ListenerBatch(energies, *self.tagger(waveforms), caption, step * _MOST_SOUNDS + sound)

    def _mask(self, mixtures: MixtureBatch, queries: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mask mixtures for some of their queries.

        Args:
            mixtures: the batch.
            queries: (n,) numbers of queries.
            generator: of the random numbers.

        Returns:
            (2 n, samples) masked mixtures, then their residuals, and (2 n, bands, frames) their energies as the
            separator gives them: mask^2 x energies.
        """
        config, sources = self.config.model, mixtures.sources[mixtures.owner[queries]]
        target, mix = (sources * mixtures.membership[queries][..., None]).sum(1), sources.sum(1)
        mask = estimated_masks(self._energies(target), self._energies(mix - target), generator)
        masks, spectrum = torch.cat([mask, 1 - mask]), stft(mix, config.n_fft, config.hop)
        energies = masks.square() * self._bands.mean(power(spectrum)).repeat(2, 1, 1)
        spectra = self._bands.expand(masks) * spectrum.repeat(2, 1, 1)
        return istft(spectra, config.n_fft, config.hop, mix.shape[-1]), energies

    def _energies(self, waveforms: Tensor) -> Tensor:
        return self._bands.mean(power(stft(waveforms, self.config.model.n_fft, self.config.model.hop)))

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
                "same": self._same(joint, batch.caption, batch.sound),
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

    def _same(self, joint: Tensor, caption: Tensor, sound: Tensor) -> Tensor:
        """Symmetric InfoNCE of sounds with themselves behind a mask; other recordings of the same sound are left out.

        Args:
            joint: (n, dimension) embeddings.
            caption: see `ListenerBatch`.
            sound: see `ListenerBatch`.
        """
        first, second = torch.nonzero(torch.triu(sound[:, None] == sound, 1), as_tuple=True)
        if len(first) == 0:
            return joint.sum() * 0
        logits = joint[first] @ joint[second].T / self.config.options.temperature
        own = torch.eye(len(first), dtype=torch.bool, device=joint.device)
        known = caption[first].cpu()
        alike = self.training_captions.same_sound[known[:, None], known] & (known >= 0) & (known >= 0)[:, None]
        logits = logits.masked_fill(alike.to(joint.device) & ~own, EXCLUDED)
        return (info_nce(logits, own, 1) + info_nce(logits, own, 0)) / 2

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
