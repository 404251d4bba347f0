"""The hybrid separator: free-text queries and fixed stems from one encoder pass.

A U-Net (Ronneberger et al., 2015) of residual blocks reads level-normalised log energies. The encoder knows no query,
so all queries of a mixture share it; the decoder is modulated (FiLM) by a query embedding and by what the listener
hears, or by learned embeddings for the stems and for query-free candidates. Its output is a magnitude mask.

The listener hears the first answer and what it left of the mixture, and the decoder is asked again (passes.py) for what
sounds like the one and not like the other. Or (`candidates`, `refine`) query-free masks that sum to the mixture are
heard, and the decoder refines the one that answers the query.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiosep.errors import ModelError
from audiosep.models.attention import Attention, Heard
from audiosep.models.bands import Bands
from audiosep.models.base import Estimate, SeparationModel
from audiosep.models.blocks import MOMENTUM, ResidualBlock, fold, residual_blocks, unfold
from audiosep.models.film import Condition, FilmNorm
from audiosep.models.hybrid_config import HybridConfig, check
from audiosep.models.listener import Listener
from audiosep.models.masks import real_mask, share_out
from audiosep.models.passes import TINY, Decoded, last_answer, mixed_answer, question_after
from audiosep.models.stft import istft, mean_power, stft

TOP_BAND = 1000.0
# Each query that is decoded has activations of its own. On a CPU two at a time keep the embedded model below 900 MB.
QUERIES_TOGETHER = {"cpu": 2, "mps": 4, "cuda": 16}


@dataclass
class Features:
    """One encoder pass: the deepest map, the skips from shallow to deep, what was heard, the energies it came from."""

    bottom: Tensor
    skips: list[Tensor]
    heard: Heard | None
    energies: Tensor


class Hybrid(SeparationModel):
    """See the module's description; `Hybrid(HybridConfig(...))`."""

    Config = HybridConfig
    config: HybridConfig
    deaf = 0.0  # share of the listener's features that training drops, for a whole mixture

    def __init__(self, config: HybridConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or HybridConfig()
        check(config)
        self.sample_rate, self.hop, self.dimension = config.sample_rate, config.hop, config.dimension
        self.window, self.context, self.stem_names = config.window, config.context, config.stems
        self.past = config.window // 5 if config.listener else config.context // 2  # to listen takes more than to cut
        self.alignment = config.grid[0] * config.hop
        able = {"text", "audio", "negative"}
        able |= {"stems"} if config.stems else set()
        self.capabilities = frozenset(able | ({"presence"} if config.presence else set()))

        bins = config.n_fft // 2 + 1
        self.bands = Bands(bins, bins if config.axis == "bins" else config.bands)
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
        # Sums of blocks drift as they are trained; where a ReLU follows they would drift below zero for good.
        self.norms = nn.ModuleList(FilmNorm(w, momentum=MOMENTUM) for w in (widths[-1], *widths[::-1]))
        joined = 2 if config.skips == "concat" else 1
        self.decoder = nn.ModuleList(ResidualBlock(joined * o, o, config.features, tracks) for _, o in up)
        self.out = _head(widths[0], area)
        if config.listener:
            self.listener = Listener(config.listener)
            self.attention = Attention(config, config.listener)
            self.hearing = _zero(nn.Conv2d(config.listener.hidden, widths[-1], 1))
        if config.stems:
            self.stem_vector = nn.Parameter(torch.randn(config.features) * 0.5)
            self.stem_out = _head(widths[0], area * len(config.stems))
        if config.candidates:
            self.candidate_vector = nn.Parameter(torch.randn(config.features) * 0.5)
            self.candidate_out = _head(widths[0], area * config.candidates)
        if config.refine:
            self.refine = nn.ModuleList(_zero(nn.Conv2d(area, w, 1)) for w in widths)
            self.select_scale = nn.Parameter(torch.tensor(10.0))
        if config.presence:
            # A few numbers only: of hundreds of channels the head learns the training clips by heart.
            heard = (0 if config.listener is None else 8 if config.tags else 4) + config.relisten
            self.presence = nn.Sequential(nn.Linear(3 + heard, 32), nn.SiLU(), nn.Linear(32, 1))

    @property
    def compilable(self) -> tuple[str, ...]:
        """The parts that training may compile."""
        return residual_blocks(self)

    def stacked(self, name: str) -> int:
        """Parts of equal size that a weight has along its first axis: the scales and shifts of a block's two norms."""
        return 4 if ".film." in name and self.config.skips == "add" else 1

    # ---- inference -------------------------------------------------------------------------------------------------

    def forward(self, mix: Tensor, embeddings: Tensor, negatives: Tensor | None = None) -> Estimate:
        """See `SeparationModel.forward`."""
        spectrum = stft(mix.float(), self.config.n_fft, self.hop)
        features = self.encode(self.energies(mean_power(spectrum)))
        negatives = torch.zeros_like(embeddings) if negatives is None else negatives
        together = QUERIES_TOGETHER.get(mix.device.type, QUERIES_TOGETHER["cpu"])
        answers = [
            self._answer(features, *some)
            for some in zip(embeddings.split(together), negatives.split(together), strict=True)
        ]
        mask = torch.cat([mask for mask, _ in answers], 1)
        presence = torch.cat([p for _, p in answers], 1) if self.config.presence else None
        return self._targets(spectrum, mask, mix.shape[-1], presence)

    def quick(self) -> Hybrid:
        """The same weights, asked once."""
        if self.config.passes == 1:
            return self
        once = copy.copy(self)
        once.config = replace(self.config, passes=1, decide=0.0)
        return once

    def _answer(self, features: Features, embeddings: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
        """Masks (batch, queries, bands, frames), and presence (batch, queries) where the model has it."""
        batch, count = features.bottom.shape[0], embeddings.shape[0]
        embeddings, negatives = embeddings.repeat(batch, 1), negatives.repeat(batch, 1)
        owner = torch.arange(batch, device=embeddings.device).repeat_interleave(count)
        chosen = self.select(features, embeddings, owner) if self.config.refine else None
        decoded = self.decide(features, embeddings, negatives, owner, chosen)
        mask = self.answer(decoded).unflatten(0, (batch, count))
        if decoded.presence is None:
            return mask, mask.new_zeros(batch, count)
        return mask, torch.sigmoid(decoded.presence.float().view(batch, count))

    def answer(self, decoded: Decoded) -> Tensor:
        """(queries, bands, frames): the mask that is applied: above the floor, weighed by the presence."""
        mask = decoded.mask
        if self.config.floor:
            mask = self.config.floor + (1 - self.config.floor) * mask
        if self.config.weigh and decoded.presence is not None:
            mask = mask * torch.sigmoid(decoded.presence.float()).pow(self.config.weigh)[:, None, None]
        return mask

    def stems(self, mix: Tensor) -> Estimate:
        """The fixed heads; their masks sum to one, so the last stem is what the others leave of the mixture."""
        if not self.config.stems:
            raise ModelError("this model has no fixed stems; load one that has, such as 'mini'")
        mix = mix.float()
        spectrum = stft(mix, self.config.n_fft, self.hop)
        features = self.encode(self.energies(mean_power(spectrum)))
        others = self._targets(spectrum, share_out(self.stem_masks(features))[:, :-1], mix.shape[-1], None)
        waveforms = torch.cat([others.waveforms, (mix - others.waveforms.sum(1))[:, None]], 1)
        return Estimate(waveforms, torch.cat([others.top, 1 - others.top.sum(1, keepdim=True)], 1))

    def _targets(self, spectrum: Tensor, mask: Tensor, samples: int, presence: Tensor | None) -> Estimate:
        """Masks (batch, queries, bands, frames) on spectra (batch, channels, bins, frames)."""
        above = round(TOP_BAND * self.config.n_fft / self.sample_rate)
        targets = mask.new_empty(*mask.shape[:2], spectrum.shape[1], samples)
        top = mask.new_empty(*mask.shape[:2], mask.shape[-1])
        # One query at a time: spectra of all targets together would be the largest tensors of a pass.
        for k in range(mask.shape[1]):
            bins = self.bands.expand(mask[:, k])
            top[:, k] = bins[:, -above:].mean(1)
            targets[:, k] = istft(spectrum * bins[:, None], self.config.n_fft, self.hop, samples)
        return Estimate(targets, top, presence)

    # ---- parts, also used by training ------------------------------------------------------------------------------

    def energies(self, power: Tensor) -> Tensor:
        """(batch, bins, frames) power -> (batch, bands, frames) mean energy a bin."""
        return self.bands.mean(power)

    def listen(self, energies: Tensor) -> Heard | None:
        """What the listener hears in (batch, bands, frames) energies."""
        if self.config.listener is None:
            return None
        local = self.listener.local(energies)
        if self.training and self.deaf:
            local = F.dropout2d(local, self.deaf)
        positions = local.permute(0, 2, 3, 1)
        tags = self.listener.tags(positions) if self.config.tags else None
        return Heard(local, self.listener.embed_pooled(positions), tags)

    def encode(self, energies: Tensor) -> Features:
        """(batch, bands, frames) energies -> features that know no query yet."""
        heard = self.listen(energies)
        x = (energies + 1e-7 * energies.mean((1, 2), keepdim=True) + 1e-10).log()
        x = self.norm((x - x.mean((1, 2), keepdim=True)) * 0.5).transpose(1, 2)[:, None]
        x = self._fold(x)
        x = self.pre(x.contiguous(memory_format=torch.channels_last))
        skips = []
        for block, skip in zip(self.encoder, self.skips, strict=True):
            x = block(x)
            skips.append(skip(x))
            x = F.avg_pool2d(x, 2)
        if heard is not None:
            # The separator sees half as many frames a position as it would need to recognise: the listener tells it.
            local = self._lasting(self.hearing(heard.local), energies)
            x = x + F.interpolate(local, size=x.shape[2:], mode="bilinear")
        return Features(x, skips, heard, energies)

    def ask(
        self,
        features: Features,
        embeddings: Tensor,
        negatives: Tensor,
        owner: Tensor,
        chosen: Tensor | None = None,
        vector_keep: Tensor | None = None,
        passes: int | None = None,
    ) -> Decoded:
        """The answer of the last of some passes, by default of all. `chosen` stays."""

        def decode(before: Decoded | None) -> Decoded:
            return self.decode(features, embeddings, negatives, owner, chosen, vector_keep, before=before)

        return last_answer(decode, self.config.passes if passes is None else passes)

    def decide(
        self, features: Features, embeddings: Tensor, negatives: Tensor, owner: Tensor, chosen: Tensor | None = None
    ) -> Decoded:
        """The answer that is given: the last one, or a mean of several (`HybridConfig.decide`)."""
        if not self.config.decide:
            return self.ask(features, embeddings, negatives, owner, chosen)

        def decode(before: Decoded | None) -> Decoded:
            return self.decode(features, embeddings, negatives, owner, chosen, before=before)

        hear = partial(self._hear, energies=features.energies[owner])
        return mixed_answer(decode, hear, embeddings, self.config.passes, self.config.decide)

    def decode(
        self,
        features: Features,
        embeddings: Tensor,
        negatives: Tensor,
        owner: Tensor,
        chosen: Tensor | None = None,
        vector_keep: Tensor | None = None,
        songs: Tensor | None = None,
        before: Decoded | None = None,
    ) -> Decoded:
        """One pass of the query path.

        Args:
            embeddings, negatives: (queries, dimension). owner: (queries,) mixture of each query.
            chosen: (queries, bands, frames) selected candidate masks, where the model refines.
            vector_keep: (queries, 1) in 0..1: training drops the embedding of some queries, so that the decoder also
                learns to follow the listener alone.
            songs: (songs,) mixtures whose stems are wanted too: in training both kinds share a pass, so that the
                batch normalisations see what their running statistics will be.
            before: the answer of the pass before, which is heard, and what it left too.
        """
        frames = features.energies.shape[-1]
        question = wanted = F.normalize(embeddings.float(), dim=-1)
        unwanted = negatives.float()
        if before is not None:
            energies = features.energies[owner]
            hear = partial(self._hear, energies=energies)
            wanted, unwanted = question_after(before, hear, energies, question, unwanted)
        asked = torch.cat([wanted, unwanted], 1) * (self.dimension**0.5 * 0.3)
        vector = self.query(asked if vector_keep is None else asked * vector_keep)
        tracks = similarity = None
        bottom = features.bottom[owner]
        if features.heard is not None:
            tracks, similarity = self.attention(features.heard, owner, vector, wanted, unwanted)
            tracks = self._lasting(tracks, features.energies)
            answers = self._lasting(self.attention.map(similarity), features.energies)
            bottom = bottom + F.interpolate(answers, size=bottom.shape[2:], mode="bilinear")
        if songs is None:
            asked_maps, stems = self._decode(features, bottom, owner, Condition(vector, tracks), chosen), None
        else:
            maps = self._decode(
                features,
                torch.cat([bottom, features.bottom[songs]]),
                torch.cat([owner, songs]),
                Condition(
                    torch.cat([vector, self.stem_vector.expand(len(songs), -1)]),
                    None if tracks is None else F.pad(tracks, (0, 0, 0, 0, 0, len(songs))),  # stems follow none
                ),
                chosen,
                len(songs),
            )
            asked_maps, stem_maps = maps.split([len(owner), len(songs)])
            stems = self._masks(self.stem_out(stem_maps), frames, real_mask)
        mask = self._masks(self.out(asked_maps), frames, real_mask)[:, 0]
        if before is not None:
            similarity = before.similarity
        presence = heard = None
        if self.config.presence:
            energies, again = features.energies[owner], None
            if self.config.relisten:
                heard = self._hear(mask, energies)
                again = (heard * question).sum(-1, keepdim=True)
            presence = self._presence(mask, energies, similarity, again)
        return Decoded(mask, presence, stems, similarity, heard)

    def stem_masks(self, features: Features) -> Tensor:
        """(batch, stems, bands, frames) masks before the rest is shared out."""
        return self._masks(
            self._fixed(features, self.stem_vector, self.stem_out), features.energies.shape[-1], real_mask
        )

    def candidate_masks(self, features: Features) -> Tensor:
        """(batch, candidates, bands, frames) query-free masks that sum to one."""
        x = self._fixed(features, self.candidate_vector, self.candidate_out)
        return self._masks(x, features.energies.shape[-1], lambda m: m.float().softmax(1))

    def select(self, features: Features, embeddings: Tensor, owner: Tensor) -> Tensor:
        """(queries, bands, frames): the candidates weighted by how much each sounds like the query to the listener."""
        with torch.no_grad():
            masks = self.candidate_masks(features)
            energies = (masks.square() * features.energies[:, None]).flatten(0, 1)
            heard = self.listener.embed_pooled(self.listener.pooled(energies)).unflatten(0, masks.shape[:2])
        similarity = torch.einsum("qkd,qd->qk", heard[owner], F.normalize(embeddings.float(), dim=-1))
        weights = (self.select_scale * similarity).softmax(-1)
        return torch.einsum("qk,qkft->qft", weights, masks[owner])

    # ---- internals -------------------------------------------------------------------------------------------------

    def _fold(self, x: Tensor) -> Tensor:
        """(batch, 1, frames, bands) padded so that every level divides evenly, patches as channels."""
        frames, bands = (-s % grid for s, grid in zip(x.shape[2:], self.config.grid, strict=True))
        return fold(F.pad(x, (0, bands, 0, frames)), self.config.patch)

    def _lasting(self, x: Tensor, energies: Tensor) -> Tensor:
        """(batch, channels, steps, ...) of the listener, its last step repeated until the decoder's padded frames end.

        What is heard is stretched over these frames, so it has to last as long as they do: otherwise the end of a
        recording would be told what was heard before.
        """
        grid = self.config.grid[0]
        # Without negative numbers, which exports round another way, and in ranges, whose sizes they do not freeze.
        steps = (energies.shape[-1] + grid - 1) // grid * grid // self.listener.config.step
        last = torch.arange(x.shape[2], device=x.device)[-1:]
        return x.index_select(2, torch.minimum(torch.arange(steps, device=x.device), last))

    def _fixed(self, features: Features, vector: Tensor, head: nn.Module) -> Tensor:
        """A decoder pass for all mixtures with one learned vector."""
        batch = features.bottom.shape[0]
        condition = Condition(vector.expand(batch, -1))
        out: Tensor = head(self._decode(features, features.bottom, None, condition, None))
        return out

    def _decode(
        self,
        features: Features,
        x: Tensor,
        owner: Tensor | None,
        condition: Condition,
        chosen: Tensor | None,
        unchosen: int = 0,
    ) -> Tensor:
        """The decoder up to the last map before a head; the last `unchosen` rows refine no candidate."""
        x = self.middle(x, condition)
        hints: list[Tensor | None] = [None] * len(self.decoder)
        if chosen is not None:
            folded = self._fold(chosen.transpose(1, 2)[:, None])
            for level, project in enumerate(self.refine):
                hints[level] = project(F.avg_pool2d(folded, 2**level) if level else folded)
        levels = zip(self.norms[:-1], self.up, self.decoder, features.skips[::-1], hints[::-1], strict=True)
        for norm, up, block, skip, hint in levels:
            skip = skip if owner is None else skip[owner]
            if hint is not None:
                skip = skip + (F.pad(hint, (0, 0, 0, 0, 0, 0, 0, unchosen)) if unchosen else hint)
            x = up(F.relu(norm(x)))
            x = block(torch.cat([x, skip], 1) if self.config.skips == "concat" else x + skip, condition)
        return F.relu(self.norms[-1](x))

    def _masks(self, x: Tensor, frames: int, shape: Callable[[Tensor], Tensor]) -> Tensor:
        """Folded outputs -> (batch, maps, bands, frames)."""
        maps = unfold(x, self.config.patch)[:, :, :frames, : self.bands.count]
        return shape(maps).transpose(2, 3)

    @torch.no_grad()
    def _hear(self, mask: Tensor, energies: Tensor) -> Tensor:
        """(queries, dimension): what (queries, bands, frames) masks let through sounds like to the listener."""
        return self.listener.embed_pooled(self.listener.pooled(mask.float().square() * energies))

    def _presence(
        self, mask: Tensor, energies: Tensor, similarity: Tensor | None, again: Tensor | None = None
    ) -> Tensor:
        """Logits (queries,) from how much the mask lets through and how well what is heard answers the query."""
        with torch.autocast(mask.device.type, enabled=False):
            kept = (mask.detach().float().square() * energies).sum(1)
            whole = energies.sum(1)
            share = kept.sum(1) / (whole.sum(1) + TINY)
            frames = kept / (whole + 0.01 * whole.mean(1, keepdim=True) + TINY)
            parts = [torch.log10(share + 1e-4)[:, None], frames.mean(1)[:, None], frames.amax(1)[:, None]]
            if similarity is not None:
                parts += [similarity.float().mean((2, 3)), similarity.float().amax((2, 3))]
            if again is not None:
                parts.append(4 * again.float())
            logits: Tensor = self.presence(torch.cat(parts, 1))[:, 0]
        return logits


def _head(inputs: int, outputs: int) -> nn.Conv2d:
    head = nn.Conv2d(inputs, outputs, 1)
    nn.init.normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)  # type: ignore[arg-type]
    return head


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    """A branch that starts silent, so that adding it to a trained model changes nothing at first."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer
