"""Batches in which sounds of like meaning meet: hard negatives for aligning audio with text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np
from torch import Tensor

from audiosep.data.corpus import Corpus
from audiosep.data.plan import Ask, Mixture, Plan, Source
from audiosep.data.sampling import Sampler, SamplingConfig


class NearSampler(Sampler):
    """Draws plans of independent sounds, in which some are near in meaning to another one of the batch.

    Near are the labels whose texts lie nearest, but only those that are other sounds for sure: neither answers or
    names the other. The queries of a mixture are its sounds, by their labels.

    Args:
        corpus, config, seed: as for `Sampler`; songs, absent targets, negatives and examples are not drawn.
        read: n texts -> (n, dimension), L2-normalised, on the CPU.
        near: share of the mixtures whose first sound is drawn near one drawn before.
        nearest: from so many labels.

    Raises:
        DataError: as for `Sampler`.
    """

    def __init__(
        self,
        corpus: Corpus,
        config: SamplingConfig,
        seed: int,
        read: Callable[[Sequence[str]], Tensor],
        near: float,
        nearest: int,
    ) -> None:
        super().__init__(corpus, config, seed)
        self.near, self.nearest = near, nearest
        self._labels = sorted(self.by_label)
        self._places = dict(zip(self._labels, read(self._labels).numpy(), strict=True))
        self._table = np.stack(list(self._places.values()))
        self._neighbours: dict[str, tuple[str, ...]] = {}

    def neighbours(self, label: str) -> tuple[str, ...]:
        """The labels nearest to one that are other sounds, the nearest first."""
        if label not in self._neighbours:
            order = np.argsort(-(self._table @ self._places[label]), kind="stable")
            others = (self._labels[i] for i in order if self.asker.relation(label, self._labels[i]) < 2)
            self._neighbours[label] = tuple(islice(others, self.nearest))
        return self._neighbours[label]

    def plan(self, step: int, rank: int = 0) -> Plan:
        """The batch of a step on a rank: always the same for the same seed, step and rank."""
        rng = np.random.default_rng([self.seed, step, rank])
        samples = round(self.config.seconds * self.corpus.sample_rate)
        mixtures: list[Mixture] = []
        asks: list[Ask] = []
        for number in range(self.config.mixtures):
            near = self.neighbours(asks[rng.integers(len(asks))].label) if asks and rng.random() < self.near else ()
            clips = self.by_label[near[rng.integers(len(near))]] if near else [self._pick(rng)]
            sources = self._scene(rng, samples, clips[rng.integers(len(clips))])
            mixtures.append(self._mixture(rng, sources))
            asks += self._sounds(number, sources)
        return Plan(samples, tuple(mixtures), tuple(asks))

    def _sounds(self, mixture: int, sources: tuple[Source, ...]) -> list[Ask]:
        """The first `queries` sounds of a mixture that are heard; two sources of one label are one sound."""
        heard, members = self._heard(sources), dict[str, list[int]]()
        for number, source in enumerate(sources):
            members.setdefault(self.corpus.clips[source.clip].label, []).append(number)
        asks = []
        for label, numbers in members.items():
            if any(heard[n] for n in numbers):
                family = self.corpus.clips[sources[numbers[0]].clip].family
                asks.append(Ask(mixture, tuple(numbers), label, None, label, family))
        return asks[: self.config.queries]
