"""Published stem networks: their packages' own numbers, converted, downloaded, and behind the separator."""

from __future__ import annotations

import functools
import http.server
import json
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sounds
import torch
from conftest import Run
from safetensors.torch import save_file

import audiosep
from audiosep.audio import write_audio
from audiosep.convert import KINDS, convert
from audiosep.convert.yaml_files import read_yaml
from audiosep.errors import ConfigError, DependencyError, InputError, ModelError, QueryError
from audiosep.inference.model_windows import recording_windows
from audiosep.models import published_networks
from audiosep.models.published import PublishedConfig, PublishedStems
from audiosep.models.published_networks import NETWORKS
from audiosep.weights import stem_models
from audiosep.weights.catalogue import MODELS, RECORD, installed, model_folder
from audiosep.weights.checkpoint import load_model, save_model
from audiosep.weights.download import download
from audiosep.weights.licences import accepted
from audiosep.weights.model_config import read_config
from audiosep.weights.model_entry import ModelEntry, PublishedFile

pytest.importorskip("demucs")
pytest.importorskip("openunmix")

MUSIC = ("drums", "bass", "other", "vocals")
FOUR = ("vocals", "drums", "bass", "other")
RATE = 44100
TINY_DEMUCS = {"channels": 8, "t_layers": 1, "bottom_channels": 16, "t_heads": 2, "t_hidden_scale": 1.0}
ROFORMER = {"dim": 8, "depth": 1, "heads": 1, "dim_head": 4, "stereo": True, "mask_estimator_depth": 1}
BANDS = {"freqs_per_bands": [512, 513], "flash_attn": True}

CONFIGS = {
    "htdemucs": PublishedConfig("htdemucs", MUSIC, FOUR, (TINY_DEMUCS,), window=22_050, context=1024),
    "hdemucs": PublishedConfig("hdemucs", MUSIC, FOUR, ({"channels": 4},), window=22_050, context=1024),
    "torchaudio-hdemucs": PublishedConfig(
        "torchaudio-hdemucs", MUSIC, FOUR, ({"channels": 4},), window=22_050, context=1024
    ),
    "torchaudio-convtasnet": PublishedConfig(
        "torchaudio-convtasnet",
        ("speaker 1", "speaker 2"),
        ("speaker 1", "speaker 2"),
        ({"msk_num_layers": 2, "msk_num_stacks": 1, "enc_num_feats": 16, "msk_num_feats": 8},),
        sample_rate=8000,
        window=8000,
        context=800,
        hop=8,
        channels=1,
    ),
    "openunmix": PublishedConfig(
        "openunmix", MUSIC, FOUR, ({"nb_bins": 2049, "hidden_size": 8, "max_bin": 1487},), window=44_100, context=4096
    ),
    "bs-roformer": PublishedConfig(
        "bs-roformer", ("vocals",), ("vocals", "other"), (ROFORMER | BANDS,), window=22_050, context=1024, hop=512
    ),
    "mel-band-roformer": PublishedConfig(
        "mel-band-roformer",
        ("vocals",),
        ("vocals", "other"),
        (
            ROFORMER
            | {"num_bands": 8, "stft_n_fft": 512, "stft_hop_length": 256, "stft_win_length": 512, "dim_freqs_in": 257},
        ),
        window=22_050,
        context=1024,
        hop=256,
    ),
}


@pytest.fixture(scope="module", params=CONFIGS)
def network(request: pytest.FixtureRequest) -> PublishedStems:
    if request.param.endswith("roformer"):
        pytest.importorskip("bs_roformer")
    torch.manual_seed(0)
    return PublishedStems(CONFIGS[request.param]).eval()


def music(seconds: float, channels: int = 2, rate: int = RATE) -> np.ndarray:
    return np.stack([sounds.voice(seconds, rate, seed) + sounds.noise(seconds, rate) * 0.1 for seed in range(channels)])


def test_every_network_has_a_case() -> None:
    assert set(CONFIGS) == set(NETWORKS)


def test_a_window_has_the_numbers_of_its_package(network: PublishedStems) -> None:
    config, x = network.config, torch.from_numpy(music(1, network.config.channels, network.sample_rate))[None]
    x = x[..., : config.window]
    with torch.inference_mode():
        theirs = network.networks[0](x).reshape(1, len(config.sources), config.channels, -1)
        stems = network.stems(x).waveforms
    for name, waveform in zip(network.stem_names[:-1], stems[0], strict=False):
        own = theirs[0, config.sources.index(name)]
        if "other" not in network.stem_names:  # what they leave is shared
            own = own + (x[0] - theirs[0].sum(0)) / len(config.sources)
        torch.testing.assert_close(waveform[..., : own.shape[-1]], own, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(stems.sum(1), x, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("channels", "rate", "seconds"), [(1, 48000, 0.7), (3, 22050, 0.4), (2, RATE, 1e-4)])
def test_any_recording_gives_stems_that_sum_to_it(
    network: PublishedStems, channels: int, rate: int, seconds: float
) -> None:
    separator = audiosep.Separator(network, device="cpu")
    mix = music(max(seconds, 0.1), channels, rate)[:, : max(1, round(seconds * rate))]
    stems = separator.stems(mix, sample_rate=rate)
    assert tuple(stems) == network.stem_names
    assert all(stem.shape == mix.shape and np.isfinite(stem).all() for stem in stems.values())
    np.testing.assert_allclose(sum(stems.values()), mix, atol=1e-5)


def test_the_last_window_is_whole() -> None:
    windows = recording_windows(PublishedStems(CONFIGS["hdemucs"]), overlap=0.02)
    for samples in (windows.size + 1, 3 * windows.size + 777):
        start, end = windows.last_span(9, samples)
        assert (end, end - start) == (samples, windows.size)


def test_short_windows_of_a_network_with_one_length_are_centred() -> None:
    model = PublishedStems(CONFIGS["htdemucs"]).eval()
    x = torch.from_numpy(music(0.3))[None]
    missing = model.window - x.shape[-1]
    padded = torch.nn.functional.pad(x, (missing // 2, missing - missing // 2))
    with torch.inference_mode():
        inside = model.networks[0](padded)[..., missing // 2 :][..., : x.shape[-1]]
        torch.testing.assert_close(model.outputs(x), inside)


def test_an_ensemble_is_the_weighted_mean_of_its_networks() -> None:
    weights = ((1.0, 0.0, 0.0, 3.0), (0.0, 2.0, 1.0, 1.0))
    config = PublishedConfig("hdemucs", MUSIC, FOUR, ({"channels": 4},) * 2, weights, window=22_050, context=1024)
    model, x = PublishedStems(config).eval(), torch.from_numpy(music(0.5))[None]
    with torch.inference_mode():
        first, second = (network(x) for network in model.networks)
        mean = model.outputs(x)
    torch.testing.assert_close(mean[:, 0], first[:, 0])
    torch.testing.assert_close(mean[:, 1], second[:, 1])
    torch.testing.assert_close(mean[:, 3], (3 * first[:, 3] + second[:, 3]) / 4)


def test_above_the_band_a_stem_keeps_its_share() -> None:
    """Of a 96 kHz recording whose highest sounds are one stem's, that stem gets what is above the network's rate."""
    model = PublishedStems(CONFIGS["hdemucs"]).eval()
    model.outputs = lambda x: torch.stack([0 * x, 0 * x, 0 * x, x], 1)  # type: ignore[method-assign]  # all is vocals
    t = np.arange(48_000) / 96_000
    mix = (0.2 * np.sin(2 * np.pi * 21_800 * t) + 0.2 * np.sin(2 * np.pi * 30_000 * t)).astype(np.float32)[None]
    stems = audiosep.Separator(model, device="cpu").stems(mix, sample_rate=96_000)
    np.testing.assert_allclose(stems["vocals"][0, 9600:-9600], mix[0, 9600:-9600], atol=0.01)


def test_it_has_no_queries_and_no_other_precision() -> None:
    model = PublishedStems(CONFIGS["hdemucs"])
    with pytest.raises(InputError, match="fp32 only"):
        audiosep.Separator(model, device="cpu", precision="bf16")
    separator = audiosep.Separator(model, device="cpu", name="hdemucs_mmi")
    assert (separator.capabilities, separator.precision) == ({"stems"}, "fp32")
    with pytest.raises(QueryError, match="only stems"):
        separator.separate(music(0.1), "piano", sample_rate=RATE)
    with pytest.raises(QueryError, match="only stems"):
        model(torch.zeros(1, 2, 100), torch.zeros(1, 0))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"network": "os:system"}, "none of htdemucs"),
        ({"stems": ("vocals", "drums")}, "do not fit together"),
        ({"weights": ((1.0,),)}, "a row for each network"),
        ({"weights": ((0.0, 1.0, 1.0, 1.0),)}, "weight above 0"),
        ({"weights": ((float("nan"), 1.0, 1.0, 1.0),)}, "weight above 0"),
        ({"channels": 3}, "1 or 2"),
        ({"context": 11_025}, "longer than its context"),
        ({"settings": ({"stft_window_fn": "os.system"},)}, "no setting 'stft_window_fn'"),
        ({"settings": ({"channels": "many"},)}, "cannot be built"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(change: dict[str, Any], complaint: str) -> None:
    base = {"network": "hdemucs", "sources": MUSIC, "stems": FOUR, "settings": ({"channels": 4},), "window": 22_050}
    with pytest.raises(ConfigError, match=complaint):
        PublishedStems(PublishedConfig(**(base | {"context": 1024} | change)))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_missing_package_is_one_line_with_its_remedy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = NETWORKS[name].place.partition(".")[0].partition(":")[0]
    monkeypatch.setitem(__import__("sys").modules, NETWORKS[name].place.partition(":")[0], None)
    with pytest.raises(DependencyError) as caught:
        published_networks.build_published(name, ("vocals",), {}, sample_rate=RATE, window=1000)
    message = str(caught.value)
    assert "\n" not in message
    assert package in message
    assert f"[{NETWORKS[name].extra}]" in message


# ---- conversion ------------------------------------------------------------------------------------------------------


def demucs_file(folder: Path, name: str, seed: int, **kwargs: Any) -> torch.nn.Module:
    """A checkpoint as the package's own exporter writes it."""
    from demucs.htdemucs import HTDemucs

    torch.manual_seed(seed)
    network = HTDemucs(list(MUSIC), **TINY_DEMUCS, samplerate=RATE, segment=Fraction(1, 2)).eval()
    segment = {"_type": "fraction", "numerator": 1, "denominator": 2}
    given = TINY_DEMUCS | {"sources": MUSIC, "samplerate": RATE, "segment": segment, "t_lr": None} | kwargs
    facts = {"klass": "demucs.htdemucs.HTDemucs", "args": "[]", "kwargs": json.dumps(given)}
    state = {key: value.half() for key, value in network.state_dict().items()}
    save_file(state, folder / f"{name}.safetensors", metadata=facts)
    network.load_state_dict({key: value.float() for key, value in state.items()})
    return network


def test_demucs_is_converted_with_the_settings_that_it_states(tmp_path: Path) -> None:
    network = demucs_file(tmp_path, "955717e8", 1, removed_in_a_later_version=3)
    model, config = load_model(convert(tmp_path / "955717e8.safetensors", tmp_path / "out"))
    assert (config["family"], model.window, model.stem_names) == ("published", 22_050, FOUR)
    x = torch.from_numpy(music(0.5))[None]
    with torch.inference_mode():
        torch.testing.assert_close(model.stems(x).waveforms[:, 0], network(x)[:, 3], atol=1e-5, rtol=1e-5)


def test_a_file_of_one_window_has_the_numbers_of_the_package(tmp_path: Path) -> None:
    """With more windows both differ: the package fades over a quarter of a window, we drop context at its sides."""
    from demucs.apply import apply_model

    network = demucs_file(tmp_path, "955717e8", 2)
    separator = audiosep.load(convert(tmp_path / "955717e8.safetensors", tmp_path / "out"), "cpu")
    mix = music(0.3)
    theirs = apply_model(network, torch.from_numpy(mix)[None], shifts=0, overlap=0.25)[0]
    stems = separator.stems(mix, sample_rate=RATE)
    np.testing.assert_allclose(stems["vocals"], theirs[3].numpy(), atol=1e-5)


def test_an_ensemble_of_demucs_is_read_from_its_table(tmp_path: Path) -> None:
    networks = [demucs_file(tmp_path, name, seed) for seed, name in enumerate(("aa", "bb"))]
    table = tmp_path / "htdemucs_ft.yaml"
    table.write_text("models: ['aa', 'bb']\nweights: [[1., 0., 0., 0.], [0., 1., 1., 1.]]\n")
    model, _ = load_model(convert(table, tmp_path / "out"))
    x = torch.from_numpy(music(0.5))[None]
    with torch.inference_mode():
        stems = model.stems(x).waveforms
        torch.testing.assert_close(stems[:, 1], networks[0](x)[:, 0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(stems[:, 0], networks[1](x)[:, 3], atol=1e-5, rtol=1e-5)
    table.write_text("models: ['aa', '../bb']\n")
    with pytest.raises(ModelError, match="should list names"):
        convert(table, tmp_path / "other")
    for text, complaint in (
        ("models: []", "should list names"),
        ("models: [123]", "should list names"),
        ("models: ['aa']\nweights: [1]", "'weights' should list a number for each stem"),
        ("models: ['aa']\nweights: 3", "'weights' should list a number for each stem"),
        ("models: ['aa']\nweights: [[1, 1, 1, .nan]]", "'weights' should list a number for each stem"),
        ("models: ['aa']\nweights: [[1, 1, 1]]", "a row for each network"),
    ):
        table.write_text(text)
        with pytest.raises(ModelError, match=complaint):
            convert(table, tmp_path / "other")
    table.write_text("models: ['aa', 'cc']\n")
    with pytest.raises(ModelError, match=r"cc\.safetensors is missing"):
        convert(table, tmp_path / "other")


def test_only_the_networks_of_demucs_that_are_known_are_built(tmp_path: Path) -> None:
    facts = {"klass": "subprocess.Popen", "args": "[]", "kwargs": "{}"}
    save_file({"a": torch.zeros(1)}, tmp_path / "evil.safetensors", metadata=facts)
    with pytest.raises(ModelError, match="no network of demucs that can be read"):
        convert(tmp_path / "evil.safetensors", tmp_path / "out")


@pytest.mark.parametrize(
    ("facts", "complaint"),
    [
        ({"segment": None}, "TypeError"),
        ({"segment": {"numerator": 1, "denominator": 0}}, "ZeroDivisionError"),
        ({"segment": {"numerator": 1}}, "KeyError"),
        ({"segment": "long"}, "ValueError"),
        ({"segment": -1}, "window must be longer"),
        ({"sources": "vocals"}, "should have sources"),
        ({"sources": []}, "needs settings, sources"),
        ({"channels": "many"}, "cannot be built"),
    ],
)
def test_facts_of_demucs_that_make_no_sense_are_refused(tmp_path: Path, facts: dict[str, Any], complaint: str) -> None:
    file = tmp_path / "955717e8.safetensors"
    given = {"klass": "demucs.htdemucs.HTDemucs", "kwargs": json.dumps({"sources": MUSIC} | facts)}
    save_file({"a": torch.zeros(1)}, file, metadata=given)
    with pytest.raises(ModelError, match=rf"955717e8\.safetensors.*{complaint}"):
        convert(file, tmp_path / "out")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "auto"])
@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_a_checkpoint_of_another_kind_is_refused(kind: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    """Also one whose tensors have the names of that kind, but not their shapes."""
    names = ("freq_encoder.0.conv.weight", "encoder.weight", "mask_generator.output_conv.weight", "output_mean",
             "fc1.weight", "ss_model.base.bn0.weight", "query_encoder.model.a", "text_projection.2.weight",
             "text_branch.embeddings.word_embeddings.weight")  # fmt: skip
    for file in ("a.pt", *(f"{name}-1.pth" for name in MUSIC)):
        torch.save({name: torch.zeros(shape) for name in names}, tmp_path / file)
    for file in ("a.pt", "vocals-1.pth"):
        with pytest.raises(ModelError):
            convert(tmp_path / file, tmp_path / "out", kind=kind)
    save_file({}, tmp_path / "empty.safetensors")
    with pytest.raises(ModelError):
        convert(tmp_path / "empty.safetensors", tmp_path / "out", kind=kind)
    assert not (tmp_path / "out").exists()


def test_torchaudio_and_open_unmix_are_converted(tmp_path: Path) -> None:
    from openunmix.model import OpenUnmix
    from torchaudio.models import ConvTasNet, HDemucs

    torch.manual_seed(0)
    cases: dict[str, torch.nn.Module] = {
        "hdemucs_high": HDemucs(list(MUSIC), channels=4, nfft=4096, depth=6).eval(),
        "conv_tasnet": ConvTasNet(2, enc_num_feats=16, msk_num_feats=8, msk_num_hidden_feats=8, msk_activate="relu"),
    }
    for name, network in cases.items():
        torch.save(network.eval().state_dict(), tmp_path / f"{name}.pt")
        model, _ = load_model(convert(tmp_path / f"{name}.pt", tmp_path / name))
        x = torch.from_numpy(music(1, model.config.channels, model.sample_rate))[None]
        with torch.inference_mode():
            theirs = network(x).reshape(model.outputs(x).shape)
            torch.testing.assert_close(model.outputs(x), theirs, atol=1e-5, rtol=1e-5)
    for name in MUSIC:
        part = OpenUnmix(nb_bins=2049, hidden_size=8, max_bin=1487).state_dict()
        torch.save({**part, "stft.window": torch.ones(4), "sample_rate": torch.tensor(1.0)}, tmp_path / f"{name}-1.pth")
    model, _ = load_model(convert(tmp_path / "vocals-1.pth", tmp_path / "umx"))
    assert model.stem_names == FOUR
    (tmp_path / "bass-1.pth").unlink()
    with pytest.raises(ModelError, match=r"one file bass\*\.pth"):
        convert(tmp_path / "vocals-1.pth", tmp_path / "umx2")


YAML = """
audio: {chunk_size: 22050, sample_rate: 44100}
model:
  dim: 8
  depth: 1
  stereo: true
  num_stems: 1
  heads: 1
  dim_head: 4
  linear_transformer_depth: 0
  freqs_per_bands: !!python/tuple [512, 513]
  mask_estimator_depth: 1
  multi_stft_resolutions_window_sizes: !!python/tuple [4096, 2048]
training: {instruments: [vocals, other], target_instrument: vocals, optimizer: adam}
"""


def test_a_roformer_of_the_community_is_converted(tmp_path: Path) -> None:
    package = pytest.importorskip("bs_roformer")
    network = package.BSRoformer(dim=8, depth=1, stereo=True, heads=1, dim_head=4, freqs_per_bands=(512, 513),
                                 mask_estimator_depth=1).eval()  # fmt: skip
    checkpoint = tmp_path / "model_bs_roformer.ckpt"
    torch.save(network.state_dict(), checkpoint)
    with pytest.raises(ModelError, match=r"put the YAML file .* as model_bs_roformer\.yaml"):
        convert(checkpoint, tmp_path / "out")
    path = tmp_path / "config_vocals.yaml"
    path.write_text(YAML)
    model, config = load_model(convert(checkpoint, tmp_path / "out"))
    assert (model.stem_names, model.window, config["model"]["network"]) == (("vocals", "other"), 22_050, "bs-roformer")
    x = torch.from_numpy(music(0.5))[None]
    with torch.inference_mode():
        theirs = network(x)
        torch.testing.assert_close(model.stems(x).waveforms[:, 0, :, : theirs.shape[-1]], theirs, atol=1e-5, rtol=1e-5)
    for old, new, complaint in (
        ("depth: 1\n", "depth: 1\n  use_pope: true\n", "use_pope is no setting"),
        ("num_stems: 1", "num_stems: 4", "num_stems is 4"),
        ("  heads: 1\n", "  heads: 2\n", "has shape"),
        ("training:", "trainings:", "has no 'training'"),
        (
            "sample_rate: 44100",
            "sample_rate: fast",
            r"config_vocals\.yaml: audio\.sample_rate should be a whole number",
        ),
        ("chunk_size: 22050", "chunk_size: null", r"audio\.chunk_size should be a whole number"),
        ("num_stems: 1", "num_stems: [1]", r"model\.num_stems should be a whole number"),
        ("depth: 1\n", "depth: 1\n  stft_hop_length: .inf\n", r"model\.stft_hop_length should be a whole number"),
        ("depth: 1\n", "depth: 1\n  3: 4\n", r"model\.3 is no setting"),
        ("dim_head: 4", "dim_head: 2024-05-06", "cannot be built"),
        ("stereo: true", "stereo: 'no'", r"model\.stereo should be true or false"),
        ("[vocals, other]", "vocals", r"training\.instruments should list"),
        ("target_instrument: vocals", "target_instrument: [vocals]", "should be the name of a stem"),
        ("target_instrument: vocals", "target_instrument: null", "the stems are"),
    ):
        path.write_text(YAML.replace(old, new, 1))
        with pytest.raises(ModelError, match=complaint):
            convert(checkpoint, tmp_path / "again")


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['true']",
        "a: !!python/name:os.system",
        "a: !!timestamp_ x",
        "a: !!set {b}",
        "a: !!binary aGk=",
        "[1, 2]",
        "a: [",
    ],
)
def test_yaml_that_is_more_than_data_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ModelError):
        read_yaml(tmp_path / "a.yaml")


# ---- downloads and licences ------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A local web server of the files in tmp_path/web."""
    (tmp_path / "web").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def entry(place: str, file: str, sha256: str | None, **facts: Any) -> ModelEntry:
    source = PublishedFile(place, file, sha256)
    return ModelEntry("pub", "published", "A test.", "scientific use only", frozenset({"stems"}), (source,), FOUR,
                      extra="demucs", **facts)  # fmt: skip


def test_a_licence_that_restricts_is_accepted_once(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    import hashlib

    monkeypatch.setenv("AUDIOSEP_HOME", str(tmp_path / "home"))
    demucs_file(tmp_path / "web", "955717e8", 3)
    digest = hashlib.sha256((tmp_path / "web/955717e8.safetensors").read_bytes()).hexdigest()
    monkeypatch.setitem(MODELS, "pub", entry(server, "955717e8.safetensors", digest[:8]))
    code, _, err = run("models", "download", "pub")
    assert code == 1
    assert err.splitlines()[-1].endswith("`audiosep models download pub --accept-licence`")
    assert installed("pub") is None
    code, out, err = run("models", "download", "pub", "--accept-licence")
    assert code == 0, err
    assert "scientific use only" in err
    assert Path(out.strip()) == installed("pub")
    assert accepted(MODELS["pub"])
    download("pub", functools.partial(convert, overwrite=True))  # not asked again
    assert audiosep.load("pub", "cpu").stem_names == FOUR
    monkeypatch.setitem(MODELS, "pub", entry(server, "955717e8.safetensors", "0" * 8))
    with pytest.raises(ModelError, match="instead of 00000000"):
        download("pub", convert)
    code, out, _ = run("models", "list")
    assert "stems: vocals, drums, bass, other" in out


def test_a_model_converted_by_hand_is_not_used_before_its_licence_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.setenv("AUDIOSEP_HOME", str(tmp_path / "home"))
    demucs_file(tmp_path, "955717e8", 3)
    code, out, err = run("convert", tmp_path / "955717e8.safetensors", model_folder("htdemucs"), "--json")
    assert (code, json.loads(out)["licence"]) == (0, "scientific use only")
    assert "955717e8.safetensors: weights of htdemucs, licence scientific use only" in err
    assert read_config(model_folder("htdemucs"))["licence"] == "scientific use only"
    code, out, _ = run("models", "info", "htdemucs")  # the licence can be read before it is accepted
    assert "licence: scientific use only\n" in out
    for arguments in ({"model": "htdemucs"}, {"model": model_folder("htdemucs"), "stems": "htdemucs"}):
        with pytest.raises(ModelError, match="`audiosep models download htdemucs --accept-licence`"):
            audiosep.load(**arguments)
    code, out, err = run("models", "download", "htdemucs", "--accept-licence")
    assert (code, Path(out.strip())) == (0, model_folder("htdemucs"))
    assert "put there by hand" in err
    assert audiosep.load("htdemucs", "cpu").stem_names == FOUR


def test_what_download_installed_is_not_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where licences were not remembered yet, or the folder came from another machine."""
    monkeypatch.setenv("AUDIOSEP_HOME", str(tmp_path))
    folder = save_model(model_folder("htdemucs"), PublishedStems(CONFIGS["htdemucs"]), query=None)
    (folder / RECORD).write_text("{}")
    assert audiosep.load("htdemucs", "cpu").stem_names == FOUR


def test_whole_files_of_an_interrupted_download_are_not_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIOSEP_HOME", str(tmp_path))
    files = [source.file for source in MODELS["bs-roformer"].sources]
    asked: list[str] = []

    def fetch(address: str, path: str, progress: bool) -> None:
        asked.append(address.split("/")[-1])
        if asked == files:
            raise ConnectionError("gone")
        Path(path).write_bytes(b"content")

    def convert(source: Path, folder: Path, **options: Any) -> None:
        (folder / "config.json").write_text("{}")

    def damaged(source: Path, folder: Path, **options: Any) -> None:
        raise ModelError("damaged")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    monkeypatch.setattr("audiosep.weights.download.check_extra", lambda extra: None)
    with pytest.raises(ModelError, match="gone"):
        download("bs-roformer", convert, accept_licence=True)
    with pytest.raises(ModelError, match="damaged"):
        download("bs-roformer", damaged)
    assert asked == [*files, files[1]]
    download("bs-roformer", convert)  # what may be damaged is fetched again
    assert asked == [*files, files[1], *files]


def test_a_missing_package_is_told_before_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setenv("AUDIOSEP_HOME", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *args, **options: pytest.fail("fetched"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *args, **options: pytest.fail("fetched"))
    for name, module in (("htdemucs", "demucs.htdemucs"), ("umxl", "openunmix.model"), ("bs-roformer", "bs_roformer"),
                         ("convtasnet", "torchaudio.models")):  # fmt: skip
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(DependencyError, match=rf"\[{MODELS[name].extra}\]"):
            download(name, convert, accept_licence=True)


@pytest.mark.parametrize("name", [entry.name for entry in stem_models.STEM_MODELS])
def test_what_is_missing_is_said_with_its_remedy(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the weights, without the acceptance, without a network: one line each that says what to do."""
    import huggingface_hub

    monkeypatch.setenv("AUDIOSEP_HOME", str(tmp_path))
    known = MODELS[name]
    accept = " --accept-licence" if known.restricted else ""
    with pytest.raises(ModelError, match=rf"`audiosep models download {name}{accept}`.* licence ") as absent:
        audiosep.load(name)
    assert "\n" not in str(absent.value)
    if known.restricted:
        with pytest.raises(ModelError, match="--accept-licence"):
            download(name, convert)

    def offline(*args: Any, **options: Any) -> str:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    if known.extra == "roformer":
        pytest.importorskip("bs_roformer")
    with pytest.raises(ModelError) as caught:
        download(name, convert, accept_licence=True)
    first, *by_hand = str(caught.value).splitlines()
    assert "no route to host" in first
    assert all(any(source.file in line for line in by_hand) for source in known.sources)
    assert f"audiosep convert FOLDER/{known.sources[0].file}" in by_hand[-1]
    assert set(known.stems) >= {"vocals"} or name == "convtasnet"


# ---- the command line ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("published")
    return save_model(folder, PublishedStems(CONFIGS["htdemucs"]), query=None)


def test_files_jobs_and_facts(run: Run, published_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for k in range(2):
        write_audio(tmp_path / f"in/{k}.wav", music(0.8), RATE, depth="float")
    options = ("-m", published_folder, "--jobs", "2", "--json", "--device", "cpu")
    code, out, err = run("stems", tmp_path / "in", "-o", tmp_path / "out", *options)
    assert code == 0, err
    assert len(list((tmp_path / "out").rglob("*.wav"))) == 8
    assert json.loads(out)["model"] == published_folder.name
    code, _, err = run("separate", tmp_path / "in/0.wav", "piano", "-o", tmp_path / "out", *options[:2])
    assert code == 2
    assert "only stems" in err
    assert PublishedStems.job_bytes({"network": "htdemucs"}) == NETWORKS["htdemucs"].job_bytes


def test_a_stem_model_is_evaluated_by_its_stems(published_folder: Path) -> None:
    from audiosep.evaluation.systems import load_system

    system = load_system(str(published_folder), "cpu")
    assert system.targets == {*FOUR, "accompaniment"}
    mix = music(0.2)
    estimates = system.separate(mix, ["vocals", "accompaniment"], sample_rate=RATE)
    np.testing.assert_allclose(estimates["vocals"] + estimates["accompaniment"], mix, atol=1e-5)


def test_a_stem_model_cannot_be_taught_words(published_folder: Path, tmp_path: Path) -> None:
    from audiosep.training.finetune.finetuning import finetune

    with pytest.raises(ModelError, match="has only stems"):
        finetune(tmp_path, published_folder)
