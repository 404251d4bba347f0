"""Several estimates of a query, compared by what a listener hears in them and in what they leave, and mixed.

Any single estimate may be of the wrong one of two sounds. So there are several: those of all refinements, one for which
the first estimate and what it leaves were swapped, those of `models.query_ways`. The masks are averaged with a softmax
of how well each estimate fits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from audiosep.models.known_sounds import Among
from audiosep.models.masks import share_out
from audiosep.models.query_ways import Ways
from audiosep.models.refinement import Decode, Decoded, Hear, Heard, left, of_owners, residual_mask, share_of

if TYPE_CHECKING:
    from audiosep.models.hybrid import Features, Hybrid

DecodeAll = Callable[[Sequence[Decoded]], list[Decoded]]
"""A run of the decoder after each of some runs, all at once; what is heard in what they leave is known."""

_SWAPPED = 1.0  # in logits, by how much less often the estimate is right that begins with the swapped one

Score = Callable[[Decoded], Tensor]
"""A run -> (queries,), how well its estimate fits the query."""


@dataclass(frozen=True)
class MixtureQueries:
    """Queries of mixtures that a network has encoded, and what it estimates for them.

    Attributes:
        network: that encoded the mixtures.
        features: of the mixtures.
        embeddings: (queries, dimension).
        negatives: (queries, dimension).
        owner: (queries,) mixture of each query.
    """

    network: Hybrid
    features: Features
    embeddings: Tensor
    negatives: Tensor
    owner: Tensor

    def estimate(self) -> Decoded:
        """The last run of the decoder, or a mean over all runs (`HybridConfig.mix_temperature`)."""
        network, config = self.network, self.network.config
        if config.mix_temperature is None:
            return self._refined()
        hear = partial(network.hear, energies=of_owners(self.features.energies, self.owner))
        score = similarity_score(hear, self.embeddings, config.mix_temperature)
        return decode_mixed(self._decode, self.decode_all, hear, score, config.refinements)

    def estimate_by_ways(self, ways: Ways) -> tuple[Decoded, Tensor | None]:
        """The mean over the ways of one query, which is asked of every mixture.

        Args:
            ways: of the query.

        Returns:
            The estimate, and the weights of the ways, (batch, ways); None for a model that mixes no masks.
        """
        if self.network.config.mix_temperature is None:
            return self._refined(), None
        runs = self.estimates(ways)
        mean, weights = mean_of(runs, ways.score, like=runs[0])
        return mean, weights.unflatten(1, (-1, len(ways.names))).sum(1)

    def estimates(self, ways: Ways) -> list[Decoded]:
        """The estimates that `estimate_by_ways` compares, in the order of `Ways.names`, and again if `Ways.twice`.

        Of each it is known what the listener hears in what it leaves.
        """
        first, kept = self.first_estimates(ways), list[Decoded]()
        if ways.stem is None:
            first.insert(1, swapped(first[0]))
        else:
            kept = first[1:]
        refined = refined_all(self.decode_all, self.network.config.refinements, first)
        if ways.twice:
            kept = [*kept, *self.decode_all(refined), *kept]
        return [*refined, *kept]

    def first_estimates(self, ways: Ways) -> list[Decoded]:
        """The estimate of the query and those of its ways, but for what the first leaves, without refinements."""
        network, features, negatives, owner = self.network, self.features, self.negatives, self.owner
        query, nothing = F.normalize(self.embeddings.float(), dim=-1), torch.zeros_like(negatives)
        queries, kept_out = [query], [negatives]
        if ways.beside is not None:
            others = ways.beside.loudest(ways.among.known, network.hear_mixtures(features).tags)
            queries, kept_out = [query, *others], [negatives, *(nothing for _ in others)]
        at_once = torch.cat(queries), torch.cat(kept_out), owner.repeat(len(queries))
        masks, _, similarity = network.decode_masks(features, *at_once)
        assert similarity is not None  # estimates are compared by a listener
        own, *without = masks.chunk(len(queries))
        estimates = [own, *map(residual_mask, without)]
        if ways.stem is not None:
            stems = share_out(network.decode_stems(features), features.energies)
            estimates.append(stems[:, network.stem_names.index(ways.stem)])
        count = len(estimates)
        energies = of_owners(features.energies, owner.repeat(count))
        similarities = similarity[: len(query)].repeat(count, 1, 1, 1)
        runs = network.described(torch.cat(estimates), energies, query.repeat(count, 1), similarities)
        return parted(self._compared(runs, energies), count)

    def decode_all(self, previous: Sequence[Decoded]) -> list[Decoded]:
        """See `DecodeAll`."""
        count, features = len(previous), self.features
        queries = self.embeddings.repeat(count, 1), self.negatives.repeat(count, 1), self.owner.repeat(count)
        runs = self.network.decode(features, *queries, previous=joined(previous))
        return parted(self._compared(runs, of_owners(features.energies, queries[-1])), count)

    def evidence(self, decoded: Decoded, among: Among) -> Tensor:
        """(batch, 5): what says that a sound is in each mixture, see `Among.evidence`.

        Args:
            decoded: the estimate of the sound.
            among: the sound among those that are known.
        """
        energies = self.features.energies
        share = share_of(decoded.mask, energies)
        heard = self.network.hear(decoded.mask, energies), self.network.hear_mixtures(self.features)
        with torch.autocast(share.device.type, enabled=False):  # small differences of large numbers
            return among.evidence(decoded.presence.float(), share, *heard)

    def _refined(self) -> Decoded:
        return self.network.refine(self.features, self.embeddings, self.negatives, self.owner)

    def _decode(self, previous: Decoded | None) -> Decoded:
        """See `Decode`."""
        return self.network.decode(self.features, self.embeddings, self.negatives, self.owner, previous=previous)

    def _compared(self, run: Decoded, energies: Tensor) -> Decoded:
        """A run that knows what the listener hears in what it leaves of energies, (queries, bands, frames)."""
        return replace(run, left=self.network.hear(residual_mask(run.mask), energies))


def decode_mixed(decode: Decode, decode_all: DecodeAll, hear: Hear, score: Score, refinements: int) -> Decoded:
    """The last run of the decoder, with a weighted mean of the masks of all runs and of one more.

    Of two sounds the first estimate may be the wrong one, and refining it would make that worse. So the decoder also
    runs as if the first estimate and its residual had been swapped. Masks are weighted by a softmax of their scores,
    less `_SWAPPED` for that run.

    Args:
        decode: one run of the decoder.
        decode_all: several runs at once, which small windows are computed faster with.
        hear: the listener.
        score: how well a run's estimate fits the query.
        refinements: runs after the first, at least one.
    """
    first = decode(None)
    first = replace(first, left=left(first, hear))
    refined, other = decode_all([first, swapped(first)])
    runs = [first, refined]
    for _ in range(refinements - 1):
        runs.append(decode(runs[-1]))
    return mean_of([*runs, other], lambda run: score(run) - _SWAPPED * (run is other), like=runs[-1])[0]


def refined_all(decode_all: DecodeAll, refinements: int, first: Sequence[Decoded]) -> list[Decoded]:
    """The last runs of the decoder after each of several first estimates.

    Any of them may be of the wrong sound, and which is easier to hear when each has been refined.

    Args:
        decode_all: a run of the decoder after each of some runs.
        refinements: runs after each first estimate, at least one.
        first: estimates; what is heard in what they leave must be known.
    """
    runs = list(first)
    for _ in range(refinements):
        runs = decode_all(runs)
    return runs


def swapped(run: Decoded) -> Decoded:
    """A run as if its estimate and its residual had been swapped; what is heard in the residual must be known."""
    return replace(run, mask=residual_mask(run.mask), heard=run.left, left=run.heard)


def joined(runs: Sequence[Decoded]) -> Decoded:
    """Runs without stems as one, the queries of one behind those of the other."""

    def heard(parts: Sequence[Heard | None]) -> Heard | None:
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        return Heard(torch.cat([part.embedding for part in known]), torch.cat([part.tags for part in known]))

    similarities = [run.similarity for run in runs if run.similarity is not None]
    return Decoded(
        torch.cat([run.mask for run in runs]),
        torch.cat([run.presence for run in runs]),
        None,
        torch.cat(similarities) if len(similarities) == len(runs) else None,
        heard([run.heard for run in runs]),
        heard([run.left for run in runs]),
    )


def parted(run: Decoded, count: int) -> list[Decoded]:
    """What `joined` has made one, as the single runs.

    Args:
        run: of several runs' queries.
        count: of the runs.
    """

    def parts(values: Tensor | None) -> Sequence[Tensor | None]:
        return [None] * count if values is None else values.chunk(count)

    def heard(values: Heard | None) -> Sequence[Heard | None]:
        if values is None:
            return [None] * count
        return [Heard(*each) for each in zip(values.embedding.chunk(count), values.tags.chunk(count), strict=True)]

    masks, presences = run.mask.chunk(count), run.presence.chunk(count)
    similarities, inside, outside = parts(run.similarity), heard(run.heard), heard(run.left)
    return [Decoded(masks[k], presences[k], None, similarities[k], inside[k], outside[k]) for k in range(count)]


def mean_of(runs: Sequence[Decoded], score: Score, like: Decoded) -> tuple[Decoded, Tensor]:
    """A run with the mean of the masks of all runs, by a softmax of their scores.

    Args:
        runs: at least one.
        score: how well a run's estimate fits the query.
        like: gives all else.

    Returns:
        The run, and (queries, runs) the weights.
    """
    weights = torch.stack([score(run) for run in runs]).softmax(0)
    mask = torch.stack([run.mask.float() for run in runs]).mul(weights[..., None, None]).sum(0)
    return replace(like, mask=mask), weights.T


def similarity_score(hear: Hear, query: Tensor, temperature: float) -> Score:
    """A score by how much more similar to the query the estimate is than its residual.

    Args:
        hear: the listener.
        query: (queries, dimension) embeddings of the original queries.
        temperature: of the softmax that the scores go to.
    """
    query, scale = F.normalize(query.float(), dim=-1), 1 / temperature

    def score(run: Decoded) -> Tensor:
        assert run.heard is not None  # see `HybridConfig.relisten`
        return scale * ((run.heard.embedding - left(run, hear).embedding) * query).sum(-1)

    return score
