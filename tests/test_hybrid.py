"""The hybrid network: bands, masks, stems, candidates, and that inference folds what training leaves apart."""

from __future__ import annotations

import copy
import dataclasses
import functools
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from audiosep.errors import ConfigError, ModelError
from audiosep.models.bands import Bands
from audiosep.models.blocks import ResidualBlock, fold, unfold
from audiosep.models.film import FilmNorm
from audiosep.models.hybrid import Hybrid
from audiosep.models.hybrid_config import HybridConfig
from audiosep.models.listener import Listener, ListenerConfig
from audiosep.models.masks import share_out
from audiosep.models.passes import question_after
from audiosep.models.stft import istft, power, stft
from audiosep.separator import Separator
from audiosep.training.engine.dead_channels import Health
from audiosep.training.engine.run_state import warm_start

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
    refine=True,
    window=64 * 128,
    context=8 * 128,
)


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


def test_shapes_and_presence(model: Hybrid) -> None:
    x = mixture()
    with torch.inference_mode():
        out = model(x, embedding(3))
    assert out.waveforms.shape == (2, 3, 2, 5000)
    assert out.top.shape == (2, 3, 5000 // 128 + 1)
    assert out.presence is not None
    assert out.presence.shape == (2, 3)
    assert ((out.presence >= 0) & (out.presence <= 1)).all()


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
            if name.endswith("bias"):  # those of tracks and candidates start at zero and would hide what is added
                parameter.normal_(std=0.3)
        features = model.encode(model.energies(power(stft(mix, 512, 128)).mean(1)))
        asked, owner, songs = embedding(3), torch.tensor([0, 1, 1]), torch.tensor([2, 0])
        arguments = (features, asked, torch.zeros_like(asked), owner, model.select(features, asked, owner))
        both, alone = model.decode(*arguments, songs=songs), model.decode(*arguments)
        assert both.stems is not None
        torch.testing.assert_close(both.stems, model.stem_masks(features)[songs])
        torch.testing.assert_close(both.mask, alone.mask)
        torch.testing.assert_close(both.presence, alone.presence)
    assert alone.stems is None


def test_presence_knows_the_level_of_the_output_but_does_not_change_it(model: Hybrid) -> None:
    energies, mask = torch.rand(2, 48, 20), torch.full((2, 48, 20), 0.5, requires_grad=True)
    similarity = torch.zeros(2, 2, 5, 3)
    logits = model._presence(mask, energies, similarity)
    assert not torch.equal(logits, model._presence(mask * 0.1, energies, similarity))
    torch.testing.assert_close(logits, model._presence(mask, energies * 7, similarity), msg="not the mixture's level")
    assert torch.autograd.grad(logits.sum(), mask, allow_unused=True)[0] is None


def test_presence_hears_the_output_again() -> None:
    torch.manual_seed(0)
    model = Hybrid(dataclasses.replace(SMALL, relisten=True)).eval()
    asked, energies = embedding(2), torch.rand(2, 48, 20)
    half = torch.zeros(2, 48, 20)
    half[:, :24] = 1.0
    low, high, both = (model._hear(mask, energies) for mask in (half, 1 - half, torch.ones_like(half)))
    assert not torch.allclose(low, high)
    torch.testing.assert_close(both, model.listener.embed_pooled(model.listener.pooled(energies)))
    answers = [(heard * asked).sum(-1, keepdim=True) for heard in (low, high)]
    logits = [model._presence(half, energies, torch.zeros(2, 2, 5, 3), answer) for answer in answers]
    assert not torch.equal(*logits)
    result = model(mixture(), asked)
    assert result.presence is not None
    assert result.presence.shape == (2, 2)


def test_a_second_pass_asks_for_what_the_first_answer_sounds_like_and_not_for_the_rest() -> None:
    torch.manual_seed(0)
    model = Hybrid(dataclasses.replace(SMALL, refine=False, relisten=True, passes=2)).eval()
    asked, unwanted, owner = embedding(3)[:2], embedding(3)[2:].expand(2, -1), torch.zeros(2, dtype=torch.long)
    with torch.no_grad():
        features = model.encode(torch.rand(1, 48, 20))
        first = model.decode(features, asked, unwanted, owner)
        assert first.presence is not None
        sure = torch.sigmoid(first.presence)[:, None]
        energies = features.energies[owner]
        heard, rest = (model._hear(part, energies) for part in (first.mask, 1 - first.mask))
        left = ((1 - first.mask).square() * energies).sum((1, 2)) / energies.sum((1, 2))
        by_hand = model.decode(features, asked + sure * heard, unwanted + (sure * left.sqrt()[:, None]) * rest, owner)
        second = model.ask(features, asked, unwanted, owner)
        torch.testing.assert_close(second.mask, by_hand.mask)
        assert not torch.allclose(second.mask, first.mask)
        # Whether the sound is there is still asked in the words of the question.
        assert first.similarity is not None
        assert second.similarity is not None
        assert second.heard is not None
        assert torch.equal(second.similarity, first.similarity)
        answers = (second.heard * asked).sum(-1, keepdim=True)
        expected = model._presence(second.mask, features.energies[owner], first.similarity, answers)
        torch.testing.assert_close(second.presence, expected)
        assert torch.equal(model.ask(features, asked, unwanted, owner, passes=1).mask, first.mask)
        third = model.ask(features, asked, unwanted, owner, passes=3)
        torch.testing.assert_close(third.mask, model.decode(features, asked, unwanted, owner, before=second).mask)


def test_answers_are_mixed_by_how_well_they_fit() -> None:
    torch.manual_seed(0)
    twice = Hybrid(dataclasses.replace(SMALL, refine=False, relisten=True, passes=2)).eval()
    torch.nn.init.normal_(twice.out.weight, std=0.5)
    asked, owner, none = embedding(2), torch.zeros(2, dtype=torch.long), torch.zeros(2, 16)
    with torch.no_grad():
        features = twice.encode(torch.rand(1, 48, 20))
        energies = features.energies[owner]
        first = twice.decode(features, asked, none, owner)
        second = twice.decode(features, asked, none, owner, before=first)
        rest = 1 - first.mask.clamp(0, 1)
        other = dataclasses.replace(first, mask=rest, heard=twice._hear(rest, energies))
        wrong_way_round = twice.decode(features, asked, none, owner, before=other)
        masks = torch.stack([first.mask, second.mask, wrong_way_round.mask])
        fits = [((twice._hear(m, energies) - twice._hear(1 - m.clamp(0, 1), energies)) * asked).sum(-1) for m in masks]
        for scale in (3.0, 1e6):
            model = Hybrid(dataclasses.replace(twice.config, decide=scale)).eval()
            model.load_state_dict(twice.state_dict())
            given = model.decide(features, asked, none, owner)
            weights = (scale * torch.stack(fits)).softmax(0)
            torch.testing.assert_close(given.mask, (weights[..., None, None] * masks).sum(0), atol=1e-4, rtol=1e-3)
            torch.testing.assert_close(given.presence, second.presence)
        assert torch.equal(twice.decide(features, asked, none, owner).mask, second.mask)
    with pytest.raises(ConfigError, match="decide needs"):
        Hybrid(dataclasses.replace(SMALL, decide=1.0))
    with pytest.raises(ConfigError, match="decide is a scale"):
        Hybrid(dataclasses.replace(SMALL, decide=-1.0))


def test_a_live_stream_in_a_hurry_asks_once() -> None:
    model = Hybrid(dataclasses.replace(SMALL, refine=False, relisten=True, passes=2, decide=5.0)).eval()
    for how, passes in (
        ({"latency": 0.2}, 1),
        ({"latency": 0.2, "thorough": True}, 2),
        ({"latency": 0.3}, 2),
        ({"latency": 0.3, "thorough": False}, 1),
        ({}, 2),
    ):
        live = Separator(model).stream(None, sample_rate=32000, channels=1, **how)  # type: ignore[arg-type]
        assert live._inference._model.config.passes == passes
    once, mix, asked = model.quick(), mixture(), embedding(2)
    plain = Hybrid(dataclasses.replace(model.config, passes=1, decide=0.0)).eval()
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(once(mix, asked).waveforms, plain(mix, asked).waveforms)
        assert not torch.allclose(once(mix, asked).waveforms, model(mix, asked).waveforms)
    assert once.quick() is once
    assert next(once.parameters()) is next(model.parameters())


def test_a_live_stream_hears_more_of_the_past_where_there_is_time() -> None:
    model = Hybrid(dataclasses.replace(SMALL, refine=False, window=400 * 128, context=16 * 128)).eval()
    deaf = Hybrid(dataclasses.replace(SMALL, refine=False, listener=None, candidates=0, window=400 * 128)).eval()
    assert (model.past, deaf.past) == (80 * 128, deaf.context // 2)
    rate = model.sample_rate
    given = [Separator(model).stream(None, sample_rate=rate, channels=1, latency=x).windows.left for x in (0.19, 0.2)]
    assert given[0] < model.past <= given[1]


def test_nothing_is_kept_out_where_the_first_answer_leaves_nothing() -> None:
    model = Hybrid(dataclasses.replace(SMALL, refine=False, relisten=True, passes=2)).eval()
    torch.nn.init.constant_(model.out.bias, 20.0)
    energies, unwanted = torch.rand(2, 48, 20), embedding(4)[2:]
    with torch.no_grad():
        features = model.encode(energies)
        owner = torch.arange(2)
        everything = model.decode(features, embedding(2), unwanted, owner)
        assert everything.mask.min() >= 1
        hear = functools.partial(model._hear, energies=energies)
        _, kept_out = question_after(everything, hear, energies, embedding(2), unwanted)
    torch.testing.assert_close(kept_out, unwanted)


def test_passes_before_the_last_are_heard_but_not_trained_through() -> None:
    model = Hybrid(dataclasses.replace(SMALL, refine=False, relisten=True, passes=3)).train()
    features = model.encode(torch.rand(1, 48, 20))
    before = model.decode(features, embedding(2), torch.zeros(2, 16), torch.zeros(2, dtype=torch.long))
    assert before.mask.requires_grad
    still = before.detach()
    assert not any(x is not None and x.requires_grad for x in vars(still).values())
    model.ask(features, embedding(2), torch.zeros(2, 16), torch.zeros(2, dtype=torch.long)).mask.sum().backward()
    for name in ("query.0.weight", "up.0.weight", "out.weight"):
        gradient = model.get_parameter(name).grad
        assert gradient is not None
        assert gradient.abs().max() > 0


@pytest.mark.parametrize("refine", [False, True])
def test_asked_twice_one_at_a_time_and_together_are_the_same(refine: bool) -> None:
    torch.manual_seed(0)
    model = Hybrid(dataclasses.replace(SMALL, refine=refine, relisten=True, passes=2, decide=5.0, tags=True)).eval()
    mix, asked, unwanted = mixture(), embedding(6)[:3], 0.5 * embedding(6)[3:]
    with torch.no_grad():
        together = model(mix, asked, unwanted)
        for k in range(3):
            alone = model(mix[1:], asked[k : k + 1], unwanted[k : k + 1])
            torch.testing.assert_close(alone.waveforms[0, 0], together.waveforms[1, k], atol=1e-5, rtol=1e-4)
        none, zeros = model(mix, asked), model(mix, asked, torch.zeros_like(asked))
    torch.testing.assert_close(none.waveforms, zeros.waveforms)
    assert torch.equal(model(torch.zeros(1, 1, 5000), asked).waveforms, torch.zeros(1, 3, 1, 5000))


def test_blocks_that_drift_below_zero_stay_alive(model: Hybrid) -> None:
    """A normalisation stands between a sum of blocks and the ReLU behind it: a drift would be for good."""
    drifted = copy.deepcopy(model).train()
    for block in (drifted.middle, *drifted.decoder):
        assert isinstance(block, ResidualBlock)
        torch.nn.init.constant_(block.conv2.weight, -1.0)
    with Health(drifted) as health, torch.no_grad():
        drifted(mixture(), embedding(2))
    assert health.silent == []
    assert health.dead < 0.2


def test_floor_lets_a_share_of_the_mixture_through(model: Hybrid) -> None:
    other = Hybrid(dataclasses.replace(SMALL, floor=0.25)).eval()
    other.load_state_dict(model.state_dict())
    mix, asked = mixture(), embedding(2)
    with torch.no_grad():
        plain, lifted = model(mix, asked).waveforms, other(mix, asked).waveforms
        torch.testing.assert_close(lifted, 0.75 * plain + 0.25 * mix[:, None], atol=1e-5, rtol=1e-4)
        assert torch.equal(model.stems(mix).waveforms, other.stems(mix).waveforms)


@pytest.mark.parametrize("power", [1.0, 2.5])
def test_outputs_are_weighed_by_the_presence(model: Hybrid, power: float) -> None:
    other = Hybrid(dataclasses.replace(SMALL, weigh=power)).eval()
    other.load_state_dict(model.state_dict())
    mix, asked = mixture(), embedding(2)
    with torch.no_grad():
        plain, weighed = model(mix, asked), other(mix, asked)
        assert plain.presence is not None
        expected = plain.waveforms * plain.presence[:, :, None, None] ** power
        torch.testing.assert_close(weighed.waveforms, expected, atol=1e-6, rtol=1e-4)
        assert torch.equal(weighed.presence, plain.presence)
    with pytest.raises(ConfigError, match="weigh needs"):
        Hybrid(dataclasses.replace(SMALL, weigh=power, presence=False))
    with pytest.raises(ConfigError, match="power of the presence"):
        Hybrid(dataclasses.replace(SMALL, weigh=-power))


def test_candidates_sum_to_one(model: Hybrid) -> None:
    with torch.inference_mode():
        features = model.encode(model.energies(power(stft(mixture()[:, 0], 512, 128))))
        masks = model.candidate_masks(features)
    assert masks.shape[:3] == (2, 4, 48)
    assert (masks.sum(1) - 1).abs().max() < 1e-5


def test_share_out_sums_to_one_and_keeps_complete_masks() -> None:
    masks = torch.rand(2, 4, 6, 5)
    assert torch.allclose(share_out(masks).sum(1), torch.ones(2, 6, 5), atol=1e-5)
    complete = masks / masks.sum(1, keepdim=True)
    assert torch.allclose(share_out(complete), complete, atol=1e-5)


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


@pytest.mark.parametrize("skips", ["add", "concat"])
def test_bins_axis_without_listener(skips: str) -> None:
    torch.manual_seed(0)
    config = HybridConfig(
        n_fft=512, hop=128, axis="bins", widths=(8, 8), dimension=16, features=12, listener=None,
        skips=skips, candidates=0, stems=(), presence=False, window=64 * 128, context=8 * 128,
    )  # fmt: skip
    model = Hybrid(config).eval()
    assert model.capabilities == {"text", "audio", "negative"}
    with torch.inference_mode():
        out = model(mixture(), embedding(2))
        assert out.waveforms.shape == (2, 2, 2, 5000)
        assert out.presence is None
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
    chosen = model.select(features, queries, owner)
    decoded = model.decode(features, queries, queries.flip(0), owner, chosen)
    total = decoded.mask.sum() + decoded.presence.sum() + model.stem_masks(features).square().sum()
    (total + model.candidate_masks(features).square().sum()).backward()
    missing = {n for n, p in model.named_parameters() if p.grad is None}
    assert missing == (set() if tags else {"listener.tags.weight", "listener.tags.bias"})


def test_tags_answer_the_query_that_means_them() -> None:
    torch.manual_seed(0)
    model = Hybrid(dataclasses.replace(SMALL, tags=True)).eval()
    names = torch.eye(16)[:5]
    model.attention.names.copy_(names)
    logits = torch.randn(2, 4, 3, 5)  # two mixtures, four moments, three rows, five tags
    meant, against = model.attention._answers(logits, torch.tensor([1, 0]), names[[2, 4]]).unbind(1)
    assert torch.allclose(meant, 0.2 * torch.stack([logits[1, ..., 2], logits[0, ..., 4]]), atol=1e-5)
    assert torch.allclose(against, 0.2 * logits.log_softmax(-1)[[1, 0], ..., [2, 4]], atol=1e-5)


def test_listener_hears_masks_as_it_hears_audio() -> None:
    torch.manual_seed(0)
    listener = Listener(SMALL_LISTENER).eval()
    x = mixture(2, 1)[:, 0]
    with torch.inference_mode():
        heard = listener.embed(x)
        same = listener.embed_pooled(listener.pooled(listener.energies(x) * 0.25))
    assert heard.shape == (2, 16)
    assert torch.allclose(heard.norm(dim=-1), torch.ones(2), atol=1e-5)
    assert torch.allclose(heard, same, atol=1e-4)


def test_impossible_configurations_are_refused() -> None:
    with pytest.raises(ConfigError, match="floor"):
        Hybrid(dataclasses.replace(SMALL, floor=1.0))
    with pytest.raises(ConfigError, match="listener"):
        Hybrid(HybridConfig(hop=256, window=512 * 256, context=256))
    with pytest.raises(ConfigError, match="tags needs a listener"):
        Hybrid(HybridConfig(listener=None, tags=True))
    with pytest.raises(ConfigError, match="refine"):
        Hybrid(HybridConfig(listener=None, refine=True))
    with pytest.raises(ConfigError, match="relisten"):
        Hybrid(HybridConfig(listener=None, relisten=True))
    for passes in (0, 2):
        with pytest.raises(ConfigError, match="passes"):
            Hybrid(dataclasses.replace(SMALL, passes=passes))
    with pytest.raises(ConfigError, match="window"):
        Hybrid(HybridConfig(window=1000))


def test_what_is_heard_lasts_as_long_as_the_decoder(model: Hybrid) -> None:
    """The last frame of a recording must be steered by the listener's last step, whatever the length."""
    for frames in (24, 25, 29, 31, 32):
        energies = torch.rand(1, 48, frames)
        steps = model.listener.local(energies).shape[2]
        heard = torch.arange(steps, dtype=torch.float32)[None, None]
        lasting = model._lasting(heard, energies)
        assert lasting.shape[2] * model.listener.config.step == -(-frames // 8) * 8
        assert torch.equal(lasting[..., :steps], heard)
        assert (lasting[..., steps:] == steps - 1).all()


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
        Hybrid(dataclasses.replace(SMALL, widths=(8,), refine=False, patch=(1, 2)))
