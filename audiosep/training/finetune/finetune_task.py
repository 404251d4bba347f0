"""The task behind `audiosep finetune`: teach a trained separator new sounds, without its forgetting the old ones.

It works on every `SeparationModel`, through waveforms: all queries of a mixture in one forward pass. Running
statistics stay those of the base. To remember what it knew, the model is also asked for everyday sounds and held to
what the base answers (Li and Hoiem, 2016: "Learning without forgetting").
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
from audiosep.errors import ConfigError
from audiosep.models.base import SeparationModel
from audiosep.query.encoder import QueryEncoder
from audiosep.training.caption_table import CaptionTable
from audiosep.training.engine.trackers import Sample
from audiosep.training.finetune.held_back import HeldBack
from audiosep.training.separation.losses import Losses

YOURS, NOISE = "yours", "noise"
EVERYDAY = (
    "speech", "singing", "laughter", "baby crying", "applause", "footsteps", "music", "acoustic guitar",
    "electric guitar", "piano", "drums", "bass guitar", "violin", "trumpet", "dog barking", "cat", "birds singing",
    "rooster", "insects", "rain", "wind", "ocean waves", "thunder", "running water", "fire crackling", "car engine",
    "traffic", "train", "helicopter", "siren", "bell", "clock ticking", "telephone ringing", "door", "keyboard typing",
    "vacuum cleaner",
)  # fmt: skip
# Close to what the base answers is close enough: below -15 dB of difference there is no more to gain.
REHEARSAL = Losses([{"name": "snr", "weight": 0.1, "threshold_db": 15.0}])


@dataclass(frozen=True)
class FinetuneOptions:
    """What a step consists of.

    Attributes:
        losses: terms on waveforms, see `training.losses`.
        presence: weight of the presence head, where the model has one.
        keep: share of mixtures that are also asked for an everyday sound, answered by the base.
        audio: share of queries with an example that are asked with it instead of text.
        noise: standard deviation of noise on text embeddings.
        sampling: mixtures, seconds, levels and effects.
        held_back: batches of `sampling.mixtures` mixtures to measure with.
    """

    losses: tuple[dict[str, Any], ...] = (
        {"name": "snr", "weight": 0.1},
        {"name": "multi_resolution_stft", "sizes": (512, 2048)},
    )
    presence: float = 0.05
    keep: float = 0.5
    audio: float = 0.3
    noise: float = 0.02
    sampling: SamplingConfig = field(
        default_factory=lambda: SamplingConfig(
            mixtures=4, families={YOURS: 0.65, NOISE: 0.35}, absent=0.2, examples=0.3, sources=(0.7, 0.2, 0.07, 0.03)
        )
    )
    held_back: int = 12


@dataclass
class Questions:
    """A batch: mixtures with their queries as embeddings.

    Attributes:
        sources: (mixtures, sources, samples). owner: (queries,). membership: (queries, sources).
        embeddings, negatives: (queries, dimension).
        known: (mixtures, dimension) an everyday sound, zeros where none is asked for.
    """

    sources: Tensor
    owner: Tensor
    membership: Tensor
    embeddings: Tensor
    negatives: Tensor
    known: Tensor

    def to(self, device: torch.device) -> Questions:
        """The batch on another device."""
        return Questions(**{f.name: getattr(self, f.name).to(device) for f in dataclasses.fields(self)})


@dataclass
class Answer:
    """What the model gives for one mixture.

    Attributes:
        new, known: (estimates, targets, mixtures) of new sounds and of the rehearsed one, each (queries, samples).
        presence: scores and truth of the new sounds, each (queries,).
    """

    new: tuple[Tensor, Tensor, Tensor]
    known: tuple[Tensor, Tensor, Tensor] | None
    presence: tuple[Tensor, Tensor] | None


class FinetuneTask:
    """Task: see the module's description.

    Args:
        model: the model, already with its adapter; the parameters that need gradients are trained.
        base: the same model before.
        encoder: its query encoder.
        corpus: clips of the families `YOURS` and `NOISE`, of the splits "train" and "val".
        options: see `FinetuneOptions`.
        seed: of every random number.
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
        save: Callable[[SeparationModel, Path], None],
    ) -> None:
        self.model: nn.Module = model
        self.base = copy.deepcopy(base).eval().requires_grad_(False)
        self.encoder, self.corpus, self.options, self.seed, self._save = encoder, corpus, options, seed, save
        self.losses = Losses(options.losses)
        if self.losses.band:
            raise ConfigError("losses: fine-tuning takes losses on waveforms, such as snr, not on band energies")
        labels = {clip.label for clip in corpus.clips if clip.family == YOURS}
        self.labels = sorted(labels)
        self.known = [word for word in EVERYDAY if not any(label_table().conflict(word, label) for label in labels)]
        self.captions = CaptionTable.build(query_texts(corpus.clips) | set(EVERYDAY), encoder)
        self.sampler = Sampler(corpus, options.sampling, seed)
        self.mixer = Mixer(corpus)
        self.held_back = HeldBack(corpus, self.captions, self.labels, options.sampling, options.held_back, seed + 1)

    def train_mode(self, model: nn.Module) -> None:
        """Statistics of the base: a few recordings have none of their own."""
        model.eval()

    def batch(self, step: int, rank: int, world: int) -> Questions:
        """Mixtures of one step."""
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
        # A mixture that nothing else is asked of rehearses in any case.
        asked = torch.rand(len(mixtures.sources), generator=generator) < options.keep
        asked[list(set(range(len(asked))) - set(mixtures.owner.tolist()))] = True
        words = torch.randint(len(self.known), (len(asked),), generator=generator)
        known = self.captions[[self.known[word] for word in words.tolist()]] * asked[:, None]
        sources = limited(mixtures.sources, mixtures.cutoff, self.corpus.sample_rate)
        return Questions(sources, mixtures.owner, mixtures.membership, text, negatives, known)

    def loss(self, model: nn.Module, batch: Questions) -> tuple[Tensor, dict[str, Tensor]]:
        """Losses of the estimates of new sounds against the truth, of known ones against the base."""
        mixes = batch.sources.sum(1)
        # The adapter's weights are computed once a batch, not once a mixture.
        with parametrize.cached():
            answers = [self._ask(model, batch, number, mix) for number, mix in enumerate(mixes)]
        new = [torch.cat(signals) for signals in zip(*(answer.new for answer in answers), strict=True)]
        values, parts = self.losses.waveforms(*new)
        total = values.sum() / max(1, len(values))
        known = [answer.known for answer in answers if answer.known is not None]
        if known:
            signals = [torch.cat(signals) for signals in zip(*known, strict=True)]
            values, memory = REHEARSAL.waveforms(*signals)
            total, parts["known"] = total + values.sum() / len(mixes), memory["snr"]
        scores = [answer.presence for answer in answers if answer.presence is not None]
        if scores and self.options.presence:
            presence = self._presence(*(torch.cat(signals) for signals in zip(*scores, strict=True)))
            total, parts["presence"] = total + self.options.presence * presence, presence.detach()
        return total, parts | {"items": torch.tensor(len(batch.owner))}

    def _ask(self, model: nn.Module, batch: Questions, number: int, mix: Tensor) -> Answer:
        """One forward pass for everything that is asked of one mixture."""
        rows, word = torch.nonzero(batch.owner == number)[:, 0], batch.known[number][None]
        rehearse = bool(word.any())
        embeddings, negatives = batch.embeddings[rows], batch.negatives[rows]
        if rehearse:
            embeddings, negatives = torch.cat([embeddings, word]), torch.cat([negatives, torch.zeros_like(word)])
        estimate = model(mix[None, None], embeddings, negatives)
        score, there = estimate.presence, (batch.membership[rows].sum(1) > 0).float()
        waveforms, count = estimate.waveforms[0, :, 0].float(), len(rows)
        targets = torch.einsum("qs,st->qt", batch.membership[rows], batch.sources[number])
        return Answer(
            new=(waveforms[:count], targets, mix.expand_as(targets)),
            known=(waveforms[count:], self._answer(mix, word), mix[None]) if rehearse else None,
            presence=None if score is None else (score[0, :count].float(), there),
        )

    def _presence(self, score: Tensor, truth: Tensor) -> Tensor:
        with torch.autocast(score.device.type, enabled=False):
            return F.binary_cross_entropy(score.clamp(1e-4, 1 - 1e-4), truth)

    @torch.no_grad()
    def _answer(self, mix: Tensor, embedding: Tensor) -> Tensor:
        """(1, samples): what the base gives for one embedding."""
        answer: Tensor = self.base.to(mix.device)(mix[None, None], embedding).waveforms[0, :, 0].float()
        return answer

    def validate(self, model: nn.Module) -> dict[str, float]:
        """SI-SDRi, SDRi and share of clips better on held-back clips, of each new sound and the mean of these."""
        return self.held_back(model)

    def samples(self, model: nn.Module) -> list[Sample]:
        """A few held-back mixtures, for the trackers."""
        return self.held_back.samples(model)

    def export(self, model: nn.Module, folder: Path) -> None:
        """The adapter, or the whole model."""
        assert isinstance(model, SeparationModel)
        self._save(model, folder)

    def describe(self) -> dict[str, Any]:
        """Labels and sizes, for the run's config.json."""
        seconds: dict[str, float] = defaultdict(float)
        for clip in self.corpus.clips:
            seconds[f"{clip.family}/{clip.label}/{clip.split}"] += clip.seconds
        return {"task": "finetune", "seconds": {k: round(v, 1) for k, v in sorted(seconds.items())}}


def limited(sources: Tensor, cutoff: Tensor, sample_rate: int) -> Tensor:
    """Sources (mixtures, sources, samples) without what lies above each mixture's cutoff (Hz).

    Where one recording has no treble, the model would otherwise learn that its sound has none.
    """
    samples = sources.shape[-1]
    frequencies = torch.fft.rfftfreq(samples, 1 / sample_rate, device=sources.device)
    wanted = cutoff < sample_rate / 2
    if not bool(wanted.any()):
        return sources
    result = sources.clone()
    spectra = torch.fft.rfft(sources[wanted]) * (frequencies <= cutoff[wanted, None])[:, None]
    result[wanted] = torch.fft.irfft(spectra, samples)
    return result
