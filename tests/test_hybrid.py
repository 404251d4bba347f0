"""The hybrid network: masks of queries and stems, presence, and what its configuration changes."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from doubles import PLAIN
from safetensors.torch import save_file

from audiosep.errors import ConfigError, ModelError
from audiosep.models import estimates, mask_model
from audiosep.models.bands import Bands
from audiosep.models.blocks import ResidualBlock, fold, unfold
from audiosep.models.estimates import DecodeAll, Score
from audiosep.models.film import Condition, Film, FilmNorm
from audiosep.models.hybrid import Hybrid
from audiosep.models.hybrid_config import HybridConfig
from audiosep.models.listener import Listener, ListenerConfig
from audiosep.models.mask_model import Masks
from audiosep.models.masks import share_out, undecided
from audiosep.models.refinement import Decode, Decoded, Hear
from audiosep.models.stft import istft, mean_power_of, power, stft
from audiosep.separator import Separator
from audiosep.training.engine.dead_channels import DeadChannels
from audiosep.training.engine.warm_start import warm_start

SMALL_LISTENER = ListenerConfig(
    n_fft=512, hop=128, bands=48, widths=(8, 16), strides=((1, 1), (2, 2)), hidden=24, dimension=16, tags=5
)
SMALL = HybridConfig(
    n_fft=512,
    hop=128,
    bands=48,
    widths=(8, 16),
    dimension=16,
    features=12,
    tracks=6,
    listener=SMALL_LISTENER,
    window=64 * 128,
    context=8 * 128,
    **PLAIN,
)
REFINED = dataclasses.replace(SMALL, relisten=True, refinements=1)


def embedding(count: int, dimension: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.nn.functional.normalize(torch.randn(count, dimension, generator=generator), dim=-1)


def mixture(batch: int = 2, channels: int = 2, samples: int = 5000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, channels, samples, generator=generator) * 0.1


@pytest.fixture(scope="module")
def model() -> Hybrid:
    torch.manual_seed(0)
    return Hybrid(SMALL).eval()


def test_stft_inverts() -> None:
    x = mixture()
    back = istft(stft(x, 512, 128), 512, 128, x.shape[-1])
    assert (back - x).abs().max() < 1e-6


@pytest.mark.parametrize(("bins", "bands"), [(1025, 192), (257, 48), (513, 513)])
def test_bands_are_a_partition_of_unity(bins: int, bands: int) -> None:
    layer = Bands(bins, bands)
    energy = torch.rand(3, bins, 4)
    assert torch.allclose(layer.energy(energy).sum(1), energy.sum(1), rtol=1e-4)
    assert torch.allclose(layer.expand(torch.ones(3, layer.count, 4)), torch.ones(3, bins, 4), atol=1e-6)
    assert layer.weight.min() >= 0


@pytest.mark.parametrize(("bins", "bands"), [(1025, 192), (257, 48), (9, 3)])
def test_products_of_blocks_are_the_whole_product(bins: int, bands: int) -> None:
    layer = Bands(bins, bands)
    energy, mask = torch.rand(2, bins, 5), torch.rand(2, layer.count, 5)
    torch.testing.assert_close(layer.energy(energy), layer.weight.T @ energy)
    torch.testing.assert_close(layer.expand(mask), layer.weight @ mask)


def test_the_mask_of_a_bin_depends_on_no_other_bins_or_frames() -> None:
    layer, mask = Bands(1025, 192), torch.rand(2, 192, 70)
    whole = layer.expand(mask)
    for frames in (slice(0, 1), slice(3, 5), slice(9, 70)):
        for bins in (slice(None), slice(5, 900), slice(992, 1024)):
            assert torch.equal(layer.expand(mask[..., frames], bins), whole[:, bins, frames])


def test_bands_keep_energies_exact_under_autocast() -> None:
    layer, energy = Bands(257, 48), torch.rand(2, 257, 4)
    outside = layer.energy(energy)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer.energy(energy), outside)


@pytest.mark.parametrize("size", [(2, 2), (2, 4)])
def test_unfold_inverts_fold(size: tuple[int, int]) -> None:
    x = torch.rand(2, 1, 8, 16)
    assert torch.equal(unfold(fold(x, size), size), x)


def test_film_norm_is_the_same_affine_step_at_inference() -> None:
    norm = FilmNorm(6).eval()
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    x, scale, shift = torch.randn(2, 6, 5, 4), torch.randn(2, 6, 5, 1), torch.randn(2, 6, 5, 1)
    plain = torch.nn.BatchNorm2d(6).eval()
    plain.load_state_dict(norm.state_dict())
    assert torch.allclose(norm(x, (scale, shift)), plain(x) * (1 + scale) + shift, atol=1e-5)
    assert torch.allclose(norm(x), plain(x), atol=1e-6)


def test_scales_and_shifts_have_the_layout_of_the_maps() -> None:
    """Channels side by side: in the other layout it takes nine times as long to apply them."""
    film = Film(4, 3, (6, 8))
    parts = film(Condition(torch.randn(2, 4), torch.randn(2, 3, 5)), frames=9)
    assert [scale.shape for scale, _ in parts] == [(2, 6, 9, 1), (2, 8, 9, 1)]
    assert all(one.stride(1) == 1 for part in parts for one in part)


def test_shapes_and_presence(model: Hybrid) -> None:
    x = mixture()
    with torch.inference_mode():
        out = model(x, embedding(3))
    assert out.waveforms.shape == (2, 3, 2, 5000)
    assert out.top.shape == (2, 3, 5000 // 128 + 1)
    assert out.presence is not None
    assert out.presence.shape == (2, 3)
    assert ((out.presence >= 0) & (out.presence <= 1)).all()


@pytest.mark.parametrize("stems", [False, True])
def test_masks_of_bands_give_what_they_give_as_masks_of_bins(model: Hybrid, stems: bool) -> None:
    x = mixture(2, 3)
    with torch.inference_mode():
        masked = model.masked_stems(x) if stems else model.masked(x, embedding(2))
        assert masked.masks.magnitude.shape[2] == SMALL.bands
        bins = dataclasses.replace(masked, masks=Masks(masked.masks.whole()))
        assert torch.equal(masked.waveforms(300, 4000), bins.waveforms(300, 4000))
        assert torch.equal(masked.masks.mean_over(model.top_band), bins.masks.mean_over(model.top_band))


def test_only_masks_of_wanted_windows_are_spread_over_bins(model: Hybrid, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.no_grad():
        masked = model.masked(mixture(3), embedding(2))
    spread: list[int] = []
    expand = model.bands.expand

    def watched(mask: torch.Tensor, bins: slice = slice(None)) -> torch.Tensor:
        spread.append(len(mask))
        return expand(mask, bins)

    monkeypatch.setattr(model.bands, "expand", watched)
    masked.waveforms(0, 1000, slice(1, 2))
    assert spread == [1, 1]


def test_queries_are_independent_of_each_other(model: Hybrid) -> None:
    x, queries = mixture(), embedding(3)
    with torch.inference_mode():
        together = model(x, queries).waveforms
        alone = torch.cat([model(x, queries[k : k + 1]).waveforms for k in range(3)], 1)
    assert (together - alone).abs().max() < 1e-5 * together.abs().max()


def test_negative_query_changes_the_output(model: Hybrid) -> None:
    x, queries = mixture(), embedding(2)
    with torch.inference_mode():
        plain = model(x, queries[:1]).waveforms
        less = model(x, queries[:1], queries[1:]).waveforms
    assert (plain - less).abs().max() > 0


def test_one_mask_for_all_channels_keeps_the_image(model: Hybrid) -> None:
    left = mixture(1, 1)
    with torch.inference_mode():
        out = model(torch.cat([left, -0.5 * left], 1), embedding(1)).waveforms[0, 0]
    assert torch.allclose(out[1], -0.5 * out[0], atol=1e-6)
    assert out.abs().max() > 0


def test_stems_sum_to_the_mixture(model: Hybrid) -> None:
    x = mixture()
    with torch.inference_mode():
        out = model.stems(x)
    assert out.waveforms.shape == (2, 4, 2, 5000)
    assert (out.waveforms.sum(1) - x).abs().max() < 1e-5
    assert (out.top.sum(1) - 1).abs().max() < 1e-5


def test_stems_are_the_same_in_a_pass_of_their_own_and_beside_queries(model: Hybrid) -> None:
    model, mix = copy.deepcopy(model), mixture(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):  # those of tracks start at zero and would hide what is added
                parameter.normal_(std=0.3)
        features = model.encode(model.energies(power(stft(mix, 512, 128)).mean(1)))
        queries, owner, songs = embedding(3), torch.tensor([0, 1, 1]), torch.tensor([2, 0])
        arguments = (features, queries, torch.zeros_like(queries), owner)
        both, alone = model.decode(*arguments, songs=songs), model.decode(*arguments)
        assert both.stems is not None
        torch.testing.assert_close(both.stems, model.decode_stems(features)[songs])
        torch.testing.assert_close(both.mask, alone.mask)
        torch.testing.assert_close(both.presence, alone.presence)
    assert alone.stems is None


def test_presence_knows_the_level_of_the_output_but_does_not_change_it(model: Hybrid) -> None:
    energies, mask = torch.rand(2, 48, 20), torch.full((2, 48, 20), 0.5, requires_grad=True)
    similarity = torch.zeros(2, 2, 5, 3)

    def presence(mask: torch.Tensor, energies: torch.Tensor) -> torch.Tensor:
        return model.described(mask, energies, embedding(2), similarity).presence

    logits = presence(mask, energies)
    assert not torch.equal(logits, presence(mask * 0.1, energies))
    torch.testing.assert_close(logits, presence(mask, energies * 7), msg="not the mixture's level")
    assert torch.autograd.grad(logits.sum(), mask, allow_unused=True)[0] is None


def test_presence_depends_on_the_embedding_of_the_estimate() -> None:
    torch.manual_seed(0)
    model = Hybrid(dataclasses.replace(SMALL, relisten=True)).eval()
    mix, queries = mixture(), embedding(2)
    with torch.no_grad():
        before = model(mix, queries)
        model.presence[0].weight[:, -1] += 1.0  # of its last input, the similarity of that embedding to the query
        after = model(mix, queries)
    assert torch.equal(before.waveforms, after.waveforms)
    assert not torch.allclose(before.presence, after.presence)


def test_a_live_stream_of_short_latency_refines_nothing() -> None:
    model = Hybrid(dataclasses.replace(REFINED, mix_temperature=0.2)).eval()
    for how, refinements in (
        ({"latency": 0.2}, 0),
        ({"latency": 0.2, "thorough": True}, 1),
        ({"latency": 0.3}, 1),
        ({"latency": 0.3, "thorough": False}, 0),
        ({}, 1),
    ):
        live = Separator(model).stream(None, sample_rate=32000, channels=1, **how)  # type: ignore[arg-type]
        assert live._runner._model.config.refinements == refinements
    once, mix, queries = model.quick(), mixture(), embedding(2)
    plain = Hybrid(dataclasses.replace(model.config, refinements=0, mix_temperature=None)).eval()
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        # Not bit for bit: on processors without AVX-512 products depend on where in memory their weights lie.
        torch.testing.assert_close(once(mix, queries).waveforms, plain(mix, queries).waveforms)
        assert not torch.allclose(once(mix, queries).waveforms, model(mix, queries).waveforms)
    assert once.quick() is once
    assert next(once.parameters()) is next(model.parameters())


def test_a_live_window_covers_more_of_the_past_where_there_is_time() -> None:
    model = Hybrid(dataclasses.replace(SMALL, window=400 * 128, context=16 * 128)).eval()
    without_listener = Hybrid(dataclasses.replace(SMALL, listener=None, window=400 * 128)).eval()
    assert (model.past, without_listener.past) == (80 * 128, without_listener.context // 2)
    rate = model.sample_rate
    given = [Separator(model).stream(None, sample_rate=rate, channels=1, latency=x).windows.left for x in (0.19, 0.2)]
    assert given[0] < model.past <= given[1]


def test_no_gradient_goes_through_the_runs_before_the_last() -> None:
    model = Hybrid(dataclasses.replace(REFINED, refinements=2)).train()
    features = model.encode(torch.rand(1, 48, 20))
    arguments = (features, embedding(2), torch.zeros(2, 16), torch.zeros(2, dtype=torch.long))
    first = model.decode(*arguments)
    assert first.mask.requires_grad
    assert first.heard is not None
    kept = [*vars(first.detach()).values(), first.heard.embedding, first.heard.tags]
    assert not any(x.requires_grad for x in kept if isinstance(x, torch.Tensor))
    model.refine(*arguments).mask.sum().backward()
    for name in ("query.0.weight", "up.0.weight", "out.weight"):
        gradient = model.get_parameter(name).grad
        assert gradient is not None
        assert gradient.abs().max() > 0


def test_runs_at_once_are_what_they_are_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = Hybrid(dataclasses.replace(REFINED, mix_temperature=0.2, tags=True)).eval()
    given = mixture(), embedding(6)[:3], 0.5 * embedding(6)[3:]

    mixed = estimates.decode_mixed

    def one_by_one(decode: Decode, _: DecodeAll, hear: Hear, score: Score, refinements: int) -> Decoded:
        return mixed(decode, lambda runs: [decode(run) for run in runs], hear, score, refinements)

    with torch.no_grad():
        at_once = model(*given)
        monkeypatch.setattr(estimates, "decode_mixed", one_by_one)
        single = model(*given)
    torch.testing.assert_close(at_once.waveforms, single.waveforms)
    torch.testing.assert_close(at_once.presence, single.presence)


def test_refined_queries_one_at_a_time_and_together_are_the_same() -> None:
    torch.manual_seed(0)
    model = Hybrid(dataclasses.replace(REFINED, mix_temperature=0.2, tags=True)).eval()
    mix, queries, negatives = mixture(), embedding(6)[:3], 0.5 * embedding(6)[3:]
    with torch.no_grad():
        together = model(mix, queries, negatives)
        for k in range(3):
            alone = model(mix[1:], queries[k : k + 1], negatives[k : k + 1])
            torch.testing.assert_close(alone.waveforms[0, 0], together.waveforms[1, k], atol=1e-5, rtol=1e-4)
        none, zeros = model(mix, queries), model(mix, queries, torch.zeros_like(queries))
    torch.testing.assert_close(none.waveforms, zeros.waveforms)
    assert torch.equal(model(torch.zeros(1, 1, 5000), queries).waveforms, torch.zeros(1, 3, 1, 5000))


def test_each_query_hears_and_sees_its_own_mixture() -> None:
    torch.manual_seed(0)
    model = Hybrid(dataclasses.replace(REFINED, tags=True)).eval().requires_grad_(False)
    for weight in (*model.parameters(), model.attention.names):
        torch.nn.init.normal_(weight, std=0.2)  # else the listener says too little to be noticed
    energies = torch.rand(3, 48, 20, generator=torch.Generator().manual_seed(5)) ** 4
    queries, negatives, owner = embedding(8)[:4], 0.5 * embedding(8)[4:], torch.tensor([2, 0, 1, 2])
    features = model.encode(energies)
    first = model.decode(features, queries, negatives, owner)
    again = model.decode(features, queries, negatives, owner, previous=first)
    assert first.similarity is not None
    assert first.similarity[:, 1].abs().amin(0).any()  # to the negatives, and
    assert again.similarity is first.similarity  # to the queries themselves
    for k, mixture in enumerate(owner.tolist()):
        alone = model.encode(energies[mixture : mixture + 1])
        mine = queries[k : k + 1], negatives[k : k + 1], torch.zeros(1, dtype=torch.long)
        single = model.decode(alone, *mine)
        for one, all_at_once in ((single, first), (model.decode(alone, *mine, previous=single), again)):
            assert one.similarity is not None
            assert all_at_once.similarity is not None
            torch.testing.assert_close(all_at_once.similarity[k], one.similarity[0], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(all_at_once.mask[k], one.mask[0], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(all_at_once.presence[k], one.presence[0], atol=1e-4, rtol=1e-5)


def test_queries_in_groups_as_on_a_gpu_are_those_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = Hybrid(dataclasses.replace(REFINED, mix_temperature=0.2, tags=True)).eval()
    given = mixture(), embedding(6)[:3], 0.5 * embedding(6)[3:]
    with torch.no_grad():
        single = model(*given)
        monkeypatch.setitem(mask_model.QUERIES_TOGETHER, "cpu", 2)
        grouped = model(*given)
    assert single.weights == grouped.weights == (None, None, None)
    for name in ("waveforms", "top", "presence"):
        torch.testing.assert_close(getattr(grouped, name), getattr(single, name), atol=1e-5, rtol=1e-4)


def test_blocks_that_drift_below_zero_stay_alive(model: Hybrid) -> None:
    """A normalisation stands between a sum of blocks and the ReLU behind it: a drift would be for good."""
    drifted = copy.deepcopy(model).train()
    for block in (drifted.middle, *drifted.decoder):
        assert isinstance(block, ResidualBlock)
        torch.nn.init.constant_(block.conv2.weight, -1.0)
    with DeadChannels(drifted) as channels, torch.no_grad():
        drifted(mixture(), embedding(2))
    assert channels.zero_layers == []
    assert channels.share < 0.2


def test_modulation_weights_are_stacked_for_scale_and_shift_of_both_norms(model: Hybrid) -> None:
    films = {name: weight for name, weight in model.named_parameters() if ".film." in name}
    assert films
    for name, weight in films.items():
        block = model.get_submodule(name.partition(".film.")[0])
        assert isinstance(block, ResidualBlock)
        assert block.norm1.num_features == block.norm2.num_features == len(weight) // model.stacked(name), name
    assert model.stacked("attention.weight") == 1


def test_mask_floor_lets_as_much_of_the_mixture_through_as_masks_are_undecided(model: Hybrid) -> None:
    other = Hybrid(dataclasses.replace(SMALL, mask_floor=0.25)).eval()
    other.load_state_dict(model.state_dict())
    mix, queries = mixture(), embedding(2)
    with torch.no_grad():
        plain, lifted = model(mix, queries).waveforms, other(mix, queries).waveforms
        features = model.encode(model.energies(mean_power_of(mix, model.n_fft, model.hop)))
        owner = torch.tensor([0, 0, 1, 1])
        decoded = model.decode(features, queries.repeat(2, 1), torch.zeros(4, 16), owner)
        doubt = undecided(decoded.mask, features.energies[owner])
        assert 0.05 < doubt.min() < doubt.max() < 0.95
        floor = 0.25 * doubt.reshape(2, 2, 1, 1)
        torch.testing.assert_close(lifted, (1 - floor) * plain + floor * mix[:, None], atol=1e-5, rtol=1e-4)
        assert torch.equal(model.stems(mix).waveforms, other.stems(mix).waveforms)


@pytest.mark.parametrize("power", [1.0, 2.5])
def test_masks_are_weighted_by_the_presence(model: Hybrid, power: float) -> None:
    other = Hybrid(dataclasses.replace(SMALL, presence_exponent=power)).eval()
    other.load_state_dict(model.state_dict())
    mix, queries = mixture(), embedding(2)
    with torch.no_grad():
        plain, weighed = model(mix, queries), other(mix, queries)
        assert plain.presence is not None
        expected = plain.waveforms * plain.presence[:, :, None, None] ** power
        torch.testing.assert_close(weighed.waveforms, expected, atol=1e-6, rtol=1e-4)
        assert torch.equal(weighed.presence, plain.presence)
    with pytest.raises(ConfigError, match="presence_exponent"):
        Hybrid(dataclasses.replace(SMALL, presence_exponent=-power))


def test_share_out_sums_to_one_and_keeps_masks_that_are_decided() -> None:
    masks, energies = torch.rand(2, 4, 6, 5), torch.rand(2, 6, 5)
    assert torch.allclose(share_out(masks, energies).sum(1), torch.ones(2, 6, 5), atol=1e-5)
    decided = torch.nn.functional.one_hot(torch.randint(4, (2, 6, 5)), 4).permute(0, 3, 1, 2).float()
    assert torch.allclose(share_out(decided, energies), decided, atol=1e-5)


def test_share_out_raises_the_masks_of_a_stem_that_is_undecided() -> None:
    sure, unsure = torch.tensor([1.0, 1.0, 0.02, 0.02]), torch.full((4,), 0.3)
    masks = torch.stack([sure, unsure])[None, :, :, None].expand(1, 2, 4, 3)
    shares = share_out(masks, torch.ones(1, 4, 3))
    before = masks + (1 - masks.sum(1, keepdim=True)) * masks**2 / (masks**2).sum(1, keepdim=True)
    assert (shares[:, 1] > before[:, 1]).all()
    raised = 0.3 ** (1 - 0.25 * 0.7)
    softer = 0.02 ** (1 - 0.25 * float(undecided(masks[:, 0], torch.ones(1, 4, 3))))
    rest = (1 - raised - softer) * raised**2 / (raised**2 + softer**2)
    assert shares[0, 1, 3, 0].item() == pytest.approx(raised + rest, rel=1e-4)


def test_silence_gives_silence(model: Hybrid) -> None:
    silent = torch.zeros(1, 2, 5000)
    with torch.inference_mode():
        assert not model(silent, embedding(2)).waveforms.any()
        assert not model.stems(silent).waveforms.any()


def test_level_does_not_matter(model: Hybrid) -> None:
    x = mixture(1)
    with torch.inference_mode():
        loud, quiet = model(x, embedding(1)).waveforms, model(x * 1e-2, embedding(1)).waveforms
    assert (loud - quiet * 100).abs().max() < 1e-3 * loud.abs().max()


def test_without_listener_and_stems() -> None:
    torch.manual_seed(0)
    model = Hybrid(dataclasses.replace(SMALL, listener=None, stems=())).eval()
    assert model.capabilities == {"text", "audio", "negative", "presence"}
    with torch.inference_mode():
        out = model(mixture(), embedding(2))
        assert out.waveforms.shape == (2, 2, 2, 5000)
        with pytest.raises(ModelError, match="stems"):
            model.stems(mixture())


@pytest.mark.parametrize("tags", [False, True])
def test_gradients_reach_every_weight(tags: bool) -> None:
    torch.manual_seed(0)
    model = Hybrid(dataclasses.replace(SMALL, tags=tags)).train()
    if tags:
        model.attention.names.copy_(embedding(5))
    features = model.encode(model.energies(power(stft(mixture()[:, 0], 512, 128))))
    owner = torch.tensor([0, 0, 1])
    queries = embedding(3)
    decoded = model.decode(features, queries, queries.flip(0), owner)
    (decoded.mask.sum() + decoded.presence.sum() + model.decode_stems(features).square().sum()).backward()
    missing = {n for n, p in model.named_parameters() if p.grad is None}
    assert missing == (set() if tags else {"listener.tags.weight", "listener.tags.bias"})


def test_tags_match_the_query_that_means_them() -> None:
    torch.manual_seed(0)
    model = Hybrid(dataclasses.replace(SMALL, tags=True)).eval()
    names = torch.eye(16)[:5]
    model.attention.names.copy_(names)
    logits = torch.randn(2, 4, 3, 5)  # two mixtures, four moments, three rows, five tags
    meant, against = model.attention._tag_matches(logits, torch.tensor([1, 0]), names[[2, 4]]).unbind(1)
    assert torch.allclose(meant, 0.2 * torch.stack([logits[1, ..., 2], logits[0, ..., 4]]), atol=1e-5)
    assert torch.allclose(against, 0.2 * logits.log_softmax(-1)[[1, 0], ..., [2, 4]], atol=1e-5)


def test_heads_of_the_listener_keep_their_gradients_behind_a_pass_without() -> None:
    torch.manual_seed(0)
    model = Hybrid(dataclasses.replace(SMALL, tags=True))
    features = model.encode(model.energies(power(stft(mixture(1, 1)[:, 0], model.n_fft, model.hop))))
    assert features.listener is not None
    with torch.no_grad():
        assert not features.listener.joint.requires_grad
        assert not features.listener.tags.requires_grad
    (features.listener.joint.square().sum() + features.listener.tags.square().sum()).backward()
    assert all(one.grad is not None for one in model.listener.joint.parameters())
    assert all(one.grad is not None for one in model.listener.tags.parameters())
    assert features.listener.joint is features.listener.joint


def test_listener_embeds_masked_energies_as_it_embeds_audio() -> None:
    torch.manual_seed(0)
    listener = Listener(SMALL_LISTENER).eval()
    x = mixture(2, 1)[:, 0]
    with torch.inference_mode():
        embedded = listener.embed(x)
        same = listener.embed_pooled(listener.pooled(listener.energies(x) * 0.25))
    assert embedded.shape == (2, 16)
    assert torch.allclose(embedded.norm(dim=-1), torch.ones(2), atol=1e-5)
    assert torch.allclose(embedded, same, atol=1e-4)


def test_impossible_configurations_are_refused() -> None:
    for changes, message in (
        ({"mask_floor": 1.0}, "mask_floor"),
        ({"bands": 40}, "listener"),
        ({"listener": None, "tags": True}, "need a listener"),
        ({"listener": None, "relisten": True}, "need a listener"),
        ({"refinements": -1}, "refinements"),
        ({"refinements": 1}, "need relisten"),
        ({"mix_temperature": 0.0}, "greater than 0"),
        ({"mix_temperature": 0.2}, "mix_temperature needs"),
    ):
        with pytest.raises(ConfigError, match=message):
            dataclasses.replace(SMALL, **changes)
    with pytest.raises(ConfigError, match="window"):
        Hybrid(HybridConfig(window=1000))


def test_the_listeners_features_reach_the_end_of_the_padded_frames(model: Hybrid) -> None:
    """The last frame of a recording must follow the listener's last step, whatever the length."""
    for frames in (24, 25, 29, 31, 32):
        energies = torch.rand(1, 48, frames)
        steps = model.listener.local(energies).shape[2]
        numbered = torch.arange(steps, dtype=torch.float32)[None, None]
        extended = model._extend(numbered, energies)
        assert extended.shape[2] * model.listener.config.step == -(-frames // 8) * 8
        assert torch.equal(extended[..., :steps], numbered)
        assert (extended[..., steps:] == steps - 1).all()


def test_growing_keeps_scales_and_shifts_apart(tmp_path: Path) -> None:
    narrow, wide = Hybrid(SMALL), Hybrid(dataclasses.replace(SMALL, widths=(12, 16)))
    save_file(narrow.state_dict(), tmp_path / "narrow.safetensors")
    warm_start(wide, tmp_path / "narrow.safetensors")
    before, after = narrow.decoder[1].film.vector.weight, wide.decoder[1].film.vector.weight
    assert (len(before), len(after)) == (4 * 8, 4 * 12)
    for old, new in zip(before.chunk(4), after.chunk(4), strict=True):
        assert torch.equal(new[:8], old)


def test_a_listener_that_the_decoder_cannot_follow_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of the 4 frames"):
        Hybrid(dataclasses.replace(SMALL, widths=(8,), patch=(1, 2)))
