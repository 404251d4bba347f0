"""The interface of query encoders, and what they share: checks of their input and of their output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from audiosep.audio import resample
from audiosep.audio.synthetic import tone_and_noise
from audiosep.errors import QueryError

CANARY = ("a dog barking", "an electric guitar solo")
SAME = 0.99  # least cosine of two embeddings of one sound by one encoder on different machines


@runtime_checkable
class QueryEncoder(Protocol):
    """Texts and recordings as embeddings in one joint space.

    Attributes:
        name: of the weights, for messages and caches.
        dimension: size of an embedding.
    """

    name: str
    dimension: int

    def text(self, texts: Sequence[str]) -> Tensor:
        """Embed texts.

        Args:
            texts: n texts.

        Returns:
            (n, dimension) L2-normalised embeddings.
        """
        ...

    def audio(self, waveforms: Sequence[Tensor], sample_rate: int) -> Tensor:
        """Embed recordings.

        Args:
            waveforms: n mono recordings, each (samples,).
            sample_rate: of all of them, Hz.

        Returns:
            (n, dimension) L2-normalised embeddings.
        """
        ...

    def to(self, device: torch.device | str) -> QueryEncoder:
        """Move the weights.

        Args:
            device: to move them to.

        Returns:
            The encoder itself.
        """
        ...


@runtime_checkable
class Releasable(Protocol):
    """An encoder whose weights need not stay in memory while recordings are separated."""

    def release(self) -> None:
        """Release the weights; the next query loads them again."""
        ...


def example_at_rate(waveform: Tensor, sample_rate: int, rate: int) -> Tensor:
    """An example recording as an encoder takes it.

    Args:
        waveform: (samples,), on any device.
        sample_rate: Hz, of the waveform.
        rate: Hz, of the encoder.

    Returns:
        (samples,) at `rate`, float32 on the CPU.

    Raises:
        QueryError: the recording is empty or silent.
    """
    if waveform.ndim != 1 or not waveform.numel() or not bool(waveform.abs().max() > 0):
        raise QueryError("an audio query is empty or silent: give a recording in which the sound can be heard")
    x = waveform.detach().float().cpu()
    return x if sample_rate == rate else torch.from_numpy(resample(x[None].numpy(), sample_rate, rate))[0]


def canary(encoder: QueryEncoder) -> None:
    """Check that two different prompts have different embeddings.

    A tokenizer whose files are missing may be loaded empty and turn every prompt into the same ids: every query would
    then give the same sound, without an error.

    Args:
        encoder: to check.

    Raises:
        QueryError: the two embeddings are nearly the same, or no finite unit vectors.
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


def encoder_probe(encoder: QueryEncoder) -> Tensor:
    """(2, dimension): what an encoder makes of a fixed sound and of a fixed text.

    Args:
        encoder: whose weights are to be recognised.
    """
    rate = 32000
    sound = torch.from_numpy(tone_and_noise(rate, rate)[0])
    return torch.cat([encoder.audio([sound], rate), encoder.text(CANARY[:1])]).detach().float().cpu()
