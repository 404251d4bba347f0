"""Training any network on waveforms: for queries, for fixed stems, or for both in one step.

The task `separation` is faster, but knows the hybrid network alone. This one asks a network for waveforms only, so it
takes every `SeparationModel`, among them all of `models.backbones`. Where a network gives estimates of several stages,
the loss is the mean over them (Nachmani et al., 2020).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audiosep.data.loading import MixtureLoader
from audiosep.data.manifest import STEMS
from audiosep.data.mixing import MixtureBatch
from audiosep.data.sampling import Sampler
from audiosep.models.separation_model import SeparationModel
from audiosep.query.mini import MiniEncoder
from audiosep.training.caption_table import CaptionTable
from audiosep.training.data_config import open_corpus
from audiosep.training.engine.task import nothing_of
from audiosep.training.engine.trackers import Sample
from audiosep.training.separation.bandwidth import band_limited
from audiosep.training.separation.discriminator import PatchDiscriminator, deception, discrimination
from audiosep.training.separation.losses import WeightedLosses, is_absent
from audiosep.training.separation.query_batch import embed_texts
from audiosep.training.separation.validation_scores import RecipeValidation
from audiosep.training.separation.waveform_config import WaveformConfig, build_network, check_network
from audiosep.training.separation.waveform_losses import WAVEFORM_LOSSES
from audiosep.weights import configs
from audiosep.weights.catalogue import locate
from audiosep.weights.checkpoint import save_model
from audiosep.weights.model_config import read_config


@dataclass
class WaveformBatch:
    """Mixtures with the embeddings of their queries.

    Attributes:
        mixtures: with sources (mixtures, sources, channels, samples).
        text: (queries, dimension); None for a network that takes no queries.
        negative: (queries, dimension), zeros for no negative; None as `text`.
        adversarial: whether the discriminator takes part.
    """

    mixtures: MixtureBatch
    text: Tensor | None = None
    negative: Tensor | None = None
    adversarial: bool = False

    def to(self, device: torch.device) -> WaveformBatch:
        """Return the batch on another device."""
        text, negative = (None if x is None else x.to(device) for x in (self.text, self.negative))
        return WaveformBatch(self.mixtures.to(device), text, negative, self.adversarial)


@dataclass
class Estimates:
    """Estimates beside the truth.

    Attributes:
        stages: (n, channels, samples) of each stage of the network, the last one its estimate.
        target: (n, channels, samples).
        mix: (n, channels, samples).
    """

    stages: Sequence[Tensor]
    target: Tensor
    mix: Tensor


class WaveformTask:
    """Task: see the module's description.

    Args:
        config: the task's configuration.

    Raises:
        ConfigError: options that contradict the network.
        ModelError: an unknown family, or `options.text` names no model.
    """

    Config = WaveformConfig
    model: nn.Module

    def __init__(self, config: WaveformConfig) -> None:
        self.config, options = config, config.options
        self.network = self.model = build_network(config.model)
        check_network(self.network, config)
        self.corpus = open_corpus(config.data, self.network.sample_rate)
        self.captions: CaptionTable | None = None
        if "text" in self.network.capabilities and options.words:
            self.captions = CaptionTable.load(config.data.captions)
        self.encoder: MiniEncoder | None = None
        if options.text:
            folder = locate(options.text)
            self.encoder = MiniEncoder.from_config(read_config(folder)["query"] or {}, folder)
        self.mixtures = MixtureLoader(Sampler(self.corpus, config.sampling, config.seed), config.data.workers)
        self.losses = WeightedLosses(options.losses, WAVEFORM_LOSSES)
        self._validation = RecipeValidation(options.validation, self.corpus, self.captions, options.validation_items)
        self.adversary = PatchDiscriminator(options.adversary) if options.adversary else None
        self._judged: list[Estimates] = []  # of the last batch, for the discriminator

    @classmethod
    def from_config(cls, data: Mapping[str, Any]) -> WaveformTask:
        """Build the task from its part of a training configuration."""
        return cls(configs.from_dict(WaveformConfig, data))

    def prepare(self, device: torch.device) -> None:
        """Render mixtures on the device of the training."""
        self.mixtures.hold(device)

    def batch(self, step: int, rank: int, world: int) -> WaveformBatch:
        """Render the mixtures of one step and embed their queries."""
        mixtures = self.mixtures.batch(step, rank)
        sources = mixtures.sources if mixtures.sources.ndim == 4 else mixtures.sources[:, :, None]
        mixtures = replace(mixtures, sources=band_limited(sources, mixtures.cutoff, self.corpus.sample_rate))
        adversary = self.config.options.adversary
        batch = WaveformBatch(mixtures, adversarial=adversary is not None and step >= adversary.after)
        if self.captions is not None:
            generator = torch.Generator().manual_seed(self.config.seed * 7_919 + step * 131 + rank)
            batch.text, batch.negative = embed_texts(mixtures, self.captions, self.config.options.noise, generator)
        return batch

    def loss(self, model: nn.Module, batch: WaveformBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of the losses of queries and stems, and its parts."""
        total = batch.mixtures.sources.new_zeros(())
        parts: dict[str, Tensor] = {"items": torch.tensor(len(batch.mixtures.owner))}
        self._judged = []
        for name, weight, found in self.compare(model, batch):
            value = self._loss(found)
            total = total + weight * value
            parts |= {name: value.detach(), f"{name}_sdri": _improvement(found)}
            if batch.adversarial and self.adversary is not None and self.config.options.adversary is not None:
                deceived = deception(self.adversary, found.stages[-1], found.mix)
                total = total + weight * self.config.options.adversary.weight * deceived
                parts[f"{name}_deception"] = deceived.detach()
                self._judged.append(replace(found, stages=[found.stages[-1].detach()]))
        return total, parts

    def adversary_loss(self, batch: WaveformBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the discriminator's loss on the estimates that `loss` has just made of the batch."""
        judged, self._judged = self._judged, []
        if self.adversary is None or not batch.adversarial:
            return batch.mixtures.sources.new_zeros(()), {}
        if not judged:  # the other processes may have something to judge
            return nothing_of(self.adversary), {}
        losses = [discrimination(self.adversary, one.stages[-1], one.target, one.mix) for one in judged]
        loss = torch.stack(losses).mean()
        return loss, {"discrimination": loss.detach()}

    def compare(self, model: nn.Module, batch: WaveformBatch) -> list[tuple[str, float, Estimates]]:
        """Run the network on a batch.

        Args:
            model: the network.
            batch: of `batch`.

        Returns:
            "query" and "stems" with their weights, as far as the network does both and the batch has both.
        """
        assert isinstance(model, SeparationModel)
        mixtures, options, found = batch.mixtures, self.config.options, []
        mix = mixtures.sources.sum(1)
        if batch.text is not None and batch.negative is not None and len(mixtures.owner):
            target = torch.einsum("qs,qsct->qct", mixtures.membership, mixtures.sources[mixtures.owner])
            mine = mix[mixtures.owner]
            found.append(
                ("query", options.words, Estimates(model.query_each(mine, batch.text, batch.negative), target, mine))
            )
        songs = torch.nonzero(mixtures.has_stems)[:, 0]
        if model.stem_names and options.stems and len(songs):
            stages = [stage.flatten(0, 1) for stage in model.stems_by_stage(mix[songs])]
            target = self._stems(model, mixtures, songs)
            mine = mix[songs].repeat_interleave(len(model.stem_names), 0)
            found.append(("stems", options.stems, Estimates(stages, target, mine)))
        return found

    def _stems(self, model: SeparationModel, mixtures: MixtureBatch, songs: Tensor) -> Tensor:
        """(songs * stems, channels, samples), the last stem of each song what the others leave."""
        rows = [STEMS.index(name) for name in model.stem_names[:-1]]
        sources = mixtures.sources[songs]
        stems = torch.einsum("mks,msct->mkct", mixtures.stems[songs][:, rows], sources)
        rest = sources.sum(1, keepdim=True) - stems.sum(1, keepdim=True)
        return torch.cat([stems, rest], 1).flatten(0, 1)

    def _loss(self, found: Estimates) -> Tensor:
        """The mean over the stages."""
        values = [self.losses(stage, found.target, found.mix)[0].mean() for stage in found.stages]
        return torch.stack(values).mean()

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Measure SI-SDRi, SDRi and the share of improved clips on part of the validation recipe."""
        return self._validation.scores(model)

    def samples(self, model: nn.Module) -> list[Sample]:
        """Separate a few mixtures of the validation recipe for the trackers."""
        return self._validation.samples(model)

    def export(self, model: nn.Module, folder: Path) -> None:
        """Write a model folder; `audiosep.load` reads it if the network has stems or `options.text` gave an encoder."""
        assert isinstance(model, SeparationModel)
        query = None if self.encoder is None else self.encoder.save(folder)
        save_model(folder, model, query=query)


@torch.no_grad()
def _improvement(found: Estimates) -> Tensor:
    """Mean SDR improvement, dB, without targets that are absent or the whole mixture."""
    estimate, target, mix = (x.float().flatten(1) for x in (found.stages[-1], found.target, found.mix))
    energy, whole = target.square().sum(1), mix.square().sum(1)
    before, after = ((x - target).square().sum(1).clamp_min(1e-9) for x in (mix, estimate))
    counts = ~is_absent(energy, whole) & (before > 1e-3 * energy)
    gain = 10 * torch.log10(before / after)
    return (gain * counts).sum() / counts.sum().clamp_min(1)
