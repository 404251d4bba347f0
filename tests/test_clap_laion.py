"""CLAP through laion-clap: against a stand-in for the package, and against the package itself where it is installed.

The package pins NumPy 1, so the second half runs in an environment of its own:
`pip install -e '.[laion]' pytest pytest-timeout && pytest tests/test_clap_laion.py -m slow`.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import foreign
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from foreign import seeded
from torch import nn

from audiosep.errors import DependencyError, ModelError, QueryError
from audiosep.query import load_encoder
from audiosep.query.laion import LaionEncoder

RATE = 48000


class Tokens(dict[str, torch.Tensor]):
    """What the stand-in's tokenizer gives."""


class Tokenizer:
    size = 267

    def __len__(self) -> int:
        return self.size

    def __call__(self, texts: list[str], **options: Any) -> Tokens:
        assert options == {"padding": True, "return_tensors": "pt"}
        ids = [[ord(c) % self.size for c in text] for text in texts]
        longest = max(map(len, ids))
        return Tokens(input_ids=torch.tensor([[*row, *[1] * (longest - len(row))] for row in ids]))


class Clap(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.text_branch = nn.Embedding(267, 8)
        self.text_branch.config = types.SimpleNamespace(vocab_size=267, max_position_embeddings=50)
        self.text_projection = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16))

    def get_text_embedding(self, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
        return F.normalize(self.text_projection(self.text_branch(tokens["input_ids"]).mean(1)), dim=-1)


class Module:
    """The face of `laion_clap.CLAP_Module` that the encoder uses."""

    def __init__(self, enable_fusion: bool, device: str, amodel: str) -> None:
        self.asked = (enable_fusion, device, amodel)
        self.model = Clap()
        self.tokenize = Tokenizer()

    def get_audio_embedding_from_data(self, pieces: list[torch.Tensor], use_tensor: bool) -> torch.Tensor:
        assert use_tensor
        assert all(len(piece) <= 10 * RATE for piece in pieces)
        return F.normalize(torch.stack([torch.fft.rfft(p).abs()[:16] for p in pieces]), dim=-1)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    fake = types.ModuleType("laion_clap")
    fake.CLAP_Module = Module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "laion_clap", fake)
    return fake


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    state = dict(Clap().state_dict())
    state["text_branch.embeddings.position_ids"] = torch.arange(50)[None]
    return foreign.laion(state, tmp_path / "clap.pt")


def test_text_and_audio(package: types.ModuleType, checkpoint: Path) -> None:
    encoder = load_encoder({"encoder": "laion", "checkpoint": checkpoint.name, "fusion": True}, checkpoint.parent)
    assert isinstance(encoder, LaionEncoder)
    assert encoder._module.asked == (True, "cpu", "HTSAT-base")
    assert encoder.dimension == 16
    assert encoder.text(["piano", "a dog"]).shape == (2, 16)
    vectors = encoder.audio([torch.randn(1000), torch.randn(25 * RATE)], RATE)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(2))
    assert encoder.to("cpu") is encoder
    with pytest.raises(QueryError, match="48 tokens"):
        encoder.text(["x" * 60])
    with pytest.raises(QueryError, match="silent"):
        encoder.audio([torch.zeros(100)], RATE)


def test_another_network_is_refused(package: types.ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="HTSAT-tiny"):
        LaionEncoder(foreign.laion({"x": torch.zeros(1)}, tmp_path / "x.pt"), audio_model="HTSAT-tiny")


def test_an_empty_tokenizer_is_an_error(
    package: types.ModuleType, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tokenizer, "size", 5)
    with pytest.raises(QueryError, match="no query would be understood"):
        LaionEncoder(checkpoint)


def test_weights_that_embed_all_texts_alike_are_an_error(package: types.ModuleType, tmp_path: Path) -> None:
    state = {key: torch.zeros_like(value) + ("bias" in key) for key, value in Clap().state_dict().items()}
    with pytest.raises(QueryError, match="same embedding"):
        LaionEncoder(foreign.laion(state, tmp_path / "alike.pt"))


@pytest.mark.skipif(importlib.util.find_spec("laion_clap") is not None, reason="laion-clap is installed")
def test_without_the_package(checkpoint: Path) -> None:
    with pytest.raises(DependencyError, match=r"\.\[laion\].*audiosep convert"):
        LaionEncoder(checkpoint)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("laion_clap") is None, reason="laion-clap is not installed")
def test_numbers_of_the_package_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import make_laion

    figures = foreign.figures("laion")
    make_laion.cache(tmp_path / "hub")
    path = foreign.laion(real_state(figures), tmp_path / "laion.pt")
    encoder = LaionEncoder(path, audio_model="HTSAT-tiny")
    sounds = [torch.from_numpy(seeded.sound(round(s * RATE), figures["seed"], RATE)) for s in figures["seconds"]]
    assert np.abs(encoder.text(figures["texts"]).numpy() - np.array(figures["plain"]["text"])).max() < 1e-5
    assert np.abs(encoder.audio(sounds, RATE).numpy() - np.array(figures["plain"]["audio"])).max() < 1e-5


def real_state(figures: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Weights by formula beside the filter banks and tables that laion-clap computes."""
    import laion_clap

    own = laion_clap.CLAP_Module(amodel="HTSAT-tiny", device="cpu").model.state_dict()
    drawn = foreign.drawn(figures["plain"]["shapes"], figures["seed"])
    return {key: own[key] if any(part in key for part in foreign.COMPUTED) else drawn[key] for key in own}
