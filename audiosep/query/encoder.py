"""The interface between queries and embeddings, and the canary that catches an encoder that understands nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from audiosep.errors import QueryError

CANARY = ("a dog barking", "an electric guitar solo")


@runtime_checkable
class QueryEncoder(Protocol):
    """Text and audio in one joint space.

    Attributes:
        name: of the weights, for messages.
        dimension: size of an embedding.
    """

    name: str
    dimension: int

    def text(self, texts: Sequence[str]) -> Tensor:
        """(n, dimension) L2-normalised embeddings of n texts."""
        ...

    def audio(self, waveforms: Sequence[Tensor], sample_rate: int) -> Tensor:
        """(n, dimension) L2-normalised embeddings of n mono recordings, each (samples,) at `sample_rate` Hz."""
        ...

    def to(self, device: torch.device | str) -> QueryEncoder:
        """Move the weights."""
        ...


@runtime_checkable
class Releasable(Protocol):
    """An encoder so large that its weights are worth letting go between queries."""

    def release(self) -> None:
        """Let go of the weights; the next query loads them again."""
        ...


def canary(encoder: QueryEncoder) -> None:
    """Check that two different prompts embed apart.

    Tokenizers whose files are missing can come up empty and turn every prompt into the same ids: every query would
    then silently give the same sound.

    Raises:
        QueryError: the two prompts embed alike, or not to finite unit vectors.
    """
    a, b = encoder.text(CANARY)
    norms = torch.stack([a, b]).norm(dim=-1)
    if not torch.isfinite(norms).all() or (norms - 1).abs().max() > 1e-2:
        raise QueryError(
            f"the text encoder {encoder.name!r} gives embeddings of length {norms.tolist()} instead of 1: "
            "its weights are damaged; install or convert them again"
        )
    if float(a @ b) > 0.99:
        raise QueryError(
            f"the text encoder {encoder.name!r} gives the same embedding for {CANARY[0]!r} and {CANARY[1]!r}: "
            "its tokenizer or weights are missing or damaged; install or convert them again"
        )
