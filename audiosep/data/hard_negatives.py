"""Batches with hard negatives, for aligning audio and text: mixtures whose labels have similar text embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np
from torch import Tensor

from audiosep.data.corpus import Corpus
from audiosep.data.mixture_plan import BatchPlan, PlannedMixture, PlannedQuery, PlannedSource
from audiosep.data.queries import Relation
from audiosep.data.sampling import Sampler, SamplingConfig


class HardNegativeSampler(Sampler):
    """Draws plans of independent sounds, some of which are hard negatives of a sound drawn before.

    Hard negatives of a label are the labels with the nearest text embeddings, except those that overlap with it
    (`Relation.OVERLAPPING`): they could be positives. The queries of a mixture are the labels of its sources.

    Args:
        corpus: as for `Sampler`.
        config: as for `Sampler`; songs, absent targets, negatives and examples are not drawn.
        seed: as for `Sampler`.
        embed: n texts -> (n, dimension) embeddings, L2-normalised, on the CPU.
        share: share of the mixtures whose first source is a hard negative of a query drawn before.
        nearest: number of hard negatives of a label.

    Raises:
        DataError: as for `Sampler`.
    """

    def __init__(
        self,
        corpus: Corpus,
        config: SamplingConfig,
        seed: int,
        embed: Callable[[Sequence[str]], Tensor],
        share: float,
        nearest: int,
    ) -> None:
        super().__init__(corpus, config, seed)
        self.share, self.nearest = share, nearest
        self.labels = sorted(self.by_label)
        self.embeddings = dict(zip(self.labels, embed(self.labels).numpy(), strict=True))
        self._table = np.stack(list(self.embeddings.values()))
        self._hard: dict[str, tuple[str, ...]] = {}

    def hard_negatives(self, label: str) -> tuple[str, ...]:
        """The hard negatives of a label, the nearest first.

        Args:
            label: a label of the corpus.
        """
        if label not in self._hard:
            order = np.argsort(-(self._table @ self.embeddings[label]), kind="stable")
            others = (self.labels[i] for i in order)
            hard = (o for o in others if self.query_builder.relation(label, o) < Relation.OVERLAPPING)
            self._hard[label] = tuple(islice(hard, self.nearest))
        return self._hard[label]

    def plan(self, step: int, rank: int = 0) -> BatchPlan:
        """The plan of a batch, a pure function of the seed and the arguments.

        Args:
            step: of the training.
            rank: of this process.
        """
        rng = np.random.default_rng([self.seed, step, rank])
        samples = round(self.config.seconds * self.corpus.sample_rate)
        mixtures: list[PlannedMixture] = []
        queries: list[PlannedQuery] = []
        for number in range(self.config.mixtures):
            hard: tuple[str, ...] = ()
            if queries and rng.random() < self.share:
                hard = self.hard_negatives(queries[rng.integers(len(queries))].label)
            clips = self.by_label[hard[rng.integers(len(hard))]] if hard else [self._pick(rng)]
            sources = self._scene(rng, samples, clips[rng.integers(len(clips))])
            mixtures.append(self._mixture(rng, sources))
            queries += self._label_queries(number, sources)
        return BatchPlan(samples, tuple(mixtures), tuple(queries))

    def _label_queries(self, mixture: int, sources: tuple[PlannedSource, ...]) -> list[PlannedQuery]:
        """Queries for the first `queries` labels of a mixture that are audible; sources of one label are one target."""
        audible, members = self._audible(sources), dict[str, list[int]]()
        for number, source in enumerate(sources):
            members.setdefault(self.corpus.clips[source.clip].label, []).append(number)
        queries = []
        for label, numbers in members.items():
            if any(audible[n] for n in numbers):
                family = self.corpus.clips[sources[numbers[0]].clip].family
                queries.append(PlannedQuery(mixture, tuple(numbers), label, None, label, family))
        return queries[: self.config.queries]
