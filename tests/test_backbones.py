"""One contract for every network of `models.backbones`, at sizes that take milliseconds."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from doubles import FakeEncoder
from torch import Tensor

from audiosep.errors import ConfigError, ModelError
from audiosep.export.onnx import export
from audiosep.metrics import si_sdr
from audiosep.models.backbones.backbone import MaskBackbone, WaveBackbone
from audiosep.models.backbones.dual_path import chunked, overlapped
from audiosep.models.backbones.pqmf import FilterBank
from audiosep.models.backbones.rotary import rotated
from audiosep.models.families import FAMILIES, family_class
from audiosep.separator import Separator
from audiosep.weights.checkpoint import load_model, save_model
from audiosep.weights.configs import from_dict
from research.backbones.entries import ENTRIES

RATE = 8000
SPECTRUM: dict[str, Any] = {"n_fft": 128, "hop": 32}
TINY: dict[str, dict[str, Any]] = {
    "unet": SPECTRUM | {"widths": [8, 16], "dropout": 0.0},
    "wave_unet": {"levels": 3, "width": 8},
    "open_unmix": SPECTRUM | {"hidden": 32, "layers": 2},
    "mmdenselstm": SPECTRUM
    | {
        "edges": [20],
        "bands": [{"features": 6, "growth": 6, "layers": [1, 2, 1], "units": [0, 8, 0]}] * 2,
        "whole": {"features": 6, "growth": 6, "layers": [1, 2, 1], "units": [0, 8, 8]},
        "growth": 8,
    },
    "conv_tasnet": {"filters": 64, "bottleneck": 16, "skip": 16, "hidden": 32, "blocks": 3, "stacks": 1},
    "dprnn": {"filters": 16, "length": 8, "chunk": 20, "hidden": 16, "blocks": 1},
    "svoice": {"filters": 32, "chunk": 20, "hidden": 16, "blocks": 2},
    "resunet_decouple": SPECTRUM | {"widths": [8, 16], "frame_levels": 1, "blocks": 1, "middle": 1, "last": 1},
    "cws_presunet": {
        "n_fft": 64, "hop": 16, "subbands": 2, "widths": [8, 16],
        "frame_levels": 1, "blocks": 1, "middle": 1, "last": 1,
    },
    "skip_filtering": SPECTRUM | {"read_bins": 24, "enhancement": 24, "iterations": 2},
    "bs_roformer": SPECTRUM | {"bands": [5] * 13, "width": 16, "layers": 1, "heads": 2},
    "scnet": SPECTRUM | {"widths": [8, 12], "layers": 2},
}  # fmt: skip
PARAMETERS = {  # of the default sizes, without words
    "unet": 9823313, "skip_filtering": 27195538, "wave_unet": 10263498, "mmdenselstm": 1217471, "open_unmix": 8893348,
    "conv_tasnet": 5050929, "dprnn": 2591489, "svoice": 7546497, "resunet_decouple": 102571278,
    "cws_presunet": 200400306, "bs_roformer": 93402252, "scnet": 10575812,
}  # fmt: skip
COMMON = {"sample_rate": RATE, "dimension": 16, "features": 8, "window": 1.0, "context": 0.25}
families = pytest.mark.parametrize("family", TINY)
Backbone = MaskBackbone | WaveBackbone


def build(family: str, **changes: Any) -> Backbone:
    torch.manual_seed(0)
    cls = family_class(family)
    config = {"stems": ["voice", "hum", "rest"], "words": True} | COMMON | TINY[family] | changes
    model = cls(from_dict(cls.Config, config))
    assert isinstance(model, Backbone)
    return model.eval()


def queries(count: int, seed: int = 0) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(count, 16, generator=torch.Generator().manual_seed(seed)), dim=-1)


def sources(samples: int = 800) -> Tensor:
    """(2, 3, 2, samples): two mixtures of a low hum, high pulses and noise."""
    time = torch.arange(samples) / RATE
    noise = torch.randn(2, samples, generator=torch.Generator().manual_seed(1))
    rows = []
    for number in range(2):
        hum = 0.3 * torch.sin(6.28 * (150 + 40 * number) * time)
        pulses = 0.3 * torch.sin(6.28 * (1700 + 300 * number) * time) * (torch.sin(6.28 * 12 * time) > 0)
        rows.append(torch.stack([pulses, hum, 0.03 * noise[number]]))
    gains = torch.tensor([[1.0, 0.7], [0.6, 1.0], [1.0, 1.0]])
    return torch.stack(rows)[:, :, None] * gains[None, :, :, None]


def test_every_network_has_an_entry_and_tiny_sizes() -> None:
    registered = {family for family, place in FAMILIES.items() if ".backbones." in place}
    assert registered == set(TINY) == {entry.family for entry in ENTRIES}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.family)
def test_the_default_is_the_published_size(entry: Any) -> None:
    cls = family_class(entry.family)
    with torch.device("meta"):
        model = cls(cls.Config())
    count = sum(p.numel() for p in model.parameters())
    assert count == PARAMETERS[entry.family] == pytest.approx(1e6 * entry.published, rel=0.02)
    assert "text" not in model.capabilities
    assert (cls.__doc__ or "").strip()


# Sizes of the papers and their code that no count of parameters shows. Windows and contexts are ours.
TIMES: dict[str, dict[str, Any]] = {
    "unet": {"sample_rate": 8192, "n_fft": 1024, "hop": 768, "window": 24.0, "context": 6.0, "dropout": 0.5},
    "skip_filtering": {
        "sample_rate": 44100, "n_fft": 4096, "hop": 384, "window": 10.0, "context": 1.0, "read_bins": 744,
        "iterations": 10, "tolerance": 1e-3,
    },
    "wave_unet": {"sample_rate": 22050, "window": 10.0, "context": 2.0},
    "mmdenselstm": {
        "sample_rate": 44100, "n_fft": 4096, "hop": 1024, "window": 10.0, "context": 1.0, "edges": (380, 1024),
    },
    "open_unmix": {
        "sample_rate": 44100, "n_fft": 4096, "hop": 1024, "window": 10.0, "context": 1.0, "bandwidth": 16000.0,
    },
    "conv_tasnet": {"sample_rate": 8000, "window": 10.0, "context": 2.0, "causal": False},
    "dprnn": {"sample_rate": 8000, "window": 4.0, "context": 1.0, "chunk": 250},
    "svoice": {"sample_rate": 8000, "window": 4.0, "context": 1.0, "chunk": 180},
    "resunet_decouple": {"sample_rate": 44100, "n_fft": 2048, "hop": 441, "window": 10.0, "context": 1.0},
    "cws_presunet": {"sample_rate": 44100, "n_fft": 512, "hop": 110, "window": 10.0, "context": 1.0, "subbands": 4},
    "bs_roformer": {"sample_rate": 44100, "n_fft": 2048, "hop": 441, "window": 8.0, "context": 1.0, "heads": 8},
    "scnet": {"sample_rate": 44100, "n_fft": 4096, "hop": 1024, "window": 11.0, "context": 1.0},
}  # fmt: skip


@families
def test_the_default_has_the_published_times(family: str) -> None:
    config = dataclasses.asdict(family_class(family).Config())
    expected = {"dimension": 512, "features": 256, "normalise": True} | TIMES[family]
    assert {name: config[name] for name in expected} == expected


@families
def test_waveforms_of_any_length_and_channels(family: str) -> None:
    model = build(family)
    assert model.capabilities == {"text", "audio", "negative", "stems"}
    for channels, samples in ((1, 1), (2, 37), (3, 900)):
        mix = torch.randn(2, channels, samples)
        with torch.inference_mode():
            out, stems = model(mix, queries(3), 0.5 * queries(3, 1)), model.stems(mix)
        frames = samples // model.hop + 1
        assert (out.waveforms.shape, out.top.shape) == ((2, 3, channels, samples), (2, 3, frames))
        assert (stems.waveforms.shape, stems.top.shape) == ((2, 3, channels, samples), (2, 3, frames))
        assert torch.isfinite(out.waveforms).all()
        assert torch.isfinite(out.top).all()
        torch.testing.assert_close(stems.waveforms.sum(1), mix, atol=1e-5, rtol=1e-5)


@families
def test_queries_matter_and_each_gets_its_own_estimate(family: str) -> None:
    model, mix = build(family), sources().sum(1)
    with torch.inference_mode():
        alone = model(mix, queries(2)[1:]).waveforms[:, 0]
        both = model(mix, queries(2)).waveforms
        each = model.query_each(mix, queries(2)[1:].expand(2, -1), torch.zeros(2, 16))[-1]
        other = model(mix, queries(2)[1:], queries(1, 5)).waveforms[:, 0]
    torch.testing.assert_close(alone, both[:, 1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(alone, each, atol=1e-5, rtol=1e-4)
    assert (both[:, 0] - both[:, 1]).abs().max() > 1e-5
    assert (other - alone).abs().max() > 1e-6


@families
def test_the_level_of_a_mixture_does_not_matter(family: str) -> None:
    model, mix = build(family), sources().sum(1)
    with torch.inference_mode():
        loud, quiet = model.stems(mix).waveforms, model.stems(0.01 * mix).waveforms
    torch.testing.assert_close(loud, 100 * quiet, atol=2e-4, rtol=1e-3)


@families
def test_every_weight_learns(family: str) -> None:
    model, parts = build(family).train(), sources(800)
    mix = parts.sum(1)
    estimates = [*model.stems_by_stage(mix), *model.query_each(mix, queries(2), queries(2, 1))]
    assert len(estimates) == (4 if family == "svoice" else 2)
    sum((estimate * torch.randn(estimate.shape)).sum() for estimate in estimates).backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


@families
def test_one_batch_is_overfitted(family: str) -> None:
    model, parts = build(family, words=False).train(), sources()
    mix = parts.sum(1)
    before = si_sdr(mix[:, None].expand_as(parts), parts)[:, :2].mean()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(30):
        optimizer.zero_grad()
        stages = model.stems_by_stage(mix)
        sum((stage - parts).abs().mean() for stage in stages).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert si_sdr(stages[-1], parts)[:, :2].mean() > before + 6


@pytest.mark.parametrize("family", ["conv_tasnet", "open_unmix"])
def test_causal_networks_do_not_hear_the_future(family: str) -> None:
    model = build(family, causal=True, normalise=False)
    mix, cut = sources().sum(1), 800
    reach = {"conv_tasnet": 16, "open_unmix": 128}[family]
    with torch.inference_mode():
        whole, begun = model.stems(mix).waveforms, model.stems(mix[..., :cut]).waveforms
    torch.testing.assert_close(whole[..., : cut - reach], begun[..., : cut - reach], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(whole[..., :cut], build(family).stems(mix).waveforms[..., :cut], atol=1e-4)
    with pytest.raises(ConfigError, match="normalise"):
        build(family, causal=True)


@pytest.mark.parametrize("family", ["unet", "mmdenselstm", "skip_filtering"])
@pytest.mark.parametrize("stems", [False, True])
def test_mask_networks_are_exported(family: str, stems: bool, tmp_path: Any) -> None:
    pytest.importorskip("onnxruntime")
    separator = Separator(build(family), FakeEncoder(16), device="cpu", precision="fp32", name="tiny")
    assert export(separator, tmp_path / "x.onnx", stems=stems).deviation < 1e-4


def test_waveform_networks_say_that_they_are_not_exported(tmp_path: Any) -> None:
    pytest.importorskip("onnxruntime")
    separator = Separator(build("dprnn"), FakeEncoder(16), device="cpu", precision="fp32", name="tiny")
    with pytest.raises(ModelError, match="only torch"):
        export(separator, tmp_path / "x.onnx")


@families
def test_a_saved_network_separates_recordings_longer_than_its_window(family: str, tmp_path: Any) -> None:
    save_model(tmp_path, build(family), query=None)
    separator = Separator(load_model(tmp_path)[0], None, device="cpu", precision="fp32", name="tiny")
    mix = sources(20000)[0].sum(0).numpy()
    stems = separator.stems(mix, sample_rate=RATE)
    assert abs(sum(stems[name] for name in ("voice", "hum", "rest")) - mix).max() < 1e-5


def test_a_filter_bank_gives_back_what_it_split() -> None:
    x = torch.randn(2, 1001)
    for bands in (2, 4):
        bank = FilterBank(bands)
        parts = bank.split(x)
        assert parts.shape == (2, bands, -(-1001 // bands) + 16)
        assert (bank.join(parts, 1001) - x).square().mean() < 1e-6 * x.square().mean()
    tone = torch.sin(torch.arange(4000) * 3.14159 * 0.6)[None]
    energies = FilterBank(4).split(tone).square().sum(-1)[0]
    assert energies[2] > 1e3 * energies[[0, 1, 3]].max()


@pytest.mark.parametrize("steps", [1, 7, 20, 41])
def test_chunks_overlap_to_twice_what_was_cut(steps: int) -> None:
    x = torch.randn(2, 3, steps)
    torch.testing.assert_close(overlapped(chunked(x, 8), steps), 2 * x)


def test_rotary_products_depend_on_distances_alone() -> None:
    q, k = torch.randn(1, 8), torch.randn(1, 8)
    products = rotated(q.expand(6, 8)) @ rotated(k.expand(6, 8)).T
    torch.testing.assert_close(products[1, 0], products[5, 4])
    torch.testing.assert_close(products[0, 3], products[2, 5])
    assert (products[0, 0] - products[0, 1]).abs() > 1e-4


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        ("unet", {"stems": [], "words": False}, "no output"),
        ("unet", {"stems": ["voice"]}, "two or more"),
        ("unet", {"widths": [8, 0]}, "widths must be greater than 0"),
        ("unet", {"n_fft": 100}, "halved"),
        ("wave_unet", {"down_kernel": 4}, "odd"),
        ("mmdenselstm", {"edges": [90]}, "edges must rise"),
        ("dprnn", {"chunk": 7}, "even"),
        ("bs_roformer", {"bands": [5, 5]}, "bands have 10 bins"),
        ("bs_roformer", {"heads": 5}, "multiple"),
        ("scnet", {"layers": 3}, "even"),
        ("resunet_decouple", {"frame_levels": 5}, "frame_levels"),
        ("skip_filtering", {"read_bins": 60}, "read_bins"),
        ("conv_tasnet", {"context": 0.5}, "window must be longer"),
        ("conv_tasnet", {"context": -0.1}, "window must be longer"),
        ("conv_tasnet", {"length": 7}, "length must be even"),
        ("conv_tasnet", {"kernel": 4}, "kernel odd"),
        ("unet", {"hop": 128}, "longer than hop"),
        ("unet", {"stems": ["voice", "voice"]}, "each once"),
        ("unet", {"kernel": 4}, "odd"),
        ("unet", {"widths": [8]}, "widths"),
        ("wave_unet", {"up_kernel": 4}, "odd"),
        ("dprnn", {"length": 7}, "even"),
        ("open_unmix", {"hidden": 31}, "even"),
        ("scnet", {"shares": [0.5, 0.5]}, "one number for each band"),
        ("scnet", {"shares": [0.2, 0.4, 0.5]}, "sum to 1"),
        ("scnet", {"kernels": [3, 3, 16]}, "shorter than strides"),
    ],
)
def test_sizes_that_cannot_work_are_refused(family: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(family, **changes)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("conv_tasnet", {"context": 0.49}),
        ("conv_tasnet", {"context": 0.0}),
        ("unet", {"stems": ["voice", "rest"], "words": False}),
        ("unet", {"stems": [], "words": True}),
        ("resunet_decouple", {"frame_levels": 2}),
        ("skip_filtering", {"read_bins": 32}),
    ],
)
def test_the_least_and_the_largest_sizes_work(family: str, changes: dict[str, Any]) -> None:
    model, mix = build(family, **changes), torch.randn(1, 1, 700)
    with torch.inference_mode():
        out = model.stems(mix) if model.stem_names else model(mix, queries(1))
    assert torch.isfinite(out.waveforms).all()


@torch.no_grad()
def test_an_estimate_does_not_depend_on_those_beside_it() -> None:
    network = build("skip_filtering", iterations=8).eval()
    runs: list[int] = []
    network.decoder.register_forward_hook(lambda *_: runs.append(1))
    mixes = torch.stack([sources(4000)[0].sum(0), torch.zeros(sources(4000)[0].sum(0).shape)])

    def alone(tolerance: float) -> tuple[list[Tensor], list[int]]:
        network.config = dataclasses.replace(network.config, tolerance=tolerance)
        found, counts = [], []
        for mix in mixes:
            runs.clear()
            found.append(network.stems(mix[None]).waveforms[0])
            counts.append(len(runs))
        return found, counts

    for power in range(60):
        found, counts = alone(10 ** (-power / 4))
        if counts[0] != counts[1]:  # one of them is decoded more often
            break
    assert counts[0] != counts[1]
    for row, mine in zip(network.stems(mixes).waveforms, found, strict=True):
        torch.testing.assert_close(row, mine, atol=1e-6, rtol=1e-4)
