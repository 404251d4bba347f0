"""What a backbone is asked for, stems or a query, and the layers that depend on it.

A network for stems alone has none of the layers that modulate it, so that it has the size of its paper. A network that
takes queries is modulated (FiLM, Perez et al., 2018) by a vector made from a query and its negative; one that does both
has a learned vector for the stems and an output layer for either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from audiosep.errors import ConfigError


@dataclass(frozen=True)
class BackboneConfig:
    """What all backbones have in common.

    Attributes:
        sample_rate: Hz.
        stems: names of the fixed stems; the last one is what the others leave of the mixture. Empty for none.
        words: whether it takes queries.
        dimension: size of a query embedding.
        features: size of the vector that modulates the network, where it takes queries.
        window: length of an inference window, seconds.
        context: of it, seconds at each side that are computed for context only.
        normalise: scale mixtures to one level, and estimates back.
    """

    sample_rate: int = 44100
    stems: tuple[str, ...] = ("vocals", "accompaniment")
    words: bool = False
    dimension: int = 512
    features: int = 256
    window: float = 10.0
    context: float = 1.0
    normalise: bool = True

    def __post_init__(self) -> None:
        if not self.stems and not self.words:
            raise ConfigError("name at least two stems, or set words, or both: the network would have no output")
        if len(self.stems) == 1 or len(set(self.stems)) != len(self.stems):
            raise ConfigError(f"stems: name two or more, each once (the last is what the others leave): {self.stems}")
        for field in fields(self):
            value = getattr(self, field.name)
            sizes = value if isinstance(value, tuple) else (value,)
            if any(isinstance(size, int) and not isinstance(size, bool) and size < 1 for size in sizes):
                raise ConfigError(f"{field.name} must be greater than 0, got {value}")
        if not self.window > 2 * self.context >= 0:
            raise ConfigError(f"window must be longer than both contexts, got {self.window} and {self.context} s")

    @property
    def modulation(self) -> int:
        """Size of the vector that modulates layers; 0 where none does."""
        return self.features if self.words else 0


@dataclass
class BackboneRequest:
    """What is asked for.

    Attributes:
        stems: the fixed stems but the last, or one sound for each mixture.
        vector: (batch, features), what modulates the network; None for a network of stems alone.
    """

    stems: bool
    vector: Tensor | None = None

    def repeat(self, count: int) -> BackboneRequest:
        """The same for a batch in which each mixture comes `count` times."""
        return BackboneRequest(self.stems, None if self.vector is None else self.vector.repeat_interleave(count, 0))


class Requests(nn.Module):
    """Makes requests from queries, or for the stems.

    Args:
        config: of the network.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        features = config.features
        if config.words:
            self.query = nn.Sequential(
                nn.Linear(2 * config.dimension, features),
                nn.SiLU(),
                nn.Linear(features, features),
                nn.LayerNorm(features),
            )
            # Embeddings have unit length; numbers of unit size train faster.
            self.scale = 0.3 * config.dimension**0.5
        self.stem_vector = nn.Parameter(torch.randn(features)) if config.words and config.stems else None

    def queries(self, embeddings: Tensor, negatives: Tensor) -> BackboneRequest:
        """(batch, dimension) each -> the request of one query for each mixture."""
        return BackboneRequest(False, self.query(torch.cat([embeddings, negatives], 1) * self.scale))

    def stems(self, batch: int) -> BackboneRequest:
        """The request of the stems of a batch."""
        vector = self.stem_vector
        return BackboneRequest(True, None if vector is None else vector.expand(batch, -1))


class Modulation(nn.Module):
    """x * (1 + scale) + shift, both linear in the vector of the request.

    Args:
        channels: of x.
        features: size of the vector; 0 leaves x as it is.
    """

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.channels = channels
        self.film = nn.Linear(features, 2 * channels) if features else None
        if self.film is not None:
            nn.init.normal_(self.film.weight, std=0.02)
            nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, request: BackboneRequest, axis: int = 1) -> Tensor:
        """x, whose first axis is the batch and whose channels are on `axis`, modulated."""
        if self.film is None or request.vector is None:
            return x
        shape = [-1, *[1] * (x.ndim - 1)]
        shape[axis] = self.channels
        film: Tensor = self.film(request.vector)
        scale, shift = (part.reshape(shape) for part in film.chunk(2, 1))
        return x * (1 + scale) + shift


class Heads(nn.Module):
    """The output layers: one for all stems but the last, one for a query.

    Args:
        config: of the network.
        layer: makes the layer for a number of targets.
    """

    def __init__(self, config: BackboneConfig, layer: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.stems = layer(len(config.stems) - 1) if config.stems else None
        self.query = layer(1) if config.words else None

    def forward(self, request: BackboneRequest, *inputs: Any) -> Tensor:
        """What the layer of the request makes of its inputs."""
        layer = self.stems if request.stems else self.query
        assert layer is not None
        out: Tensor = layer(*inputs)
        return out
