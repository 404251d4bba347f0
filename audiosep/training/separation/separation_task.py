"""Training the hybrid separator on text and audio queries, absent targets, negatives and fixed stems together.

All sources of a mixture are queries over one encoder pass. Losses are computed on band energies, which needs no inverse
STFT, see `losses`. Stereo mixtures get one mask for both channels.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiosep.data.loading import MixtureLoader
from audiosep.data.mixing import MixtureBatch
from audiosep.data.sampling import Sampler
from audiosep.data.text_files import read_json
from audiosep.models.audio_tower import AudioTower
from audiosep.models.hybrid import Hybrid
from audiosep.models.stft import mean_power
from audiosep.query.mini import MiniEncoder
from audiosep.query.prototypes import Prototypes
from audiosep.training.caption_table import CaptionTable
from audiosep.training.data_config import load_captions, open_corpus
from audiosep.training.engine.trackers import Sample
from audiosep.training.separation.band_energies import BandEnergies, band_energies, cut_above, spectra
from audiosep.training.separation.losses import BAND_LOSSES, WeightedLosses
from audiosep.training.separation.query_batch import QueryBatch, cut_queries, make_queries, padded, query_recordings
from audiosep.training.separation.separation_config import SeparationConfig, check_combination
from audiosep.training.separation.validation_scores import RecipeValidation
from audiosep.training.tower_files import TextTowerEncoder, load_listener, read_tag_names
from audiosep.weights import configs
from audiosep.weights.checkpoint import save_model


class SeparationTask:
    """Task: see the module's description.

    Args:
        config: the task's configuration.

    Raises:
        ConfigError: options that contradict one another.
        ModelError: weights to start from are missing or damaged.
    """

    Config = SeparationConfig
    model: Hybrid

    def __init__(self, config: SeparationConfig) -> None:
        check_combination(config)
        self.config, options = config, config.options
        self.model = Hybrid(config.model)
        # Audio queries are embedded by a frozen listener, whose embeddings stay near those of the captions.
        self.query_listener: AudioTower | None = None
        if options.listener:
            load_listener(self.model.listener, options.listener)
            self.query_listener = copy.deepcopy(self.model.listener).eval().requires_grad_(False)
        elif config.model.listener is not None:
            self.query_listener = self.model.listener
        self.text = TextTowerEncoder.read(options.text) if options.text else None
        self.corpus = open_corpus(config.data, config.model.sample_rate)
        self.captions = load_captions(config.data)
        self.recalled = _recalled(self.captions, options.prototypes) if options.prototypes else None
        self.model.listener_dropout = options.listener_dropout
        self._set_tag_embeddings()
        self.mixtures = MixtureLoader(Sampler(self.corpus, config.sampling, config.seed), config.data.workers)
        self._rendered: tuple[int, MixtureBatch] | None = None
        self.losses = WeightedLosses(options.losses, BAND_LOSSES)
        self._validation = RecipeValidation(options.validation, self.corpus, self.captions, options.validation_items)

    @classmethod
    def from_config(cls, data: Mapping[str, Any]) -> SeparationTask:
        """Build the task from its part of a training configuration."""
        return cls(configs.from_dict(SeparationConfig, data))

    def train_mode(self, model: nn.Module) -> None:
        """Set training mode; the listener is trained only with `train_listener`, its batch statistics never change."""
        model.train()
        if isinstance(model, Hybrid) and model.config.listener is not None:
            model.listener.eval().requires_grad_(self.config.options.train_listener)

    def prepare(self, device: torch.device) -> None:
        """Render mixtures and embed audio queries on the device of the training."""
        self._set_tag_embeddings()  # `trainer.init` may have loaded those of other captions
        self.mixtures.hold(device)
        if self.query_listener is not None:
            self.query_listener.to(device)

    def _set_tag_embeddings(self) -> None:
        """Give the model the embeddings of its tags' names."""
        options = self.config.options
        if self.config.model.tags and options.labels:
            names = read_json(Path(options.labels))
            self.model.attention.names.copy_(self.captions[names])
        elif self.config.model.tags:
            self.model.attention.names.copy_(read_tag_names(options.listener))

    def batch(self, step: int, rank: int, world: int) -> QueryBatch:
        """Render the mixtures of one step and make their queries."""
        generator = torch.Generator().manual_seed(self.config.seed * 7_919 + step * 131 + rank)
        refinements = step % (1 + self.config.model.refinements)
        options = self.config.options
        mixtures = cut_queries(self._mixtures(step // options.reuse, rank), options.multiple)
        batch = make_queries(mixtures, self.captions, options, refinements, generator, self.recalled)
        if step % options.reuse:
            batch.draw_levels(options.reuse_db, generator)
        return batch

    def _mixtures(self, number: int, rank: int) -> MixtureBatch:
        """Mixtures, kept where the next steps use them again."""
        if self.config.options.reuse == 1:
            return self.mixtures.batch(number, rank)
        if self._rendered is None or self._rendered[0] != number:
            self._rendered = number, self.mixtures.batch(number, rank)
        return self._rendered[1]

    def loss(self, model: nn.Module, batch: QueryBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of the losses of queries, presence and stems, and its parts."""
        assert isinstance(model, Hybrid)
        mixtures, options = _with_channels(batch.leveled()), self.config.options
        with torch.no_grad(), torch.autocast(mixtures.sources.device.type, enabled=False):
            targets = torch.einsum("qs,qsct->qct", mixtures.membership, mixtures.sources[mixtures.owner])
            spectrum = spectra(model, mixtures.sources.sum(1))
            input_spectrum = cut_above(model, spectrum, mixtures.cutoff, batch.cut)
            loss_spectrum = cut_above(model, spectrum, mixtures.cutoff, torch.ones_like(batch.cut))
            energies = band_energies(model, loss_spectrum, targets, mixtures.owner)
            embeddings = batch.text
            if self.query_listener is not None:
                recordings = query_recordings(mixtures, targets)
                embeddings = batch.embeddings(self.query_listener, recordings, options.multiple)
        features = model.encode(model.energies(mean_power(input_spectrum)))
        songs = self._songs(mixtures)
        query = (features, embeddings, batch.negative, mixtures.owner, batch.keep)
        previous = None
        if batch.refinements:
            with self._inference_mode(model):
                previous = model.refine(*query, refinements=batch.refinements - 1)
        decoded = model.decode(*query, songs, previous)
        mask = decoded.mask.float()
        total = self._mask_loss(mask, energies)
        with torch.no_grad():
            improvement = energies.improvement(mask)
        parts = {"query": total.detach(), "sdri_refined" if batch.refinements else "sdri": improvement}
        if options.presence:
            present = (mixtures.membership.sum(1) > 0).float()
            presence = F.binary_cross_entropy_with_logits(decoded.presence.float(), present)
            total, parts["presence"] = total + options.presence * presence, presence.detach()
        if songs is not None and decoded.stems is not None:
            stems = self._stem_loss(model, decoded.stems, mixtures, songs, loss_spectrum)
            total, parts["stems"] = total + options.stems * stems, stems.detach()
        return total, parts | {"items": torch.tensor(len(mixtures.owner))}

    @contextlib.contextmanager
    def _inference_mode(self, model: Hybrid) -> Iterator[None]:
        """Compute the block as at inference: no dropout, no gradient, no update of batch statistics."""
        model.eval()
        with torch.no_grad():
            yield
        self.train_mode(model)

    def _mask_loss(self, mask: Tensor, energies: BandEnergies) -> Tensor:
        """Mean loss of masks (n, bands, frames)."""
        return self.losses(mask, energies.mixture, energies.cross, energies.target)[0].mean()

    def _songs(self, mixtures: MixtureBatch) -> Tensor | None:
        """(songs,) the mixtures that are songs; None if there are none or the stems are not trained."""
        songs = torch.nonzero(mixtures.has_stems)[:, 0]
        songs = padded(songs, self.config.options.multiple)
        return songs if self.config.options.stems and len(songs) else None

    def _stem_loss(
        self, model: Hybrid, masks: Tensor, mixtures: MixtureBatch, songs: Tensor, spectrum: Tensor
    ) -> Tensor:
        """Loss of the stems' masks (songs, stems, bands, frames)."""
        with torch.no_grad(), torch.autocast(spectrum.device.type, enabled=False):
            stems = torch.einsum("mks,msct->mkct", mixtures.stems[songs], mixtures.sources[songs]).flatten(0, 1)
            owner = songs.repeat_interleave(mixtures.stems.shape[1])
            energies = band_energies(model, spectrum, stems, owner)
        return self._mask_loss(masks.flatten(0, 1).float(), energies)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Measure SI-SDRi, SDRi and the share of improved clips on part of the validation recipe."""
        return self._validation.scores(model)

    def samples(self, model: nn.Module) -> list[Sample]:
        """Separate a few mixtures of the validation recipe for the trackers."""
        return self._validation.samples(model)

    def export(self, model: nn.Module, folder: Path) -> None:
        """Write a model folder; `audiosep.load` reads it if `options.text` gave it a query encoder."""
        assert isinstance(model, Hybrid)
        query: dict[str, Any] | None = None
        if self.text is not None and self.query_listener is not None:
            listener = copy.deepcopy(self.query_listener).cpu()
            query = MiniEncoder(copy.deepcopy(self.text.tower), self.text.words, listener).save(folder)
        save_model(folder, model, query=query, half=True)


def _recalled(captions: CaptionTable, path: str) -> CaptionTable:
    """What a file of prototypes recalls of each caption."""
    prototypes, texts = Prototypes.load(path), F.normalize(captions.embeddings, dim=-1)
    return CaptionTable(captions.captions, torch.stack([prototypes.recall(text).query for text in texts]))


def _with_channels(mixtures: MixtureBatch) -> MixtureBatch:
    """The batch with sources (mixtures, sources, channels, samples); mono sources have no axis for channels before."""
    mono = mixtures.sources.ndim == 3
    return replace(mixtures, sources=mixtures.sources[:, :, None]) if mono else mixtures
