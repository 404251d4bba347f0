"""The hybrid separator: free-text queries and fixed stems from one encoder pass.

A U-Net (Ronneberger et al., 2015) of residual blocks reads level-normalised log energies. The encoder sees no query, so
all queries of a mixture share it; the decoder is modulated (FiLM) by a query embedding and by the listener's local
features, or by one learned embedding for the stems. Its output is a magnitude mask on frequency bands.

The decoder then runs again with what the listener makes of its estimate and of the residual (`models.refinement`), and
several estimates are compared and mixed (`models.estimates`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiosep.models.attention import Attention, ListenerFeatures
from audiosep.models.bands import Bands
from audiosep.models.blocks import MOMENTUM, ResidualBlock, fold, residual_blocks, unfold
from audiosep.models.estimates import MixtureQueries
from audiosep.models.film import Condition, FilmNorm
from audiosep.models.hybrid_config import HybridConfig
from audiosep.models.interpolation import interpolated
from audiosep.models.mask_model import MaskModel, Masks, query_groups
from audiosep.models.masks import real_mask, share_out, undecided
from audiosep.models.presence import presence_inputs
from audiosep.models.query_ways import Ways
from audiosep.models.refinement import Decoded, Heard, decode_refined, of_owners, refined_query
from audiosep.models.stft import mean_power_of
from audiosep.models.towers import build_tower


@dataclass
class Features:
    """One encoder pass.

    Attributes:
        bottom: the deepest map.
        skips: maps for the decoder's levels, from shallow to deep.
        listener: the listener's features, where the model has one.
        energies: (batch, bands, frames) that all this was computed from.
    """

    bottom: Tensor
    skips: list[Tensor]
    listener: ListenerFeatures | None
    energies: Tensor


class Hybrid(MaskModel):
    """See the module's description; `Hybrid(HybridConfig(...))`.

    Attributes:
        listener_dropout: share of the listener's feature channels that training drops, for a whole mixture.
    """

    Config = HybridConfig
    config: HybridConfig
    listener_dropout = 0.0
    small_windows = True

    def __init__(self, config: HybridConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or HybridConfig()
        self.sample_rate, self.hop, self.dimension = config.sample_rate, config.hop, config.dimension
        self.n_fft = config.n_fft
        self.window, self.context, self.stem_names = config.window, config.context, config.stems
        # The listener needs more of the past to recognise a sound than the U-Net needs to cut it out.
        self.past = config.window // 5 if config.listener else config.context // 2
        self.alignment = config.grid[0] * config.hop
        self.mixes_ways = config.tags and config.relisten
        self.capabilities = frozenset({"text", "audio", "negative", "presence", *(["stems"] if config.stems else [])})

        self.bands = Bands(self.bins, config.bands)
        self.norm = nn.BatchNorm1d(self.bands.count, momentum=MOMENTUM)
        widths, area = config.widths, config.patch[0] * config.patch[1]
        self.pre = nn.Conv2d(area, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(ResidualBlock(i, o) for i, o in pairwise((widths[0], *widths)))
        self.skips = nn.ModuleList(nn.Conv2d(w, w, 1) for w in widths)

        tracks = config.tracks if config.listener else 0
        self.query = nn.Sequential(
            nn.Linear(2 * config.dimension, config.features),
            nn.SiLU(),
            nn.Linear(config.features, config.features),
            nn.LayerNorm(config.features),
        )
        self.middle = ResidualBlock(widths[-1], widths[-1], config.features, tracks)
        up = list(pairwise((widths[-1], *widths[::-1])))
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, 2, bias=False) for i, o in up)
        # Sums of blocks drift as they are trained; where a ReLU follows, channels that drifted below zero stay dead.
        self.norms = nn.ModuleList(FilmNorm(w, momentum=MOMENTUM) for w in (widths[-1], *widths[::-1]))
        self.decoder = nn.ModuleList(ResidualBlock(o, o, config.features, tracks) for _, o in up)
        self.out = _head(widths[0], area)
        if config.listener:
            self.listener = build_tower(config.listener)
            self.attention = Attention(config, config.listener)
            self.hearing = nn.Conv2d(config.listener.hidden, widths[-1], 1)
            nn.init.zeros_(self.hearing.weight)
            nn.init.zeros_(self.hearing.bias)  # type: ignore[arg-type]
        if config.stems:
            self.stem_vector = nn.Parameter(torch.randn(config.features) * 0.5)
            self.stem_out = _head(widths[0], area * len(config.stems))
        # A few numbers only: from hundreds of channels the presence head overfits to the training clips.
        inputs = 3 + (0 if config.listener is None else 8 if config.tags else 4) + config.relisten
        self.presence = nn.Sequential(nn.Linear(inputs, 32), nn.SiLU(), nn.Linear(32, 1))

    @property
    def compilable(self) -> tuple[str, ...]:
        """The parts that training may compile."""
        return residual_blocks(self)

    @property
    def mask_bands(self) -> Bands:
        """See `MaskModel.mask_bands`."""
        return self.bands

    def stacked(self, name: str) -> int:
        """Parts of equal size that a weight has along its first axis: the scales and shifts of a block's two norms."""
        return 4 if ".film." in name else 1

    # ---- inference -------------------------------------------------------------------------------------------------

    def masks(
        self, power: Tensor, embeddings: Tensor, negatives: Tensor, ways: Sequence[Ways | None] = ()
    ) -> Iterator[Masks]:
        """See `MaskModel.masks`."""
        features = self.encode(self.energies(power))
        several = iter(ways)
        for some, kept_out in query_groups(embeddings, negatives, 1 if ways else None):
            batch, count = power.shape[0], some.shape[0]
            owner = torch.arange(batch, device=some.device).repeat_interleave(count)
            queries = MixtureQueries(self, features, some.repeat(batch, 1), kept_out.repeat(batch, 1), owner)
            weights = None
            if (way := next(several, None)) is None:
                decoded = queries.estimate()
            else:
                decoded, weights = queries.estimate_by_ways(way)
            mask = self.applied_mask(decoded, of_owners(features.energies, owner))
            if way is None:
                scale, shift = self.config.presence_calibration
                presence = torch.sigmoid(scale * decoded.presence.float() + shift)
            else:
                logits = way.among.presence(queries.evidence(decoded, way.among))
                presence = torch.sigmoid(logits)
                mask = mask * way.among.loudness(logits)[:, None, None]
            mask, presence = (part.unflatten(0, (batch, count)) for part in (mask, presence))
            yield Masks(mask, presence=presence, weights=weights, bands=self.bands)

    def stem_masks(self, power: Tensor) -> Masks:
        """See `MaskModel.stem_masks`."""
        features = self.encode(self.energies(power))
        return Masks(share_out(self.decode_stems(features), features.energies), bands=self.bands)

    def quick(self) -> Hybrid:
        """The same weights without refinements."""
        if not self.config.refinements:
            return self
        once = copy.copy(self)
        once.config = replace(self.config, refinements=0, mix_temperature=None)
        return once

    def applied_mask(self, decoded: Decoded, energies: Tensor) -> Tensor:
        """(queries, bands, frames): the mask of the last run above its floor, weighted by the network's presence.

        Args:
            decoded: of queries.
            energies: (queries, bands, frames) of their mixtures.
        """
        mask = decoded.mask
        if self.config.mask_floor:
            floor = self.config.mask_floor * undecided(mask, energies)[:, None, None]
            mask = floor + (1 - floor) * mask
        if self.config.presence_exponent:
            presence = torch.sigmoid(decoded.presence.float())
            mask = mask * presence.pow(self.config.presence_exponent)[:, None, None]
        return mask

    # ---- parts, also used by training ------------------------------------------------------------------------------

    def energies(self, power: Tensor) -> Tensor:
        """(batch, bins, frames) power -> (batch, bands, frames) mean energy a bin."""
        return self.bands.mean(power)

    def listen(self, energies: Tensor) -> ListenerFeatures | None:
        """The listener's features of (batch, bands, frames) energies."""
        if self.config.listener is None:
            return None
        local = self.listener.local(energies)
        if self.training and self.listener_dropout:
            local = F.dropout2d(local, self.listener_dropout)
        return ListenerFeatures(local, self.listener)

    def encode(self, energies: Tensor) -> Features:
        """(batch, bands, frames) energies -> features that depend on no query."""
        listener = self.listen(energies)
        x = (energies + 1e-7 * energies.mean((1, 2), keepdim=True) + 1e-10).log()
        x = self.norm((x - x.mean((1, 2), keepdim=True)) * 0.5).transpose(1, 2)[:, None]
        x = self._fold(x)
        x = self.pre(x.contiguous(memory_format=torch.channels_last))
        skips = []
        for block, skip in zip(self.encoder, self.skips, strict=True):
            x = block(x)
            skips.append(skip(x))
            x = F.avg_pool2d(x, 2)
        if listener is not None:
            # The encoder has half as many frames a position as recognition needs: the listener's features fill in.
            local = self._extend(self.hearing(listener.local), energies)
            x = x + interpolated(local, *x.shape[2:])
        return Features(x, skips, listener, energies)

    def refine(
        self,
        features: Features,
        embeddings: Tensor,
        negatives: Tensor,
        owner: Tensor,
        keep: Tensor | None = None,
        refinements: int | None = None,
    ) -> Decoded:
        """The decoder's last run after some refinements, by default all of the model's; arguments as in `decode`."""

        def run(previous: Decoded | None) -> Decoded:
            return self.decode(features, embeddings, negatives, owner, keep, previous=previous)

        return decode_refined(run, self.config.refinements if refinements is None else refinements)

    @property
    def tag_names(self) -> Tensor | None:
        """See `SeparationModel.tag_names`."""
        return self.attention.names if self.config.tags else None

    def heard(self, waveforms: Tensor) -> Heard | None:
        """See `SeparationModel.heard`."""
        if not self.config.tags:
            return None
        # One after the other: transforms need many times the memory of what they say.
        powers = (mean_power_of(one, self.n_fft, self.hop) for one in waveforms.float().split(1))
        energies = torch.cat([self.energies(power) for power in powers])
        return self._heard(self.listener.pooled(energies))

    def decode(
        self,
        features: Features,
        embeddings: Tensor,
        negatives: Tensor,
        owner: Tensor,
        keep: Tensor | None = None,
        songs: Tensor | None = None,
        previous: Decoded | None = None,
    ) -> Decoded:
        """One run of the decoder for queries.

        Args:
            features: of the mixtures.
            embeddings: (queries, dimension).
            negatives: (queries, dimension).
            owner: (queries,) mixture of each query.
            keep: (queries, 1) in 0..1: training drops the embedding of some queries, so that the decoder also learns to
                follow the listener alone.
            songs: (songs,) mixtures whose stems are decoded too: in training both kinds share a run, so that the batch
                normalisations see what their running statistics will be.
            previous: the run before, whose estimate and residual refine the query.
        """
        energies = of_owners(features.energies, owner)
        query = positive = F.normalize(embeddings.float(), dim=-1)
        negative = negatives.float()
        if previous is not None:
            hear = partial(self.hear, energies=energies)
            positive, negative = refined_query(previous, hear, energies, query, negative)
        mask, stems, similarity = self.decode_masks(features, positive, negative, owner, keep, songs)
        return self.described(mask, energies, query, similarity if previous is None else previous.similarity, stems)

    def decode_stems(self, features: Features) -> Tensor:
        """(batch, stems, bands, frames) masks before what is left over is shared out."""
        condition = Condition(self.stem_vector.expand(features.bottom.shape[0], -1))
        maps = self.stem_out(self._decode(features, features.bottom, None, condition))
        return self._masks(maps, features.energies.shape[-1])

    @torch.no_grad()
    def hear(self, mask: Tensor, energies: Tensor) -> Heard:
        """What the listener hears in energies under masks, (queries, bands, frames) each."""
        return self._heard(self.listener.pooled(mask.float().square() * energies))

    def hear_mixtures(self, features: Features) -> Heard:
        """What the listener hears in whole mixtures."""
        assert features.listener is not None
        return self._heard(features.listener.local.float().mean((2, 3)))

    def decode_masks(
        self,
        features: Features,
        positive: Tensor,
        negative: Tensor,
        owner: Tensor,
        keep: Tensor | None = None,
        songs: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Masks of the queries, masks of the stems of `songs`, and the similarities (see `Attention`)."""
        frames = features.energies.shape[-1]
        bottom, condition, similarity = self._condition(features, positive, negative, owner, keep)
        if songs is None:
            maps = self._decode(features, bottom, owner, condition)
            return self._masks(self.out(maps), frames)[:, 0], None, similarity
        both_bottoms = torch.cat([bottom, features.bottom[songs]])
        both_maps = self._decode(features, both_bottoms, torch.cat([owner, songs]), self._with_stems(condition, songs))
        maps, stem_maps = both_maps.split([len(owner), len(songs)])
        stems = self._masks(self.stem_out(stem_maps), frames)
        return self._masks(self.out(maps), frames)[:, 0], stems, similarity

    def described(
        self, mask: Tensor, energies: Tensor, query: Tensor, similarity: Tensor | None, stems: Tensor | None = None
    ) -> Decoded:
        """A run's mask with what the listener makes of it, and how sure it is that the sound is there."""
        heard = likeness = None
        if self.config.relisten:
            heard = self.hear(mask, energies)
            likeness = (heard.embedding * query).sum(-1, keepdim=True)
        with torch.autocast(mask.device.type, enabled=False):
            presence: Tensor = self.presence(presence_inputs(mask, energies, similarity, likeness))[:, 0]
        return Decoded(mask, presence, stems, similarity, heard)

    # ---- internals -------------------------------------------------------------------------------------------------

    def _heard(self, pooled: Tensor) -> Heard:
        return Heard(self.listener.embed_pooled(pooled), self.listener.tags(pooled).float())

    def _condition(
        self, features: Features, positive: Tensor, negative: Tensor, owner: Tensor, keep: Tensor | None
    ) -> tuple[Tensor, Condition, Tensor | None]:
        """The deepest maps of the queries, what modulates the decoder, and the similarities (see `Attention`)."""
        both = torch.cat([positive, negative], 1) * (self.dimension**0.5 * 0.3)
        vector = self.query(both if keep is None else both * keep)
        bottom = of_owners(features.bottom, owner)
        if features.listener is None:
            return bottom, Condition(vector), None
        tracks, similarity = self.attention(features.listener, owner, vector, positive, negative)
        matches = self._extend(self.attention.map(similarity), features.energies)
        bottom = bottom + interpolated(matches, *bottom.shape[2:])
        return bottom, Condition(vector, self._extend(tracks, features.energies)), similarity

    def _with_stems(self, condition: Condition, songs: Tensor) -> Condition:
        """The condition of queries, then that of the stems of some songs, which have no tracks."""
        vector = torch.cat([condition.vector, self.stem_vector.expand(len(songs), -1)])
        tracks = condition.tracks
        return Condition(vector, None if tracks is None else F.pad(tracks, (0, 0, 0, 0, 0, len(songs))))

    def _fold(self, x: Tensor) -> Tensor:
        """(batch, 1, frames, bands) padded so that every level divides evenly, patches as channels."""
        frames, bands = (-s % grid for s, grid in zip(x.shape[2:], self.config.grid, strict=True))
        return fold(F.pad(x, (0, bands, 0, frames)), self.config.patch)

    def _extend(self, x: Tensor, energies: Tensor) -> Tensor:
        """(batch, channels, steps, ...) of the listener, its last step repeated until the decoder's padded frames end.

        These features are interpolated over all padded frames. If they ended with the recording they would be
        stretched, and its last frames would get features of earlier ones.
        """
        grid = self.config.grid[0]
        # Without negative numbers, which exports round another way, and in ranges, whose sizes they do not freeze.
        steps = (energies.shape[-1] + grid - 1) // grid * grid // self.listener.config.step
        last = torch.arange(x.shape[2], device=x.device)[-1:]
        return x.index_select(2, torch.minimum(torch.arange(steps, device=x.device), last))

    def _decode(self, features: Features, x: Tensor, owner: Tensor | None, condition: Condition) -> Tensor:
        """The decoder from the deepest map up to the last map before a head."""
        x = self.middle(x, condition)
        levels = zip(self.norms[:-1], self.up, self.decoder, features.skips[::-1], strict=True)
        for norm, up, block, skip in levels:
            x = up(F.relu(norm(x), inplace=True)).add_(skip if owner is None else of_owners(skip, owner))
            x = block(x, condition)
        return F.relu(self.norms[-1](x), inplace=True)

    def _masks(self, x: Tensor, frames: int) -> Tensor:
        """Folded outputs -> (batch, maps, bands, frames)."""
        maps = unfold(x, self.config.patch)[:, :, :frames, : self.bands.count]
        return real_mask(maps).transpose(2, 3)


def _head(inputs: int, outputs: int) -> nn.Conv2d:
    head = nn.Conv2d(inputs, outputs, 1)
    nn.init.normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)  # type: ignore[arg-type]
    return head
