"""CLAP through transformers: the numbers of laion-clap, and no query that is silently misunderstood."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foreign
import numpy as np
import pytest
import torch
from foreign import seeded, tokenizer
from safetensors.torch import load_file, save_file

from audiosep.convert import convert
from audiosep.errors import ConfigError, DependencyError, ModelError, QueryError
from audiosep.query import load_encoder
from audiosep.query.clap import ClapEncoder, ten_second_pieces

RATE = 48000
TEXTS = ["piano", "a dog barking", "naïve café: thunder, far away", "x " * 15]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLAP as `convert` writes it."""
    place = tmp_path_factory.mktemp("clap")
    tokens = tokenizer.save(place / "tokens")
    return convert(foreign.laion(foreign.clap_state(), place / "clap.pt"), place / "clap", tokenizer=tokens)


@pytest.fixture(scope="module")
def clap(folder: Path) -> ClapEncoder:
    return ClapEncoder(folder)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A copy of the folder to damage."""
    return Path(shutil.copytree(folder, tmp_path / "clap"))


def sound(seconds: float, seed: int = 0, rate: int = RATE) -> torch.Tensor:
    return torch.from_numpy(seeded.sound(round(seconds * rate), seed, rate))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "fused"])
def test_numbers_of_laion_clap(tmp_path: Path, kind: str) -> None:
    """Every key that laion-clap's modules have converts, and both towers give what those modules give."""
    figures = foreign.figures("laion")
    shapes = figures["plain"]["shapes"] | figures[kind]["shapes"]
    path = foreign.laion(foreign.drawn(shapes, figures["seed"]), tmp_path / "laion.pt")
    encoder = ClapEncoder(convert(path, tmp_path / "clap", tokenizer=tokenizer.save(tmp_path / "tokens")))
    sounds = [torch.from_numpy(seeded.sound(round(s * RATE), figures["seed"], RATE)) for s in figures["seconds"]]
    for name, found in (("text", encoder.text(figures["texts"])), ("audio", encoder.audio(sounds, RATE))):
        expected = np.array(figures[kind][name])
        error = found.numpy() - expected
        assert np.abs(error).max() < 1e-5
        # Random towers give every prompt a large part in common: what sets them apart must be right too.
        assert np.linalg.norm(error) / np.linalg.norm(expected - expected.mean(0)) < 1e-3


def test_texts_are_unit_vectors_apart(clap: ClapEncoder) -> None:
    vectors = clap.text(TEXTS)
    assert vectors.shape == (len(TEXTS), clap.dimension)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(len(TEXTS)))
    assert (vectors @ vectors.T - torch.eye(len(TEXTS))).max() < 0.99
    assert clap.text([]).shape == (0, clap.dimension)


def test_weights_that_were_let_go_come_back(folder: Path) -> None:
    clap = ClapEncoder(folder)
    before = clap.text(TEXTS), clap.audio([sound(1)], RATE)
    clap.release()
    assert clap._text is None
    assert clap._audio is None
    assert torch.equal(clap.text(TEXTS), before[0])
    assert torch.equal(clap.audio([sound(1)], RATE), before[1])


def test_weights_may_be_let_go_while_another_thread_embeds(folder: Path) -> None:
    clap = ClapEncoder(folder)
    before, tokenize = clap.text(TEXTS), clap._tokenizer

    def released(*arguments: Any, **options: Any) -> Any:
        clap.release()
        return tokenize(*arguments, **options)

    clap._tokenizer = released
    assert torch.equal(clap.text(TEXTS), before)


def test_padding_changes_nothing(clap: ClapEncoder) -> None:
    """Published code pads every prompt to the longest that the model can read."""
    together = clap.text(TEXTS)
    torch.testing.assert_close(torch.cat([clap.text([text]) for text in TEXTS]), together, rtol=0, atol=1e-5)
    longest = clap._config.text_config.max_position_embeddings - 2
    padded = clap._tokenizer(TEXTS, padding="max_length", max_length=longest, return_tensors="pt")
    with torch.no_grad():
        full = clap._text(input_ids=padded["input_ids"], attention_mask=padded["attention_mask"]).text_embeds
    torch.testing.assert_close(torch.nn.functional.normalize(full, dim=-1), together, rtol=0, atol=1e-5)


def test_a_query_too_long_is_an_error(clap: ClapEncoder) -> None:
    with pytest.raises(QueryError, match="38 tokens"):
        clap.text(["piano", "piano " * 200])


def test_short_and_long_examples(clap: ClapEncoder) -> None:
    short, long = sound(0.5), sound(23.7)
    vectors = clap.audio([short, long, sound(10)], RATE)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(clap.audio([long], RATE), vectors[1:2])  # published code would crop at random
    torch.testing.assert_close(clap.audio([short.repeat(2)], RATE), vectors[:1], rtol=0, atol=1e-5)
    assert clap.audio([], RATE).shape == (0, clap.dimension)


def test_other_sample_rates_are_converted(clap: ClapEncoder) -> None:
    tone = [torch.sin(2 * torch.pi * 440 * torch.arange(2 * rate) / rate) for rate in (RATE, 44100)]
    there, here = clap.audio(tone[:1], RATE), clap.audio(tone[1:], 44100)
    assert float(there[0] @ here[0]) > 0.999


@pytest.mark.parametrize("samples", [0, 1000])
def test_an_example_without_sound_is_an_error(clap: ClapEncoder, samples: int) -> None:
    with pytest.raises(QueryError, match="silent"):
        clap.audio([torch.zeros(samples)], RATE)


@pytest.mark.parametrize("samples", [1, 100, 101, 250, 999, 1000, 1001])
def test_pieces_cover_a_recording(samples: int) -> None:
    pieces = ten_second_pieces(torch.arange(1.0, samples + 1), 10, 10)
    assert all(len(piece) == min(samples, 100) for piece in pieces)
    assert len(pieces) == -(-samples // 100)
    assert set(torch.cat(pieces).tolist()) == set(range(1, samples + 1))


def _remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _cut(name: str, share: float = 0.5) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(share * len(content))])

    return cut


def _edit(name: str, **entries: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | entries))

    return edit


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def _without_tensor(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["text_model.encoder.layer.0.attention.self.query.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def _same_for_all(folder: Path) -> None:
    """A text tower that gives every prompt the same embedding."""
    state = load_file(folder / "model.safetensors")
    state["text_model.embeddings.word_embeddings.weight"].zero_()
    state["text_model.embeddings.position_embeddings.weight"].zero_()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def _smaller_vocabulary(folder: Path) -> None:
    """Merges of another language: every token is there but a few."""
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["merges"] = []
    content["model"]["vocab"] = {k: v for k, v in content["model"]["vocab"].items() if len(k) == 1 or k[0] == "<"}
    (folder / "tokenizer.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "error", "says"),
    [
        (_remove("tokenizer.json"), QueryError, "no query would be understood"),
        (_cut("tokenizer.json"), ModelError, "damaged"),
        (_cut("tokenizer.json", 0), ModelError, "damaged"),
        (_smaller_vocabulary, QueryError, "no query would be understood"),
        (_remove("config.json"), ModelError, "missing or damaged"),
        (_cut("config.json"), ModelError, "missing or damaged"),
        (_edit("config.json", model_type="roberta"), ModelError, "not a CLAP"),
        (_empty, ModelError, "missing or damaged"),
        (_remove("model.safetensors"), ModelError, "missing or damaged"),
        (_cut("model.safetensors"), ModelError, "missing or damaged"),
        (_cut("model.safetensors", 0), ModelError, "missing or damaged"),
        (_without_tensor, ModelError, "query.weight"),
        (_same_for_all, QueryError, "same embedding"),
    ],
)
def test_a_damaged_text_encoder_is_an_error(
    copy: Path, damage: Callable[[Path], None], error: type[Exception], says: str
) -> None:
    damage(copy)
    made: list[ClapEncoder] = []

    def ask() -> None:
        made.append(made[0] if made else ClapEncoder(copy))
        made[0].text(["piano"])

    for _ in range(2):  # nor is the second query answered
        with pytest.raises(error, match=says):
            ask()


@pytest.mark.parametrize(
    "damage", [_remove("preprocessor_config.json"), _cut("preprocessor_config.json"), _cut("model.safetensors", 0.9)]
)
def test_a_damaged_audio_encoder_is_an_error(copy: Path, damage: Callable[[Path], None]) -> None:
    damage(copy)
    clap = ClapEncoder(copy)
    for _ in range(2):
        with pytest.raises(ModelError, match="missing or damaged"):
            clap.audio([sound(1)], RATE)


def test_weights_as_a_pickle_are_not_opened(copy: Path) -> None:
    state = load_file(copy / "model.safetensors")
    torch.save(state, copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="safetensors"):
        ClapEncoder(copy).text(["piano"])


def test_a_model_names_its_encoder(folder: Path) -> None:
    encoder = load_encoder({"encoder": "clap", "model": folder.name}, folder.parent)
    assert encoder.name == f"clap:{folder}"
    with pytest.raises(ModelError, match="missing"):
        load_encoder({"encoder": "clap", "model": "clap"}, folder)
    with pytest.raises(ConfigError, match="pooling"):
        load_encoder({"encoder": "clap", "model": folder.name, "pooling": "mean"}, folder.parent)


def test_a_hub_id_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="hf download nobody/no-such-clap --local-dir") as caught:
        ClapEncoder("nobody/no-such-clap")
    assert "http" not in str(caught.value)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the network was asked for; it is down."""
    asked: list[object] = []

    def refuse(*args: Any, **kwargs: Any) -> None:
        asked.append(args)
        raise OSError("no route to host")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    return asked


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    for module in ("huggingface_hub.constants", "huggingface_hub.file_download", "transformers.utils.hub"):
        monkeypatch.setattr(f"{module}.HF_HUB_CACHE", str(tmp_path), raising=False)
    return tmp_path


def test_a_model_that_names_the_hub_does_not_ask_it(
    folder: Path, tmp_path: Path, cache: Path, asked: list[object]
) -> None:
    named = {"encoder": "clap", "model": "someone/clap", "revision": "v1"}
    with pytest.raises(
        ModelError, match=r"hf download someone/clap --revision v1`.*audiosep models download"
    ) as caught:
        load_encoder(named, tmp_path)
    assert "http" not in str(caught.value)
    place = cache / "models--someone--clap"
    shutil.copytree(folder, place / "snapshots" / ("0" * 40))
    (place / "refs").mkdir()
    (place / "refs" / "v1").write_text("0" * 40)
    encoder = load_encoder(named, tmp_path)
    assert encoder.text(["piano"]).shape == (1, encoder.dimension)
    assert encoder.audio([sound(1)], RATE).shape == (1, encoder.dimension)
    (place / "snapshots" / ("0" * 40) / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match="hf download someone/clap --revision v1` fetches it anew") as caught:
        load_encoder(named, tmp_path).audio([sound(1)], RATE)
    assert "http" not in str(caught.value)
    assert asked == []


def test_an_encoder_that_was_downloaded_with_its_model(
    folder: Path, tmp_path: Path, cache: Path, asked: list[object]
) -> None:
    shutil.copytree(folder, tmp_path / "someone" / "clap")
    encoder = load_encoder({"encoder": "clap", "model": "someone/clap", "revision": "v1"}, tmp_path)
    assert encoder.text(["piano"]).shape == (1, encoder.dimension)
    assert asked == []


def test_an_encoder_by_its_hub_id_asks_the_hub(cache: Path, asked: list[object]) -> None:
    with pytest.raises(ModelError, match="could not be downloaded from the hub"):
        ClapEncoder("nobody/no-such-clap")
    assert asked


def test_transformers_keeps_its_settings(folder: Path) -> None:
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    ClapEncoder(folder).text(["piano"])
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_transformers_comes_late() -> None:
    code = (
        "import sys, audiosep.query.clap, audiosep.query.laion, audiosep.convert; print('transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_broken_transformers_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers.utils", None)
    with pytest.raises(DependencyError, match="doctor"):
        ClapEncoder(folder)
