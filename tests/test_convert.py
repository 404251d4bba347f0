"""Foreign checkpoints: what is read, what is refused, and that nothing half-written is left."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import foreign
import numpy as np
import pytest
import torch
from foreign import seeded, tokenizer

from audiosep.api import load
from audiosep.convert import convert
from audiosep.convert.audiosep_ckpt import separator
from audiosep.convert.unpickle import read_pickle
from audiosep.errors import ConfigError, ModelError
from audiosep.query import load_encoder
from audiosep.query.query import Query
from audiosep.weights import catalogue
from audiosep.weights.checkpoint import load_model


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tokenizer.save(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "small.ckpt"
    return foreign.lightning(foreign.separator_state(), foreign.clap_state(), path)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TouchesAFile:
    """What an attacker would put into a checkpoint."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_audiosep_becomes_a_model_with_its_encoder(checkpoint: Path, tokens: Path, tmp_path: Path) -> None:
    out = convert(checkpoint, tmp_path / "model", tokenizer=tokens)
    model, config = load_model(out)
    assert config["family"] == "resunet30"
    assert config["query"] == {"encoder": "clap", "model": "clap"}
    assert list(model.config.widths) == list(foreign.WIDTHS)
    mix = torch.from_numpy(seeded.sound(3000, 0))[None, None]
    encoder = load_encoder(config["query"], out)
    queries = encoder.text(["piano", "a dog barking"])
    assert model.dimension == encoder.dimension == foreign.DIMENSION
    direct = separator(foreign.separator_state())
    with torch.no_grad():
        read, expected = model(mix, queries).waveforms, direct(mix, queries).waveforms
    assert torch.equal(read, expected)
    assert (read[0, 0] - read[0, 1]).abs().max() > 1e-5


def test_a_converted_model_loads_by_name(
    checkpoint: Path, tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIOSEP_HOME", str(tmp_path))
    convert(checkpoint, catalogue.model_folder("audiosep-base"), tokenizer=tokens)
    separator = load("audiosep-base", device="cpu", precision="fp32")
    assert separator.capabilities == {"text", "audio", "negative"}
    mix = np.stack([seeded.sound(44100, 0, 44100), seeded.sound(44100, 1, 44100)])
    example = Query(audio=(seeded.sound(20000, 2), seeded.RATE), name="example")
    out = separator.separate(mix, [Query("piano", negative="drums"), example], sample_rate=44100)
    assert out["piano"].shape == out["example"].shape == mix.shape
    assert np.abs(out["piano"]).max() > 0


@pytest.mark.slow
def test_published_names_and_sizes_round_trip(tokens: Path, tmp_path: Path) -> None:
    """Every key of the published network, by the table taken from the published code, through a Lightning file."""
    figures = foreign.figures("resunet30")
    state = foreign.drawn(figures["shapes"], figures["seed"])
    path = foreign.lightning(state, foreign.clap_state(), tmp_path / "audiosep_base_4M_steps.ckpt")
    model, _ = load_model(convert(path, tmp_path / "model", tokenizer=tokens))
    sound = seeded.sound(figures["samples"], figures["seed"])
    conditions = seeded.embeddings(figures["queries"], 512, figures["seed"])
    with torch.no_grad():
        out = model(torch.from_numpy(sound)[None, None], torch.from_numpy(conditions)).waveforms[0, :, 0].numpy()
    positions = np.linspace(0, len(sound) - 1, len(figures["sound"])).astype(int)
    values = np.array(figures["values"])
    assert np.linalg.norm(out[:, positions] - values) / np.linalg.norm(values) < 1e-5


def test_clap_becomes_a_folder_for_transformers(tokens: Path, tmp_path: Path) -> None:
    from transformers import ClapModel

    state = foreign.clap_state()
    out = convert(foreign.laion(state, tmp_path / "clap.pt"), tmp_path / "clap", tokenizer=tokens)
    model, report = ClapModel.from_pretrained(out, output_loading_info=True, local_files_only=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert not report["mismatched_keys"]
    attention = model.audio_model.audio_encoder.layers[1].blocks[0].attention.self
    theirs = state["audio_branch.layers.1.blocks.0.attn.qkv.weight"]
    assert torch.equal(torch.cat([attention.query.weight, attention.key.weight, attention.value.weight]), theirs)
    extractor = json.loads((out / "preprocessor_config.json").read_text())
    assert (extractor["frequency_min"], extractor["truncation"]) == (50, "rand_trunc")


@pytest.mark.parametrize(("fast", "slow"), [(False, True), (True, True)])
def test_both_forms_of_a_tokenizer(tmp_path: Path, fast: bool, slow: bool) -> None:
    source = tokenizer.save(tmp_path / "tokens", fast=fast, slow=slow)
    out = convert(foreign.laion(foreign.clap_state(), tmp_path / "clap.pt"), tmp_path / "clap", tokenizer=source)
    assert load_encoder({"encoder": "clap", "model": "clap"}, tmp_path).text(["piano"]).shape == (1, foreign.DIMENSION)
    assert names(out) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, tokens: Path, legacy: bool) -> None:
    trap = tmp_path / "owned"
    path = tmp_path / "evil.ckpt"
    content = {"state_dict": {"ss_model.base.x": torch.zeros(1)}, "callbacks": TouchesAFile(trap)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ModelError, match="mkdir"):
        convert(path, tmp_path / "out", tokenizer=tokens)
    path.write_bytes(pickle.dumps(content["callbacks"], protocol=2))
    with pytest.raises(ModelError, match=r"refused|no checkpoint"):
        convert(path, tmp_path / "out", tokenizer=tokens)
    assert not trap.exists()
    assert names(tmp_path) == ["evil.ckpt"]
    pickle.loads(path.read_bytes())  # the trap works: only the reader kept it shut
    assert trap.exists()


def test_numbers_of_numpy_are_read(tmp_path: Path) -> None:
    numbers = [np.float64(0.25), np.float32(0.5), np.int64(3), np.int32(-1), np.bool_(True)]
    torch.save({"numbers": numbers}, tmp_path / "n.pt")
    assert read_pickle(tmp_path / "n.pt")["numbers"] == numbers


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"not a pickle at all", b"\x80\x02}q\x00."])
def test_damaged_files_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.ckpt"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"broken\.ckpt"):
        convert(path, tmp_path / "out")
    assert names(tmp_path) == ["broken.ckpt"]


@pytest.mark.parametrize("content", [b"hi\n", b"RIFF\x24\x00\x00\x00WAVEfmt "])
def test_other_files_are_no_checkpoints(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.ckpt").write_bytes(content)
    with pytest.raises(ModelError, match=r"other\.ckpt is no checkpoint of PyTorch, or is damaged"):
        convert(tmp_path / "other.ckpt", tmp_path / "out")


def test_folders_are_refused_and_models_among_them_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a folder; convert takes the file"):
        convert(tmp_path, tmp_path / "out")
    (tmp_path / "config.json").touch()
    with pytest.raises(ModelError, match="is a model already: name it with --model"):
        convert(tmp_path, tmp_path / "out")


def test_a_truncated_checkpoint_is_named(checkpoint: Path, tmp_path: Path) -> None:
    whole = checkpoint.read_bytes()
    for share in (0.3, 0.999):
        (tmp_path / "cut.ckpt").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ModelError, match=r"cut\.ckpt"):
            convert(tmp_path / "cut.ckpt", tmp_path / "out")
    with pytest.raises(ModelError, match="no file"):
        convert(tmp_path / "nothing.ckpt", tmp_path / "out")


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("ss_model.base.encoder_block2.conv_block1.conv1.weight", None),
        ("ss_model.film.decoder_block3->conv_block2->beta2.bias", None),
        ("query_encoder.model.text_branch.pooler.dense.bias", None),
        ("query_encoder.model.audio_branch.layers.1.blocks.0.mlp.fc2.weight", None),
        ("ss_model.base.encoder_block9.conv_block1.conv1.weight", torch.zeros(1)),
        ("query_encoder.model.audio_branch.mel_conv1d.weight", torch.zeros(1)),
        ("ss_model.base.head.weight", torch.zeros(1)),
        ("generator.weight", torch.zeros(1)),
        ("ss_model.base.conv_block7a.conv_block1.bn2.weight", torch.zeros(3)),
        ("query_encoder.model.text_projection.2.bias", torch.zeros(3)),
    ],
)
def test_a_key_that_does_not_fit_is_named(
    checkpoint: Path, tokens: Path, tmp_path: Path, key: str, change: torch.Tensor | None
) -> None:
    content = read_pickle(checkpoint)
    if change is None:
        del content["state_dict"][key]
    else:
        content["state_dict"][key] = change
    torch.save(content, tmp_path / "changed.ckpt")
    name = key.removeprefix("ss_model.").removeprefix("query_encoder.model.")
    with pytest.raises(ModelError) as caught:
        convert(tmp_path / "changed.ckpt", tmp_path / "out", tokenizer=tokens)
    assert name in str(caught.value)
    assert names(tmp_path) == ["changed.ckpt"]


def test_a_checkpoint_without_its_encoder_is_refused(tmp_path: Path, tokens: Path) -> None:
    path = foreign.lightning(foreign.separator_state(), {}, tmp_path / "half.ckpt")
    with pytest.raises(ModelError, match="no query encoder"):
        convert(path, tmp_path / "out", tokenizer=tokens)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match=r"conv\.weight"):
        convert(tmp_path / "other.pt", tmp_path / "out")
    torch.save({"state_dict": {"epoch": 3}}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="no weights"):
        convert(tmp_path / "other.pt", tmp_path / "out")
    with pytest.raises(ConfigError, match="kind"):
        convert(tmp_path / "other.pt", tmp_path / "out", kind="mdx")


def test_a_bert_clap_is_refused(tmp_path: Path, tokens: Path) -> None:
    state = {k: v for k, v in foreign.clap_state().items() if not k.startswith("text_branch.")}
    state["text_branch.transformer.weight"] = torch.zeros(1)
    with pytest.raises(ModelError, match="RoBERTa"):
        convert(foreign.laion(state, tmp_path / "bert.pt"), tmp_path / "out", tokenizer=tokens)


def test_no_tokenizer_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: Any, **kwargs: Any) -> str:
        raise OSError("no route to the hub")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    path = foreign.laion(foreign.clap_state(), tmp_path / "clap.pt")
    with pytest.raises(ModelError, match=r"no tokenizer.*hf download FacebookAI/roberta-base"):
        convert(path, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        convert(path, tmp_path / "out", tokenizer=tmp_path / "empty")
    (tmp_path / "empty" / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        convert(path, tmp_path / "out", tokenizer=tmp_path / "empty")
    assert names(tmp_path) == ["clap.pt", "empty"]


def test_a_tokenizer_comes_from_the_hub(tmp_path: Path, tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def hub(name: str, file: str) -> str:
        asked.append((name, file))
        return str(tokens / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", hub)
    convert(foreign.laion(foreign.clap_state(), tmp_path / "clap.pt"), tmp_path / "clap")
    assert asked == [("FacebookAI/roberta-base", "tokenizer.json")]
    assert (tokens / "tokenizer.json").is_file()


def test_another_models_tokenizer_is_refused(tmp_path: Path, tokens: Path) -> None:
    path = foreign.laion(foreign.clap_state(vocabulary=300), tmp_path / "clap.pt")
    with pytest.raises(ModelError, match="267 tokens, the model 300"):
        convert(path, tmp_path / "out", tokenizer=tokens)


def test_what_is_there_is_kept(checkpoint: Path, tokens: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    out.mkdir()
    convert(checkpoint, out, tokenizer=tokens)  # an empty folder is free
    before = (out / "model.safetensors").stat().st_mtime_ns
    with pytest.raises(ModelError, match="exists"):
        convert(checkpoint, out, tokenizer=tokens)
    assert (out / "model.safetensors").stat().st_mtime_ns == before
    convert(checkpoint, out, tokenizer=tokens, overwrite=True)
    assert (out / "model.safetensors").stat().st_mtime_ns != before
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years")
    with pytest.raises(ModelError, match="not a model's folder"):
        convert(checkpoint, mine, tokenizer=tokens, overwrite=True)
    assert (mine / "thesis.txt").read_text() == "years"
    assert names(tmp_path) == ["mine", "model"]
