"""Training the hybrid separator: text and audio queries, absent targets, negatives and stems at once.

All sources of a mixture are queries over one encoder pass, and losses are taken on band energies, which needs no
inverse STFT: with mixture energy A, cross energy B and target energy C in a band, a mask m errs by m^2 A - 2 m B + C.
Losses on waveforms can be had too; their inverse STFTs cost time. Stereo mixtures get one mask for all channels.
"""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiosep.data.loading import MixtureLoader
from audiosep.data.mixing import Mixer, MixtureBatch
from audiosep.data.sampling import Sampler, SamplingConfig
from audiosep.errors import ConfigError
from audiosep.models.hybrid import Hybrid
from audiosep.models.hybrid_config import HybridConfig
from audiosep.models.listener import Listener
from audiosep.models.stft import istft, mean_power, power, stft
from audiosep.query.mini import MiniEncoder
from audiosep.training.data_config import DataConfig, load_captions, open_corpus
from audiosep.training.engine.trackers import Sample
from audiosep.training.separation.losses import Losses
from audiosep.training.separation.validation_scores import ValidationScores
from audiosep.training.tower_files import TextTowerEncoder, load_listener
from audiosep.weights import configs
from audiosep.weights.checkpoint import save_model


@dataclass(frozen=True)
class SeparationOptions:
    """What counts how much, and how queries are made.

    Attributes:
        losses: terms on the masks of queries and stems, see `training.losses`.
        presence, stems: weights of those heads; 0 leaves their passes out.
        audio, mixed: share of queries given by a recording of the target, and by a blend of text and recording.
        drop: share of queries whose embedding is dropped, so that the decoder also follows the listener alone.
        listener_dropout: share of the listener's feature channels that are dropped for a whole mixture: the listener
            was trained on the same clips, and the separator would learn to rely on it too much.
        noise: standard deviation of noise on text embeddings, so that any text tower near the table's can take over.
        lowpass: share of band-limited mixtures whose input really is cut there (the loss always is).
        listener: trained listener: its file, the `model/` of a run, or a whole model. It hears the audio queries and
            stays frozen for that. The separator's own starts as a copy, or as that of `trainer.init`.
        tune: the separator's own copy of the listener goes on learning, from the separator's losses.
        labels: JSON list of the names of the listener's tags, where `model.tags` is set.
        text: text tower that read the captions: the `model/` of a run, or a whole model; what is exported then is a
            whole model too, which can be asked in words. "" exports the network alone.
        validation: path of the validation recipe; validation_items: how many of its items each time.
    """

    losses: tuple[dict[str, Any], ...] = (
        {"name": "band_snr", "weight": 0.1},
        {"name": "band_magnitude", "weight": 1.0},
    )
    presence: float = 0.1
    stems: float = 0.3
    audio: float = 0.2
    mixed: float = 0.15
    drop: float = 0.2
    listener_dropout: float = 0.0
    noise: float = 0.02
    lowpass: float = 0.5
    listener: str = ""
    tune: bool = False
    labels: str = ""
    text: str = ""
    validation: str = ""
    validation_items: int = 120

    def __post_init__(self) -> None:
        for name in ("presence", "stems", "noise"):
            if getattr(self, name) < 0:
                raise ConfigError(f"options.{name} must not be negative, got {getattr(self, name)}")
        shares = {
            "drop": self.drop,
            "listener_dropout": self.listener_dropout,
            "lowpass": self.lowpass,
            "audio + mixed": self.audio + self.mixed,
        }
        for name, share in shares.items():
            if not 0 <= share <= 1 or min(self.audio, self.mixed) < 0:
                raise ConfigError(f"options.{name} is a share and must lie in 0..1, got {share}")


@dataclass(frozen=True)
class SeparationConfig:
    """Configuration of the task: `{"task": "separation", "model": {...}, "data": {...}, "options": {...}}`."""

    data: DataConfig
    model: HybridConfig = field(default_factory=HybridConfig)
    options: SeparationOptions = field(default_factory=SeparationOptions)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    seed: int = 0


@dataclass
class QueryBatch:
    """A batch of mixtures with its queries as embeddings; see `MixtureBatch` for the rest.

    Attributes:
        text, negative: (queries, dimension) embeddings; zeros for no negative.
        kind: (queries,) 0 text, 1 audio, 2 blend of both. example: (queries, samples) recording for kinds 1 and 2.
        keep: (queries, 1) 0 where the embedding is dropped. cut: (mixtures,) the input ends at the cutoff.
        refinements: runs of the decoder before the one that is trained.
    """

    mixtures: MixtureBatch
    text: Tensor
    negative: Tensor
    kind: Tensor
    keep: Tensor
    cut: Tensor
    refinements: int = 0

    def to(self, device: torch.device) -> QueryBatch:
        """The batch on another device."""
        moved = {k: getattr(self, k).to(device) for k in ("text", "negative", "kind", "keep", "cut")}
        return replace(self, mixtures=self.mixtures.to(device), **moved)


@dataclass
class Energies:
    """Band energies of mixtures and queries: A (mixture), B (cross), C (target), each (n, bands, frames).

    Attributes:
        spectra: of mixtures and targets, (n, channels, bins, frames) each, where losses on waveforms need them.
    """

    mixture: Tensor
    cross: Tensor
    target: Tensor
    spectra: tuple[Tensor, Tensor] | None = None

    @property
    def absent(self) -> Tensor:
        """(n,) whether there is (almost) no target."""
        return self.target.sum((1, 2)) < 1e-4 * self.mixture.sum((1, 2))


class SeparationTask:
    """Task: see the module's description."""

    Config = SeparationConfig
    model: Hybrid

    def __init__(self, config: SeparationConfig) -> None:
        self.config = config
        self.model = Hybrid(config.model)
        if config.model.listener is None and (config.options.listener or config.options.tune):
            raise ConfigError("options.listener and options.tune: the model has no listener; set model.listener")
        if config.options.tune and not config.options.listener:
            raise ConfigError("options.tune: audio queries need a listener that stays; set options.listener")
        if config.options.tune and config.model.relisten:
            raise ConfigError(
                "options.tune: not with model.relisten, which hears with the listener that placed the queries"
            )
        if config.model.refinements and not config.options.presence:
            raise ConfigError(
                "options.presence: model.refinements weight an estimate by its presence, which is not trained"
            )
        if config.options.listener:
            load_listener(self.model.listener, config.options.listener)
        self.text = TextTowerEncoder.read(config.options.text) if config.options.text else None
        if self.text is not None and config.model.listener is None:
            raise ConfigError("options.text: the query encoder needs the other tower too; set model.listener")
        self.corpus = open_corpus(config.data, config.model.sample_rate)
        self.captions = load_captions(config.data)
        self.model.listener_dropout = config.options.listener_dropout
        # What hears the audio queries, and is shipped for that: it has to stay where the captions are.
        self.listener: Listener | None = None
        if config.options.listener:
            self.listener = copy.deepcopy(self.model.listener).eval().requires_grad_(False)
        self._name_tags()
        self.sampler = Sampler(self.corpus, config.sampling, config.seed)
        self.mixer = Mixer(self.corpus)
        self._loader: MixtureLoader | None = None
        self.losses = Losses(config.options.losses)
        self._validation: ValidationScores | None = None

    @classmethod
    def from_config(cls, data: Mapping[str, Any]) -> SeparationTask:
        """Build the task from its part of a training configuration."""
        return cls(configs.from_dict(SeparationConfig, data))

    def train_mode(self, model: nn.Module) -> None:
        """Train everything, the listener only if it shall; its running statistics stay as they are."""
        model.train()
        if isinstance(model, Hybrid) and model.config.listener is not None:
            model.listener.eval().requires_grad_(self.config.options.tune)

    def prepare(self, device: torch.device) -> None:
        """Hold the corpus where training is, if it fits there, so that mixtures are made there too."""
        self._name_tags()  # weights to start from came with places of their own
        if not self.config.data.workers:
            self.corpus.hold(device)
        if self.listener is not None:
            self.listener.to(device)

    def _name_tags(self) -> None:
        """Put the names of the tags where these captions place them."""
        if self.config.model.tags:
            if not self.config.options.labels:
                raise ConfigError("options.labels: model.tags needs the names of the listener's tags")
            names = json.loads(Path(self.config.options.labels).read_text(encoding="utf-8"))
            self.model.attention.names.copy_(self.captions[names])

    # ---- batches ---------------------------------------------------------------------------------------------------

    def _mixtures(self, step: int, rank: int) -> MixtureBatch:
        """Made where the corpus is, or by worker processes."""
        if not self.config.data.workers:
            return self.mixer.render(self.sampler.plan(step, rank))
        if self._loader is None:
            self._loader = MixtureLoader(self.sampler, rank, self.config.data.workers)
        return self._loader.batch(step)

    def batch(self, step: int, rank: int, world: int) -> QueryBatch:
        """Mixtures of one step, with text embeddings looked up."""
        options = self.config.options
        generator = torch.Generator().manual_seed(self.config.seed * 7_919 + step * 131 + rank)
        mixtures = self._mixtures(step, rank)
        count = len(mixtures.owner)

        def draw(n: int) -> Tensor:
            return torch.rand(n, generator=generator)

        text = self.captions[mixtures.captions]
        text = text + torch.randn(text.shape, generator=generator) * options.noise
        negative = torch.zeros_like(text)
        with_negative = [q for q, caption in enumerate(mixtures.negatives) if caption]
        if with_negative:
            negative[with_negative] = self.captions[[str(mixtures.negatives[q]) for q in with_negative]]
        u = draw(count)
        kind = (u < options.audio + options.mixed).long() + ((u >= options.audio) & (u < options.audio + options.mixed))
        can_be_heard = (mixtures.membership.sum(1) > 0).cpu()
        if mixtures.example_of is not None:
            can_be_heard[mixtures.example_of.cpu()] = True
        kind = torch.where(can_be_heard, kind, 0)
        keep = (draw(count) >= options.drop).float()[:, None]
        cut = draw(len(mixtures.cutoff)) < options.lowpass
        refinements = step % (1 + self.config.model.refinements)
        return QueryBatch(mixtures, F.normalize(text, dim=-1), negative, kind, keep, cut, refinements)

    def _embeddings(self, batch: QueryBatch, examples: Tensor) -> Tensor:
        """Text embeddings, some replaced by or blended with what is heard in `examples` (queries, samples)."""
        embeddings = batch.text.clone()
        heard = torch.nonzero(batch.kind > 0)[:, 0]
        if len(heard) and self.model.config.listener is not None:
            with torch.no_grad():
                audio = (self.listener or self.model.listener).embed(examples[heard])
            blend = torch.where((batch.kind[heard] == 2)[:, None], 0.5, 1.0)
            embeddings[heard] = F.normalize(blend * audio + (1 - blend) * embeddings[heard], dim=-1)
        return embeddings

    # ---- loss ------------------------------------------------------------------------------------------------------

    def loss(self, model: nn.Module, batch: QueryBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted sum of the losses of queries, presence and stems."""
        assert isinstance(model, Hybrid)
        mixtures, options = _with_channels(batch.mixtures), self.config.options
        with torch.no_grad(), torch.autocast(mixtures.sources.device.type, enabled=False):
            targets = torch.einsum("qs,qsct->qct", mixtures.membership, mixtures.sources[mixtures.owner])
            spectrum = self._spectra(model, mixtures.sources.sum(1))
            heard = self._limit(model, spectrum, mixtures.cutoff, batch.cut)
            inside = self._limit(model, spectrum, mixtures.cutoff, torch.ones_like(batch.cut))
            queries = self._energies(model, inside, targets, mixtures.owner)
            embeddings = self._embeddings(batch, self._examples(mixtures, targets))
        features = model.encode(model.energies(mean_power(heard)))
        songs = self._songs(mixtures)
        query = (features, embeddings, batch.negative, mixtures.owner, batch.keep)
        previous = None
        if batch.refinements:
            with self._as_used(model):
                previous = model.refine(*query, refinements=batch.refinements - 1)
        decoded = model.decode(*query, songs, previous)
        total, improvement = self._mask_loss(decoded.mask, queries)
        parts = {"query": total.detach(), "sdri_refined" if batch.refinements else "sdri": improvement}
        if options.presence:
            there = (mixtures.membership.sum(1) > 0).float()
            presence = F.binary_cross_entropy_with_logits(decoded.presence.float(), there)
            total, parts["presence"] = total + options.presence * presence, presence.detach()
        if songs is not None and decoded.stems is not None:
            stem_loss = self._stem_loss(model, decoded.stems, mixtures, songs, inside)
            total, parts["stems"] = total + options.stems * stem_loss, stem_loss.detach()
        return total, parts | {"items": torch.tensor(len(mixtures.owner))}

    @contextlib.contextmanager
    def _as_used(self, model: Hybrid) -> Iterator[None]:
        """What is computed here is computed as at inference, and counts in no batch normalisation."""
        model.eval()
        with torch.no_grad():
            yield
        self.train_mode(model)

    def _mask_loss(self, mask: Tensor, energies: Energies) -> tuple[Tensor, Tensor]:
        """Loss of masks (n, bands, frames), and the SDR improvement (dB) where there is something to improve."""
        mask = mask.float()
        parts = (energies.mixture, energies.cross, energies.target)
        loss = self.losses.bands(mask, *parts)[0].mean()
        if energies.spectra is not None:
            loss = loss + self._waveform_loss(mask, *energies.spectra)
        with torch.no_grad():
            error = (mask.square() * parts[0] - 2 * mask * parts[1] + parts[2]).sum((1, 2)).clamp_min(1e-9)
            before = (parts[0] - 2 * parts[1] + parts[2]).sum((1, 2))
            counts = ~energies.absent & (before > 1e-3 * parts[2].sum((1, 2)))
            gain = 10 * torch.log10(before.clamp_min(1e-9) / error)
            improvement = (gain * counts).sum() / counts.sum().clamp_min(1)
        return loss, improvement

    def _waveform_loss(self, mask: Tensor, mix: Tensor, target: Tensor) -> Tensor:
        """Terms on waveforms, of masks (n, bands, frames) on spectra (n, channels, bins, frames)."""
        config, samples = self.config.model, (mix.shape[-1] - 1) * self.config.model.hop
        with torch.autocast(mask.device.type, enabled=False):
            spectra = (mix * self.model.bands.expand(mask)[:, None], target, mix)
            return self.losses.waveforms(*(istft(x, config.n_fft, config.hop, samples) for x in spectra))[0].mean()

    def _songs(self, mixtures: MixtureBatch) -> Tensor | None:
        """(songs,) the mixtures that are songs, where there are any and their stems count."""
        songs = torch.nonzero(mixtures.has_stems)[:, 0]
        return songs if self.config.options.stems and len(songs) else None

    def _stem_loss(
        self, model: Hybrid, masks: Tensor, mixtures: MixtureBatch, songs: Tensor, spectrum: Tensor
    ) -> Tensor:
        """Loss of the fixed heads' masks (songs, stems, bands, frames)."""
        with torch.no_grad(), torch.autocast(spectrum.device.type, enabled=False):
            waves = torch.einsum("mks,msct->mkct", mixtures.stems[songs], mixtures.sources[songs]).flatten(0, 1)
            energies = self._energies(model, spectrum, waves, songs.repeat_interleave(mixtures.stems.shape[1]))
        return self._mask_loss(masks.flatten(0, 1), energies)[0]

    # ---- energies --------------------------------------------------------------------------------------------------

    def _spectra(self, model: Hybrid, waveforms: Tensor) -> Tensor:
        return stft(waveforms, model.config.n_fft, model.hop)

    def _limit(self, model: Hybrid, spectrum: Tensor, cutoff: Tensor, where: Tensor) -> Tensor:
        """Spectra (mixtures, channels, bins, frames) without what lies above each cutoff (Hz), if `where` says so."""
        bins = torch.arange(spectrum.shape[-2], device=spectrum.device) * model.sample_rate / model.config.n_fft
        keep = (bins[None] <= cutoff[:, None]) | ~where[:, None]
        return spectrum * keep[:, None, :, None]

    def _energies(self, model: Hybrid, spectrum: Tensor, targets: Tensor, owner: Tensor) -> Energies:
        """A, B, C of targets (n, channels, samples), means over the channels.

        `spectrum` (mixtures, channels, bins, frames) is zero where no loss is to be taken.
        """
        mix, target = spectrum[owner], self._spectra(model, targets)
        cross = (mix.real * target.real + mix.imag * target.imag).mean(1)
        gather, whole = model.bands.energy, power(spectrum)
        inside = power(target) * (whole > 0).any(-1, keepdim=True)[owner]
        spectra = (mix, target * (mix != 0)) if self.losses.waveform else None
        return Energies(gather(whole.mean(1))[owner], gather(cross), gather(inside.mean(1)), spectra)

    def _examples(self, mixtures: MixtureBatch, targets: Tensor) -> Tensor:
        """(queries, samples): another recording of the sound where the batch has one, else the target itself."""
        examples = targets.mean(1)
        if mixtures.examples is None or mixtures.example_of is None:
            return examples
        examples[mixtures.example_of] = mixtures.examples
        return examples

    # ---- validation and export -------------------------------------------------------------------------------------

    def validate(self, model: nn.Module) -> dict[str, float]:
        """SI-SDRi, SDRi and share of clips better on part of the validation recipe, by group and family."""
        assert isinstance(model, Hybrid)
        held_back = self._held_back()
        return held_back(model) if held_back else {}

    def samples(self, model: nn.Module) -> list[Sample]:
        """A few mixtures of the validation recipe, for the trackers."""
        assert isinstance(model, Hybrid)
        held_back = self._held_back()
        return held_back.samples(model) if held_back else []

    def _held_back(self) -> ValidationScores | None:
        options = self.config.options
        if self._validation is None and options.validation:
            recipe = Path(options.validation)
            self._validation = ValidationScores(recipe, self.corpus, self.captions, options.validation_items)
        return self._validation

    def export(self, model: nn.Module, folder: Path) -> None:
        """A model folder; `load` reads it if `options.text` gave it its query encoder."""
        assert isinstance(model, Hybrid)
        query: dict[str, Any] | None = None
        if self.text is not None:
            listener = copy.deepcopy(self.listener or model.listener).cpu()
            query = MiniEncoder(copy.deepcopy(self.text.tower), self.text.words, listener).save(folder)
        save_model(folder, model, query=query, extra={}, half=True)


def _with_channels(mixtures: MixtureBatch) -> MixtureBatch:
    """The batch with sources (mixtures, sources, channels, samples), mono ones too."""
    mono = mixtures.sources.ndim == 3
    return replace(mixtures, sources=mixtures.sources[:, :, None]) if mono else mixtures
