"""Rendering plans: the waveforms of sources and examples as tensors on the corpus' device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from audiosep.data.augment import StereoImage, apply_effects, to_stereo
from audiosep.data.corpus import Corpus
from audiosep.data.manifest import STEMS
from audiosep.data.mixture_plan import BatchPlan, PlannedSource
from audiosep.data.stretch import resample_speed, stretch

LEVEL = 0.1  # RMS of a source at 0 dB before the mixture is scaled to its peak
_FLOOR = 1e-4  # a source quieter than this is not amplified further


@dataclass
class MixtureBatch:
    """A batch of mixtures and queries; the mixtures are `sources.sum(1)`.

    Args:
        sources: (mixtures, sources, samples) float32, or (mixtures, sources, 2, samples) when the plan is stereo;
            mixtures with fewer sources are filled up with silent ones.
        owner: (queries,) int64, the mixture of each query.
        membership: (queries, sources) 0 or 1: the sources that are the target; all 0 = absent.
        captions: (queries,) texts.
        negatives: (queries,) texts of what to keep out of the target, or None.
        examples: (examples, samples) other recordings of the targets; None when no query has one.
        example_of: (examples,) int64, the query of each example; None when no query has one.
        stems: (mixtures, 4, sources) 0 or 1: the sources of the stems vocals, drums, bass, other.
        has_stems: (mixtures,) bool, whether the mixture is made of song stems.
        cutoff: (mixtures,) Hz, the lowest bandwidth of the sources; losses must ignore what is above it.
        labels: (queries,) labels of the targets, for scores by label.
        families: (queries,) families of the targets, for scores by family.
    """

    sources: Tensor
    owner: Tensor
    membership: Tensor
    captions: list[str]
    negatives: list[str | None]
    examples: Tensor | None
    example_of: Tensor | None
    stems: Tensor
    has_stems: Tensor
    cutoff: Tensor
    labels: list[str]
    families: list[str]

    def to(self, device: torch.device | str) -> MixtureBatch:
        """The batch on another device.

        Args:
            device: where the tensors go.
        """

        def moved(value: Tensor) -> Tensor:
            there = value.to(device, non_blocking=True)
            if there is value and value.is_cuda:
                # From another CUDA stream, which must not reuse the memory while this stream still reads it.
                value.record_stream(torch.cuda.current_stream(value.device))
            return there

        return self._with_tensors(moved)

    def pin_memory(self) -> MixtureBatch:
        """The batch in page-locked memory, from which copies to an accelerator run asynchronously."""
        return self._with_tensors(Tensor.pin_memory)

    def _with_tensors(self, change: Callable[[Tensor], Tensor]) -> MixtureBatch:
        """The batch with its tensors changed."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values |= {name: change(value) for name, value in values.items() if isinstance(value, Tensor)}
        return MixtureBatch(**values)


class Mixer:
    """Renders plans, on the device of the corpus.

    Args:
        corpus: the corpus that the plans were drawn for.
    """

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus

    @torch.no_grad()
    def render(self, plan: BatchPlan) -> MixtureBatch:
        """The batch of a plan.

        Args:
            plan: drawn for the same corpus.
        """
        device = self.corpus.device
        count = max(len(mixture.sources) for mixture in plan.mixtures)
        flat = [source for mixture in plan.mixtures for source in mixture.sources]
        slots = [m * count + s for m, mixture in enumerate(plan.mixtures) for s in range(len(mixture.sources))]
        sources = self._sources(flat, plan.samples)
        if plan.channels == 2:
            sources = to_stereo(sources, [source.image or StereoImage() for source in flat])
        if len(slots) != len(plan.mixtures) * count:
            sources = sources.new_zeros(len(plan.mixtures) * count, *sources.shape[1:]).index_copy_(
                0, torch.tensor(slots, device=device), sources
            )
        sources = sources.view(len(plan.mixtures), count, *sources.shape[1:])
        peaks = sources.sum(1).abs().flatten(1).amax(-1).clamp_min(1e-3)
        gains = torch.tensor([mixture.peak for mixture in plan.mixtures], device=device) / peaks
        sources *= gains.view(-1, *[1] * (sources.ndim - 1))
        membership = torch.zeros(len(plan.queries), count)
        for q, query in enumerate(plan.queries):
            membership[q, list(query.members)] = 1
        with_example = [q for q, query in enumerate(plan.queries) if query.example is not None]
        examples = self._sources([e for query in plan.queries if (e := query.example) is not None], plan.samples)
        stems, has_stems = self._stems(plan, count)
        return MixtureBatch(
            sources=sources,
            owner=torch.tensor([query.mixture for query in plan.queries], device=device),
            membership=membership.to(device),
            captions=[query.caption for query in plan.queries],
            negatives=[query.negative for query in plan.queries],
            examples=examples if with_example else None,
            example_of=torch.tensor(with_example, device=device) if with_example else None,
            stems=stems.to(device),
            has_stems=has_stems.to(device),
            cutoff=torch.tensor([mixture.cutoff for mixture in plan.mixtures], device=device),
            labels=[query.label for query in plan.queries],
            families=[query.family for query in plan.queries],
        )

    def _sources(self, sources: Sequence[PlannedSource], samples: int) -> Tensor:
        """(sources, samples) at their levels in the mixture."""
        x = torch.zeros(len(sources), samples, device=self.corpus.device)
        for row, source in zip(x, sources, strict=True):
            for number, piece in enumerate(source.segments):
                scale = float(self.corpus.scales[piece.clip])
                y = self.corpus.segment(piece.clip, piece.start, piece.length).float()
                y = stretch(resample_speed(y, piece.speed), piece.tempo)[: samples - piece.at]
                target = row[piece.at : piece.at + len(y)]
                if number == 0:
                    torch.mul(y, scale, out=target)
                else:
                    target.add_(y, alpha=scale)
        if not len(x):
            return x
        x = apply_effects(x, [source.effects for source in sources], self.corpus.sample_rate)
        gains = torch.tensor([10 ** (source.gain_db / 20) for source in sources], device=x.device)
        recorded = torch.tensor([source.recorded for source in sources], device=x.device)
        rms = torch.linalg.vector_norm(x, dim=-1) / samples**0.5
        return x.mul_((gains * torch.where(recorded, 1.0, LEVEL / rms.clamp_min(_FLOOR)))[:, None])

    def _stems(self, plan: BatchPlan, count: int) -> tuple[Tensor, Tensor]:
        stems = torch.zeros(len(plan.mixtures), len(STEMS), count)
        for m, mixture in enumerate(plan.mixtures):
            for s, source in enumerate(mixture.sources):
                stem = self.corpus.clips[source.clip].stem
                if mixture.song and stem is not None:
                    stems[m, STEMS.index(stem), s] = 1
        return stems, torch.tensor([mixture.song for mixture in plan.mixtures])
