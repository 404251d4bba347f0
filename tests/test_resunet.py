"""The published network: numbers of the published code itself, channels, queries, lengths, what it cannot do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import foreign
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from doubles import FakeEncoder
from foreign import seeded

from audiosep.audio import read_audio, resample
from audiosep.convert import audiosep_ckpt
from audiosep.errors import ConfigError, ModelError
from audiosep.metrics import snr
from audiosep.models import resunet
from audiosep.models.resunet import ResUNet30, ResUNet30Config
from audiosep.models.stft import mean_power, stft
from audiosep.models.stretches import Stretch
from audiosep.query.query import Query
from audiosep.separator import Separator

SONG = Path(__file__).parents[1] / "examples" / "audio" / "song.flac"
TINY = ResUNet30Config(n_fft=256, hop=64, dimension=16, widths=(4, 8, 8))


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    return foreign.figures("resunet30")


@pytest.fixture(scope="module")
def network(figures: dict[str, Any]) -> ResUNet30:
    return audiosep_ckpt.separator(foreign.drawn(figures["shapes"], figures["seed"]))


@pytest.fixture(scope="module")
def tiny() -> ResUNet30:
    torch.manual_seed(0)
    model = ResUNet30(TINY).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.normal_(module.bias, std=0.3)
            torch.nn.init.normal_(module.running_mean, std=0.3)
            module.running_var.uniform_(0.5, 2)
    return model


def queries(n: int, dimension: int = TINY.dimension) -> torch.Tensor:
    return F.normalize(torch.randn(n, dimension, generator=torch.Generator().manual_seed(n)), dim=-1)


def noise(*shape: int) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(shape[-1]))


def run(model: ResUNet30, mix: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(mix, embeddings).waveforms


def test_numbers_of_the_published_code(network: ResUNet30, figures: dict[str, Any]) -> None:
    sound = seeded.sound(figures["samples"], figures["seed"])
    conditions = seeded.embeddings(figures["queries"], network.dimension, figures["seed"])
    out = run(network, torch.from_numpy(sound)[None, None], torch.from_numpy(conditions))[0, :, 0].double().numpy()
    positions = np.linspace(0, len(sound) - 1, len(figures["sound"])).astype(int)
    values, rms = np.array(figures["values"]), np.array(figures["rms"])
    assert np.abs(sound[positions] - figures["sound"]).max() < 1e-6
    assert np.abs(np.sqrt((out**2).mean(-1)) / rms - 1).max() < 1e-5
    assert np.linalg.norm(out[:, positions] - values) / np.linalg.norm(values) < 1e-5
    for row, projections, level in zip(out, figures["projections"], rms, strict=True):
        assert np.abs(np.array(seeded.projections(row)) - projections).max() / level < 1e-5


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 2e-6), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("frames", [1, 7, 8, 9, 10, 11, 16, 64, 75])
def test_stretches_of_time_change_nothing(
    tiny: ResUNet30, monkeypatch: pytest.MonkeyPatch, frames: int, dtype: torch.dtype, bound: float
) -> None:
    mix, query = noise(2, 1, frames * TINY.hop), queries(1)
    tiled = []
    for tile in (0, 2, 8, 64):
        monkeypatch.setattr(resunet, "TILE", tile)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            tiled.append(run(tiny, mix, query))
    for one in tiled[1:]:
        torch.testing.assert_close(one, tiled[0], rtol=0, atol=bound * float(tiled[0].abs().max()))


def test_inference_folds_what_training_computes_apart(tiny: ResUNet30) -> None:
    x, query = torch.randn(1, 4, 6, 8, generator=torch.Generator().manual_seed(0)), queries(1)[0]
    with torch.no_grad():
        for block in tiny.encoder:
            folded = block.bind_query(query)(Stretch(x), None)
            torch.testing.assert_close(folded, block(x, query))
            x = folded


def test_training_reaches_every_weight() -> None:
    torch.manual_seed(0)
    model = ResUNet30(TINY).train()
    model(noise(2, 1, 40 * TINY.hop), queries(2)).waveforms.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert [name for name, p in model.named_parameters() if not p.grad.any()] == []


def test_windows_on_the_pooling_grid_agree_with_the_whole(tiny: ResUNet30) -> None:
    grid, context = tiny.alignment, 12 * tiny.alignment  # beyond what any output depends on
    mix, query = noise(1, 1, 60 * grid), queries(1)
    whole = run(tiny, mix, query)
    window = run(tiny, mix[..., 20 * grid : 46 * grid], query)
    trusted = slice(20 * grid + context, 46 * grid - context)
    torch.testing.assert_close(window[..., context:-context], whole[..., trusted], rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["synthetic", "music"])
def test_windows_sound_like_the_whole_file(
    network: ResUNet30, figures: dict[str, Any], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Context and grid are enough for the published sizes: an error 40 dB below the target or less."""
    sound = seeded.sound(13 * network.alignment + 777, figures["seed"])
    if kind == "music":
        song, rate = read_audio(SONG)
        sound = resample(song.mean(0, keepdims=True), rate, network.sample_rate)[0]
    query = Query(embedding=seeded.embeddings(1, network.dimension, 1)[0], name="target")
    whole = run(network, torch.from_numpy(sound)[None, None], torch.as_tensor(query.embedding)[None])[0, 0, 0].numpy()
    monkeypatch.setattr(network, "window", 10 * network.alignment)
    assert len(sound) > network.window + 2 * network.alignment
    separator = Separator(network, FakeEncoder(network.dimension), "cpu", "fp32")
    windowed = separator.separate(sound, query, sample_rate=network.sample_rate)["target"]
    assert 10 * np.log10((whole**2).sum() / ((windowed - whole) ** 2).sum()) > 40


def test_one_channel_twice_gives_the_mono_target_twice(tiny: ResUNet30) -> None:
    mix, query = noise(1, 1, 3000), queries(2)
    mono, stereo = run(tiny, mix, query), run(tiny, mix.expand(1, 2, -1), query)
    torch.testing.assert_close(stereo, mono.expand_as(stereo))


def test_channels_keep_their_image(tiny: ResUNet30) -> None:
    mix, query = noise(1, 1, 3000), queries(1)
    mono = run(tiny, mix, query)
    opposite = run(tiny, torch.cat([mix, -mix], dim=1), query)
    torch.testing.assert_close(opposite, torch.cat([mono, -mono], dim=2))  # a mid downmix would be silent
    three = torch.cat([mix, 0.2 * mix, 0 * mix], dim=1)
    left, right, empty = run(tiny, three, query)[0, 0]
    torch.testing.assert_close(right, 0.2 * left)
    assert not empty.any()


def test_queries_do_not_depend_on_each_other(tiny: ResUNet30) -> None:
    mix, query = noise(2, 2, 3000), queries(3)
    together = run(tiny, mix, query)
    alone = torch.cat([run(tiny, mix, q[None]) for q in query], dim=1)
    assert torch.equal(together, alone)
    assert (together[:, 0] - together[:, 1]).abs().max() > 1e-4


def test_negative_moves_the_query(tiny: ResUNet30) -> None:
    mix, query, negative = noise(1, 1, 3000), queries(2), 0.7 * queries(2).flip(0)
    with torch.no_grad():
        out = tiny(mix, query, negative).waveforms
        same = tiny(mix, query, torch.zeros_like(negative)).waveforms
    torch.testing.assert_close(out, run(tiny, mix, F.normalize(query - negative, dim=-1)))
    torch.testing.assert_close(same, run(tiny, mix, query))


@pytest.mark.parametrize("samples", [1, 2, 63, 64, 128, 129, 255, 1000, 4096])
def test_any_length_comes_back(tiny: ResUNet30, samples: int) -> None:
    with torch.no_grad():
        estimate = tiny(noise(2, 3, samples), queries(2))
    assert estimate.waveforms.shape == (2, 2, 3, samples)
    assert estimate.top.shape == (2, 2, samples // TINY.hop + 1)
    assert estimate.presence is None
    assert torch.isfinite(estimate.waveforms).all()
    assert ((estimate.top >= 0) & (estimate.top <= 1)).all()


def test_silence_stays_silent(tiny: ResUNet30) -> None:
    assert not run(tiny, torch.zeros(1, 2, 5000), queries(2)).any()


def test_half_precision_is_close(tiny: ResUNet30) -> None:
    mix, query = noise(1, 1, 5000), queries(1)
    exact = run(tiny, mix, query)
    with torch.autocast("cpu", torch.bfloat16):
        half = run(tiny, mix, query)
    assert half.dtype == torch.float32
    assert (half - exact).norm() / exact.norm() < 0.05


def recording(model: ResUNet30) -> torch.Tensor:
    song, rate = read_audio(SONG)
    return torch.from_numpy(resample(song, rate, model.sample_rate))[None, :, : 6 * model.alignment]


def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on nothing is cut into stretches or folded."""
    monkeypatch.setattr(resunet, "TILE", 0)
    monkeypatch.setattr(
        resunet.ShiftedResidualBlock, "bind_query", lambda block, query: lambda x, _: block(x.frames, query)
    )


@pytest.mark.slow
def test_the_published_sizes_compute_what_their_layers_do_one_by_one(
    network: ResUNet30, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound, query = recording(network), queries(1, network.dimension)
    fast = run(network, sound, query)
    one_by_one(monkeypatch)
    plain = run(network, sound, query)
    assert (fast - plain).abs().max() < 1e-5 * plain.abs().max()


@pytest.mark.slow
def test_half_precision_loses_no_more_than_its_layers_one_by_one(
    network: ResUNet30, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound, query = recording(network), queries(1, network.dimension)
    power = mean_power(stft(sound, network.n_fft, network.hop, pad_mode="reflect"))

    def magnitude(half: bool) -> torch.Tensor:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            return next(network.masks(power, query, torch.zeros_like(query))).magnitude

    fast = magnitude(half=True)
    one_by_one(monkeypatch)
    exact, plain = magnitude(half=False), magnitude(half=True)
    assert (fast - exact).norm() < 1.05 * (plain - exact).norm()


@pytest.mark.slow
def test_half_precision_stays_forty_decibels_below_the_published_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    fresh = ResUNet30(ResUNet30Config()).eval()  # with the drawn weights phases are arbitrary, in any computation
    sound, query = recording(fresh), queries(2, fresh.dimension)
    with torch.autocast("cpu", torch.bfloat16):
        fast = run(fresh, sound, query)
    one_by_one(monkeypatch)
    assert snr(fast, run(fresh, sound, query)).min() >= 40


def test_no_stems_names_a_model_that_has_them(tiny: ResUNet30) -> None:
    assert tiny.capabilities == {"text", "audio", "negative"}
    assert tiny.stem_names == ()
    with pytest.raises(ModelError, match="mini"):
        tiny.stems(noise(1, 2, 1000))


@pytest.mark.parametrize("bad", [{"n_fft": 100}, {"widths": ()}, {"hop": 0}, {"hop": 1025}, {"dimension": 0}])
def test_impossible_sizes_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ResUNet30Config(**bad)
