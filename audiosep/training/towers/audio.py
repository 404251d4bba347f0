"""Training the listener (the audio tower of the embedded CLAP): distillation from a tagger, alignment with text.

Clean clips, their mixtures and clips with something left of the others (as an imperfect separation leaves it) are
heard by a tagger and by the listener. The listener learns the tags, the tagger's embedding, and a place in the joint
space: where the tagger's label embeddings point (known for any sound) and where the captions of the clip are
(symmetric InfoNCE, Radford et al., 2021, against all captions of the corpus).
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiosep.data.corpus import Corpus
from audiosep.data.labels import label_table
from audiosep.data.manifest import Clip
from audiosep.data.mixing import Mixer
from audiosep.data.sampling import Sampler, SamplingConfig
from audiosep.errors import ConfigError
from audiosep.models.blocks import residual_blocks
from audiosep.models.listener import Listener, ListenerConfig
from audiosep.models.stft import power, stft
from audiosep.training.corpora import DataConfig, open_corpus
from audiosep.training.towers.alignment import (
    Naming,
    beside,
    check_mono,
    export_listener,
    hearing,
    hearing_tags,
    imperfect,
    info_nce,
)
from audiosep.training.towers.captions import CaptionTable
from audiosep.training.towers.teachers import Tagger
from audiosep.weights import configs

_COMPANY = 5  # a batch of clips heard again is made of parts of this many


@dataclass(frozen=True)
class ClapOptions:
    """What the listener learns from, and how much each part counts.

    Attributes:
        tagger: TorchScript file of the tagger. labels: JSON list of its class names.
        tags, embedding, joint, contrast: weights of tag distillation, embedding distillation, label-mediated place in
            the joint space, and alignment with captions.
        logits: weight of the tagger's logits themselves; how far below the loudest a sound lies stays visible in them.
        local: weight of all that at every moment, not only of the whole; the separator uses the moments.
        temperature: of the contrastive softmax. leak: largest level of the others in an imperfect clip, dB.
        validation_clips: held-back clips to name at each validation.
    """

    tagger: str
    labels: str
    tags: float = 1.0
    embedding: float = 0.5
    joint: float = 2.0
    contrast: float = 0.5
    logits: float = 0.5
    temperature: float = 0.07
    local: float = 1.0
    leak: float = -8.0
    repeat: int = 1
    memory: int = 400
    tilt: float = 6.0
    validation_clips: int = 300

    def __post_init__(self) -> None:
        for name in ("repeat", "memory", "temperature", "validation_clips"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"options.{name} must be greater than 0, got {getattr(self, name)}")


@dataclass(frozen=True)
class ClapConfig:
    """Configuration of the task: `{"task": "audio", "model": {...}, "data": {...}, "options": {...}}`."""

    data: DataConfig
    options: ClapOptions
    model: ListenerConfig = field(default_factory=ListenerConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    seed: int = 0


@dataclass
class Heard:
    """One batch of n clips.

    Attributes:
        energies: (n, bands, frames). row: (n,) caption or -1.
        logits, embedding: (n, classes) and (n, dimension), the tagger's.
        moments: (n, steps, dimension), the tagger's embedding of every moment.
    """

    energies: Tensor
    logits: Tensor
    embedding: Tensor
    moments: Tensor
    row: Tensor

    def to(self, device: torch.device) -> Heard:
        """The batch on another device."""
        return Heard(*(getattr(self, f.name).to(device) for f in fields(self)))

    def part(self, rows: slice) -> Heard:
        """Some of the clips."""
        return Heard(*(getattr(self, f.name)[rows] for f in fields(self)))

    @staticmethod
    def together(parts: list[Heard]) -> Heard:
        """Parts of several batches as one."""
        return Heard(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Heard)))


class ListenerTrunk(nn.Module):
    """The listener and the projection that only distillation needs."""

    def __init__(self, config: ListenerConfig) -> None:
        super().__init__()
        self.listener = Listener(config)
        self.imitate = nn.Linear(config.hidden, Tagger.dimension)
        self.compilable = residual_blocks(self)


class AudioDistillation:
    """Task: see the module's description."""

    Config = ClapConfig

    def __init__(self, config: ClapConfig) -> None:
        self.config = config
        check_mono(config.sampling)
        self.model = ListenerTrunk(config.model)
        self.corpus, self.captions = open_corpus(config.data)
        self.sampler = Sampler(self.corpus, config.sampling, config.seed)
        self.mixer = Mixer(self.corpus)
        self.tagger = Tagger(config.options.tagger)
        self._bands = copy.deepcopy(self.model.listener.bands)  # stays on the CPU, where batches are made
        self._memory: dict[tuple[int, int], Heard] = {}
        names = json.loads(Path(config.options.labels).read_text())
        self.labels = self.captions[names]
        self.bank, self.same, self.place = _bank(self.corpus.clips, self.captions)
        self._probe = Probe(self.corpus, self.captions, config.options.validation_clips, self.tagger, self.labels)

    @classmethod
    def from_config(cls, data: Mapping[str, Any], run_dir: Path) -> AudioDistillation:
        """Build the task from its part of a training configuration."""
        return cls(configs.from_dict(ClapConfig, data))

    def batch(self, step: int, rank: int, world: int) -> Heard:
        """Clean clips with captions, imperfect ones, and whole mixtures; new ones, or with `repeat` also known ones."""
        options = self.config.options
        if options.repeat == 1:
            return self._render(step, rank)
        generator = torch.Generator().manual_seed(self.config.seed * 7_919 + step * 131 + rank + 65_537)
        newest = step // options.repeat
        oldest = max(0, newest - options.memory + 1)
        for gone in [key for key in self._memory if key[0] < oldest]:
            del self._memory[gone]
        drawn = torch.randint(oldest, newest + 1, (_COMPANY,), generator=generator).tolist()
        offsets = torch.randperm(_COMPANY, generator=generator).tolist()
        heard = Heard.together(
            [self._known(number, rank).part(slice(k, None, _COMPANY)) for number, k in zip(drawn, offsets, strict=True)]
        )
        slope = torch.linspace(-0.5, 0.5, heard.energies.shape[1])[:, None]
        tilt = (2 * torch.rand(len(heard.row), 1, 1, generator=generator) - 1) * options.tilt
        return replace(heard, energies=heard.energies.float() * 10 ** (tilt * slope / 10))

    def _known(self, number: int, rank: int) -> Heard:
        """A rendered batch from memory; a resumed run, which has forgotten it, renders it again."""
        if (number, rank) not in self._memory:
            heard = self._render(number, rank)
            self._memory[number, rank] = replace(heard, energies=heard.energies.bfloat16())
        return self._memory[number, rank]

    @torch.no_grad()
    def _render(self, step: int, rank: int) -> Heard:
        generator = torch.Generator().manual_seed(self.config.seed * 7_919 + step * 131 + rank)
        mixtures = self.mixer.render(self.sampler.plan(step, rank))
        clips, present = imperfect(mixtures, self.config.options.leak, generator)
        mix = mixtures.sources.sum(1)
        waveforms = torch.cat([clips, mix])
        rows = [int(self.place[self.captions.row(mixtures.captions[q])]) for q in present] + [-1] * len(mix)
        shape = self.config.model
        energies = self._bands.mean(power(stft(waveforms, shape.n_fft, shape.hop)))
        return Heard(energies, *self.tagger(waveforms), torch.tensor(rows))

    def loss(self, model: nn.Module, batch: Heard) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted sum of the parts."""
        assert isinstance(model, ListenerTrunk)
        listener, options = model.listener, self.config.options
        local = listener.local(batch.energies.float())
        with torch.autocast(local.device.type, enabled=False):
            moments = local.float().mean(3)
            pooled = moments.mean(2)
            joint = listener.embed_pooled(pooled)
            tags = F.binary_cross_entropy_with_logits(listener.tags(pooled), batch.logits.sigmoid()) * 100
            copied = _copied(model.imitate(pooled), batch.embedding)
            near = self._distance(joint, batch.logits)
            contrast = self._contrast(joint, batch.row)
            scores = _copied(listener.tags(pooled), batch.logits)
            parts = {"tags": tags, "embedding": copied, "joint": near, "contrast": contrast, "logits": scores}
            loss = torch.stack([getattr(options, name) * value for name, value in parts.items()]).sum()
            if options.local:
                steps = F.adaptive_avg_pool1d(moments, batch.moments.shape[1]).transpose(1, 2)
                theirs = self.tagger.head(batch.moments)
                parts["moments"] = _copied(model.imitate(steps), batch.moments)
                parts["places"] = self._distance(listener.embed_pooled(steps), theirs)
                parts["scores"] = _copied(listener.tags(steps), theirs)
                loss = loss + options.local * (
                    options.embedding * parts["moments"]
                    + options.joint * parts["places"]
                    + options.logits * parts["scores"]
                )
        return loss, {k: v.detach() for k, v in parts.items()} | {"items": torch.tensor(len(joint))}

    def _distance(self, joint: Tensor, logits: Tensor) -> Tensor:
        """Mean distance of points in the joint space from the tag-weighted mean of the labels' texts."""
        place = F.normalize(logits.softmax(-1) @ self.labels.to(joint.device), dim=-1)
        return (1 - (joint * place).sum(-1)).mean()

    def _contrast(self, joint: Tensor, row: Tensor) -> Tensor:
        """Symmetric InfoNCE; every caption of the same sound is a positive."""
        known = torch.nonzero(row >= 0)[:, 0]
        if len(known) == 0:
            return joint.sum() * 0
        z, row = joint[known], row[known].cpu()
        positive = self.same[row].to(z.device)
        logits = z @ self.bank.to(z.device).T / self.config.options.temperature
        return (info_nce(logits, positive, 1) + info_nce(logits[:, row], positive[:, row], 0)) / 2

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Zero-shot naming of held-back clips, beside the teachers' own score."""
        assert isinstance(model, ListenerTrunk)
        return self._probe(model.listener)

    def export(self, model: nn.Module, folder: Path) -> None:
        """`listener.safetensors` and its `config.json`."""
        assert isinstance(model, ListenerTrunk)
        export_listener(model.listener, folder)


def _copied(mine: Tensor, theirs: Tensor) -> Tensor:
    """Squared error relative to the variance of what is copied."""
    return F.mse_loss(mine, theirs) / theirs.var().clamp_min(1e-4)


def _bank(clips: list[Clip], table: CaptionTable) -> tuple[Tensor, Tensor, Tensor]:
    """The captions of the training clips.

    Returns:
        (captions, dimension) embeddings, (captions, captions) which pairs may name the same sound, and (table rows,)
        the place of each row of the table, -1 for texts of no training clip: those may not even be negatives.
    """
    answers = label_table()
    texts: dict[str, set[int]] = {}
    for clip in clips:
        if clip.split == "train":
            texts.setdefault(clip.label, set()).update(table.row(t) for t in clip.texts)
    rows = sorted(set().union(*texts.values()))
    place = torch.full((len(table.captions),), -1)
    place[rows] = torch.arange(len(rows))
    same = torch.eye(len(rows), dtype=torch.bool)
    spots = {label: place[sorted(mine)] for label, mine in texts.items()}
    for a, b in itertools.product(texts, texts):
        if answers.answers(a, b) or answers.answers(b, a):
            same[spots[a][:, None], spots[b]] = True
    return table.embeddings[rows], same, place


class Probe:
    """Zero-shot naming by the nearest label text of the split; teachers and listener on the same clips."""

    def __init__(self, corpus: Corpus, table: CaptionTable, count: int, tagger: Tagger, labels: Tensor) -> None:
        self._naming, self._read = Naming(corpus, count), table.__getitem__
        self._teacher = self._naming(hearing_tags(tagger, labels), self._read)

    def __call__(self, listener: Listener) -> dict[str, float]:
        """Top-1 of the listener, of the teachers, and their ratio, for held-back clips and never trained labels."""
        return beside(self._naming(hearing(listener), self._read), self._teacher)
