"""Prototypes: what recordings of a label sounded like, and several ways to an estimate of one sound."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import Mixture
from doubles import FakeEncoder

from audiosep import Options, Query
from audiosep.errors import ModelError
from audiosep.inference import backend
from audiosep.models.estimates import MixtureQueries, swapped
from audiosep.models.hybrid import Hybrid
from audiosep.models.hybrid_config import HybridConfig
from audiosep.models.known_sounds import Among, Beside, KnownSounds
from audiosep.models.listener import ListenerConfig
from audiosep.models.masks import share_out
from audiosep.models.query_ways import Ways
from audiosep.models.refinement import Decoded, Heard, residual_mask
from audiosep.models.stft import mean_power_of
from audiosep.query import load_prototypes
from audiosep.query.example import excerpt
from audiosep.query.prototypes import PROTOTYPES, Prototypes, Recordings
from audiosep.separator import Separator

DIMENSION, TAGS = 16, 5
LABELS = ("dog", "dog", "dog", "rain", "siren")


@pytest.fixture
def recordings() -> Recordings:
    generator = torch.Generator().manual_seed(0)
    embeddings = F.normalize(torch.randn(len(LABELS), DIMENSION, generator=generator), dim=-1)
    return Recordings(LABELS, embeddings, torch.randn(len(LABELS), TAGS, generator=generator))


@pytest.fixture
def prototypes(recordings: Recordings, encoder: FakeEncoder) -> Prototypes:
    names = F.normalize(torch.randn(TAGS, DIMENSION, generator=torch.Generator().manual_seed(1)), dim=-1)
    return Prototypes.of(recordings, encoder, names)


def test_a_text_recalls_the_recordings_of_its_label(
    prototypes: Prototypes, recordings: Recordings, encoder: FakeEncoder
) -> None:
    text = encoder.text(["dog"])[0]
    recalled = prototypes.recall(text)
    label, share, count = recalled.labels[0]
    assert (label, count) == ("dog", 3)
    assert share > 0.9
    mean = F.normalize(recordings.embeddings[:3].sum(0), dim=-1)
    assert float(recalled.memory @ mean) > 0.98
    assert float(recalled.query @ text) > 0.5 < float(recalled.query @ mean)
    assert sum(share for _, share, _ in recalled.labels) == pytest.approx(1, abs=0.01)


def test_recordings_count_less_where_no_label_means_the_same(prototypes: Prototypes, encoder: FakeEncoder) -> None:
    near, far = encoder.text(["dog", "something else"])
    assert prototypes.recall(near).trust == 1
    strange = prototypes.recall(far)
    assert strange.trust == 0
    torch.testing.assert_close(strange.query, F.normalize(far + 0.5 * strange.memory, dim=-1))
    assert strange.ways("best")
    unknown = replace(strange, known=False)  # no tag means it either
    torch.testing.assert_close(unknown.query, far)
    assert not unknown.ways("best")
    between = F.normalize(near + 0.86 * F.normalize(far - (far @ near) * near, dim=-1), dim=-1)  # similarity 0.76
    assert 0.2 < prototypes.recall(between).trust < 0.8


@pytest.mark.parametrize("tags", [TAGS, 100])
def test_a_text_that_neither_label_nor_tag_means_has_one_way(encoder: FakeEncoder, tags: int) -> None:
    recordings = Recordings(("dog", "rain"), F.normalize(torch.eye(DIMENSION)[:2], dim=-1), torch.randn(2, tags))
    text = encoder.text(["something else"])[0]
    names = torch.zeros(tags, DIMENSION)  # all equally far: one of a few counts, one of many does not
    strange = Prototypes.of(recordings, encoder, names).recall(text)
    assert strange.tags is not None
    assert (strange.ways("balanced") is None) == (tags == 100)
    assert Prototypes.of(recordings, encoder, names + text).recall(encoder.text(["dog"])[0]).ways("balanced")


def test_more_recordings_count_more_but_not_in_proportion(encoder: FakeEncoder) -> None:
    labels = ("a", *("b" for _ in range(16)))
    embeddings = F.normalize(torch.eye(DIMENSION)[[0] + [1] * 16], dim=-1)
    prototypes = Prototypes.of(Recordings(labels, embeddings), encoder)
    a, b = encoder.text(["a", "b"])
    middle = F.normalize(a + b, dim=-1)  # as similar to one as to the other
    shares = {label: share for label, share, _ in prototypes.recall(middle).labels}
    assert shares["b"] / shares["a"] == pytest.approx(4, rel=0.01)


def test_tags_speak_for_what_the_recordings_have_more_than_others(encoder: FakeEncoder) -> None:
    tags = torch.zeros(4, TAGS)
    tags[:, 0] = torch.tensor([5.0, 5.0, 0.0, 0.0])
    tags[:, 1] = torch.tensor([0.0, 0.0, 5.0, 5.0])
    tags[:, 2:] = torch.randn(4, TAGS - 2, generator=torch.Generator().manual_seed(2)) * 0.01
    embeddings = F.normalize(torch.eye(DIMENSION)[:4], dim=-1)
    names = torch.eye(DIMENSION)[8 : 8 + TAGS]
    prototypes = Prototypes.of(Recordings(("dog", "dog", "rain", "rain"), embeddings, tags), encoder, names)
    dog = prototypes.recall(encoder.text(["dog"])[0]).tags
    assert dog is not None
    assert dog[0] > 0 > dog[1]


def test_a_file_gives_the_same_answers(prototypes: Prototypes, encoder: FakeEncoder, tmp_path: Path) -> None:
    path = tmp_path / PROTOTYPES
    prototypes.save(path)
    again = Prototypes.load(path)
    assert again.labels == prototypes.labels == ("dog", "rain", "siren")
    text = encoder.text(["rain"])[0]
    before, after = prototypes.recall(text), again.recall(text)
    assert [label for label, _, _ in after.labels] == [label for label, _, _ in before.labels]
    assert float(before.query @ after.query) > 0.9999
    torch.testing.assert_close(after.tags, before.tags, atol=0.05, rtol=0)
    again.check(encoder, path)
    prototypes.save(tmp_path / "second")
    assert path.read_bytes() == (tmp_path / "second").read_bytes()


def test_prototypes_of_other_weights_are_an_error(prototypes: Prototypes, tmp_path: Path) -> None:
    class Other(FakeEncoder):
        def audio(self, waveforms, sample_rate):  # type: ignore[no-untyped-def]
            return super().audio(waveforms, sample_rate).roll(1, -1)

    prototypes.save(tmp_path / PROTOTYPES)
    with pytest.raises(ModelError, match=r"made with other weights of the query encoder .* or make it again"):
        load_prototypes(Other(), tmp_path)
    assert load_prototypes(None, tmp_path) is None
    assert load_prototypes(FakeEncoder(), tmp_path / "elsewhere") is None


@pytest.mark.parametrize("content", [b"", b"no tensors", None])
def test_a_damaged_file_is_an_error(prototypes: Prototypes, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / PROTOTYPES
    prototypes.save(path)
    path.write_bytes(path.read_bytes()[:-9] if content is None else content)
    with pytest.raises(ModelError, match="no file of prototypes, or damaged"):
        Prototypes.load(path)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is missing"):
        Prototypes.load(tmp_path / "absent")


def test_a_short_sound_is_repeated_and_of_a_long_one_the_loudest_part_is_taken() -> None:
    rate = 1000
    tick = torch.ones(400)
    heard = excerpt(tick, rate)
    assert len(heard) >= 3 * rate
    assert torch.equal(heard[:400], tick)
    assert not heard[400:700].any()  # 0.3 s of silence between two of them
    assert torch.equal(heard[700:1100], tick)
    long = torch.zeros(30 * rate)
    long[17 * rate : 20 * rate] = 1
    assert len(excerpt(long, rate)) == 10 * rate
    assert float(excerpt(long, rate).sum()) == 3 * rate
    same = torch.rand(5 * rate)
    assert torch.equal(excerpt(same, rate), same)


# ---- ways to an estimate ---------------------------------------------------------------------------------------------


def test_estimates_score_by_tags_and_likeness_against_their_residual() -> None:
    known = KnownSounds(torch.eye(4), torch.eye(4), torch.zeros(4, 2), torch.zeros(4))
    tags = torch.tensor([1.0, -1.0])
    ways = Ways(torch.eye(4)[2], Among(known, torch.eye(4)[2], tags, 0.0))
    alike, unlike = torch.tensor([[0.0, 0, 1, 0]]), torch.tensor([[1.0, 0, 0, 0]])
    good, bad = Heard(alike, torch.tensor([[3.0, 0.0]])), Heard(alike, torch.tensor([[0.0, 3.0]]))
    same, other = Heard(alike, torch.ones(1, 2)), Heard(unlike, torch.ones(1, 2))

    def score(heard: Heard, left: Heard, presence: float = 0.0) -> float:
        return float(ways.score(Decoded(torch.zeros(1, 1, 1), torch.tensor([presence]), None, heard=heard, left=left)))

    assert score(good, bad) > 0 > score(bad, good)
    assert score(same, other) > 0 > score(other, same)
    assert score(same, same) == 0
    assert score(same, same, presence=2.0) > 0
    named = replace(ways, sound=torch.zeros(4))  # the word says nothing: recordings among all known ones do
    run = Decoded(torch.zeros(1, 1, 1), torch.zeros(1), None, heard=same, left=other)
    assert float(named.score(run)) > 0


def test_the_sounds_beside_are_the_clearest_others_and_no_two_names_of_one() -> None:
    # Rain and heavy rain are the same to the ear; the third is the queried one itself.
    known = KnownSounds(
        embeddings=torch.eye(4),
        recordings=F.normalize(torch.tensor([[1.0, 0.1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), dim=-1),
        tags=torch.eye(4),
        offsets=torch.tensor([0.0, 0.5, 0.0, 0.0]),
    )
    heard = torch.tensor([[5.0, 4.9, 9.0, 1.0], [0.0, 3.0, 9.0, 1.0]])
    beside = Beside(torch.tensor([True, True, False, True]), most=2)
    found = beside.loudest(known, heard)
    assert found.argmax(-1).tolist() == [[0, 1], [3, 3]]
    assert beside.to(torch.device("cpu")).loudest(known, heard).equal(found)
    only = replace(beside, others=torch.tensor([True, True, False, False]), most=3)
    assert only.loudest(known, heard).argmax(-1).tolist() == [[0, 1], [0, 1], [0, 1]]  # never the queried one


def test_labels_that_mean_the_queried_sound_are_not_beside_it() -> None:
    encoder, dice = FakeEncoder(dimension=64), torch.Generator().manual_seed(1)
    vectors = F.normalize(torch.randn(5, 64, generator=dice), dim=-1)
    recordings = Recordings(LABELS, vectors, torch.randn(5, TAGS, generator=dice))
    prototypes = Prototypes.of(recordings, encoder, torch.randn(TAGS, 64, generator=dice))
    for number, label in enumerate(prototypes.labels):
        recalled = prototypes.recall(encoder.text([label])[0])
        ways = recalled.ways("best")
        assert ways is not None
        beside = ways.beside
        assert beside is not None
        assert not beside.others[number]
        torch.testing.assert_close(ways.among.known.embeddings[number], recalled.query)
        assert (beside.most, ways.twice) == (2, True)
        balanced, fast = recalled.ways("balanced"), recalled.ways("fast")
        assert balanced is not None
        assert fast is not None
        assert balanced.beside is not None
        assert (balanced.beside.most, fast.beside) == (1, None)
        assert [each.twice for each in (fast, balanced)] == [False, False]
        assert balanced.beside.others.equal(beside.others)
        assert [len(each.names) for each in (fast, balanced, ways)] == [2, 3, 4]
    unheard = Prototypes.of(Recordings(LABELS, vectors), encoder)
    assert unheard.beside(unheard.recall(vectors[0]), 1) is None


@pytest.fixture
def hybrid() -> Hybrid:
    torch.manual_seed(0)
    listener = ListenerConfig(widths=(4, 4, 4, 4, 4), hidden=8, tags=TAGS, dimension=512)
    model = Hybrid(HybridConfig(widths=(8, 8), patch=(4, 4), features=16, tracks=8, listener=listener, window=64 * 512,
                                context=8 * 512)).eval().requires_grad_(False)  # fmt: skip
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def asked(count: int = 1, seed: int = 3) -> tuple[torch.Tensor, torch.Tensor, Ways]:
    """Queries, no negatives, and the ways of the first."""
    vectors = F.normalize(torch.randn(count, 512, generator=torch.Generator().manual_seed(seed)), dim=-1)
    return vectors, torch.zeros(count, 512), Ways(vectors[0], among_others())


def alike(model: Hybrid) -> Ways:
    """Ways of which the estimates of a model count alike, whose presence is made the same for all."""
    torch.nn.init.zeros_(model.presence[-1].weight)  # type: ignore[arg-type]
    nothing, unheard = torch.zeros(512), torch.zeros(TAGS)
    known = KnownSounds(torch.zeros(1, 512), torch.zeros(1, 512), torch.zeros(1, TAGS), torch.zeros(1))
    return Ways(nothing, Among(known, nothing, unheard, 0.0))


def test_weights_of_the_ways_of_each_mixture_sum_to_one(hybrid: Hybrid) -> None:
    mix = torch.randn(2, 1, 40 * 512, generator=torch.Generator().manual_seed(4))
    query, nothing, ways = asked()
    (weights,) = hybrid(mix, query, nothing, [ways]).weights
    assert weights is not None
    assert weights.shape == (2, len(ways.names))
    torch.testing.assert_close(weights.sum(1), torch.ones(2))
    (even,) = hybrid(mix, query, nothing, [alike(hybrid)]).weights
    torch.testing.assert_close(even, torch.full((2, 2), 0.5))
    hybrid.config = replace(hybrid.config, refinements=0, mix_temperature=None)
    assert hybrid(mix, query, nothing, [ways]).weights == (None,)


def test_what_a_sound_beside_leaves_is_one_more_first_estimate(hybrid: Hybrid) -> None:
    mix = torch.randn(2, 1, 40 * 512, generator=torch.Generator().manual_seed(4))
    hybrid.config = replace(hybrid.config, presence_exponent=0.0, mask_floor=0.0)
    query, *other = F.normalize(torch.randn(4, 512, generator=torch.Generator().manual_seed(7)), dim=-1)
    known = KnownSounds(torch.stack(other), torch.stack(other), torch.zeros(3, TAGS), torch.tensor([0.0, 0.0, 9.0]))
    plain = alike(hybrid)
    among = replace(plain.among, known=replace(known, recordings=torch.zeros(3, 512)))
    beside = replace(plain, among=among, beside=Beside(torch.tensor([False, True, True]), most=1))
    nothing = torch.zeros(1, 512)
    with_it = hybrid(mix, query[None], nothing, [beside])
    without = hybrid(mix, query[None], nothing, [replace(plain, among=among)])
    assert with_it.weights[0] is not None
    torch.testing.assert_close(with_it.weights[0], torch.full((2, 3), 1 / 3))
    # Two runs without it, of the estimate and its residual; the third refines what is left without the sound beside.
    features = hybrid.encode(hybrid.energies(mean_power_of(mix, hybrid.n_fft, hybrid.hop)))
    owner, queries, zeros = torch.arange(2), query.expand(2, -1), torch.zeros(2, 512)
    left = residual_mask(hybrid.decode(features, other[1].expand(2, -1), zeros, owner).mask)
    similarity = hybrid.decode(features, queries, zeros, owner).similarity
    start = hybrid.described(left, features.energies, queries, similarity)
    third = hybrid.decode(features, queries, zeros, owner, previous=start).mask
    found = hybrid.bands.expand(third)[:, None]
    bare = []  # without what is said of the presence
    for estimate in (with_it, without):
        assert estimate.presence is not None
        bare.append(estimate.waveforms / among.loudness(torch.logit(estimate.presence))[..., None, None])
    wanted = 3 * bare[0] - 2 * bare[1]
    given = from_mask(hybrid, mix, found)
    inner = slice(2 * hybrid.n_fft, -2 * hybrid.n_fft)  # the ends are padded in another way
    torch.testing.assert_close(wanted[:, 0, :, inner], given[..., inner], atol=2e-4, rtol=1e-3)


def test_where_a_stem_is_named_its_mask_is_an_estimate_and_a_first_one(hybrid: Hybrid) -> None:
    mix = torch.randn(2, 1, 40 * 512, generator=torch.Generator().manual_seed(4))
    hybrid.config = replace(hybrid.config, presence_exponent=0.0, mask_floor=0.0)
    query, nothing, _ = asked()
    ways = replace(alike(hybrid), stem="drums")
    answered = hybrid(mix, query, nothing, [ways])
    assert answered.weights[0] is not None
    torch.testing.assert_close(answered.weights[0], torch.full((2, 3), 1 / 3))
    features = hybrid.encode(hybrid.energies(mean_power_of(mix, hybrid.n_fft, hybrid.hop)))
    asked_for = (features, query.expand(2, -1), torch.zeros(2, 512), torch.arange(2))
    stem = share_out(hybrid.decode_stems(features), features.energies)[:, hybrid.stem_names.index("drums")]
    first = hybrid.decode(*asked_for)
    start = hybrid.described(stem, features.energies, query.expand(2, -1), first.similarity)
    masks = [hybrid.decode(*asked_for, previous=previous).mask for previous in (first, start)]
    given = from_mask(hybrid, mix, hybrid.bands.expand((stem + masks[0] + masks[1]) / 3)[:, None])
    inner = slice(2 * hybrid.n_fft, -2 * hybrid.n_fft)  # the ends are padded in another way
    assert answered.presence is not None
    bare = answered.waveforms / ways.among.loudness(torch.logit(answered.presence))[..., None, None]
    torch.testing.assert_close(bare[:, 0, :, inner], given[..., inner], atol=2e-4, rtol=1e-3)


def runs_are_close(run: Decoded, other: Decoded) -> None:
    """Whether two runs of the decoder are the same."""
    for name in ("mask", "presence", "similarity"):
        torch.testing.assert_close(getattr(run, name), getattr(other, name), atol=1e-5, rtol=1e-4)
    for mine, its in ((run.heard, other.heard), (run.left, other.left)):
        assert mine is not None
        assert its is not None
        torch.testing.assert_close(mine.embedding, its.embedding, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(mine.tags, its.tags, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(("stem", "twice"), [(None, False), (None, True), ("bass", False)])
def test_estimates_at_once_are_what_they_are_one_by_one(
    hybrid: Hybrid, stem: str | None, twice: bool, batch: int
) -> None:
    mix = torch.randn(batch, 1, 40 * 512, generator=torch.Generator().manual_seed(4))
    query, _, ways = asked()
    beside = None if stem else Beside(torch.tensor([True, True, True]), most=2)
    ways, owner = replace(ways, beside=beside, stem=stem, twice=twice), torch.arange(batch)
    queries, negatives = query.expand(batch, -1), 0.5 * asked(1, seed=5)[0].expand(batch, -1)
    features = hybrid.encode(hybrid.energies(mean_power_of(mix, hybrid.n_fft, hybrid.hop)))
    energies = features.energies

    def compared(run: Decoded) -> Decoded:
        return replace(run, left=hybrid.hear(residual_mask(run.mask), energies))

    own = hybrid.decode(features, queries, negatives, owner)
    if stem:
        masks = [share_out(hybrid.decode_stems(features), energies)[:, hybrid.stem_names.index(stem)]]
    else:
        tags = hybrid.listener.tags(features.listener.local.mean((2, 3)))  # type: ignore[union-attr]
        others = ways.beside.loudest(ways.among.known, tags)  # type: ignore[union-attr]
        nothing = torch.zeros_like(negatives)
        masks = [residual_mask(hybrid.decode(features, other, nothing, owner).mask) for other in others]
    first = [own, *(hybrid.described(mask, energies, F.normalize(queries, dim=-1), own.similarity) for mask in masks)]
    asked_for = MixtureQueries(hybrid, features, queries, negatives, owner)
    found = asked_for.first_estimates(ways)
    assert len(found) == len(first) == (2 if stem else 3)
    for run, single in zip(found, map(compared, first), strict=True):
        runs_are_close(run, single)
    before = found if stem else [found[0], swapped(found[0]), *found[1:]]
    refined = [compared(hybrid.decode(features, queries, negatives, owner, previous=run)) for run in before]
    for run, single in zip(asked_for.decode_all(before), refined, strict=True):
        runs_are_close(run, single)
    # In the order of their names, each by its own score.
    mixed = [*refined, *(found[1:] if stem else [])]
    if twice:
        mixed += [compared(hybrid.decode(features, queries, negatives, owner, previous=run)) for run in refined]
    for run, single in zip(asked_for.estimates(ways), mixed, strict=True):
        runs_are_close(run, single)
    weights = torch.stack([ways.score(run) for run in mixed]).softmax(0)
    best, shares = asked_for.estimate_by_ways(ways)
    assert shares is not None
    assert shares.shape == (batch, len(ways.names))
    of_each = torch.stack(weights.split(len(ways.names))).sum(0)  # of both refinements
    torch.testing.assert_close(shares, of_each.T, atol=1e-4, rtol=1e-3)
    mean = torch.stack([run.mask for run in mixed]).mul(weights[..., None, None]).sum(0)
    torch.testing.assert_close(best.mask, mean, atol=1e-4, rtol=1e-3)


def test_words_that_name_a_stem_take_its_mask_unless_they_exclude_something(hybrid: Hybrid, mixture: Mixture) -> None:
    encoder = FakeEncoder(dimension=512)
    labels = ("drums", "dog", "rain")
    recordings = Recordings(labels, F.normalize(torch.randn(3, 512), dim=-1), torch.randn(3, TAGS))
    prototypes = Prototypes.of(recordings, encoder, torch.randn(TAGS, 512))
    separator = Separator(hybrid, encoder, device="cpu", precision="fp32", prototypes=prototypes)

    def ways(query: str | Query, **options: Any) -> list[str]:
        x = mixture(1, sample_rate=32000)
        out = separator.separate(x, [query], sample_rate=32000, options=Options(quality="fast", **options))
        return list(next(iter(out.explanation.values())).ways)

    assert ways("drums") == ways("the drums") == ["as asked", "the refined stem", "the stem"]
    words = ["as asked", "what that leaves"]
    assert ways("dog") == ways(Query("drums", negative="rain")) == ways("drums", stem_head=False) == words
    hybrid.stem_names = ("vocals",)
    assert ways("drums") == words


def from_mask(model: Hybrid, mix: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(batch, channels, samples): mixtures under masks (batch, 1, bins, frames)."""
    window = torch.hann_window(model.n_fft)
    spectrum = torch.stft(mix[:, 0], model.n_fft, model.hop, window=window, return_complex=True)
    return torch.istft(spectrum * mask[:, 0], model.n_fft, model.hop, window=window, length=mix.shape[-1])[:, None]


def test_a_sound_that_is_probably_absent_is_turned_down_by_both_presences(hybrid: Hybrid) -> None:
    mix = torch.randn(1, 1, 40 * 512, generator=torch.Generator().manual_seed(4))
    query, nothing, ways = asked()
    found = hybrid(mix, query, nothing, [ways])
    assert found.presence is not None
    features = hybrid.encode(hybrid.energies(mean_power_of(mix, hybrid.n_fft, hybrid.hop)))
    asked_for = MixtureQueries(hybrid, features, query, nothing, torch.zeros(1).long())
    network = asked_for.estimate_by_ways(ways)[0].presence.sigmoid()
    by_others = ways.among.loudness(torch.logit(found.presence))
    hybrid.config = replace(hybrid.config, presence_exponent=0.0)
    louder = hybrid(mix, query, nothing, [ways]).waveforms  # by the network's presence no more
    torch.testing.assert_close(found.waveforms, louder * network**2, rtol=1e-4, atol=1e-6)
    hybrid.config = replace(hybrid.config, mask_floor=0.0)
    bare = hybrid(mix, query, nothing, [ways]).waveforms / by_others[..., None, None]
    mask = asked_for.estimate_by_ways(ways)[0].mask
    inner = slice(2 * hybrid.n_fft, -2 * hybrid.n_fft)  # the ends are padded in another way
    given = from_mask(hybrid, mix, hybrid.bands.expand(mask)[:, None])
    torch.testing.assert_close(bare[:, 0, :, inner], given[..., inner], atol=2e-4, rtol=1e-3)
    assert ways.among.loudness(torch.tensor(8.0)) > 0.99
    assert ways.among.loudness(torch.tensor(-8.0)) < 0.01


def among_others() -> Among:
    """A sound among three others."""
    dice = torch.Generator().manual_seed(9)
    vectors = F.normalize(torch.randn(4, 512, generator=dice), dim=-1)
    tags = torch.randn(4, TAGS, generator=dice)
    known = KnownSounds(vectors[:3], vectors[:3], tags[:3], torch.zeros(3))
    return Among(known, vectors[3], tags[3], 0.0)


def test_evidence_is_what_is_heard_of_a_sound_less_what_is_heard_of_the_clearest_known_one() -> None:
    known = KnownSounds(torch.eye(4), torch.eye(4), torch.eye(4), torch.tensor([0.0, 0.0, 1.0, 0.0]))
    dog = Among(known, torch.eye(4)[1], torch.eye(4)[1], 0.5)
    mixture = Heard(torch.eye(4)[[0]], torch.tensor([[4.0, 2.0, 0.0, 0.0]]))
    estimate = Heard(torch.eye(4)[[1]], torch.tensor([[0.0, 3.0, 3.5, 0.0]]))
    evidence = dog.evidence(torch.tensor([7.0]), torch.tensor([0.25]), estimate, mixture)
    # Clear: 2 - 0.5 - 4 in the mixture, 3 - 0.5 - 3 in the estimate. Alike: -1 and 0.
    torch.testing.assert_close(evidence, torch.tensor([[7.0, -2.5, 0.25 * -0.5, 0.75 * -1.0, 0.25]]))
    device = dog.to(torch.device("cpu"))
    assert device.evidence(torch.tensor([7.0]), torch.tensor([0.25]), estimate, mixture).equal(evidence)
    assert dog.presence(evidence).shape == (1,)
    # Each part speaks for the sound.
    more = evidence + torch.eye(5)
    assert (dog.presence(more) > dog.presence(evidence)).all()


def test_what_is_said_of_a_query_does_not_depend_on_the_others(hybrid: Hybrid) -> None:
    mix = torch.randn(2, 1, 40 * 512, generator=torch.Generator().manual_seed(4))
    query, nothing, ways = asked()
    other = alike(hybrid)
    several = hybrid(mix, query.repeat(3, 1), nothing.repeat(3, 1), [ways, None, other]).presence
    assert several is not None
    for number, way in enumerate((ways, None, other)):
        one = hybrid(mix, query, nothing, [] if way is None else [way]).presence
        assert one is not None
        torch.testing.assert_close(several[:, number], one[:, 0])
    assert not torch.allclose(several[:, 0], several[:, 2])


def test_a_query_of_several_ways_beside_one_of_one_way(hybrid: Hybrid) -> None:
    mix = torch.randn(1, 2, 40 * 512, generator=torch.Generator().manual_seed(5))
    queries, nothing, ways = asked(2)
    both = hybrid(mix, queries, nothing, [ways, None])
    assert both.weights[1] is None
    assert both.weights[0] is not None
    assert both.weights[0].sum() == pytest.approx(1)
    torch.testing.assert_close(both.waveforms[:, :1], hybrid(mix, queries[:1], nothing[:1], [ways]).waveforms)
    torch.testing.assert_close(both.waveforms[:, 1:], hybrid(mix, queries[1:], nothing[1:]).waveforms)


def test_windows_at_once_are_measured_for_each_number_of_ways(
    hybrid: Hybrid, mixture: Mixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More ways need more memory."""
    measured: list[object] = []
    monkeypatch.setattr(backend, "windows_at_once", lambda device, *_: measured.append(device) or 1)
    encoder = FakeEncoder(dimension=512)
    recordings = Recordings(LABELS, F.normalize(torch.randn(5, 512), dim=-1), torch.randn(5, TAGS))
    prototypes = Prototypes.of(recordings, encoder, torch.randn(TAGS, 512))
    separator = Separator(hybrid, encoder, device="cpu", precision="fp32", prototypes=prototypes)
    for quality, count in (("fast", 1), ("best", 2), ("balanced", 3), ("best", 3)):
        separator.separate(mixture(0.2, 32000), "dog", sample_rate=32000, options=Options(quality=quality))
        assert len(measured) == count


def test_results_say_how_they_were_answered(hybrid: Hybrid, mixture: Mixture) -> None:
    encoder = FakeEncoder(dimension=512)
    recordings = Recordings(LABELS, F.normalize(torch.randn(5, 512), dim=-1), torch.randn(5, TAGS))
    prototypes = Prototypes.of(recordings, encoder, torch.randn(TAGS, 512))
    separator = Separator(hybrid, encoder, device="cpu", precision="fp32", prototypes=prototypes)
    queries = ["dog", Query(embedding=torch.ones(512), name="given")]
    x = mixture(3, sample_rate=32000)
    results = {
        quality: separator.separate(x, queries, sample_rate=32000, options=Options(quality=quality))
        for quality in ("fast", "balanced", "best")
    }
    for quality, count in (("fast", 2), ("balanced", 3), ("best", 4)):
        assert set(results[quality].explanation) == {"dog"}
        explanation = results[quality].explanation["dog"]
        assert explanation.labels[0][0] == "dog"
        assert len(explanation.ways) == count
        assert list(explanation.ways)[:2] == ["as asked", "what that leaves"]
        assert sum(explanation.ways.values()) == pytest.approx(1)
    assert (results["fast"]["dog"] != results["balanced"]["dog"]).any()
    np.testing.assert_allclose(results["fast"]["given"], results["best"]["given"], atol=1e-5)
    assert separator.separate(np.zeros_like(x), "dog", sample_rate=32000).explanation["dog"].ways == {}
