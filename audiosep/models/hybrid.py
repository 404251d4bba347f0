"""The hybrid separator: free-text queries and fixed stems from one encoder pass.

A U-Net (Ronneberger et al., 2015) of residual blocks reads level-normalised log energies. The encoder sees no query, so
all queries of a mixture share it; the decoder is modulated (FiLM) by a query embedding and by the listener's local
features, or by one learned embedding for the stems. Its output is a magnitude mask on frequency bands.

The decoder then runs again with what the listener makes of its estimate and of the residual (`models.refinement`).
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
from audiosep.models.film import Condition, FilmNorm
from audiosep.models.hybrid_config import HybridConfig
from audiosep.models.interpolation import interpolated
from audiosep.models.known_sounds import Among
from audiosep.models.mask_model import MaskModel, Masks, query_groups
from audiosep.models.masks import real_mask, share_out
from audiosep.models.query_ways import Ways
from audiosep.models.refinement import (
    TINY,
    Decoded,
    Heard,
    decode_mixed,
    decode_refined,
    joined,
    mean_of,
    of_owners,
    parted,
    refined_all,
    refined_query,
    residual_mask,
    share_of,
    similarity_score,
    swapped,
)
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
            queries = some.repeat(batch, 1), kept_out.repeat(batch, 1), owner
            weights = None
            if (way := next(several, None)) is None:
                decoded = self.estimate(features, *queries)
            else:
                decoded, weights = self.estimate_by_ways(features, *queries, way)
            mask = self.applied_mask(decoded)
            if way is None:
                scale, shift = self.config.presence_calibration
                presence = torch.sigmoid(scale * decoded.presence.float() + shift)
            else:
                logits = way.among.presence(self.evidence(features, decoded, way.among))
                presence = torch.sigmoid(logits)
                mask = mask * way.among.loudness(logits)[:, None, None]
            mask, presence = (part.unflatten(0, (batch, count)) for part in (mask, presence))
            yield Masks(mask, presence=presence, weights=weights, bands=self.bands)

    def stem_masks(self, power: Tensor) -> Masks:
        """See `MaskModel.stem_masks`."""
        return Masks(share_out(self.decode_stems(self.encode(self.energies(power)))), bands=self.bands)

    def quick(self) -> Hybrid:
        """The same weights without refinements."""
        if not self.config.refinements:
            return self
        once = copy.copy(self)
        once.config = replace(self.config, refinements=0, mix_temperature=None)
        return once

    def applied_mask(self, decoded: Decoded) -> Tensor:
        """(queries, bands, frames): the mask of the last run above its floor, weighted by the network's presence."""
        mask = decoded.mask
        if self.config.mask_floor:
            mask = self.config.mask_floor + (1 - self.config.mask_floor) * mask
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

    def estimate(self, features: Features, embeddings: Tensor, negatives: Tensor, owner: Tensor) -> Decoded:
        """What inference uses: the last run, or a mean over all runs (`HybridConfig.mix_temperature`)."""
        config = self.config
        if config.mix_temperature is None:
            return self.refine(features, embeddings, negatives, owner)

        def run(previous: Decoded | None) -> Decoded:
            return self.decode(features, embeddings, negatives, owner, previous=previous)

        run_all = partial(self._decode_all, features, embeddings, negatives, owner)
        hear = partial(self.hear, energies=of_owners(features.energies, owner))
        score = similarity_score(hear, embeddings, config.mix_temperature)
        return decode_mixed(run, run_all, hear, score, config.refinements)

    def estimate_by_ways(
        self, features: Features, embeddings: Tensor, negatives: Tensor, owner: Tensor, ways: Ways
    ) -> tuple[Decoded, Tensor | None]:
        """What inference uses where estimates can be compared: the mean over the ways.

        Args:
            features: of the mixtures.
            embeddings: (batch, dimension), the query, the same for every mixture.
            negatives: (batch, dimension).
            owner: (batch,) the mixtures.
            ways: of the query.

        Returns:
            The estimate, and the weights of the ways, (batch, ways); None for a model that mixes no masks.
        """
        if self.config.mix_temperature is None:
            return self.refine(features, embeddings, negatives, owner), None
        runs = self.estimates(features, embeddings, negatives, owner, ways)
        return mean_of(runs, ways.score, like=runs[0])

    def estimates(
        self, features: Features, embeddings: Tensor, negatives: Tensor, owner: Tensor, ways: Ways
    ) -> list[Decoded]:
        """The estimates of a query that are compared, in the order of `Ways.names`; arguments as in `estimate_by_ways`.

        Of each it is known what the listener hears in what it leaves.
        """
        first, kept = self._first_estimates(features, embeddings, negatives, owner, ways), list[Decoded]()
        if ways.stem is None:
            first.insert(1, swapped(first[0]))
        else:
            kept = first[1:]
        decode_all = partial(self._decode_all, features, embeddings, negatives, owner)
        return [*refined_all(decode_all, self.config.refinements, first), *kept]

    def evidence(self, features: Features, decoded: Decoded, among: Among) -> Tensor:
        """(batch, 5): what says that a sound is in each mixture, see `Among.evidence`.

        Args:
            features: of the mixtures.
            decoded: the estimate of the sound.
            among: the sound among those that are known.
        """
        share = share_of(decoded.mask, features.energies)
        heard = self.hear(decoded.mask, features.energies), self._mixture(features)
        with torch.autocast(share.device.type, enabled=False):  # small differences of large numbers
            return among.evidence(decoded.presence.float(), share, *heard)

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
        mask, stems, similarity = self._run(features, positive, negative, owner, keep, songs)
        return self._described(mask, energies, query, similarity if previous is None else previous.similarity, stems)

    def decode_stems(self, features: Features) -> Tensor:
        """(batch, stems, bands, frames) masks before what is left over is shared out."""
        condition = Condition(self.stem_vector.expand(features.bottom.shape[0], -1))
        maps = self.stem_out(self._decode(features, features.bottom, None, condition))
        return self._masks(maps, features.energies.shape[-1])

    @torch.no_grad()
    def hear(self, mask: Tensor, energies: Tensor) -> Heard:
        """What the listener hears in energies under masks, (queries, bands, frames) each."""
        return self._heard(self.listener.pooled(mask.float().square() * energies))

    # ---- internals -------------------------------------------------------------------------------------------------

    def _first_estimates(
        self, features: Features, embeddings: Tensor, negatives: Tensor, owner: Tensor, ways: Ways
    ) -> list[Decoded]:
        """That of a query and those of its ways, but for what the first leaves; arguments as in `estimate_by_ways`."""
        query, nothing = F.normalize(embeddings.float(), dim=-1), torch.zeros_like(negatives)
        queries, kept_out = [query], [negatives]
        if ways.beside is not None:
            others = ways.beside.loudest(ways.among.known, self._mixture(features).tags)
            queries, kept_out = [query, *others], [negatives, *(nothing for _ in others)]
        at_once = torch.cat(queries), torch.cat(kept_out), owner.repeat(len(queries))
        masks, _, similarity = self._run(features, *at_once)
        assert similarity is not None  # estimates are compared by a listener
        own, *without = masks.chunk(len(queries))
        estimates = [own, *map(residual_mask, without)]
        if ways.stem is not None:
            estimates.append(share_out(self.decode_stems(features))[:, self.stem_names.index(ways.stem)])
        count = len(estimates)
        energies = of_owners(features.energies, owner.repeat(count))
        similarities = similarity[: len(query)].repeat(count, 1, 1, 1)
        runs = self._described(torch.cat(estimates), energies, query.repeat(count, 1), similarities)
        return parted(self._compared(runs, energies), count)

    def _decode_all(
        self, features: Features, embeddings: Tensor, negatives: Tensor, owner: Tensor, previous: Sequence[Decoded]
    ) -> list[Decoded]:
        """A run of the decoder after each of some runs, all at once; other arguments as in `decode`."""
        count = len(previous)
        queries = embeddings.repeat(count, 1), negatives.repeat(count, 1), owner.repeat(count)
        runs = self.decode(features, *queries, previous=joined(previous))
        return parted(self._compared(runs, of_owners(features.energies, queries[-1])), count)

    def _compared(self, run: Decoded, energies: Tensor) -> Decoded:
        """A run that knows what the listener hears in what it leaves of energies, (queries, bands, frames)."""
        return replace(run, left=self.hear(residual_mask(run.mask), energies))

    def _run(
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

    def _described(
        self, mask: Tensor, energies: Tensor, query: Tensor, similarity: Tensor | None, stems: Tensor | None = None
    ) -> Decoded:
        """A run's mask with what the listener makes of it, and how sure it is that the sound is there."""
        heard = likeness = None
        if self.config.relisten:
            heard = self.hear(mask, energies)
            likeness = (heard.embedding * query).sum(-1, keepdim=True)
        return Decoded(mask, self._presence(mask, energies, similarity, likeness), stems, similarity, heard)

    def _mixture(self, features: Features) -> Heard:
        """What the listener hears in whole mixtures."""
        assert features.listener is not None
        return self._heard(features.listener.local.float().mean((2, 3)))

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

    def _presence(
        self, mask: Tensor, energies: Tensor, similarity: Tensor | None, likeness: Tensor | None = None
    ) -> Tensor:
        """Logits (queries,) from how much a mask lets through, and how similar to the query that and the mixture are.

        Args:
            mask: (queries, bands, frames).
            energies: of the mixtures, the same shape.
            similarity: of the listener's local features to the query, see `Attention`.
            likeness: (queries, 1) similarity of the estimate's embedding to the query.
        """
        with torch.autocast(mask.device.type, enabled=False):
            kept = (mask.detach().float().square() * energies).sum(1)
            whole = energies.sum(1)
            share = kept.sum(1) / (whole.sum(1) + TINY)
            frames = kept / (whole + 0.01 * whole.mean(1, keepdim=True) + TINY)
            parts = [torch.log10(share + 1e-4)[:, None], frames.mean(1)[:, None], frames.amax(1)[:, None]]
            if similarity is not None:
                # Whether a sound is there does not depend on what else is to be kept out.
                similarity = torch.cat([similarity[:, :1], torch.zeros_like(similarity[:, :1]), similarity[:, 2:]], 1)
                parts += [similarity.float().mean((2, 3)), similarity.float().amax((2, 3))]
            if likeness is not None:
                parts.append(4 * likeness.float())
            logits: Tensor = self.presence(torch.cat(parts, 1))[:, 0]
        return logits


def _head(inputs: int, outputs: int) -> nn.Conv2d:
    head = nn.Conv2d(inputs, outputs, 1)
    nn.init.normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)  # type: ignore[arg-type]
    return head
