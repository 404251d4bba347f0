"""Refinements: what the decoder is given in its next runs, and how the masks of all runs are mixed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from audiosep.models.estimates import decode_mixed, joined, mean_of, parted, refined_all, similarity_score, swapped
from audiosep.models.masks import undecided
from audiosep.models.refinement import Decoded, Heard, decode_refined, of_owners, refined_query

A, B, C = torch.eye(8)[:3]
FRAMES = 6


def heard(embedding: Tensor) -> Heard:
    """What a listener hears that has one tag."""
    return Heard(embedding[None], torch.zeros(1, 1))


def decoded(mask: float, embedding: Tensor, presence: float = 20.0) -> Decoded:
    """A run for one query with a constant mask."""
    return Decoded(torch.full((1, 4, FRAMES), mask), torch.tensor([presence]), None, heard=heard(embedding))


def by_level(mask: Tensor) -> Heard:
    """What the listener of these tests hears in a masked mixture: A where most is let through, else B."""
    return heard(A if mask.mean() > 0.5 else B)


class Decoder:
    """A decoder whose runs are written down beforehand; remembers what each was given."""

    def __init__(self, *runs: Decoded) -> None:
        self.runs = list(runs)
        self.given: list[Decoded | None] = []

    def __call__(self, previous: Decoded | None) -> Decoded:
        self.given.append(previous)
        return self.runs[len(self.given) - 1]

    def all(self, previous: Sequence[Decoded]) -> list[Decoded]:
        return [self(run) for run in previous]


def test_each_run_is_given_the_run_before() -> None:
    runs = [decoded(0.1, A), decoded(0.2, A), decoded(0.3, A)]
    decoder = Decoder(*runs)
    assert decode_refined(decoder, 2) is runs[2]
    assert decoder.given[0] is None
    assert [float(run.mask.mean()) for run in decoder.given[1:] if run] == pytest.approx([0.1, 0.2])
    assert decode_refined(Decoder(runs[0]), 0) is runs[0]


def test_the_last_run_of_a_mix_is_given_the_first_with_estimate_and_residual_swapped() -> None:
    decoder = Decoder(decoded(0.2, A), decoded(0.2, A), decoded(0.2, A))
    decode_mixed(decoder, decoder.all, by_level, similarity_score(by_level, A[None], 0.1), 1)
    first, refined, swapped = decoder.given
    assert first is None
    assert refined is not None
    assert swapped is not None
    assert refined.heard is not None
    assert refined.left is not None
    assert torch.equal(refined.heard.embedding, A[None])
    assert torch.equal(refined.left.embedding, A[None])  # 1 - 0.2 lets most through
    torch.testing.assert_close(swapped.mask, torch.full((1, 4, FRAMES), 0.8))
    assert swapped.heard is refined.left
    assert swapped.left is refined.heard


def test_further_refinements_of_a_mix_follow_each_other() -> None:
    decoder = Decoder(*(decoded(0.1 * k, A) for k in range(1, 5)))
    last = decode_mixed(decoder, decoder.all, by_level, lambda run: torch.zeros(1), 2)
    assert [round(float(run.mask.mean()), 3) for run in decoder.given if run is not None] == [0.1, 0.9, 0.2]
    assert last.presence is decoder.runs[3].presence
    less = math.exp(-1)  # what the run counts that begins with the swapped estimate, the third
    assert float(last.mask.mean()) == pytest.approx((0.1 + 0.2 + 0.3 * less + 0.4) / (3 + less))


def test_every_first_estimate_is_refined_before_one_is_chosen() -> None:
    first, beside = decoded(0.2, A), decoded(0.6, B)
    runs = [decoded(0.1, C), decoded(0.3, A)]
    decoder = Decoder(*runs)
    score = similarity_score(by_level, C[None], 1e-4)
    refined = refined_all(decoder.all, 1, [first, beside])
    best, weights = mean_of(refined, score, like=refined[0])
    torch.testing.assert_close(weights, torch.tensor([[1.0, 0.0]]))
    assert float(best.mask.mean()) == pytest.approx(0.1)
    assert best.presence is runs[0].presence  # of the first estimate's own refinement
    given = [float(run.mask.mean()) for run in decoder.given if run is not None]
    assert given == [pytest.approx(0.2), pytest.approx(0.6)]
    # What is refined counts no more itself: with two refinements only the last run of each does.
    more = [decoded(0.1 * k, A) for k in range(1, 5)]
    twice = refined_all(Decoder(*more).all, 2, [first, beside])
    even, weights = mean_of([*twice, decoded(0.9, A)], lambda run: torch.zeros(1), like=twice[0])
    torch.testing.assert_close(weights, torch.full((1, 3), 1 / 3))
    assert float(even.mask.mean()) == pytest.approx((0.3 + 0.4 + 0.9) / 3)


def test_estimate_and_residual_are_swapped_with_what_is_heard_in_them() -> None:
    run = replace(decoded(0.2, A), left=heard(B))
    other = swapped(run)
    torch.testing.assert_close(other.mask, torch.full((1, 4, FRAMES), 0.8))
    assert other.heard is run.left
    assert other.left is run.heard


def test_runs_are_joined_and_parted_again() -> None:
    whole = replace(decoded(0.2, A, presence=1.0), similarity=torch.rand(1, 3, 5, 2), left=heard(B))
    bare = replace(decoded(0.6, C), heard=None)
    for one, other in ((whole, swapped(whole)), (bare, bare)):
        both = joined([one, other])
        assert both.mask.shape == (2, 4, FRAMES)
        for run, again in zip((one, other), parted(both, 2), strict=True):
            assert torch.equal(run.mask, again.mask)
            assert torch.equal(run.presence, again.presence)
            assert (run.similarity is None) == (again.similarity is None)
            assert run.similarity is None or torch.equal(run.similarity, again.similarity)
            for mine, its in ((run.heard, again.heard), (run.left, again.left)):
                assert (mine is None) == (its is None)
                assert mine is None or torch.equal(mine.embedding, its.embedding)
                assert mine is None or torch.equal(mine.tags, its.tags)


def test_what_is_of_one_mixture_is_not_copied_for_its_queries() -> None:
    one, two = torch.rand(1, 3, 4), torch.rand(2, 3, 4)
    found = of_owners(one, torch.zeros(5, dtype=torch.long))
    assert torch.equal(found, one.repeat(5, 1, 1))
    assert found.untyped_storage().data_ptr() == one.untyped_storage().data_ptr()
    assert torch.equal(of_owners(two, torch.tensor([1, 0, 1])), torch.stack([two[1], two[0], two[1]]))


def test_masks_count_by_how_much_more_their_estimate_is_like_the_query_than_their_residual() -> None:
    # Residuals of these masks let most through, so they are embedded as A: estimates like C are better than like B.
    runs = [decoded(0.1, B), decoded(0.2, B), decoded(0.4, C)]

    def mixed(temperature: float, query: Tensor = C) -> Decoded:
        score = similarity_score(by_level, query[None], temperature)
        decoder = Decoder(*runs)
        return decode_mixed(decoder, decoder.all, by_level, score, 1)

    assert float(mixed(1e-4).mask.mean()) == pytest.approx(0.4)
    even = (0.1 + 0.2 + 0.4 * math.exp(-1)) / (2 + math.exp(-1))  # of the swapped estimate less is expected
    assert float(mixed(1e4).mask.mean()) == pytest.approx(even, rel=1e-3)
    assert float(mixed(1e-4, B).mask.mean()) == pytest.approx((0.1 + 0.2) / 2)
    half = float(mixed(0.5).mask.mean())
    assert 0.4 > half > even
    assert mixed(0.5).presence is runs[1].presence  # of the last refinement, not of the swapped run


def test_a_query_moves_towards_the_estimate_and_keeps_the_residual_out() -> None:
    energies, nothing = torch.ones(1, 4, FRAMES), torch.zeros(1, 8)
    positive, negative = refined_query(decoded(0.2, C), by_level, energies, A[None], nothing)
    torch.testing.assert_close(positive[0], (A + C) / 2**0.5)
    torch.testing.assert_close(negative[0], 0.8 * A)  # by_level(1 - mask), as loud as it is


def test_masks_are_undecided_as_far_as_they_take_energy_in_part() -> None:
    energies = torch.ones(3, 4, FRAMES)
    energies[2, 2:] = 0
    masks = torch.stack([torch.eye(4)[:, :1].expand(4, FRAMES), torch.full((4, FRAMES), 0.3), torch.zeros(4, FRAMES)])
    masks[2] = torch.tensor([1.0, 0.5, 0.2, 0.2])[:, None]  # the last two take what has no energy
    torch.testing.assert_close(undecided(masks, energies), torch.tensor([0.0, 0.7, 0.25 / 1.5]))
    torch.testing.assert_close(undecided(masks, 1e-6 * energies), undecided(masks, energies), rtol=1e-3, atol=1e-4)
    assert undecided(torch.full((1, 4, FRAMES), 1.1), energies[:1]).item() == 0  # louder than the mixture
    assert undecided(masks[:1], 0 * energies[:1]).item() == 0


def test_an_estimate_that_seems_absent_refines_nothing() -> None:
    energies, nothing = torch.ones(1, 4, FRAMES), torch.zeros(1, 8)
    positive, negative = refined_query(decoded(0.2, C, presence=-30.0), by_level, energies, A[None], nothing)
    torch.testing.assert_close(positive[0], A)
    torch.testing.assert_close(negative[0], nothing[0])


def test_a_residual_without_energy_is_not_kept_out() -> None:
    energies, unwanted = torch.rand(1, 4, FRAMES), B[None]
    _, negative = refined_query(decoded(1.0, C), by_level, energies, A[None], unwanted)
    torch.testing.assert_close(negative, unwanted)
