"""Adapters start as nothing, are small, come back from their file exactly, add up, and know their base."""

from __future__ import annotations

import copy

import pytest
import torch
from doubles import PLAIN
from safetensors.torch import save_file
from torch import nn

from audiosep.errors import ConfigError, ModelError
from audiosep.models.adapters import Adapter, AdapterConfig, apply_adapter, trainable_parameters
from audiosep.models.hybrid import Hybrid
from audiosep.models.hybrid_config import HybridConfig
from audiosep.models.listener import ListenerConfig


def tiny() -> Hybrid:
    torch.manual_seed(0)
    return Hybrid(HybridConfig(widths=(8, 12), features=16, tracks=8, listener=None, window=80 * 512, **PLAIN)).eval()


def run(model: Hybrid) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    mix = torch.randn(1, 1, 32000, generator=generator) * 0.1
    query = torch.nn.functional.normalize(torch.randn(2, 512, generator=generator), dim=-1)
    with torch.no_grad():
        return model(mix, query).waveforms


def train(model: Hybrid, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trainable_parameters(model):
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)


def test_an_untrained_adapter_changes_nothing_and_trains_little():
    model = tiny()
    before, whole = run(model), sum(p.numel() for p in model.parameters())
    Adapter(model, AdapterConfig(rank=2))
    assert torch.allclose(run(model), before, atol=1e-6)
    assert sum(p.numel() for p in trainable_parameters(model)) < 0.5 * whole


def test_an_adapter_file_gives_the_trained_model_again(tmp_path):
    model, base = tiny(), tiny()
    adapter = Adapter(model, AdapterConfig(rank=4))
    train(model, 2)
    trained = run(model)
    assert not torch.allclose(trained, run(base), atol=1e-4)
    adapter.save(tmp_path / "mine.safetensors", base="tiny")
    apply_adapter(base, tmp_path / "mine.safetensors")
    assert torch.allclose(run(base), trained, atol=1e-5)
    adapter.merge()
    assert torch.allclose(run(model), trained, atol=1e-5)
    assert set(model.state_dict()) == set(base.state_dict())


def test_adapters_of_one_base_add_up_in_any_order(tmp_path):
    for seed in (2, 3):
        model = tiny()
        adapter = Adapter(model)
        train(model, seed)
        adapter.save(tmp_path / f"{seed}.safetensors", base="tiny")
    one, other = tiny(), tiny()
    for model, order in ((one, (2, 3)), (other, (3, 2))):
        for seed in order:
            apply_adapter(model, tmp_path / f"{seed}.safetensors")
    assert torch.allclose(run(one), run(other), atol=1e-5)
    change = {k: one.state_dict()[k] - v for k, v in tiny().state_dict().items() if v.is_floating_point()}
    assert any(v.abs().max() > 0.01 for v in change.values())


def test_an_adapter_of_another_base_is_refused(tmp_path):
    model, other = tiny(), tiny()
    Adapter(copy.deepcopy(model)).save(tmp_path / "a.safetensors", base="tiny")
    with torch.no_grad():
        other.pre.weight += 0.1
    with pytest.raises(ModelError, match="load the base"):
        apply_adapter(other, tmp_path / "a.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    for name in ("model", "text", "missing"):
        with pytest.raises(ModelError, match="adapter file"):
            apply_adapter(model, tmp_path / f"{name}.safetensors")


def test_half_precision_storage_of_the_base_does_not_matter(tmp_path):
    model = tiny()
    stored = copy.deepcopy(model).half().float()
    assert not torch.equal(run(stored), run(model))
    Adapter(model).save(tmp_path / "a.safetensors", base="tiny")
    apply_adapter(stored, tmp_path / "a.safetensors")


def test_the_listener_is_left_alone():
    model = Hybrid(HybridConfig(widths=(8, 12), features=16, tracks=8, listener=ListenerConfig(), **PLAIN))
    adapter = Adapter(model)
    assert not any(p.requires_grad for p in model.listener.parameters())
    assert any("attention" in name for name in adapter._layers)


def test_limits():
    with pytest.raises(ConfigError, match="limit"):
        Adapter(nn.Linear(4000, 4000), AdapterConfig(rank=1000))
    with pytest.raises(ConfigError, match="at least 1"):
        AdapterConfig(rank=0)
    with pytest.raises(ConfigError, match="no convolution"):
        Adapter(nn.ReLU())


def test_mini_sized_adapters_are_below_five_million_parameters():
    model = Hybrid(HybridConfig())
    Adapter(model, AdapterConfig(rank=16))
    assert sum(p.numel() for p in trainable_parameters(model)) < 5_000_000
