"""Scores of a model on mixtures of two held-back clips at 0 dB, which are drawn once from a seed."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from audiosep import metrics
from audiosep.data.augment import AugmentConfig
from audiosep.data.corpus import Corpus
from audiosep.data.mixing import Mixer, MixtureBatch
from audiosep.data.sampling import Sampler, SamplingConfig
from audiosep.errors import DataError
from audiosep.training.caption_table import CaptionTable
from audiosep.training.engine import distributed
from audiosep.training.engine.trackers import Sample, comparison_samples

NO_EFFECTS = AugmentConfig(speed=0, tempo=0, pitch=0, equalise=0, bandlimit=0, reverb=0, codec=0, polarity=0)


@dataclass(frozen=True)
class QueryScore:
    """Improvements of one query over the mixture, dB."""

    label: str
    si_sdri: float
    sdri: float


class HeldBackScores:
    """Mixtures of two held-back clips at 0 dB, without effects, with text queries for both.

    Args:
        corpus: clips of its split "val" are used.
        captions: embeddings of their captions.
        labels: the sounds that are measured.
        sampling: seconds and number of mixtures of a batch.
        batches: number of batches.
        seed: of the draw.

    Raises:
        DataError: fewer than two labels are held back, or no mixture of them can be asked for one that is measured.
    """

    def __init__(
        self,
        corpus: Corpus,
        captions: CaptionTable,
        labels: Sequence[str],
        sampling: SamplingConfig,
        batches: int,
        seed: int,
    ) -> None:
        plain = dataclasses.replace(
            sampling, split="val", sources=(1.0, 0.0, 0.0, 0.0), level_db=0.0, songs=0.0, mixed_songs=0.0, equal=0.0,
            siblings=0.0, mix_audio=0.0, absent=0.0, negatives=0.0, examples=0.0, augment=NO_EFFECTS,
        )  # fmt: skip
        sampler, mixer = Sampler(corpus, plain, seed), Mixer(corpus)
        self.labels = frozenset(labels)
        self._sample_rate = corpus.sample_rate
        self._batches = [mixer.render(sampler.plan(number)) for number in range(batches)]
        self._embeddings = [captions[batch.captions] for batch in self._batches]
        if not any(label in self.labels for batch in self._batches for label in batch.labels):
            held = sorted({clip.label for clip in corpus.clips if clip.split == "val"})
            raise DataError(
                f"no mixture of held-back recordings can be asked for {' or '.join(sorted(self.labels))}: held back "
                f"are {', '.join(held)}, and sounds whose names share a word are not mixed with each other; add more "
                "or longer recordings, other names, or --noise"
            )

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Return the means, see `summary`; every process of a run measures its share.

        Args:
            model: a `SeparationModel` on any device.
        """
        mine = [list(self._scores(model, number)) for number in distributed.share(range(len(self._batches)))]
        return summary([score for scores in distributed.gather(mine) for score in scores])

    @torch.no_grad()
    def samples(self, model: nn.Module, count: int = 3) -> list[Sample]:
        """Return mixture, target and estimate of the first queries with their spectrograms."""
        batch, device, rate = self._batches[0], next(model.parameters()).device, self._sample_rate
        found: list[Sample] = []
        for query, label in list(enumerate(batch.labels))[:count]:
            sources = batch.sources[batch.owner[query]]
            mix, target = sources.sum(0)[None].cpu(), (batch.membership[query] @ sources)[None].cpu()
            embedding = self._embeddings[0][query][None].to(device)
            estimate = model(mix[None].to(device), embedding).waveforms[0, 0].float().cpu()
            sounds = {"mixture": mix, "target": target, "estimate": estimate}
            found += comparison_samples(f"{query} {label}", rate, sounds)
        return found

    def _scores(self, model: nn.Module, number: int) -> Iterator[QueryScore]:
        """Separate all queries of a mixture in one forward pass."""
        batch: MixtureBatch = self._batches[number]
        device = next(model.parameters()).device
        for mixture, sources in enumerate(batch.sources):
            rows = [row for row, owner in enumerate(batch.owner.tolist()) if owner == mixture]
            rows = [row for row in rows if batch.labels[row] in self.labels]
            if not rows:
                continue
            mix, targets = sources.sum(0).cpu(), (batch.membership[rows] @ sources).cpu()
            output = model(mix[None, None].to(device), self._embeddings[number][rows].to(device)).waveforms[0, :, 0]
            estimates = output.float().cpu()
            si_sdri, sdri = metrics.si_sdri(estimates, targets, mix), metrics.snri(estimates, targets, mix)
            for position, row in enumerate(rows):
                if bool(torch.isfinite(si_sdri[position])):
                    yield QueryScore(batch.labels[row], float(si_sdri[position]), float(sdri[position]))


def summary(scores: Sequence[QueryScore]) -> dict[str, float]:
    """Compute means of each label and over the labels.

    Args:
        scores: one for each query.

    Returns:
        "val/label/<label>/si_sdri" and "val/si_sdri" (dB), the same for "sdri", and for "better", the share above 0 dB
        SI-SDRi.
    """
    groups: Mapping[str, list[QueryScore]] = defaultdict(list)
    for score in scores:
        groups[score.label].append(score)
    means: dict[str, dict[str, float]] = {"si_sdri": {}, "sdri": {}, "better": {}}
    for label, mine in sorted(groups.items()):
        means["si_sdri"][label] = sum(s.si_sdri for s in mine) / len(mine)
        means["sdri"][label] = sum(s.sdri for s in mine) / len(mine)
        means["better"][label] = sum(s.si_sdri > 0 for s in mine) / len(mine)
    flat = {
        f"val/label/{label.replace('/', ' ')}/{kind}": v
        for kind, values in means.items()
        for label, v in values.items()
    }
    return flat | {f"val/{kind}": sum(values.values()) / len(values) for kind, values in means.items() if values}
