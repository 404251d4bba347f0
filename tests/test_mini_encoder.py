"""The embedded CLAP: text and audio into one space, from files in a folder, without transformers."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch

from audiosep.api import load
from audiosep.audio import write_audio
from audiosep.errors import ConfigError, ModelError, QueryError
from audiosep.models.adapters import Adapter, AdapterConfig, trainable_parameters
from audiosep.models.hybrid import Hybrid
from audiosep.models.listener import Listener, ListenerConfig
from audiosep.models.text import TextTower, TextTowerConfig
from audiosep.query import load_encoder
from audiosep.query.encoder import QueryEncoder
from audiosep.query.mini import MiniEncoder, PackedTable, pack_table, unpack_table
from audiosep.query.tokenizer import WordPieces, train_word_pieces
from audiosep.training.finetune.finetuning import FinetuneConfig, _saver
from audiosep.training.tower_files import read_tag_names
from audiosep.weights.checkpoint import load_model, load_state, save_model
from audiosep.weights.model_config import read_config

TEXTS = ["a dog barking", "an electric guitar solo", "rain"]


def encoder() -> MiniEncoder:
    torch.manual_seed(0)
    tokenizer = train_word_pieces(TEXTS, [], 300, spelled=140)
    size = tokenizer.get_vocab_size()
    tower = TextTower(TextTowerConfig(size, width=32, layers=1, heads=2, feedforward=32, hidden=32))
    strides = ((1, 1), (2, 2))
    listener = Listener(
        ListenerConfig(n_fft=512, hop=256, bands=32, widths=(8, 16), strides=strides, hidden=24, tags=5)
    )
    return MiniEncoder(tower, WordPieces(tokenizer, size), listener, "tiny")


@pytest.fixture(scope="module")
def mini() -> MiniEncoder:
    return encoder()


@pytest.fixture
def saved(mini: MiniEncoder, tmp_path: Path) -> tuple[Path, dict]:
    return tmp_path, mini.save(tmp_path)


def noise(seconds: float, rate: int = 32000, seed: int = 0) -> torch.Tensor:
    x = torch.randn(int(seconds * rate), generator=torch.Generator().manual_seed(seed))
    return x * torch.linspace(0, 1, len(x)).mul(40).sin()


def test_is_a_query_encoder(mini: MiniEncoder) -> None:
    assert isinstance(mini, QueryEncoder)
    assert mini.dimension == 512


def test_text_gives_unit_vectors_in_order(mini: MiniEncoder) -> None:
    many = [TEXTS[i % 3] for i in range(150)]
    found = mini.text(many)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(150))
    torch.testing.assert_close(found[147:], mini.text(TEXTS))
    assert not found.requires_grad
    assert mini.text([]).shape == (0, 512)


def test_audio_of_any_length_and_rate(mini: MiniEncoder) -> None:
    lengths = [noise(0.01), noise(1.0), noise(41.0)]
    found = mini.audio(lengths, 32000)
    assert found.shape == (3, 512)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(3))
    assert mini.audio([noise(1.0, 8000)], 8000).isfinite().all()
    assert mini.audio([], 32000).shape == (0, 512)


def test_a_short_rest_of_a_long_example_is_left_out(mini: MiniEncoder) -> None:
    x = noise(20.25)
    torch.testing.assert_close(mini.audio([x], 32000), mini.audio([x[: 20 * 32000]], 32000))
    longer = noise(20.75)
    assert (mini.audio([longer], 32000) - mini.audio([longer[: 20 * 32000]], 32000)).abs().max() > 1e-5


def test_level_of_an_example_does_not_matter(mini: MiniEncoder) -> None:
    a, b = mini.audio([noise(1.0), noise(1.0) * 0.1], 32000)
    assert float(a @ b) > 0.999


@pytest.mark.parametrize("waveform", [torch.zeros(0), torch.zeros(32000)])
def test_silent_example_is_an_error(mini: MiniEncoder, waveform: torch.Tensor) -> None:
    with pytest.raises(QueryError, match="empty or silent"):
        mini.audio([waveform], 32000)


def test_read_back_from_a_folder(mini: MiniEncoder, saved: tuple[Path, dict]) -> None:
    folder, config = saved
    again = load_encoder(config, folder)
    assert again.name == "tiny"
    assert (again.text(TEXTS) * mini.text(TEXTS)).sum(-1).min() > 0.999
    assert (again.audio([noise(1.0)], 32000) * mini.audio([noise(1.0)], 32000)).sum(-1).min() > 0.999


def test_packed_word_table(mini: MiniEncoder, saved: tuple[Path, dict]) -> None:
    state = load_state(saved[0] / "clap.safetensors")
    assert state["text.words.weight.int8"].dtype == torch.int8
    assert all(key.startswith(("text.", "listener.")) for key in state)
    table = mini.tower.words.weight
    again = unpack_table(pack_table({"text.words.weight": table}))["text.words.weight"]
    assert (again - table).abs().max() <= table.abs().max() / 127


def test_a_separator_keeps_the_word_table_packed_with_the_same_numbers(shared_folder: Path, tmp_path: Path) -> None:
    held = load(shared_folder, device="cpu").encoder
    own = load_encoder(read_config(shared_folder)["query"], shared_folder)
    assert isinstance(held, MiniEncoder)
    assert isinstance(own, MiniEncoder)
    assert isinstance(held.tower.words, PackedTable)
    assert isinstance(own.tower.words, torch.nn.Embedding)
    assert torch.equal(held.text(TEXTS), own.text(TEXTS))
    held.save(tmp_path)
    stored, again = load_state(shared_folder / "clap.safetensors"), load_state(tmp_path / "clap.safetensors")
    assert all(torch.equal(again[key], value) for key, value in stored.items())


def test_a_released_text_tower_is_read_again(shared_folder: Path) -> None:
    held = load(shared_folder, device="cpu").encoder
    assert isinstance(held, MiniEncoder)
    before, tower = held.text(TEXTS), weakref.ref(held.tower)
    held.release()
    gc.collect()
    assert tower() is None
    assert torch.equal(held.text(TEXTS), before)
    assert isinstance(held.tower.words, PackedTable)


def test_nothing_is_read_of_a_model_that_was_replaced_since_it_was_loaded(shared_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shared_folder, tmp_path / "model"))
    separator = load(folder, device="cpu")
    other = load(folder, device="cpu")
    expected = other.digest
    assert isinstance(separator.encoder, MiniEncoder)
    before = separator.encoder.text(TEXTS)
    weights = folder / "clap.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")  # as a download of another version
    assert torch.equal(separator.encoder.text(TEXTS), before)
    separator.encoder.release()
    with pytest.raises(ModelError, match="has changed since"):
        separator.encoder.text(TEXTS)
    with pytest.raises(ModelError, match="has changed since"):
        _ = separator.digest
    assert other.digest == expected
    assert load(folder, device="cpu").digest != expected


def test_a_text_tower_that_is_in_no_folder_stays(mini: MiniEncoder) -> None:
    before, tower = mini.text(TEXTS), mini.tower
    mini.release()
    assert mini.tower is tower
    assert torch.equal(mini.text(TEXTS), before)


def test_files_are_separated_without_the_text_tower(shared_folder: Path, tmp_path: Path) -> None:
    separator = load(shared_folder, device="cpu")
    held = separator.encoder
    assert isinstance(held, MiniEncoder)
    tower = weakref.ref(held.tower)
    write_audio(tmp_path / "noise.wav", noise(1.0)[None].numpy(), 32000)
    there = []

    def look(fraction: float) -> None:
        gc.collect()
        there.append(tower() is not None)

    separator.separate_files(tmp_path / "noise.wav", "rain", tmp_path / "out", progress=look).raise_for_failures()
    assert there
    assert not any(there)


def test_damaged_folders_are_errors(saved: tuple[Path, dict]) -> None:
    folder, config = saved
    with pytest.raises(ConfigError, match="unknown key"):
        MiniEncoder.from_config({**config, "surprise": 1}, folder)
    grown = {**config, "text": {**config["text"], "layers": 2}}
    with pytest.raises(ModelError, match=r"missing key 'text\.blocks\.1"):
        MiniEncoder.from_config(grown, folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        MiniEncoder.from_config(config, folder)
    (folder / "clap.safetensors").unlink()
    with pytest.raises(ModelError, match=r"clap\.safetensors"):
        MiniEncoder.from_config(config, folder)


@pytest.fixture
def shared_folder(mini_folder: Path, tmp_path: Path) -> Path:
    """`mini_folder` with the model's listener as the audio tower, stored once."""
    folder = tmp_path / "shared"
    folder.mkdir()
    network, facts = load_model(mini_folder)
    whole = MiniEncoder.from_config(facts["query"], mini_folder)
    assert isinstance(network, Hybrid)
    query = MiniEncoder(whole.tower, whole.words, network.listener).save(folder, with_listener=False)
    return save_model(folder, network, query=query, extra={"name": "shared"})


def test_the_listener_of_the_model_is_stored_once_and_shared(shared_folder: Path) -> None:
    assert all(key.startswith("text.") for key in load_state(shared_folder / "clap.safetensors"))
    separator = load(shared_folder, device="cpu", precision="fp32")
    shared, network = separator.encoder, separator.model
    assert isinstance(shared, MiniEncoder)
    assert isinstance(network, Hybrid)
    assert shared.listener is network.listener
    separator.to(precision="bf16")
    assert shared.listener is network.listener
    own = load_encoder(read_config(shared_folder)["query"], shared_folder)
    assert isinstance(own, MiniEncoder)
    assert own.listener is not network.listener
    x = [noise(1.0)]
    torch.testing.assert_close(own.audio(x, 32000), shared.audio(x, 32000))
    state = network.listener.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in own.listener.state_dict().items())


def test_an_adapter_does_not_change_how_queries_are_heard(shared_folder: Path, tmp_path: Path) -> None:
    network, _ = load_model(shared_folder)
    adapter = Adapter(network, AdapterConfig(exclude=()))
    with torch.no_grad():
        for parameter in trainable_parameters(network):
            parameter.add_(0.1)
    adapter.save(tmp_path / "adapter.safetensors", base="shared")
    plain, adapted = (
        load(shared_folder, device="cpu", precision="fp32", adapter=path)
        for path in (None, tmp_path / "adapter.safetensors")
    )
    x = [noise(1.0)]
    assert not torch.equal(adapted.model.listener.joint.weight, plain.model.listener.joint.weight)
    torch.testing.assert_close(adapted.encoder.audio(x, 32000), plain.encoder.audio(x, 32000))


def test_a_model_trained_as_a_whole_keeps_how_queries_are_heard(shared_folder: Path, tmp_path: Path) -> None:
    network, facts = load_model(shared_folder)
    encoder = load_encoder(facts["query"], shared_folder)
    config = FinetuneConfig(full=True, adapter=AdapterConfig(exclude=()))
    save = _saver(network, config, "shared", ["kettle"], facts, encoder)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1)
    save(network, tmp_path)
    again = load(tmp_path, device="cpu", precision="fp32").encoder
    torch.testing.assert_close(again.audio([noise(1.0)], 32000), encoder.audio([noise(1.0)], 32000), atol=1e-3, rtol=0)


def test_a_model_without_the_listener_that_is_named_is_refused(shared_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"query\.listener is null, .* the model has none"):
        load_encoder(read_config(shared_folder)["query"], shared_folder, torch.nn.Identity())


def test_weights_that_understand_nothing_are_refused(mini: MiniEncoder) -> None:
    tower = TextTower(mini.tower.config)
    torch.nn.init.zeros_(tower.bag.weight)
    torch.nn.init.ones_(tower.head[2].bias)
    with pytest.raises(QueryError, match="same embedding"):
        MiniEncoder(tower, mini.words, mini.listener)


def test_needs_no_transformers(saved: tuple[Path, dict]) -> None:
    folder, config = saved
    code = (
        "import sys; from pathlib import Path; from audiosep.query import load_encoder; "
        f"e = load_encoder({config!r}, Path({str(folder)!r})); e.text(['rain']); "
        "assert 'transformers' not in sys.modules and 'accelerate' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_query_that_is_too_long_is_refused_and_not_cut() -> None:
    encoder = load("mini", device="cpu", sounds=False).encoder
    assert encoder is not None
    assert len(encoder.text(["a dog barking in the rain beside a busy street while a piano plays"])) == 1
    with pytest.raises(QueryError, match="longer than the 48 word pieces that the model reads: shorten it"):
        encoder.text(["speech", "dog barking " * 60])


def test_names_of_tags_are_those_of_a_whole_model(tmp_path: Path) -> None:
    names = read_tag_names("mini")
    assert names.shape == (527, 512)
    torch.testing.assert_close(names.norm(dim=1), torch.ones(527), rtol=1e-2, atol=1e-2)
    (tmp_path / "listener.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"set model\.tags to false"):
        read_tag_names(tmp_path / "listener.safetensors")
