"""How the decoder of the hybrid separator follows what its listener recognises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiosep.models.audio_tower import AudioTower, AudioTowerConfig
from audiosep.models.hybrid_config import HybridConfig
from audiosep.models.refinement import of_owners


@dataclass
class ListenerFeatures:
    """The listener's features of each mixture at every position (steps in time x rows in frequency).

    What its heads make of them is computed when the first query asks for it, and never for stems.

    Attributes:
        local: (batch, hidden, steps, rows).
        listener: that gave them.
    """

    local: Tensor
    listener: AudioTower
    _made: dict[str, tuple[Tensor, bool]] = field(default_factory=dict, init=False, repr=False)

    @property
    def joint(self) -> Tensor:
        """(batch, steps, rows, dimension), L2-normalised embeddings in the joint space."""
        return self._once("joint", self.listener.embed_pooled)

    @property
    def tags(self) -> Tensor:
        """(batch, steps, rows, classes) logits."""
        return self._once("tags", self.listener.tags)

    def _once(self, name: str, head: Callable[[Tensor], Tensor]) -> Tensor:
        """What a head makes of all positions; again for the first who wants gradients."""
        made = self._made.get(name)
        if made is None or (torch.is_grad_enabled() and not made[1]):
            # Contiguous, or the heads' products would copy their weights for each step.
            made = head(self.local.permute(0, 2, 3, 1).contiguous()), torch.is_grad_enabled()
            self._made[name] = made
        return made[0]


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of (batch, channels, steps), at every step."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class Attention(nn.Module):
    """From the listener's features and a query to tracks that modulate the decoder over time.

    Inputs are the product of projected features and projected query, and the similarities of local embeddings to query
    and negative. A local embedding is where the loudest sound lies in the joint space, so it hides fainter ones; the
    logits of the tags do not. With `tags`, the query is therefore spread over the tags' names (a softmax of
    similarities), and the logits are averaged with these weights.

    Args:
        config: of the separator.
        listener: shape of its listener.
    """

    SHARPNESS = 1 / 0.06  # of that softmax
    names: Tensor

    def __init__(self, config: HybridConfig, listener: AudioTowerConfig) -> None:
        super().__init__()
        rows, width = listener.rows, 128
        self.local = nn.Linear(listener.hidden * rows, width)
        self.normalise = nn.LayerNorm(width)
        self.query = nn.Linear(config.features, width)
        self.product = nn.Conv1d(config.dimension, 64, 1)
        levels = 4 if config.tags else 2
        self.mix = nn.Conv1d(2 * width + 64 + levels * (rows + 1), 160, 3, padding=1)
        self.mixed = ChannelNorm(160)
        self.out = nn.Conv1d(160, config.tracks, 3, padding=1)
        self.tracks = ChannelNorm(config.tracks)
        self.map = nn.Conv2d(levels, config.widths[-1], 1)
        self.tagged = config.tags
        if config.tags:
            self.register_buffer("names", torch.zeros(listener.tags, config.dimension))
        nn.init.zeros_(self.map.weight)
        nn.init.zeros_(self.map.bias)  # type: ignore[arg-type]

    def forward(
        self, features: ListenerFeatures, owner: Tensor, vector: Tensor, embeddings: Tensor, negatives: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Tracks (queries, tracks, steps) and similarity maps (queries, 2 or 4, steps, rows).

        Args:
            features: of the mixtures.
            owner: (queries,) mixture of each query.
            vector: (queries, features) the projected query.
            embeddings: (queries, dimension).
            negatives: (queries, dimension).
        """
        local = of_owners(self.normalise(self.local(features.local.permute(0, 2, 1, 3).flatten(2))), owner)
        joint = of_owners(features.joint, owner)
        similarity = torch.stack(
            [torch.einsum("qsrd,qd->qsr", joint, e.to(joint.dtype)) for e in (embeddings, negatives)], 1
        )
        similarity = similarity * 4
        if self.tagged:
            similarity = torch.cat([similarity, self._tag_matches(features.tags, owner, embeddings)], 1)
        whole = similarity.mean((2, 3), keepdim=True).expand(-1, -1, similarity.shape[2], 1)
        level = torch.cat([similarity, whole], 3).transpose(2, 3).flatten(1, 2)
        product = self.product((joint.mean(2) * embeddings[:, None] * embeddings.shape[1] ** 0.5).transpose(1, 2))
        x = torch.cat([local, local * self.query(vector)[:, None]], 2).transpose(1, 2)
        x = self.mixed(self.mix(torch.cat([x, product, level.to(x.dtype)], 1)))
        tracks: Tensor = self.tracks(self.out(F.silu(x)))
        return tracks, similarity

    def _tag_matches(self, tags: Tensor, owner: Tensor, embeddings: Tensor) -> Tensor:
        """(queries, 2, steps, rows): mean logit of the tags the query means, and the same minus that of all tags."""
        with torch.autocast(tags.device.type, enabled=False):
            logits, names = tags.float(), self.names.float()
            share = (embeddings.float() @ names.T * self.SHARPNESS).softmax(-1)
            meant = torch.einsum("qsrc,qc->qsr", of_owners(logits, owner), share)
            return 0.2 * torch.stack([meant, meant - of_owners(logits.logsumexp(-1), owner)], 1)
