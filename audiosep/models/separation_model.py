"""What every separation network gives the separator: waveforms, the gain above its band, presence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from audiosep.models.query_ways import Ways
from audiosep.models.refinement import Heard


@dataclass
class Estimate:
    """Targets of one forward pass.

    Attributes:
        waveforms: (batch, queries, channels, samples) at the model's sample rate.
        top: (batch, queries, frames) mean mask of the model's highest 1 kHz, for sounds above its band;
            frame i is centred on sample i * hop, frames = samples // hop + 1.
        presence: (batch, queries) in 0..1, how sure the model is that the sound is there at all, or None.
        weights: of each query (batch, ways), the weights of the ways to its estimate; None where there is one way.
    """

    waveforms: Tensor
    top: Tensor
    presence: Tensor | None = None
    weights: tuple[Tensor | None, ...] = ()


class SeparationModel(nn.Module):
    """A network that turns mixtures and query embeddings into targets.

    Attributes:
        config: the frozen dataclass (class attribute `Config`) the network was built from.
        sample_rate: Hz.
        hop: samples between STFT frames.
        dimension: size of a query embedding.
        capabilities: what it can do, from {"text", "audio", "negative", "stems", "presence"}.
        stem_names: names of the fixed heads in output order; empty when there are none.
        window: samples a window has by default.
        context: samples at each side of a window that are computed for context and thrown away.
        alignment: samples; a window that starts at a multiple of it (and of `hop`) sees the pooling grid of the whole
            recording; 1 where any start is as good.
        past: samples of the past that a live window covers again, where the latency leaves time for more than half of
            the context.
        mixes_ways: whether it takes several ways to an estimate of one sound.
        whole_windows: whether it is best, or only right, for windows of the full length; the last window of a
            recording then reaches further back instead of being shorter, and may start off the grid.
        needs_fp32: whether its layers are only known to be right in fp32.
        small_windows: whether a window needs so little memory that a CPU may compute several side by side.
    """

    Config: ClassVar[type[Any]]
    config: Any
    sample_rate: int
    hop: int
    dimension: int
    capabilities: frozenset[str]
    stem_names: tuple[str, ...]
    window: int
    context: int
    past: int
    alignment: int = 1
    mixes_ways: bool = False
    whole_windows: bool = False
    needs_fp32: bool = False
    small_windows: bool = False

    def forward(
        self, mix: Tensor, embeddings: Tensor, negatives: Tensor | None = None, ways: Sequence[Ways | None] = ()
    ) -> Estimate:
        """Targets for each query.

        Args:
            mix: (batch, channels, samples).
            embeddings: (queries, dimension), L2-normalised; the same queries for every mixture of the batch.
            negatives: (queries, dimension), what to keep out, already scaled by its weight; zeros or None for none.
            ways: of each query, for models with `mixes_ways`; None or () for one way.
        """
        raise NotImplementedError

    def stems(self, mix: Tensor) -> Estimate:
        """The fixed heads, in the order of `stem_names`.

        Args:
            mix: (batch, channels, samples).
        """
        raise NotImplementedError

    def query_each(self, mix: Tensor, embeddings: Tensor, negatives: Tensor) -> list[Tensor]:
        """One query for each mixture, as training asks.

        Args:
            mix: (batch, channels, samples).
            embeddings: (batch, dimension).
            negatives: (batch, dimension).

        Returns:
            (batch, channels, samples) of each stage of the network, the last one its estimate.
        """
        rows = zip(mix.split(1), embeddings.split(1), negatives.split(1), strict=True)
        return [torch.cat([self(*row).waveforms[:, 0] for row in rows])]

    def stems_by_stage(self, mix: Tensor) -> list[Tensor]:
        """The fixed stems, as training asks.

        Args:
            mix: (batch, channels, samples).

        Returns:
            (batch, stems, channels, samples) of each stage of the network, the last one that of `stems`.
        """
        return [self.stems(mix).waveforms]

    @property
    def tag_names(self) -> Tensor | None:
        """(tags, dimension): text embeddings of the tags of `tags`; None for a model without."""
        return None

    def heard(self, waveforms: Tensor) -> Heard | None:
        """What a listener hears in recordings; None for a model without one.

        Args:
            waveforms: (batch, channels, samples) at the model's sample rate.
        """
        return None

    @classmethod
    def job_bytes(cls, config: Mapping[str, Any]) -> int | None:
        """Memory of a recording that is separated beside another one.

        Args:
            config: of a model of this family, as in its `config.json`.

        Returns:
            Bytes; None for that of a small model.
        """
        return None

    def quick(self) -> SeparationModel:
        """The same weights with as little computation as they allow, for live streams of short latency."""
        return self
