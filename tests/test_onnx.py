"""Exported networks: ONNX Runtime computes what torch computes, for any length, and numpy alone can use them."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from doubles import FakeEncoder, TinyModel
from test_hybrid import SMALL
from torch import nn

from audiosep.audio import read_audio, resample, write_audio
from audiosep.cli import main
from audiosep.errors import InputError, ModelError
from audiosep.export.onnx import Exported, compare, export, random_queries, run
from audiosep.models.hybrid import Hybrid
from audiosep.models.mask_graph import ConvTransform
from audiosep.models.mobilenet import MobileNetConfig
from audiosep.models.resunet import ResUNet30, ResUNet30Config
from audiosep.models.stft import istft, stft
from audiosep.query.query import Query
from audiosep.separator import Separator

runtime = pytest.importorskip("onnxruntime")

ROOT = Path(__file__).parents[1]
AUDIO = ROOT / "examples" / "audio"
SAME = 2e-5
MOBILE = MobileNetConfig(
    n_fft=512, hop=128, bands=48, mels=32, width=0.1, step=8, stride=(16, 16), detail=8, dimension=16, tags=5
)


def hybrid(**changes: object) -> Separator:
    torch.manual_seed(0)
    model = Hybrid(replace(SMALL, **changes)).eval()
    for name in ("out", "stem_out"):
        if hasattr(model, name):
            nn.init.normal_(getattr(model, name).weight, std=0.5)
    return Separator(model, FakeEncoder(16), device="cpu", precision="fp32", name="small")


def resunet() -> Separator:
    torch.manual_seed(0)
    model = ResUNet30(ResUNet30Config(n_fft=256, hop=64, dimension=16, widths=(4, 6, 8)))
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2)
    return Separator(model, FakeEncoder(16), device="cpu", precision="fp32", name="published")


def real(separator: Separator, seconds: float = 1.0) -> torch.Tensor:
    mix, rate = read_audio(AUDIO / "reading.flac")
    low = resample(mix[:, rate : rate + round(seconds * rate)], rate, separator.sample_rate)
    return torch.from_numpy(low)


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("onnx_runtime", ROOT / "examples" / "onnx_runtime.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["onnx_runtime"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=["queries", "stems", "resunet30"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=["outside", "inside"])
def exported(
    request: pytest.FixtureRequest, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Separator, Exported]:
    """A separator and its file, each kind with its transforms outside and inside."""
    separator = resunet() if kind == "resunet30" else hybrid(presence_exponent=2.0)
    path = tmp_path_factory.mktemp("onnx") / "m.onnx"
    known = () if kind == "stems" else ("piano", "dog")
    return separator, export(separator, path, transforms=request.param, stems=kind == "stems", queries=known)


def test_onnx_runtime_computes_what_torch_computes(exported: tuple[Separator, Exported]) -> None:
    separator, done = exported
    assert done.deviation < SAME
    assert done.size == done.path.stat().st_size
    assert not any(module.training for module in separator.model.modules())
    session = runtime.InferenceSession(done.path)
    noise = torch.randn(3, 70 * separator.model.hop + 5, generator=torch.Generator().manual_seed(2))
    mixes = [real(separator), noise, noise[:1, : 5 * separator.model.hop + 1]]
    assert compare(session, separator.model, mixes) < SAME


def test_the_other_outputs_are_the_models(exported: tuple[Separator, Exported], kind: str) -> None:
    separator, done = exported
    session, model = runtime.InferenceSession(done.path), separator.model
    mix, embeddings = real(separator), random_queries(1, 16)
    with torch.inference_mode():
        want = model.stems(mix[None]) if kind == "stems" else model(mix[None], embeddings)
    spectrum = stft(mix, model.config.n_fft, model.hop, "reflect" if kind == "resunet30" else "constant")
    first = {"mix": mix} if "mix" in done.inputs else {"power": spectrum.abs().square().mean(0)}
    feed = {**first, "embeddings": embeddings, "negatives": torch.zeros(1, 16)}
    found = session.run(["top"], {name: feed[name].numpy() for name in done.inputs})[0]
    assert np.abs(found - want.top[0].numpy()).max() < SAME
    assert ("presence" in done.outputs) == (want.presence is not None)
    if want.presence is not None:
        found = session.run(["presence"], {name: feed[name].numpy() for name in done.inputs})[0]
        assert np.abs(found - want.presence[0].numpy()).max() < SAME


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"listener": None},
        {"relisten": True, "refinements": 1, "mix_temperature": 0.2, "tags": True},
        {"listener": MOBILE, "relisten": True, "refinements": 1, "tags": True},
        {"listener": None, "stems": ()},
    ],
)
def test_every_shape_of_the_hybrid_can_be_exported(tmp_path: Path, changes: dict[str, object]) -> None:
    assert export(hybrid(**changes), tmp_path / "m.onnx").deviation < SAME


@pytest.mark.parametrize(("pad", "samples"), [("constant", 1), ("constant", 700), ("reflect", 1000)])
def test_the_transform_in_the_file_is_the_stft(pad: str, samples: int) -> None:
    transform, x = ConvTransform(256, 64, pad), torch.randn(2, samples, generator=torch.Generator().manual_seed(0))
    want = stft(x, 256, 64, pad)
    got = transform(x)
    assert torch.allclose(got, torch.cat([want.real, want.imag], 1), atol=1e-4)
    assert torch.allclose(transform.inverse(got, samples), istft(want, 256, 64, samples), atol=1e-5)


def test_the_metadata_says_what_a_program_needs(exported: tuple[Separator, Exported], kind: str) -> None:
    separator, done = exported
    session = runtime.InferenceSession(done.path)
    about = json.loads(session.get_modelmeta().custom_metadata_map["audiosep"])
    model = separator.model
    assert (about["sample_rate"], about["hop"], about["window"]) == (model.sample_rate, model.hop, model.window)
    assert about["grid"] % model.alignment == 0
    assert about["targets"] == (list(model.stem_names) if kind == "stems" else [])
    first = {"outside": {"power": (about["n_fft"] // 2 + 1, "frames")}, "inside": {"mix": ("channels", "samples")}}
    queries = dict.fromkeys(("embeddings", "negatives"), ("queries" if about["at_once"] == "any" else 1, 16))
    assert done.inputs == first[about["transforms"]] | ({} if kind == "stems" else queries)
    if kind != "stems":
        assert separator.encoder is not None
        assert np.allclose(about["queries"]["dog"], separator.encoder.text(["dog"])[0], atol=1e-6)


@pytest.mark.parametrize("query", ["piano", Query("piano")])
def test_a_single_query_is_one(tmp_path: Path, query: str | Query) -> None:
    done = export(hybrid(), tmp_path / "m.onnx", queries=query)
    about = json.loads(runtime.InferenceSession(done.path).get_modelmeta().custom_metadata_map["audiosep"])
    assert list(about["queries"]) == ["piano"]


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with pytest.raises(ModelError, match="not masks"):
        export(Separator(TinyModel(), FakeEncoder(), device="cpu"), path)
    with pytest.raises(ModelError, match="stems"):
        export(resunet(), path, stems=True)
    network, encoder = resunet().model, FakeEncoder(16)
    beside = Separator(network, encoder, device="cpu", precision="fp32", specialist=hybrid())
    with pytest.raises(InputError, match="those of small: export the model of the stems itself"):
        export(beside, path, stems=True)
    with pytest.raises(InputError, match="transforms"):
        export(resunet(), path, transforms="beside")
    with pytest.raises(InputError, match="queries"):
        export(hybrid(), path, stems=True, queries=["piano"])
    with pytest.raises(InputError, match="as a query of its own"):
        export(hybrid(), path, queries=[Query("piano", negative="dog")])
    assert not any(tmp_path.iterdir())
    path.write_text("mine")
    with pytest.raises(InputError, match="exists"):
        export(resunet(), path)
    assert path.read_text() == "mine"


# ---- the verb, and the example that has numpy and ONNX Runtime only --------------------------------------------------


def test_the_verb_and_the_example(mini_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.onnx"
    assert main(["export", str(path), "-m", str(mini_folder), "-q", "piano", "-q", "dog", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["deviation"] < SAME
    assert document["inputs"]["power"] == [513, "frames"]
    assert main(["export", str(path), "-m", str(mini_folder)]) == 2
    assert "--overwrite" in capsys.readouterr().err

    mix, rate = read_audio(AUDIO / "reading.flac")
    song = tmp_path / "song.wav"
    write_audio(song, mix[:, : 5 * rate // 2], rate)
    out = tmp_path / "out"
    example().main([str(path), str(song), "--query", "piano", "--not", "dog", "--out", str(out)])
    target, its_rate = read_audio(out / "song (piano).wav")
    assert (target.shape, its_rate) == ((mix.shape[0], 5 * rate // 2), rate)
    assert target.any()


def test_the_example_computes_what_torch_computes(exported: tuple[Separator, Exported]) -> None:
    separator, done = exported
    mix, embeddings, negatives = real(separator, 0.3), random_queries(1, 16), 0.5 * random_queries(1, 16, 1)
    model = example().Model(done.path)
    got = model.window(mix.numpy(), embeddings.numpy(), negatives.numpy())
    want = run(runtime.InferenceSession(done.path), mix, embeddings, negatives).numpy()
    assert np.abs(got - want).max() < SAME * np.abs(want).max()
    whole = model.separate(mix.numpy(), embeddings.numpy(), negatives.numpy())
    assert whole.shape == got.shape


@pytest.mark.parametrize("content", [b"", b"fLaC", (AUDIO / "reading.flac").read_bytes()[:999]])
def test_the_example_refuses_other_files_than_wav(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "song.flac").write_bytes(content)
    with pytest.raises(SystemExit, match=r"song\.flac: only 16-bit wav files"):
        example().read_wav(tmp_path / "song.flac")


def test_the_example_needs_numpy_and_onnxruntime_only() -> None:
    import ast

    tree = ast.parse((ROOT / "examples" / "onnx_runtime.py").read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) == {"numpy", "onnxruntime"}
