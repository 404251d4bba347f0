"""The text tower of the embedded CLAP: a small transformer over word pieces, distilled from a sentence encoder.

Its word table lives in the sentence encoder's own space (its leading principal axes), so the mean of the words of a
phrase, mapped back, is already a fair guess: the transformer weights the words and adds what depends on their order and
on each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiosep.models.joint_space import TEACHER_DIMENSION, isometry

PAD = 0


@dataclass(frozen=True)
class TextTowerConfig:
    """Shape of a text tower.

    Attributes:
        vocabulary: word pieces, with the padding (0) and the unknown piece.
        width: features of a piece.
        layers: of the transformer.
        heads: of its attention.
        feedforward: features of its feed-forward layers.
        hidden: features of the output layers.
        length: most pieces of a phrase; longer phrases are cut.
    """

    vocabulary: int = 20480
    width: int = 256
    layers: int = 4
    heads: int = 4
    feedforward: int = 1024
    hidden: int = 768
    length: int = 48


class TextTower(nn.Module):
    """Ids of word pieces to embeddings in the joint space."""

    Config = TextTowerConfig

    def __init__(self, config: TextTowerConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or TextTowerConfig()
        width = config.width
        self.words = nn.Embedding(config.vocabulary, width, padding_idx=PAD)
        self.positions = nn.Parameter(torch.randn(config.length, width) * 0.1)
        self.enter = nn.Linear(width, width)
        self.blocks = nn.ModuleList(Block(width, config.heads, config.feedforward) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.score = nn.Linear(width, 1)
        self.bag = nn.Linear(width, TEACHER_DIMENSION, bias=False)
        last = nn.Linear(config.hidden, TEACHER_DIMENSION)
        self.head = nn.Sequential(nn.Linear(2 * width, config.hidden), nn.GELU(), last)
        nn.init.normal_(self.words.weight, std=width**-0.5)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.register_buffer("space", isometry(), persistent=False)

    @torch.no_grad()
    def start(self, table: Tensor, axes: Tensor) -> None:
        """Initialise the tower so that a phrase is the mean of the embeddings of its pieces.

        Args:
            table: (vocabulary, 384) the sentence encoder's embedding of each piece alone.
            axes: (width, 384) orthonormal principal axes of the sentence encoder's embeddings.
        """
        self.words.weight.copy_(table @ axes.T)
        self.words.weight[PAD] = 0
        self.bag.weight.copy_(axes.T)

    def forward(self, ids: Tensor) -> Tensor:
        """(batch, length) piece ids, padded with 0 -> (batch, 512) L2-normalised embeddings."""
        ids = ids[:, : self.config.length]
        there = ids != PAD
        words = self.words(ids)
        # The rows of the table are unit vectors; a layer wants features of about 1.
        scaled = words * self.config.width**0.5
        x = self.enter(scaled) + self.positions[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, there)
        x = self.norm(x)
        weight = self.score(x)[..., 0].float().masked_fill(~there, -1e4).softmax(-1)
        bag = torch.einsum("bl,blw->bw", weight, words.float())
        mean = (x * there[..., None]).sum(1) / there.sum(1, keepdim=True).clamp_min(1)
        joined = torch.cat([mean, bag * self.config.width**0.5], dim=-1)
        out = self.bag(bag).float() + self.head(joined).float()
        return F.normalize(out @ self.space, dim=-1)


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.attention_in = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.norm_feedforward = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(nn.Linear(width, feedforward), nn.GELU(), nn.Linear(feedforward, width))

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """(batch, length, width) features and (batch, length) bool: which pieces are there."""
        batch, length, width = x.shape
        # (batch, length, 3 * width) -> 3 x (batch, heads, length, width / heads)
        qkv = self.attention_in(self.norm_attention(x)).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=there[:, None, None, :])
        x = x + self.attention_out(mixed.transpose(1, 2).reshape(batch, length, width))
        out: Tensor = x + self.feedforward(self.norm_feedforward(x))
        return out
