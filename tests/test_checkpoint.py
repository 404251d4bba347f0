"""Models on disk: round trips, and what is said when a file is missing, damaged or of something else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from doubles import PLAIN, TinyConfig, TinyModel
from safetensors.torch import save_file
from torch import nn

import audiosep
from audiosep.errors import ModelError
from audiosep.models.adapters import Adapter
from audiosep.models.hybrid import Hybrid
from audiosep.models.hybrid_config import HybridConfig
from audiosep.models.listener import ListenerConfig
from audiosep.weights.checkpoint import WEIGHTS, load_model, load_state, save_model, save_state
from audiosep.weights.model_config import CONFIG

SMALL = HybridConfig(widths=(8, 8), features=16, tracks=8, listener=None, **PLAIN)


def test_round_trip(tiny_folder: Path) -> None:
    model, config = load_model(tiny_folder)
    assert isinstance(model, TinyModel)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert config["query"] == {"encoder": "fake"}
    assert config["name"] == "tiny"
    for key, tensor in TinyModel().state_dict().items():
        assert torch.equal(model.state_dict()[key], tensor)


@pytest.mark.parametrize("listener", [None, ListenerConfig()])
def test_hybrid_round_trip_with_nested_config(tmp_path: Path, listener: ListenerConfig | None) -> None:
    config = HybridConfig(widths=(8, 8, 8), features=16, tracks=8, listener=listener, **PLAIN)
    model = Hybrid(config).eval()
    read, _ = load_model(save_model(tmp_path / "m", model, query=None))
    assert read.config == config
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), read.state_dict().values(), strict=True))


def test_half_halves_matrices_and_keeps_vectors(tmp_path: Path) -> None:
    model = Hybrid(SMALL)
    whole, half = (save_model(tmp_path / name, model, query=None, half=name == "half") for name in ("whole", "half"))
    assert (half / WEIGHTS).stat().st_size < 0.6 * (whole / WEIGHTS).stat().st_size
    read = load_state(half / WEIGHTS)
    for key, tensor in model.state_dict().items():
        assert read[key].dtype == (torch.float32 if tensor.is_floating_point() else tensor.dtype)
        assert torch.allclose(read[key], tensor, rtol=1e-3, atol=1e-6)
        assert tensor.ndim >= 2 or torch.equal(read[key], tensor)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'w' .* float16"):
        save_state(tmp_path / "a", {"w": torch.full((2, 2), 1e6)}, half=True)
    with pytest.raises(ModelError, match="not finite"):
        save_state(tmp_path / "a", {"w": torch.tensor([torch.nan])})
    assert list(tmp_path.iterdir()) == []


def test_saving_again_replaces_and_leaves_other_files(tiny_folder: Path) -> None:
    (tiny_folder / "tokenizer.json").write_text("{}")
    save_model(tiny_folder, TinyModel(), query=None, extra={"name": "second"})
    assert load_model(tiny_folder)[1]["name"] == "second"
    assert sorted(path.name for path in tiny_folder.iterdir()) == [CONFIG, WEIGHTS, "tokenizer.json"]


def spoil_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({k: v for k, v in {**config, **changes}.items() if v != "remove"}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "unheard-of"}, "unknown family 'unheard-of'"),
        ({"family": "remove"}, "does not describe an audiosep model"),
        ({"trainer": {}}, r"is the folder of a training run: what it has trained is in .*best$"),
        ({"format": 2}, "update audiosep"),
        ({"model": {"sample_rate": 16000, "wings": 2}}, "unknown key 'wings'"),
        ({"model": {"sample_rate": "fast"}}, "model.sample_rate"),
        ({"model": {"sample_rate": True}}, "model.sample_rate: expected int"),
        ({"model": {"channels": 5}}, "key 'first.weight' has shape"),
    ],
)
def test_a_config_that_does_not_fit(tiny_folder: Path, changes: dict[str, object], message: str) -> None:
    spoil_config(tiny_folder, **changes)
    with pytest.raises(ModelError, match=message):
        load_model(tiny_folder)


def test_files_that_are_missing_or_damaged(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"it has no config\.json"):
        load_model(tmp_path)
    weights = (tiny_folder / WEIGHTS).read_bytes()
    (tiny_folder / WEIGHTS).write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged"):
        load_model(tiny_folder)
    (tiny_folder / WEIGHTS).write_bytes(b"")
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged"):
        load_model(tiny_folder)
    (tiny_folder / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors is missing"):
        load_model(tiny_folder)
    (tiny_folder / CONFIG).write_text("{half")
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        load_model(tiny_folder)


def test_missing_and_unknown_keys_are_named(tiny_folder: Path) -> None:
    state = load_state(tiny_folder / WEIGHTS)
    del state["film.bias"]
    save_file(state, tiny_folder / WEIGHTS)
    with pytest.raises(ModelError, match=r"missing key 'film\.bias'"):
        load_model(tiny_folder)
    save_file({**TinyModel().state_dict(), "wings": torch.zeros(1)}, tiny_folder / WEIGHTS)
    with pytest.raises(ModelError, match="unknown key 'wings'"):
        load_model(tiny_folder)


def test_a_pickle_in_the_place_of_the_weights_is_not_opened(tiny_folder: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tiny_folder / "sprung",))  # type: ignore[return-value]

    torch.save({"w": Trap()}, tiny_folder / WEIGHTS)
    with pytest.raises(ModelError, match="damaged"):
        load_model(tiny_folder)
    assert not (tiny_folder / "sprung").exists()


def test_a_class_that_is_no_family_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"FAMILIES"):
        save_model(tmp_path / "m", TinyModel(TinyConfig()), query=None)


def test_load_gives_a_working_separator(tiny_folder: Path) -> None:
    separator = audiosep.load(tiny_folder, device="cpu", precision="fp32")
    assert (separator.name, str(separator.device), separator.precision) == ("tiny", "cpu", "fp32")
    out = separator.separate(np.ones(100, np.float32), "piano", sample_rate=16000)
    assert out["piano"].shape == (100,)


def test_loading_draws_no_weights(mini_folder: Path) -> None:
    before = torch.get_rng_state()
    audiosep.load(mini_folder, device="cpu")
    assert torch.equal(torch.get_rng_state(), before)


def test_load_with_an_adapter(tiny_folder: Path, tmp_path: Path) -> None:
    model = TinyModel()
    adapter = Adapter(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".b"):
                nn.init.normal_(parameter)
    adapter.save(tmp_path / "cat.safetensors", base="tiny")
    plain = audiosep.load(tiny_folder, "cpu", "fp32")
    adapted = audiosep.load(tiny_folder, "cpu", "fp32", adapter=tmp_path / "cat.safetensors")
    assert adapted.name == "tiny + cat"
    assert not torch.equal(plain.model.film.weight, adapted.model.film.weight)
